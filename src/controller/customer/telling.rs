//! What is told of a customer: its status, and events.

use kube::ResourceExt as _;

use super::{Findings, Memory};
use crate::clock;
use crate::controller::context::Context;
use crate::controller::events::{Happening, reference};
use crate::controller::report;
use crate::controller::workers::Kind;
use crate::crd::{CustomerTokenTtl, CustomerTokenTtlStatus, Time, TtlChange};
use crate::engine::customer::{Changes, Found, Made, Wish, changed, drifted, update};
use crate::engine::reason::EventReason;
use crate::engine::verdict::{self, Notes, Verdict};

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
    let (namespace, name) = (customer.namespace().unwrap_or_default(), customer.name_any());
    for Made { change, .. } in owed {
        let (reason, note) = changed(change);
        if reason == EventReason::DriftCorrected {
            context.metrics.drift_corrected(Kind::Customer.as_str());
        }
        let TtlChange { to, cause, .. } = change;
        let (access, refresh) = (to.access_token_ttl_seconds, to.refresh_token_ttl_seconds);
        tracing::info!(kind = Kind::Customer.as_str(), namespace, name, access, refresh, ?cause, "{note}");
        publish(context, customer, reason, note);
    }
    let before = customer.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
    if let Some(verdict) = verdict {
        context.warn_of(reference(customer), None, before, verdict);
    }
}

/// Publishes that something else has changed lifetimes which were as desired, if that is not corrected for now.
pub(super) fn announce_drift(context: &Context, customer: &CustomerTokenTtl, findings: &Findings) {
    let seen = findings.read.as_ref().map(|read| read.ttl);
    let note = drifted(customer.status.as_ref(), Wish::of(&customer.spec), seen, &findings.verdict);
    if let Some(note) = note {
        publish(context, customer, EventReason::DriftFound, note);
    }
}

fn publish(context: &Context, customer: &CustomerTokenTtl, reason: EventReason, note: String) {
    context.events.publish(Happening {
        object: reference(customer),
        reason,
        note,
        warning: false,
        policy: None,
    });
}
