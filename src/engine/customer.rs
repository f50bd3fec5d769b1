//! What to do with a Kona customer.

mod events;
mod info;
mod inputs;
mod record;
mod restore;
mod verdicts;

use std::time::Duration;

pub use events::{changed, drifted};
pub use info::{
    ACCESS, ADDITIONAL_INFO, AdditionalInfo, Original, REFRESH, RawObject, Unread, Unusable,
    with_additional_info,
};
pub use inputs::Inputs;
pub use record::{
    Changes, Found, Made, OpenChange, Reading, known_original, made, prepare, put_on_record, remembered,
    set_read, unrecorded, update, written,
};

pub use restore::{
    Deletion, FOREIGN, Parting, RIVAL, Restoration, Task, UNPARSABLE, leaving, not_restored, parting,
    restoration, restored,
};
pub use verdicts::{
    CONFLICT, SERVER_MOVED, answered, awaiting_window, failed, paused, raced, rejected, server_not_found,
    server_not_ready, unrecordable, unusable,
};

use super::contest::Contest;
use super::lifetime::proves;
use super::login::{LoginState, LogsIn, account};
use super::verdict::{Reason, Verdict, ready_reason};
use crate::crd::{Cause, CustomerTokenTtl, CustomerTokenTtlSpec, CustomerTokenTtlStatus, Mode, TtlSeconds};

/// The two required lifetimes, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ttl {
    /// Lifetime of access tokens.
    pub access: u32,
    /// Lifetime of refresh tokens.
    pub refresh: u32,
}

impl From<Ttl> for TtlSeconds {
    fn from(ttl: Ttl) -> Self {
        Self { access_token_ttl_seconds: Some(ttl.access), refresh_token_ttl_seconds: Some(ttl.refresh) }
    }
}

/// What a resource requires of its customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The lifetimes.
    pub ttl: Ttl,
    /// Whether differences are corrected or only reported.
    pub mode: Mode,
    /// Whether a login of one of the customer's users proves the lifetime.
    pub by_login: bool,
}

impl Wish {
    /// What a spec asks for.
    #[must_use]
    pub fn of(spec: &CustomerTokenTtlSpec) -> Self {
        Self {
            ttl: Ttl { access: spec.access_token_ttl_seconds, refresh: spec.refresh_token_ttl_seconds },
            mode: spec.mode,
            by_login: spec.verify_credentials_secret_ref.is_some(),
        }
    }

    /// Whether these are the lifetimes that it asks for.
    #[must_use]
    pub fn requires(&self, ttl: TtlSeconds) -> bool {
        ttl == self.ttl.into()
    }

    /// Whether the customer's own user logs in at all.
    #[must_use]
    pub(crate) fn proves_by_login(&self) -> bool {
        self.by_login && self.mode == Mode::Enforce
    }
}

/// What the status remembers of the last reconcile, as far as it is about the same server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    /// Lifetimes last read.
    pub read: Option<TtlSeconds>,
    /// Lifetimes last proven.
    pub proven: Option<TtlSeconds>,
    /// The last reconcile ended in `VerificationFailed`.
    pub unverified: bool,
}

impl LogsIn for CustomerTokenTtl {
    /// It is no witness: its own user logs in when a lifetime is to be proven, and not because others ask for it.
    fn login_state(&self) -> Option<LoginState> {
        let reference = self.spec.verify_credentials_secret_ref.as_ref()?;
        let status = self.status.clone().unwrap_or_default();
        let system = status.effective_url.filter(|_| Wish::of(&self.spec).proves_by_login())?;
        let account = account(self.metadata.namespace.as_deref(), reference);
        Some(LoginState { account, system, let_in: false, proven: None, refused: status.refused_login })
    }
}

/// The lifetimes that a status shows.
#[must_use]
fn lifetimes(status: &CustomerTokenTtlStatus) -> TtlSeconds {
    TtlSeconds {
        access_token_ttl_seconds: status.access_token_ttl_seconds,
        refresh_token_ttl_seconds: status.refresh_token_ttl_seconds,
    }
}

/// What a status remembers of the last reconcile.
#[must_use]
pub fn prior(status: &CustomerTokenTtlStatus) -> Prior {
    Prior {
        read: status.last_checked_time.as_ref().map(|_| lifetimes(status)),
        proven: status.proven,
        unverified: ready_reason(&status.conditions) == Some(Reason::VerificationFailed),
    }
}

/// What this reconcile has found out so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Lifetimes on the server.
    pub ttl: TtlSeconds,
    /// Whether they were read back after a write of this reconcile.
    pub read_back: bool,
    /// Lifetime of an access token of one of the customer's users, issued during this reconcile, in seconds.
    pub token: Option<u32>,
    /// Proving logins spent in this reconcile.
    pub proofs: u8,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Merge the lifetimes into the customer, and read them back.
    Write {
        /// Because of this.
        cause: Cause,
    },
    /// Log in as the customer's user to see which lifetime is in effect.
    Prove,
    /// Nothing more: report.
    Report(Verdict),
}

/// Decides the next step. Total: asked again after its answer was carried out, it comes to a report.
#[must_use]
pub fn decide(wish: Wish, prior: &Prior, seen: Seen, contest: Contest, now: Duration) -> Step {
    let report = |reason, message: String| Step::Report(Verdict { reason, message });
    let Ttl { access, refresh } = wish.ttl;
    if wish.mode == Mode::Observe {
        let message = if seen.ttl == wish.ttl.into() {
            format!("Access tokens last {access}s and refresh tokens {refresh}s, as desired (Observe mode).")
        } else {
            format!(
                "The server has {}, but {access}s and {refresh}s are desired. Observe mode: nothing is changed.",
                words(seen.ttl)
            )
        };
        return report(Reason::Observed, message);
    }
    if seen.ttl == wish.ttl.into() {
        return confirm(wish, prior, seen);
    }
    if seen.read_back {
        let message = "The server accepted the new token lifetimes but returned different values on read-back. Check the server.";
        return report(Reason::VerificationFailed, message.to_owned());
    }
    if !contest.may_correct(now) {
        let message = "Something keeps overwriting the customer's token lifetimes, so they are corrected only once an hour. Find out what changes them.";
        return report(Reason::Contested, message.to_owned());
    }
    Step::Write { cause: cause(wish.ttl, prior) }
}

/// Why a difference exists: drift where the present lifetimes were once proven to hold.
#[must_use]
pub fn cause(required: Ttl, prior: &Prior) -> Cause {
    if prior.proven == Some(required.into()) { Cause::Drift } else { Cause::Policy }
}

/// Whether something else has changed lifetimes which were in sync.
#[must_use]
pub fn has_drifted(wish: Wish, prior: &Prior, seen: TtlSeconds) -> bool {
    wish.mode == Mode::Enforce && seen != wish.ttl.into() && cause(wish.ttl, prior) == Cause::Drift
}

/// The contest after these lifetimes were read.
#[must_use]
pub(crate) fn follow_contest(
    contest: Contest,
    wish: Wish,
    prior: &Prior,
    seen: TtlSeconds,
    now: Duration,
) -> Contest {
    if has_drifted(wish, prior, seen) {
        contest.undone()
    } else if seen == wish.ttl.into() {
        contest.stood(now)
    } else {
        contest
    }
}

/// What a reconcile has proven; a check that merely found everything in sync proves nothing new.
#[must_use]
pub fn proven(prior: &Prior, reason: Reason, seen: &Seen, has_changed: bool) -> Option<TtlSeconds> {
    let new = has_changed || seen.token.is_some() || prior.proven != Some(seen.ttl);
    (reason == Reason::InSync && new).then_some(seen.ttl)
}

/// The lifetimes are as required: is that proven? Without a user of the customer, reading them is the proof.
fn confirm(wish: Wish, prior: &Prior, seen: Seen) -> Step {
    let Ttl { access, refresh } = wish.ttl;
    let unchanged = !seen.read_back && prior.read == Some(seen.ttl);
    let remembered = unchanged && prior.proven == Some(seen.ttl) && !prior.unverified;
    let allowed = if prior.unverified { 1 } else { super::gateway::PROOFS };
    let proven = match seen.token {
        _ if !wish.by_login => true,
        Some(token) => proves(token, access),
        None => remembered,
    };
    if proven {
        let how = if wish.by_login { "verified by a new login" } else { "read back from the server" };
        let message =
            format!("Access tokens last {access}s and refresh tokens {refresh}s, as desired ({how}).");
        Step::Report(Verdict { reason: Reason::InSync, message })
    } else if seen.proofs < allowed {
        Step::Prove
    } else {
        let got = seen.token.map_or_else(|| "of a different lifetime".to_owned(), |got| format!("of {got}s"));
        let message = format!(
            "The server reports the desired token lifetime of {access}s, but a new login of the customer's user got a token {got}. Check that the user of verifyCredentialsSecretRef belongs to this customer and that the server applies the setting."
        );
        Step::Report(Verdict { reason: Reason::VerificationFailed, message })
    }
}

/// Lifetimes as messages name them.
#[must_use]
pub fn words(ttl: TtlSeconds) -> String {
    let seconds =
        |value: Option<u32>| value.map_or_else(|| "none".to_owned(), |seconds| format!("{seconds}s"));
    format!(
        "{} (access) and {} (refresh)",
        seconds(ttl.access_token_ttl_seconds),
        seconds(ttl.refresh_token_ttl_seconds)
    )
}
