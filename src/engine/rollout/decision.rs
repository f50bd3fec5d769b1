//! What a policy's task does next about its rollout.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{Member, Plan};
use crate::crd::{Phase, RolloutStatus, Time};
use crate::engine::lifetime::Target;

/// What the policy's task does next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The target that it was made for.
    pub(super) target: Option<Target>,
    /// What it comes to, by name. The record is to be written to the policy's status before anything else is done.
    pub plan: Plan,
    /// The states of the gateways that take part, by name.
    pub members: BTreeMap<String, Member>,
    /// Gateways that have drifted within one interval.
    pub drifts: usize,
    /// When the rollout began or was resumed.
    pub(super) started: Option<Timestamp>,
    /// A halted rollout goes on: what has failed before does not count.
    pub(super) resumed: bool,
    /// One gateway goes first although the policy does not ask for it, since the change would be felt by many.
    pub guarded: bool,
    pub(super) halted: bool,
    /// UIDs of the gateways that take part.
    pub(super) uids: BTreeSet<String>,
    /// UIDs of the gateways that get a permit, with the target that it is for.
    pub(super) begin: BTreeMap<String, Option<Target>>,
    /// UIDs of the gateways to check now.
    pub(super) check: BTreeSet<String>,
    /// UIDs of the gateways whose drift only their histories show.
    pub(super) recalled: BTreeMap<String, Duration>,
    /// Names of the gateways whose change has failed.
    pub failed: Vec<String>,
    /// Names of the gateways that are proven at the target.
    pub changed: Vec<String>,
    /// Names of the other gateways.
    pub unchanged: Vec<String>,
}

impl Decision {
    pub(super) fn takes_part(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    pub(super) fn grants(&self, uid: &str, target: Option<Target>) -> bool {
        self.begin.get(uid) == Some(&target)
    }

    pub(super) fn checks(&self, uid: &str) -> bool {
        self.check.contains(uid)
    }

    pub(super) fn recalled(&self, uid: &str) -> Option<Duration> {
        self.recalled.get(uid).copied()
    }

    /// Gives no permits: the policy's finalizer could not be set.
    pub fn withhold(&mut self) {
        self.begin.clear();
        self.plan.begin.clear();
    }

    /// Whether a halted rollout goes on.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The target that it was made for, unless that is invalid.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        self.target
    }

    /// What the policy's status shows of it. To be written before the decision is carried out.
    #[must_use]
    pub fn status(&self) -> Option<RolloutStatus> {
        let count = |names: &[String]| i64::try_from(names.len()).unwrap_or(i64::MAX);
        let record = self.plan.record.clone()?;
        Some(RolloutStatus {
            phase: record.phase,
            target_hash: record.target_hash,
            canaries: record.canaries,
            soak_until: record.soak_until.map(Time),
            started_time: Time(record.started),
            changed: count(&self.changed),
            failed: count(&self.failed),
        })
    }

    /// Names of the canaries that are known to have been lost.
    #[must_use]
    pub(crate) fn lost_canaries(&self) -> Vec<String> {
        let canaries = self.plan.record.as_ref().map(|record| &*record.canaries).unwrap_or_default();
        let is_lost = |name: &&String| self.members.get(*name).is_some_and(Member::is_lost);
        canaries.iter().filter(is_lost).cloned().collect()
    }

    /// How far the rollout has got.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.plan.record.as_ref().map(|record| record.phase)
    }
}
