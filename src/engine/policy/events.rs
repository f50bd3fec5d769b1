//! What is published of a policy's rollout: once per start, resumption and end.

use super::{NAMES, listed};
use crate::crd::{Phase, RolloutStatus, TokenPolicy, TokenPolicyStatus};
use crate::engine::change::{reference, referring};
use crate::engine::reason::{EventReason, Reason};
use crate::engine::rollout::Decision;

/// An event about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its reason.
    pub reason: EventReason,
    /// Its note.
    pub note: String,
}

/// The events about a rollout that a new status of a policy gives rise to, once it is written.
#[must_use]
pub fn events(policy: &TokenPolicy, new: &TokenPolicyStatus, decision: &Decision) -> Vec<Event> {
    let Some(rollout) = &new.rollout else { return Vec::new() };
    let old = policy.status.as_ref().and_then(|status| status.rollout.as_ref());
    let has_started = old.map(|old| &old.started_time) != Some(&rollout.started_time);
    let has_moved = old.map(|old| old.phase) != Some(rollout.phase);
    let reference = reference(&policy.metadata);
    let event = |(reason, note)| Event { reason, note: referring(note, reference.as_deref()) };
    let start = has_started.then(|| (EventReason::RolloutStarted, started(rollout, decision)));
    let end = has_moved.then(|| ended(policy, rollout.phase, decision)).flatten();
    start.into_iter().chain(end).map(event).collect()
}

fn started(rollout: &RolloutStatus, decision: &Decision) -> String {
    let started = if decision.resumed() { "resumed" } else { "started" };
    match &*rollout.canaries {
        [] => format!("The rollout has {started}, without canaries."),
        canaries => format!("The rollout has {started}. Canaries: {}.", listed(canaries, NAMES)),
    }
}

fn ended(policy: &TokenPolicy, phase: Phase, decision: &Decision) -> Option<(EventReason, String)> {
    match phase {
        Phase::Halted => Some((
            EventReason::NotReady(Reason::RolloutHalted),
            format!(
                "The rollout is halted: {}. Updated: {}. Not updated: {}.",
                cause(decision, NAMES),
                listed(&decision.changed, NAMES),
                listed(&decision.unchanged, NAMES)
            ),
        )),
        // No gateway is proven to have the target if all have gone to another policy, or get their original values.
        Phase::Complete if decision.changed.is_empty() || policy.metadata.deletion_timestamp.is_some() => {
            None
        }
        Phase::Complete => {
            let target = decision.target().map(|target| target.to_string()).unwrap_or_default();
            Some((
                EventReason::RolloutComplete,
                format!(
                    "Every reachable gateway has a token lifetime of {target}s (verified by new logins)."
                ),
            ))
        }
        Phase::Canary | Phase::AwaitingApproval | Phase::Progressing | Phase::AwaitingWindow => None,
    }
}

/// Why a rollout has halted, as a clause: changes have failed, or else canaries were not found healthy.
pub(super) fn cause(decision: &Decision, names: usize) -> String {
    let Decision { failed, .. } = decision;
    if !failed.is_empty() {
        return format!("changing {} failed", listed(failed, names));
    }
    match &*decision.lost_canaries() {
        // It is healthy again by now, or the operator was restarted.
        [] => "a canary failed three checks in a row".to_owned(),
        lost => format!("canaries failed three checks in a row: {}", listed(lost, names)),
    }
}
