//! A gateway's place among those that its policy changes.

use std::cell::Cell;
use std::sync::Arc;

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::clock;
use crate::controller::context::Context;
use crate::controller::governance::{self, Governance};
use crate::controller::rollouts::is_bounded;
use crate::controller::store::Key;
use crate::controller::workers::{Kind, wake};
use crate::crd::X2Gateway;
use crate::engine::verdict::Reason;

/// Where a policy bounds its changes: what its task is told of a look. A look that ends without saying gives its turn back.
pub(super) struct Turns<'a> {
    context: &'a Arc<Context>,
    policy: Option<Key>,
    gateway: String,
    /// When the look has begun that has not said yet what it has come to.
    begun: Cell<Option<Timestamp>>,
}

impl<'a> Turns<'a> {
    pub(super) fn of(context: &'a Arc<Context>, gateway: &X2Gateway, governance: &Governance) -> Self {
        let policy = governance.policy.as_ref().filter(|policy| {
            let target = governance::target(policy, context);
            target.is_ok_and(|target| is_bounded(policy, target))
        });
        Self {
            context,
            policy: policy.map(|policy| Key::of(policy.meta())),
            gateway: gateway.name_any(),
            begun: Cell::new(None),
        }
    }

    /// A look has begun.
    pub(super) fn begun(&self) {
        self.begun.set(Some(clock::now().0));
    }

    /// Whether the policy bounds its changes at all.
    pub(super) fn are_given(&self) -> bool {
        self.policy.is_some()
    }

    /// Whether the policy's task calls for a look.
    pub(super) fn calls(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| self.context.rollouts.calls(policy, &self.gateway))
    }

    /// The look has come to this, and that is written.
    pub(super) fn ended(&self, reason: Reason) {
        let begun = self.begun.take();
        let Some(policy) = &self.policy else { return };
        let asks = reason.awaits_permission();
        let in_order = begun.filter(|_| reason.is_ready());
        if self.context.rollouts.ended(policy, &self.gateway, asks, in_order) {
            wake(self.context, Kind::Policy, policy.clone());
        }
    }
}

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        let Some(policy) = self.policy.as_ref().filter(|_| self.begun.get().is_some()) else { return };
        if self.context.rollouts.give_back(policy, &self.gateway) {
            wake(self.context, Kind::Policy, policy.clone());
        }
    }
}
