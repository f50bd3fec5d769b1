//! What must be in place before a write: a window, a turn, and in the status whatever must not be forgotten.

use kube::{Resource as _, ResourceExt as _};

use super::examine::Examination;
use crate::clock;
use crate::controller::context::Context;
use crate::controller::governance::{self, Governance};
use crate::controller::reconcile::Memory;
use crate::controller::rollout::{Held, Turn};
use crate::crd::{Cause, DeletionPolicy, RevokeTokens, Time, TokenPolicy, X2Gateway, X2GatewayStatus};
use crate::engine::backoff::Nothing;
use crate::engine::change::Outcome;
use crate::engine::gateway::{OpenChange, prepare, put_on_record};
use crate::engine::rollout::{Wish, is_bounded};
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, status};

/// Whether a write may be made now.
pub(super) enum Clearance {
    /// Yes.
    Go,
    /// Not yet.
    Wait(Verdict),
    /// Nothing can be reported now.
    Nothing(Nothing),
}

/// A write that is about to be made, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intent {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) cause: Cause,
}

impl Examination<'_> {
    /// Sees to it that everything is in place for a write that has its turn.
    pub(super) async fn clear(
        &mut self,
        intent: Intent,
        started: Option<Time>,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<OpenChange, Clearance> {
        let in_rollout = started.is_some();
        let change = self.change(intent, started, memory).ok_or(Clearance::Nothing(Nothing::Outdated))?;
        let kept = self.is_kept(&change) || in_rollout;
        self.prepare(&change, memory, kept).await?;
        // Should it never be sent, that is known; an earlier one that was sent stays open.
        memory.change = Some(change.clone().after(Outcome::Prepared, memory.change.take()));
        Ok(change)
    }

    /// Whether a write is permitted at this moment: what the reconcile began with still holds, and a window is open. Asked
    /// last, when nothing but the bytes of the write is left to be sent.
    pub(super) fn permitted(&self, intent: Intent) -> Clearance {
        match self.still_holds() {
            Some(now) => now
                .policy
                .as_deref()
                .and_then(|policy| closed(self.context, policy, intent))
                .map_or(Clearance::Go, Clearance::Wait),
            None => Clearance::Nothing(Nothing::Outdated),
        }
    }

    /// The change that a write begins.
    fn change(
        &self,
        intent: Intent,
        started: Option<Time>,
        memory: &Memory<X2Gateway>,
    ) -> Option<OpenChange> {
        let Intent { from, to, cause } = intent;
        let on_record = self.gateway.status.as_ref().and_then(|status| status.original_timeout_seconds);
        let owed = memory.owed.first().and_then(|change| change.from);
        let now = clock::now();
        let change = OpenChange {
            from,
            found: from,
            to,
            cause,
            policy: Some(self.governance.regime.policy()?.to_owned()),
            reference: self.governance.change_reference(),
            since: started.filter(|started| started.0 > now.0).unwrap_or(now).0,
            original_before: on_record.or(owed),
            outcome: Outcome::Prepared,
            is_recorded: false,
        };
        Some(change.following(memory.change.as_ref()))
    }

    /// Asks for a permit, as far as the policy bounds its changes. One that is not answered yet ends the reconcile: the
    /// answer wakes the gateway.
    pub(super) fn turn(&self, intent: Intent) -> Result<Option<Held>, Clearance> {
        let policy = self.governance.policy.as_deref().ok_or(Clearance::Nothing(Nothing::Outdated))?;
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
        let rollout = self
            .context
            .rollouts
            .of(&self.context.policies, policy)
            .ok_or(Clearance::Nothing(Nothing::Outdated))?;
        // Also if no window is open: the policy's task is to know which gateways wait.
        match rollout.turn(self.gateway, target, wish) {
            Turn::Now(permit) => closed.map_or(Ok(Some(permit)), Err),
            Turn::Later { halted } => {
                Err(closed.unwrap_or_else(|| Clearance::Wait(self.later(&policy.name_any(), halted))))
            }
            Turn::Asked => Err(closed.unwrap_or(Clearance::Nothing(Nothing::Asked))),
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

    /// Whether a change must be in the status before it is sent.
    fn is_kept(&self, change: &OpenChange) -> bool {
        let Some(policy) = &self.governance.policy else { return false };
        let restores = policy.spec.deletion_policy == DeletionPolicy::Restore;
        // Only what is known to be ours is taken back.
        let known = self.prior.original.is_some() && self.prior.wrote.is_some_and(|(to, _)| to == change.to);
        policy.spec.rollout.is_some()
            || restores && (!known || change.cause == Cause::Restore)
            || policy.spec.revoke_tokens != RevokeTokens::Never
    }

    /// Puts into the status and on the gateway whatever must not be forgotten should we die in the middle.
    async fn prepare(
        &mut self,
        change: &OpenChange,
        memory: &mut Memory<X2Gateway>,
        kept: bool,
    ) -> Result<(), Clearance> {
        if self.governance.restores() && change.cause != Cause::Restore {
            match finalizers::hold_working(&self.context.gateways, self.gateway).await {
                Written::Unchanged | Written::Written => {}
                Written::Forbidden => return Err(Clearance::Wait(finalizers::forbidden::<X2Gateway>())),
                Written::Failed | Written::Gone => return Err(Clearance::Nothing(Nothing::NotAccepted)),
            }
        }
        if self.gateway.meta().generation != self.generation {
            return Err(Clearance::Nothing(Nothing::Outdated));
        }
        if !kept {
            return Ok(());
        }
        let status = self.under_change(change, memory);
        match status::update(&self.context.gateways, self.gateway, status).await {
            Written::Written | Written::Unchanged => {
                memory.owed.unanswered();
                Ok(())
            }
            Written::Gone | Written::Failed | Written::Forbidden => {
                Err(Clearance::Nothing(Nothing::NotAccepted))
            }
        }
    }

    /// The status of a gateway under change.
    fn under_change(&self, change: &OpenChange, memory: &Memory<X2Gateway>) -> X2GatewayStatus {
        let mut status = self.gateway.status.clone().unwrap_or_default();
        let name = change.policy.as_deref().unwrap_or_default();
        let to = change.to;
        let message = match change.cause {
            Cause::Restore => {
                format!("Restoring the token lifetime to {to}s, the value before TokenPolicy {name}.")
            }
            _ => format!("Setting the token lifetime to {to}s, as required by TokenPolicy {name}."),
        };
        let verdict = Verdict::new(Reason::Progressing, message);
        let notes = Notes { insecure: self.insecure.clone(), ..Notes::default() };
        status::set_verdict(&mut status, &**self.gateway, &verdict, &notes);
        let recorded = status.history.clone();
        put_on_record(&mut status, memory.owed.unrecorded(|change| recorded.contains(change)));
        prepare(&mut status, change, clock::now());
        status.effective_url = Some(self.url.clone());
        status
    }
}

/// What to report where no change window is open. Giving back what stood there before does not wait for one.
fn closed(context: &Context, policy: &TokenPolicy, intent: Intent) -> Option<Verdict> {
    if intent.cause == Cause::Restore {
        return None;
    }
    let closed = governance::closed_window(context, policy)?;
    Some(Verdict::new(Reason::AwaitingWindow, closed.message(&format!("TokenPolicy {}", policy.name_any()))))
}

/// Whether what a gateway reports of its wait for a window is no longer so: one is open, or there is something else to say
/// of the annotation that opens it by hand. While it is so, the next look comes with the window, which may be another by now.
pub(super) fn window_has_moved(
    context: &Context,
    governance: &Governance,
    memory: &mut Memory<X2Gateway>,
) -> bool {
    let Some(closed) = governance.closed_window(context) else { return true };
    memory.backoff.not_later_than(clock::instant_of(closed.next));
    memory.extra.window.is_none_or(|reported| reported.note != closed.note)
}
