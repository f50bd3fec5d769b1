//! Which policy governs a gateway.

use super::lifetime::{InvalidTarget, Target};
use crate::crd::Mode;

/// What the rules need to know of a policy that selects a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Name of the policy.
    pub policy: String,
    /// Higher wins.
    pub priority: i32,
    /// Whether it changes or only reports.
    pub mode: Mode,
    /// A paused policy keeps its claim.
    pub suspended: bool,
    /// What it requires. A policy whose numbers are refused keeps its claim, too: a typing error must not hand its
    /// gateways to another policy.
    pub target: Result<Target, InvalidTarget>,
}

/// The claim that wins among those of mode Enforce: highest priority, then the name that sorts first.
pub fn winner<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> Option<&'a Claim> {
    claims
        .into_iter()
        .filter(|claim| claim.mode == Mode::Enforce)
        .min_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.policy.cmp(&b.policy)))
}
