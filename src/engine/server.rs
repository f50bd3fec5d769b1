//! What a server reports: whether its login works, and how its customers are.

use super::login::{self, News};
use super::reason::Reason;
use super::tally::{Part, State, Tally, state_of};
use super::verdict::Verdict;
use crate::crd::{CustomerCounts, CustomerTokenTtl, KonaServer, KonaServerStatus, Mode, Time};

/// What a server reports while its `spec.suspend` is true.
pub(crate) const SUSPENDED: &str =
    "spec.suspend is true: neither the server nor its customers are read or changed.";

/// The login works. `is_limited_by_another`: whether lower limits of another server apply.
#[must_use]
pub fn in_sync(is_limited_by_another: bool) -> Verdict {
    let message = if is_limited_by_another {
        "The login succeeded. Another KonaServer for the same system has lower limits, and they apply here, too. \
         See each customer's conditions for its status."
    } else {
        "The login succeeded. See each customer's conditions for its status."
    };
    Verdict::new(Reason::InSync, message)
}

/// What a check has found of a server, but for its verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The URL that was checked.
    pub effective_url: Option<String>,
    /// When the login was seen to work.
    pub checked: Option<Time>,
    /// What is new about the login.
    pub news: Option<News>,
}

/// Records in a status what a check has found. What was known about another URL is dropped.
pub fn update(status: &mut KonaServerStatus, found: Found) {
    if status.effective_url != found.effective_url {
        login::record(&mut status.refused_login, &News::Elsewhere);
        status.last_checked_time = None;
    }
    status.effective_url = found.effective_url;
    status.last_checked_time = found.checked.or_else(|| status.last_checked_time.take());
    if let Some(news) = &found.news {
        login::record(&mut status.refused_login, news);
    }
}

/// One of a server's customers, by what it reports of its current spec.
#[must_use]
pub fn part(server: &KonaServer, customer: &CustomerTokenTtl) -> Part {
    let status = customer.status.clone().unwrap_or_default();
    let is_current = status.observed_generation == customer.metadata.generation;
    let verdict = Verdict::reported(&status.conditions).filter(|_| is_current);
    let reason = verdict.as_ref().map(|verdict| verdict.reason);
    let spec = &customer.spec;
    let (access, refresh) = (spec.access_token_ttl_seconds, spec.refresh_token_ttl_seconds);
    let fits =
        (status.access_token_ttl_seconds, status.refresh_token_ttl_seconds) == (Some(access), Some(refresh));
    let was_right = status.proven.is_some_and(|proven| {
        (proven.access_token_ttl_seconds, proven.refresh_token_ttl_seconds) == (Some(access), Some(refresh))
    });
    let state = match (spec.suspend || server.spec.connection.suspend, spec.mode) {
        (true, _) => State::Suspended,
        (false, Mode::Observe) if reason == Some(Reason::Observed) && fits => State::InSync,
        // Something else modifies it, and it was never right.
        (false, Mode::Enforce) if reason == Some(Reason::Drifted) && !was_right => State::Pending,
        (false, _) => state_of(reason, fits, was_right),
    };
    Part { name: customer.metadata.name.clone().unwrap_or_default(), state, verdict }
}

/// The customers of a server by state, as its status shows them.
#[must_use]
pub fn counts(tally: &Tally) -> CustomerCounts {
    CustomerCounts {
        managed: tally.total(),
        in_sync: tally.count(State::InSync),
        pending: tally.count(State::Pending),
        drifted: tally.count(State::Drifted),
        failed: tally.count(State::Failed),
        suspended: tally.count(State::Suspended),
        summary: tally.summary(),
    }
}
