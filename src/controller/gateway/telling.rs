//! What is told of a gateway: its status, and events.

use kube::ResourceExt as _;

use super::{Findings, HISTORY};
use crate::clock;
use crate::controller::context::Context;
use crate::controller::events::{Happening, policy_reference, reference};
use crate::controller::governance::Governance;
use crate::controller::policy;
use crate::controller::report::{self, Owed};
use crate::controller::restore;
use crate::controller::store::Key;
use crate::controller::workers::Kind;
use crate::crd::{Cause, Change, Pending, X2Gateway, X2GatewayStatus};
use crate::engine::gateway::Regime;
use crate::engine::login::{self, News};
use crate::engine::reason::{EventReason, Progress};
use crate::engine::verdict::{self, Notes, Reason, Verdict};

/// The status after a look. `before` is the gateway as it was when the look began.
pub(super) fn new_status(
    before: &X2Gateway,
    gateway: &X2Gateway,
    findings: &Findings,
    governance: &Governance,
    owed: &Owed<Change>,
    reported: bool,
) -> X2GatewayStatus {
    let mut status = gateway.status.clone().unwrap_or_default();
    // A failure that may pass leaves Ready as it is, even where something else is written.
    if reported {
        let notes = Notes { insecure: findings.insecure.clone(), ..Notes::default() };
        report::set_verdict(&mut status, gateway, &findings.verdict, &notes);
    }
    let now = clock::now();
    if let Some(url) = &findings.effective_url {
        status.effective_url = Some(url.clone());
    }
    if let Some(timeout) = findings.timeout {
        status.timeout_seconds = Some(timeout);
        status.last_checked_time = Some(now.clone());
        login::record(&mut status.refused_login, &News::LetIn);
    }
    if let Some(token) = findings.token {
        // A second more or less is no news.
        let known = status.proven_timeout_seconds.filter(|known| token.abs_diff(*known) <= 2);
        status.proven_timeout_seconds = known.or(Some(token));
        status.last_proven_time = Some(now.clone());
    }
    let verdict = &findings.verdict;
    // What is left stays in force until what stood there before it is restored, or is not to be: not by us.
    let left = matches!(governance.regime, Regime::Left { .. })
        && matches!(verdict.reason, Reason::Unmanaged | Reason::Conflict);
    status.policy = governance.regime.policy().filter(|_| !left).map(str::to_owned);
    status.pending = still_open(before, &status, verdict, &governance.regime);
    status.desired_timeout_seconds = governance.regime.desired(status.timeout_seconds);
    if let Some(news) = &findings.news {
        login::record(&mut status.refused_login, news);
    }
    for change in owed.unrecorded(|change| status.history.contains(change)) {
        status.original_timeout_seconds = status.original_timeout_seconds.or(change.from);
        status.history.insert(0, change.clone());
        status.history.truncate(HISTORY);
    }
    if left {
        // It is nobody's any more: whoever changes it next finds another original.
        status.original_timeout_seconds = None;
    }
    status
}

/// The change that was begun, where it is not seen to its end.
fn still_open(
    before: &X2Gateway,
    status: &X2GatewayStatus,
    verdict: &Verdict,
    regime: &Regime,
) -> Option<Pending> {
    match verdict.reason {
        // Tokens may still have to be invalidated, once it goes on.
        Reason::InSync if matches!(regime, Regime::Enforced { suspended: true, .. }) => {
            status.pending.clone()
        }
        reason if reason.is_ready() => None,
        // It may be all that tells that what stands there is ours to take back.
        _ if matches!(regime, Regime::Left { .. }) => status.pending.clone(),
        // The value was read, differs, and nothing was written in this look. What has taken effect before stays on record as
        // long as it stands there, and what has failed while the same is wanted; what was only begun has come to nothing.
        reason if reason.awaits_permission() || reason.progress() == Progress::Found => {
            let before = before.status.as_ref()?;
            let failed = verdict::ready_reason(&before.conditions) != Some(Reason::Progressing);
            let same = |pending: &Pending| regime.target().is_some_and(|target| target.holds(pending.to));
            let stands = |pending: &Pending| status.timeout_seconds == Some(pending.to);
            before.pending.clone().filter(|pending| stands(pending) || failed && same(pending))
        }
        _ => status.pending.clone(),
    }
}

/// Tells of changes and of a worse standing: after the status was written.
pub(super) fn announce(
    context: &Context,
    gateway: &X2Gateway,
    owed: &[Change],
    verdict: Option<&Verdict>,
    governance: &Governance,
    findings: &Findings,
) {
    let regime = &governance.regime;
    let object = reference(gateway);
    let namespace = gateway.namespace().unwrap_or_default();
    let about = |policy: &str| {
        policy_reference(&Key::new(namespace.clone(), policy), policy::uid(context, &namespace, policy))
    };
    for change in owed {
        let Change { from, to, policy, cause, .. } = change;
        let was = from.map_or_else(String::new, |from| format!(" from {from}s"));
        let (reason, note) = match cause {
            Cause::Policy => (
                EventReason::TimeoutChanged,
                format!("Token lifetime changed{was} to {to}s (TokenPolicy {policy})."),
            ),
            Cause::Drift => {
                context.metrics.drift_corrected(Kind::Gateway.as_str());
                (
                    EventReason::DriftCorrected,
                    format!("Token lifetime reset{was} to {to}s (TokenPolicy {policy})."),
                )
            }
            Cause::Restore => (
                EventReason::TimeoutChanged,
                format!("Token lifetime restored{was} to {to}s, the value before TokenPolicy {policy}."),
            ),
        };
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
        context.events.publish(Happening { object: object.clone(), reason, note, warning: false, policy });
    }
    if findings.revoked {
        let note = "The tokens issued before the change were invalidated. The operator's user has been logged out of all sessions.";
        let policy = regime.policy().map(about);
        let (reason, note) = (EventReason::TokensRevoked, note.to_owned());
        tracing::info!(
            kind = Kind::Gateway.as_str(),
            namespace,
            name = gateway.name_any(),
            reason = reason.as_str(),
            "{note}"
        );
        context.events.publish(Happening { object: object.clone(), reason, note, warning: false, policy });
    }
    if let Some(why) = findings.skipped {
        restore::skipped(context, object.clone(), why);
    }
    if let Some(verdict) = verdict {
        let before = gateway.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
        context.warn_of(object, regime.policy().map(about), before, verdict);
    }
}
