//! What bounds a rollout, and when a change needs bounds that no spec sets.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::crd::{Approval, DeletionPolicy, NumberOrPercent, TokenPolicySpec};
use crate::engine::lifetime::{InvalidTarget, Target};

/// Below this, in seconds, people are logged out often enough to notice.
const SHORT: u32 = 3600;
/// A fleet smaller than this is changed at once.
const FLEET: usize = 4;
/// Canaries that a status lists.
const MOST: usize = 500;
/// What they may take of it, in bytes.
const LONGEST: usize = 5_000;
/// Time between the first gateway of a risky change and the others.
const GUARD_SOAK: Duration = Duration::from_mins(1);

/// What bounds a rollout, in gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Maximum number of gateways under change at once.
    pub max_concurrent: usize,
    /// Failed changes that are tolerated.
    pub max_failures: usize,
    /// Which gateways go first.
    pub canary: Option<Canary>,
}

impl Rules {
    /// One gateway first, then, a minute later, all others: for a risky change by a policy without bounds of its own.
    #[must_use]
    pub fn guard() -> Self {
        let canary = Canary { choice: Choice::First(1), soak: GUARD_SOAK, approval: Approval::Automatic };
        Self { max_concurrent: usize::MAX, max_failures: usize::MAX, canary: Some(canary) }
    }

    /// Up to this many gateways that drift within one interval are corrected at once; more are the reset of a whole site.
    #[must_use]
    pub fn bearable_drifts(&self) -> usize {
        self.max_failures.saturating_add(self.max_concurrent)
    }
}

/// The gateways that are changed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Which.
    pub choice: Choice,
    /// Time from their change until the others follow.
    pub soak: Duration,
    /// Whether the others wait for a person's approval after that.
    pub approval: Approval,
}

/// How canaries are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This many, in the order of their names.
    First(usize),
    /// These.
    Named(BTreeSet<String>),
}

/// What a list of names takes of a status, in bytes.
#[must_use]
pub fn size(names: &[String]) -> usize {
    names.iter().map(|name| listed(name)).sum()
}

fn listed(name: &str) -> usize {
    r#""","#.len() + name.len()
}

/// The first of these names, as many as a status lists.
pub(super) fn fitting<'n>(names: impl Iterator<Item = &'n String>) -> Vec<String> {
    let fits = |room: &mut usize, name: &'n String| {
        *room = room.checked_sub(listed(name))?;
        Some(name.clone())
    };
    names.take(MOST).scan(LONGEST, fits).collect()
}

/// A number of gateways, or a share of all that a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many.
    Number(usize),
    /// This percentage.
    Percent(usize),
}

impl Bound {
    /// Parses a field of a spec.
    pub fn parse(field: &'static str, bound: &NumberOrPercent) -> Result<Self, InvalidTarget> {
        let text = match bound {
            NumberOrPercent::Number(number) => {
                return Ok(Self::Number(usize::try_from(*number).unwrap_or(usize::MAX)));
            }
            NumberOrPercent::Percent(text) => text,
        };
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        percent.map(Self::Percent).ok_or_else(|| InvalidTarget::Bound { field, text: text.clone() })
    }

    /// At least one gateway; a share of `matched` is rounded up.
    #[must_use]
    pub fn at_least_one(self, matched: usize) -> usize {
        match self {
            Self::Number(number) => number.max(1),
            Self::Percent(percent) => matched.saturating_mul(percent).div_ceil(100).max(1),
        }
    }

    /// At most so many gateways; a share of `matched` is rounded down.
    #[must_use]
    pub fn at_most(self, matched: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => matched.saturating_mul(percent) / 100,
        }
    }
}

/// Whether a policy's changes need a permit: because of its bounds, because they may be felt by many, or because its
/// finalizer has to be in place first. An invalid target, given as none, changes no bound.
#[must_use]
pub fn is_bounded(policy: &TokenPolicySpec, target: Option<Target>) -> bool {
    policy.rollout.is_some()
        || policy.deletion_policy == DeletionPolicy::Restore
        || target.is_some_and(is_short)
}

/// Whether a target makes sessions so short that changing many gateways at once would be felt.
#[must_use]
pub fn is_short(target: Target) -> bool {
    target.bounds().1 < SHORT
}

/// Whether changing all that wait would be felt: more than half of a fleet of four or more would be tightened to below an
/// hour. `tightened` counts the gateways whose lifetime would become shorter.
#[must_use]
pub fn is_risky(target: Target, fleet: usize, tightened: usize) -> bool {
    is_short(target) && fleet >= FLEET && tightened.saturating_mul(2) > fleet
}
