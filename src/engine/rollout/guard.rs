//! Changes by policies without a rollout of their own: at once, unless that would be felt by too many.

use std::collections::BTreeMap;

use super::{Member, Record, Standing, is_risky, is_short, target_hash};
use crate::crd::Phase;
use crate::engine::lifetime::Target;

/// How such a policy's changes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// It is too early to say: not every gateway was checked.
    Undecided,
    /// All at once.
    Free,
    /// One first.
    OneFirst,
}

/// How the changes that wait are made. `tightened` counts those that would make tokens live shorter.
#[must_use]
pub(super) fn guard(
    record: Option<&Record>,
    target: Target,
    members: &BTreeMap<String, Member>,
    tightened: usize,
) -> Guard {
    let standings = || members.values().map(|member| member.standing).filter(|s| *s != Standing::Restoring);
    let begun = |r: &Record| r.phase != Phase::Complete && r.target_hash == target_hash(target, false);
    if is_short(target) && record.is_some_and(begun) {
        return Guard::OneFirst;
    }
    let fleet = standings().count();
    // Whether it is risky is asked as if all were tightened, first: then it need not be known.
    if !is_short(target) || !is_risky(target, fleet, fleet) {
        return Guard::Free;
    }
    if is_risky(target, fleet, tightened) {
        // The first is chosen among those that are known.
        return Guard::OneFirst;
    }
    if standings().any(|standing| standing == Standing::Unread) { Guard::Undecided } else { Guard::Free }
}
