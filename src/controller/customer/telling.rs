//! What is told of a customer: its status, and events.

use kube::ResourceExt as _;

use super::{Findings, HISTORY, Memory};
use crate::clock;
use crate::controller::context::Context;
use crate::controller::events::{Happening, reference};
use crate::controller::workers::Kind;
use crate::controller::{logins, report};
use crate::crd::{
    Cause, CustomerTokenTtl, CustomerTokenTtlStatus, PendingOutcome, Time, TtlChange, TtlSeconds,
};
use crate::engine::customer::{Original, Ttl, words};
use crate::engine::login::{self, News};
use crate::engine::reason::EventReason;
use crate::engine::verdict::{self, Notes, Reason, Verdict};

/// The status after a look.
pub(super) fn new_status(
    customer: &CustomerTokenTtl,
    findings: &Findings,
    memory: &Memory,
    reported: bool,
) -> CustomerTokenTtlStatus {
    let mut status = customer.status.clone().unwrap_or_default();
    // A failure that may pass leaves Ready as it is, even where something else is written.
    if reported {
        report::set_verdict(&mut status, customer, &findings.verdict, &Notes::default());
        status.next_window = findings.next_window.map(Time);
    }
    let now = clock::now();
    if let Some(url) = &findings.effective_url {
        status.effective_url = Some(url.clone());
    }
    if let Some(read) = &findings.read {
        set_read(&mut status, read);
    }
    if let Some(proven) = findings.proven {
        status.proven = Some(proven);
        status.last_proven_time = Some(now);
        login::record(&mut status.refused_login, &News::LetIn);
    } else if !memory.owed.is_empty() {
        // What was proven before a change says nothing of it: the next look proves it.
        status.proven = None;
    }
    if !logins::proves_by_login(customer) {
        login::record(&mut status.refused_login, &News::Elsewhere);
    } else if let Some(news) = &findings.news {
        login::record(&mut status.refused_login, news);
    }
    forget_pending(&mut status, findings, memory);
    for (change, original) in memory.owed.unrecorded(|(change, _)| status.history.contains(change)) {
        // Known since the first change, or never: what stands there later may be ours.
        if status.history.is_empty() {
            status.original.get_or_insert_with(|| original.clone());
        }
        status.history.insert(0, change.clone());
        status.history.truncate(HISTORY);
    }
    status
}

/// Takes over what was read.
pub(super) fn set_read(status: &mut CustomerTokenTtlStatus, (title, ttl): &(Option<String>, TtlSeconds)) {
    status.customer_title.clone_from(title);
    status.access_token_ttl_seconds = ttl.access_token_ttl_seconds;
    status.refresh_token_ttl_seconds = ttl.refresh_token_ttl_seconds;
    status.last_checked_time = Some(clock::now());
}

/// Drops a change that was begun once it is recorded, or known not to be in force. One that was sent is shown as that.
fn forget_pending(status: &mut CustomerTokenTtlStatus, findings: &Findings, memory: &Memory) {
    let Some(pending) = &mut status.pending else { return };
    if memory.begun.is_some() {
        pending.outcome = Some(PendingOutcome::Sent);
    }
    let in_force = findings.read.as_ref().is_none_or(|(_, ttl)| *ttl == pending.to);
    if !memory.owed.is_empty() || (memory.begun.is_none() && !in_force) {
        status.pending = None;
    }
    // What stood before a change that came to nothing may be changed by others until there is one that does not.
    if findings.unwritten && memory.begun.is_none() && status.history.is_empty() && memory.owed.is_empty() {
        status.original = None;
    }
}

/// Tells of changes and of a worse standing: after the status was written.
pub(super) fn announce(
    context: &Context,
    customer: &CustomerTokenTtl,
    owed: &[(TtlChange, Original)],
    verdict: Option<&Verdict>,
) {
    let object = reference(customer);
    let (namespace, name) = (customer.namespace().unwrap_or_default(), customer.name_any());
    for (TtlChange { to, cause, .. }, _) in owed {
        let seconds = |value: Option<u32>| value.unwrap_or_default();
        let (access, refresh) = (seconds(to.access_token_ttl_seconds), seconds(to.refresh_token_ttl_seconds));
        let (reason, note) = match cause {
            Cause::Policy => (
                EventReason::TtlChanged,
                format!("Token lifetimes changed to {access}s (access) and {refresh}s (refresh)."),
            ),
            Cause::Drift => {
                context.metrics.drift_corrected(Kind::Customer.as_str());
                let note = format!("Token lifetimes reset to {access}s (access) and {refresh}s (refresh).");
                (EventReason::DriftCorrected, note)
            }
            Cause::Restore => {
                let note = "Original token lifetimes restored: the server has";
                (EventReason::TtlChanged, format!("{note} {}.", words(*to)))
            }
        };
        tracing::info!(kind = Kind::Customer.as_str(), namespace, name, access, refresh, ?cause, "{note}");
        context.events.publish(Happening {
            object: object.clone(),
            reason,
            note,
            warning: false,
            policy: None,
        });
    }
    let before = customer.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
    if let Some(verdict) = verdict {
        context.warn_of(object, None, before, verdict);
    }
}

/// Publishes that something else has changed lifetimes which were as desired, if that is not corrected for now.
pub(super) fn announce_drift(context: &Context, customer: &CustomerTokenTtl, findings: &Findings) {
    let spec = &customer.spec;
    let wanted = Ttl { access: spec.access_token_ttl_seconds, refresh: spec.refresh_token_ttl_seconds };
    let known = customer.status.as_ref().is_some_and(|status| {
        status.access_token_ttl_seconds == Some(wanted.access)
            && status.refresh_token_ttl_seconds == Some(wanted.refresh)
    });
    let waits = matches!(findings.verdict.reason, Reason::Observed | Reason::AwaitingWindow);
    let Some((_, seen)) = findings.read.as_ref().filter(|(_, seen)| *seen != wanted.into()) else { return };
    if known && waits {
        let message = &findings.verdict.message;
        context.events.publish(Happening {
            object: reference(customer),
            reason: EventReason::DriftFound,
            note: format!("Something changed the token lifetimes to {}. {message}", words(*seen)),
            warning: false,
            policy: None,
        });
    }
}
