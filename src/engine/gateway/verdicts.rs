//! What to report of a gateway that waits or is under change, each with a sentence.

use super::OpenChange;
use crate::crd::{Cause, X2GatewayStatus};
use crate::engine::ownership::Conflict;
use crate::engine::reason::Reason;
use crate::engine::verdict::Verdict;

/// Why the original value of an appliance is not restored if another resource owns it.
pub const RIVAL: &str = "another X2Gateway manages the appliance";
/// Why a gateway's original value is not restored if no policy is left to do so.
pub const NO_POLICY: &str = "its TokenPolicy no longer exists";
/// What to report if the URL has changed.
pub const MOVED: &str = "spec.url has changed; the appliance is read again.";
/// The note of the event `TokensRevoked`.
pub const REVOKED: &str = "The tokens issued before the change were invalidated. The operator's user has been logged out of all sessions.";

/// What to report if the appliance is another resource's, or is not known to be this one's.
pub const CONFLICT: Conflict = Conflict {
    lost: "Another X2Gateway already manages the appliance at this URL, so this one is ignored. Delete one of the two, or correct spec.url.",
    undecided: "Another X2Gateway has the same URL; nothing is changed until it is known which of the two can log in.",
};

/// A change waits for a permit of the rollout. While it is halted, what has failed stays in sight.
#[must_use]
pub fn awaiting_rollout(status: Option<&X2GatewayStatus>, policy: &str, halted: bool) -> Verdict {
    if !halted {
        let message = format!("A change is waiting for the rollout of TokenPolicy {policy}.");
        return Verdict::new(Reason::AwaitingRollout, message);
    }
    let failure = status.filter(|status| status.pending.is_some());
    let failure = failure.and_then(|status| Verdict::reported(&status.conditions));
    failure.filter(|verdict| verdict.reason.is_failed_change()).unwrap_or_else(|| {
        let message = format!(
            "A change is waiting: the rollout of TokenPolicy {policy} is halted. See the policy's conditions."
        );
        Verdict::new(Reason::AwaitingRollout, message)
    })
}

/// A change is about to be sent.
#[must_use]
pub fn under_change(change: &OpenChange) -> Verdict {
    let (to, policy) = (change.to, change.policy.as_deref().unwrap_or_default());
    let message = match change.cause {
        Cause::Restore => {
            format!("Restoring the token lifetime to {to}s, the value before TokenPolicy {policy}.")
        }
        Cause::Policy | Cause::Drift => {
            format!("Setting the token lifetime to {to}s, as required by TokenPolicy {policy}.")
        }
    };
    Verdict::new(Reason::Progressing, message)
}

/// The note of the event that something else has changed the value, which is not corrected for now.
#[must_use]
pub fn drifted(from: u32, to: u32, verdict: &Verdict) -> String {
    format!("Something changed the token lifetime from {from}s to {to}s. {}", verdict.message)
}
