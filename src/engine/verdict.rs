//! What one reconcile of an object concludes: a reason and a sentence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use super::conditions::{Notes, conditions, ready, ready_reason, suspended};
pub use super::reason::Reason;

/// What one reconcile of an object concludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// A sentence that a person can act on: stable from check to check, without secrets.
    pub message: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The verdict that the Ready condition holds.
    #[must_use]
    pub fn reported(conditions: &[Condition]) -> Option<Self> {
        ready(conditions).and_then(|c| Some(Self::new(Reason::parse(&c.reason)?, c.message.clone())))
    }
}
