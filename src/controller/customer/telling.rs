//! What is told of a customer: its status, and events.

use kube::ResourceExt as _;

use super::{Findings, Memory};
use crate::clock;
use crate::controller::context::Context;
use crate::controller::events::{Happening, reference};
use crate::controller::report;
use crate::controller::workers::Kind;
use crate::crd::{Cause, CustomerTokenTtl, CustomerTokenTtlStatus, Time, TtlChange};
use crate::engine::customer::{Changes, Found, Made, Ttl, Wish, update, words};
use crate::engine::reason::EventReason;
use crate::engine::verdict::{self, Notes, Reason, Verdict};

/// The status after a reconcile of the working copy.
pub(super) fn new_status(
    customer: &CustomerTokenTtl,
    findings: &Findings,
    memory: &Memory,
    reported: bool,
) -> CustomerTokenTtlStatus {
    let mut status = customer.status.clone().unwrap_or_default();
    let found = Found {
        reason: findings.verdict.reason,
        before: verdict::ready_reason(&status.conditions),
        effective_url: findings.effective_url.clone(),
        read: findings.read.clone(),
        proven: findings.proven,
        news: findings.news.clone(),
    };
    // A failure that may pass leaves Ready as it is, even if something else is written.
    if reported {
        report::set_verdict(&mut status, customer, &findings.verdict, &Notes::default());
        status.next_window = findings.next_window.map(Time);
    }
    let owed = memory.owed.unrecorded(|made| status.history.contains(&made.change));
    let changes = Changes { open: memory.change.as_ref(), owed };
    update(&mut status, &found, Wish::of(&customer.spec), changes, &clock::now());
    status
}

/// Tells of changes and of a worse standing: after the status was written.
pub(super) fn announce(
    context: &Context,
    customer: &CustomerTokenTtl,
    owed: &[Made],
    verdict: Option<&Verdict>,
) {
    let object = reference(customer);
    let (namespace, name) = (customer.namespace().unwrap_or_default(), customer.name_any());
    for Made { change: TtlChange { to, cause, .. }, .. } in owed {
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
    let seen = findings.read.as_ref().map(|read| read.ttl);
    let Some(seen) = seen.filter(|seen| *seen != wanted.into()) else { return };
    if known && waits {
        let message = &findings.verdict.message;
        context.events.publish(Happening {
            object: reference(customer),
            reason: EventReason::DriftFound,
            note: format!("Something changed the token lifetimes to {}. {message}", words(seen)),
            warning: false,
            policy: None,
        });
    }
}
