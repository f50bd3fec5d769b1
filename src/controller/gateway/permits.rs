//! A gateway's part in its policy's rollout.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::clock;
use crate::controller::rollout::{Rollout, Rollouts};
use crate::crd::{TokenPolicy, X2Gateway};
use crate::engine::governance::Governance;
use crate::engine::lifetime::Target;
use crate::engine::rollout::Outcome;
use crate::engine::verdict::Reason;
use crate::runtime::store::Store;

/// If a policy bounds its changes: what its rollout learns of a reconcile. One that ends early came to nothing.
pub(super) struct Permits {
    rollout: Option<Arc<Rollout>>,
    uid: String,
    name: String,
    target: Option<Target>,
    /// When the reconcile has begun, while it is not known what it came to.
    begun: Mutex<Option<Timestamp>>,
}

impl Permits {
    pub(super) fn of(
        (rollouts, policies): (&Rollouts, &Store<TokenPolicy>),
        gateway: &X2Gateway,
        governance: &Governance,
    ) -> Self {
        let bounded = governance.policy.as_ref().filter(|policy| policy.is_bounded());
        Self {
            rollout: bounded.and_then(|policy| rollouts.of(policies, &policy.object)),
            uid: gateway.uid().unwrap_or_default(),
            name: gateway.name_any(),
            target: governance.regime.target(),
            begun: Mutex::default(),
        }
    }

    /// A reconcile begins.
    pub(super) fn begun(&self) {
        *self.since() = Some(clock::now().0);
        if let Some(rollout) = &self.rollout {
            rollout.begin(&self.uid);
        }
    }

    /// Whether the policy bounds its changes at all.
    pub(super) fn are_given(&self) -> bool {
        self.rollout.is_some()
    }

    /// Whether the gateway is to be reconciled now for the policy's sake.
    pub(super) fn calls(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.calls(&self.uid))
    }

    /// The reconcile came to this, and that is written.
    pub(super) fn ended(&self, reason: Reason) {
        self.end(|begun| Outcome::of(reason, begun, clock::now().0));
    }

    fn since(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports to the rollout what a reconcile came to, unless that is reported already.
    fn end(&self, outcome: impl FnOnce(Timestamp) -> Outcome) {
        let begun = self.since().take();
        if let Some((begun, rollout)) = begun.zip(self.rollout.as_ref()) {
            rollout.ended((&self.uid, &self.name), self.target, outcome(begun));
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.end(|_| Outcome::Nothing);
    }
}
