//! What a reconcile of one gateway means for its policy's rollout.

use jiff::Timestamp;

use crate::engine::reason::Reason;

/// What a gateway's reconcile came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It waits for a permit or a window.
    Waits,
    /// It was found healthy by a reconcile that began then.
    Healthy(Timestamp),
    /// It could not be read or changed.
    Failed,
    /// Nothing is known: it is tried again.
    Nothing,
}

impl Outcome {
    /// What a reconcile came to that has begun then and reports this.
    #[must_use]
    pub fn of(reason: Reason, begun: Timestamp, now: Timestamp) -> Self {
        match reason {
            reason if reason.awaits_permission() => Self::Waits,
            // One that ended before it began: the clock was set back meanwhile.
            reason if reason.is_ready() => Self::Healthy(begun.min(now)),
            _ => Self::Failed,
        }
    }
}
