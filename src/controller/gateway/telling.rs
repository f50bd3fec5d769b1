//! What is told of a gateway: its status, and events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt as _;

use crate::clock;
use crate::controller::context::Context;
use crate::controller::policy;
use crate::controller::reconcile::{Findings, Memory, Report};
use crate::crd::{Change, Kind, TokenPolicy, X2Gateway, X2GatewayStatus};
use crate::engine::change::referring;
use crate::engine::gateway::{Found, changed, forget_original, put_on_record, update};
use crate::engine::login::{self, News};
use crate::engine::reason::EventReason;
use crate::runtime::events::{Happening, reference, reference_to};
use crate::runtime::object::Key;
use crate::runtime::restore;

/// The status after a reconcile, but for its conditions.
pub(super) fn new_status(report: &Report<'_, X2Gateway>, memory: &Memory<X2Gateway>) -> X2GatewayStatus {
    let mut status = report.object.status.clone().unwrap_or_default();
    let findings = report.findings;
    let (regime, reason) = (&report.given.parents.governance.regime, findings.verdict.reason);
    let found = Found {
        reason,
        before: report.before,
        effective_url: findings.effective_url.clone(),
        timeout: findings.found.timeout,
        token: findings.found.token,
    };
    if found.timeout.is_some() {
        login::record(&mut status.refused_login, &News::LetIn);
    }
    update(&mut status, &found, regime, memory.change.as_ref(), &clock::now());
    if let Some(news) = &findings.news {
        login::record(&mut status.refused_login, news);
    }
    let recorded = status.history.clone();
    put_on_record(&mut status, memory.owed.unrecorded(|change| recorded.contains(change)));
    forget_original(&mut status, regime, reason);
    status
}

/// Publishes changes and a worse condition: after the status was written.
pub(super) fn announce(context: &Context, report: &Report<'_, X2Gateway>, owed: &[Change]) {
    let (gateway, findings) = (&**report.object, report.findings);
    let governance = &report.given.parents.governance;
    let regime = &governance.regime;
    let object = reference(gateway);
    let namespace = gateway.namespace().unwrap_or_default();
    let about = |policy: &str| {
        reference_to::<TokenPolicy>(
            &Key::new(namespace.clone(), policy),
            policy::uid(context, &namespace, policy),
        )
    };
    for change in owed {
        let (reason, note) = changed(change);
        if reason == EventReason::DriftCorrected {
            context.cluster.metrics.drift_corrected(Kind::Gateway.as_str());
        }
        let Change { from, to, policy, cause, .. } = change;
        tracing::info!(
            kind = Kind::Gateway.as_str(),
            namespace,
            name = gateway.name_any(),
            from,
            to,
            policy,
            ?cause,
            "{note}"
        );
        let policy = Some(about(policy));
        context.cluster.events.publish(Happening {
            object: object.clone(),
            reason,
            note,
            warning: false,
            policy,
        });
    }
    if findings.found.revoked {
        let note = "The tokens issued before the change were invalidated. The operator's user has been logged out of all sessions.";
        let policy = regime.policy().map(about);
        let note = referring(note.to_owned(), governance.change_reference().as_deref());
        tracing::info!(
            kind = Kind::Gateway.as_str(),
            namespace,
            name = gateway.name_any(),
            reason = EventReason::TokensRevoked.as_str(),
            "{note}"
        );
        let (object, reason) = (object.clone(), EventReason::TokensRevoked);
        context.cluster.events.publish(Happening { object, reason, note, warning: false, policy });
    }
    if let Some(why) = findings.found.skipped {
        restore::report_skipped(&context.cluster, object.clone(), why);
    }
    if report.shown {
        announce_drift(context, &object, findings, regime.policy().map(about));
        context.warn_of(object, regime.policy().map(about), report.before, &findings.verdict);
    }
}

/// Publishes that something else has changed the value, if that is found and not corrected for now.
fn announce_drift(
    context: &Context,
    object: &ObjectReference,
    findings: &Findings<X2Gateway>,
    policy: Option<ObjectReference>,
) {
    let Some((from, to)) = findings.found.drifted_from.zip(findings.found.timeout) else { return };
    let message = &findings.verdict.message;
    context.cluster.events.publish(Happening {
        object: object.clone(),
        reason: EventReason::DriftFound,
        note: format!("Something changed the token lifetime from {from}s to {to}s. {message}"),
        warning: false,
        policy,
    });
}
