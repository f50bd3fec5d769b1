//! What must be in place before a write: a window, a turn, and in the status whatever must not be forgotten.

use std::sync::Arc;

use kube::{Resource as _, ResourceExt as _};

use super::HISTORY;
use super::examine::Examination;
use crate::clock;
use crate::controller::context::Context;
use crate::controller::governance::{self, Governance};
use crate::controller::pace::Pace;
use crate::controller::report::{self, Written};
use crate::controller::restore;
use crate::controller::rollout::{Held, Turn};
use crate::controller::store::Key;
use crate::controller::windows::Closed;
use crate::crd::{
    Cause, Change, DeletionPolicy, Pending, RevokeTokens, Time, TokenPolicy, X2Gateway, X2GatewayStatus,
};
use crate::engine::rollout::{Wish, is_bounded};
use crate::engine::verdict::{Notes, Reason, Verdict};

/// Whether a write may be made now.
pub(super) enum Clearance {
    /// Yes, as long as the permit is held, if the policy bounds its changes.
    Go(Option<Held>),
    /// Not yet.
    Wait(Verdict),
    /// Nothing can be said now: look again.
    Void,
}

/// A write that is about to be made, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intent {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) cause: Cause,
}

impl Examination<'_> {
    /// Sees to it that everything is in place for a write.
    pub(super) async fn clear(&self, intent: Intent) -> Clearance {
        let Some(policy) = &self.governance.policy else { return Clearance::Void };
        let permit = match self.turn(policy, intent) {
            Ok(permit) => permit,
            Err(clearance) => return clearance,
        };
        let started = permit.as_ref().and_then(Held::started).map(Time);
        match self.prepare(policy, intent, started).await {
            Ok(()) => Clearance::Go(permit),
            Err(clearance) => clearance,
        }
    }

    /// Whether a write is permitted at this moment: what the reconcile began with still holds, and a window is open. Asked
    /// last, when nothing but the bytes of the write is left to be sent.
    pub(super) fn permitted(&self, intent: Intent) -> Clearance {
        match self.still_holds() {
            Some(now) => now
                .policy
                .as_deref()
                .and_then(|policy| closed(self.context, policy, intent))
                .map_or(Clearance::Go(None), Clearance::Wait),
            None => Clearance::Void,
        }
    }

    /// Asks for a permit, as far as the policy bounds its changes. One that is not answered yet ends the reconcile: the
    /// answer wakes the gateway.
    fn turn(&self, policy: &TokenPolicy, intent: Intent) -> Result<Option<Held>, Clearance> {
        let (target, wish) = match intent.cause {
            Cause::Policy => {
                (self.governance.regime.target(), Wish::Change { tightens: intent.to < intent.from })
            }
            Cause::Drift => (self.governance.regime.target(), Wish::Repair),
            Cause::Restore => (None, Wish::Restore),
        };
        let closed = closed(self.context, policy, intent).map(Clearance::Wait);
        if !is_bounded(&policy.spec, governance::target(policy, self.context).ok()) {
            return closed.map_or(Ok(None), Err);
        }
        let rollout = self.context.rollouts.of(self.context, policy).ok_or(Clearance::Void)?;
        // Also if no window is open: the policy's task is to know which gateways wait.
        match rollout.turn(self.context, self.gateway, target, wish) {
            Turn::Now(permit) => closed.map_or(Ok(Some(permit)), Err),
            Turn::Later { halted } => {
                Err(closed.unwrap_or_else(|| Clearance::Wait(self.later(&policy.name_any(), halted))))
            }
            Turn::Asked => Err(closed.unwrap_or(Clearance::Void)),
        }
    }

    /// What to report of a gateway whose turn has not come. While a rollout is halted, what has failed stays in sight.
    fn later(&self, policy: &str, halted: bool) -> Verdict {
        if !halted {
            return Verdict::new(
                Reason::AwaitingRollout,
                format!("A change is waiting for the rollout of TokenPolicy {policy}."),
            );
        }
        let failure = self.gateway.status.as_ref().filter(|status| status.pending.is_some());
        let failure = failure.and_then(|status| Verdict::reported(&status.conditions));
        failure.filter(|verdict| verdict.reason.is_failed_change()).unwrap_or_else(|| {
            let message = format!(
                "A change is waiting: the rollout of TokenPolicy {policy} is halted. See the policy's conditions."
            );
            Verdict::new(Reason::AwaitingRollout, message)
        })
    }

    /// Puts into the status and on the gateway whatever must not be forgotten should we die in the middle.
    async fn prepare(
        &self,
        policy: &TokenPolicy,
        intent: Intent,
        started: Option<Time>,
    ) -> Result<(), Clearance> {
        let restores = policy.spec.deletion_policy == DeletionPolicy::Restore;
        if restores {
            let Some(now) = self.now() else { return Err(Clearance::Void) };
            let held = match intent.cause {
                Cause::Restore => Written::Unchanged,
                Cause::Policy | Cause::Drift => restore::hold::<X2Gateway>(self.context, now.meta()).await,
            };
            match held {
                Written::Unchanged | Written::Written => {}
                Written::Forbidden => return Err(Clearance::Wait(restore::forbidden::<X2Gateway>())),
                Written::Failed | Written::Gone => return Err(Clearance::Void),
            }
        }
        // Only what is known to be ours is taken back.
        let known = self.prior.original.is_some() && self.prior.wrote.is_some_and(|(to, _)| to == intent.to);
        let kept = policy.spec.rollout.is_some()
            || started.is_some()
            || restores && (!known || intent.cause == Cause::Restore)
            || policy.spec.revoke_tokens != RevokeTokens::Never;
        let Some(now) = self.now().filter(|_| kept) else { return Ok(()) };
        let status = self.begun(policy, &now, intent, started);
        match report::write(self.context, &*now, status).await {
            Written::Written | Written::Unchanged => Ok(()),
            Written::Gone | Written::Failed | Written::Forbidden => Err(Clearance::Void),
        }
    }

    /// The gateway as it is now, if it is still the one that the look began with.
    fn now(&self) -> Option<Arc<X2Gateway>> {
        let now = self.context.gateways.valid(&Key::of(self.gateway.meta()));
        now.filter(|now| now.uid() == self.gateway.uid())
    }

    /// The status of a gateway under change.
    fn begun(
        &self,
        policy: &TokenPolicy,
        gateway: &X2Gateway,
        intent: Intent,
        started: Option<Time>,
    ) -> X2GatewayStatus {
        let Intent { from, to, cause } = intent;
        let mut status = gateway.status.clone().unwrap_or_default();
        let name = policy.name_any();
        let message = match cause {
            Cause::Restore => {
                format!("Restoring the token lifetime to {to}s, the value before TokenPolicy {name}.")
            }
            _ => format!("Setting the token lifetime to {to}s, as required by TokenPolicy {name}."),
        };
        let verdict = Verdict::new(Reason::Progressing, message);
        let notes = Notes { insecure: self.insecure.clone(), ..Notes::default() };
        report::set_verdict(&mut status, gateway, &verdict, &notes);
        let now = clock::now();
        let original = status.original_timeout_seconds;
        let recorded = status.history.first().is_some_and(|last| last.to == from);
        if cause == Cause::Restore && !recorded {
            // A write of ours that was never recorded: once it is overwritten, nothing else tells that this value is ours.
            let (policy, cause) = (name.clone(), Cause::Policy);
            let change = Change { time: now.clone(), from: original, to: from, policy, cause };
            status.history.insert(0, change);
            status.history.truncate(HISTORY);
        }
        let since = started.filter(|started| started.0 > now.0).unwrap_or_else(|| now.clone());
        status.pending = Some(Pending { to, since });
        status.timeout_seconds = Some(from);
        status.original_timeout_seconds = original.or(Some(from));
        status.effective_url = Some(self.url.clone());
        status.last_checked_time = Some(now);
        status.policy = Some(name);
        if cause == Cause::Policy {
            // It says nothing of what is to be proven now, and must not make this look like drift.
            status.proven_timeout_seconds = None;
        }
        status
    }
}

/// What to report where no change window is open. Giving back what stood there before does not wait for one.
fn closed(context: &Context, policy: &TokenPolicy, intent: Intent) -> Option<Verdict> {
    if intent.cause == Cause::Restore {
        return None;
    }
    let closed = governance::closed_window(context, policy)?;
    Some(Verdict::new(Reason::AwaitingWindow, waiting(closed, policy)))
}

fn waiting(closed: Closed, policy: &TokenPolicy) -> String {
    closed.message(&format!("TokenPolicy {}", policy.name_any()))
}

/// Whether what a gateway reports of its wait for a window is no longer so: one is open, or there is something else to say
/// of the annotation that opens it by hand. While it is so, the next look comes with the window, which may be another by now.
pub(super) fn window_has_moved(
    context: &Context,
    gateway: &X2Gateway,
    governance: &Governance,
    pace: &mut Pace,
) -> bool {
    let Some((closed, policy)) = governance.closed_window(context).zip(governance.policy.as_deref()) else {
        return true;
    };
    pace.not_later_than(clock::instant_of(closed.next));
    let status = gateway.status.as_ref();
    let reported = status.and_then(|status| Verdict::reported(&status.conditions));
    reported.is_none_or(|reported| reported.message != waiting(closed, policy))
}

/// Whether a gateway's governance asks for our finalizer: something of it was changed that is to be restored one day.
pub(super) fn is_to_be_held(gateway: &X2Gateway, governance: &Governance) -> bool {
    let status = gateway.status.as_ref();
    governance.restores()
        && status
            .is_some_and(|status| status.original_timeout_seconds.is_some() && governance::is_changed(status))
}
