//! The state of one gateway in its policy's rollout: by its status, and by what is known of it beyond that.

use std::sync::Arc;

use jiff::Timestamp;

use super::Standing;
use super::machine::{Question, Seat, Wish};
use crate::crd::{Pending, X2Gateway, X2GatewayStatus};
use crate::engine::lifetime::{Target, proves};
use crate::engine::verdict::{self, Reason};

/// What a policy is to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The policy governs it and may change it.
    Governed,
    /// The gateway leaves the policy, which restores the original value.
    Left,
    /// Another policy governs it, or none does.
    Unrelated,
}

/// A gateway as the API server holds it.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The resource.
    pub object: Arc<X2Gateway>,
    /// What the policy is to it.
    pub relation: Relation,
}

/// What a gateway is judged by: a policy, its target unless that is invalid, the start of the rollout under way, and since when
/// the policy has its target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim<'a> {
    pub(super) policy: &'a str,
    pub(super) target: Option<Target>,
    pub(super) started: Option<Timestamp>,
    /// Gateways created later than this are not waited for.
    pub(super) latest: Timestamp,
}

impl Gateway {
    pub(super) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    fn created(&self) -> Option<Timestamp> {
        self.object.metadata.creation_timestamp.as_ref().map(|created| created.0)
    }

    pub(super) fn status(&self) -> Option<&X2GatewayStatus> {
        self.object.status.as_ref()
    }

    fn pending(&self) -> Option<&Pending> {
        self.status()?.pending.as_ref()
    }

    /// Whether a change by the policy was begun, and its end is not recorded.
    fn is_begun(&self, aim: &Aim<'_>) -> bool {
        self.status().is_some_and(|status| {
            let progressing = verdict::ready_reason(&status.conditions) == Some(Reason::Progressing);
            status.policy.as_deref() == Some(aim.policy) && status.pending.is_some() && progressing
        })
    }

    /// What it asks for now: a question for another target does not count.
    pub(super) fn question<'s>(&self, seat: &'s Seat, aim: &Aim<'_>) -> Option<&'s Question> {
        let target = match self.relation {
            Relation::Governed => Some(aim.target?),
            Relation::Left => None,
            Relation::Unrelated => return None,
        };
        seat.question.as_ref().filter(|question| question.target == target)
    }

    /// When the change that its status shows was begun.
    pub(super) fn attempted(&self) -> Option<Timestamp> {
        self.pending().map(|pending| pending.since.0)
    }

    /// Whether it asks to go on with a change that was begun before, as when the operator died in the middle of it.
    pub(super) fn is_interrupted(&self, seat: &Seat, aim: &Aim<'_>) -> bool {
        let Some((question, pending)) = self.question(seat, aim).zip(self.pending()) else { return false };
        let in_this_rollout = aim.started.is_none_or(|started| pending.since.0 >= started);
        let same = aim.target.is_some_and(|target| target.holds(pending.to));
        self.is_begun(aim)
            && match question.wish {
                Wish::Restore => true,
                Wish::Repair => same,
                Wish::Change { .. } => same && in_this_rollout,
            }
    }

    /// Its state. None if it does not take part.
    pub(super) fn standing(&self, seat: &Seat, aim: &Aim<'_>) -> Option<Standing> {
        if self.object.spec.connection.suspend {
            return None;
        }
        if self.is_begun(aim) || seat.permit.is_some() && self.relation != Relation::Unrelated {
            return Some(Standing::UnderWay);
        }
        let question = self.question(seat, aim);
        match self.relation {
            Relation::Left => question.map(|_| Standing::Restoring),
            Relation::Unrelated => None,
            Relation::Governed => Some(self.governed(question, seat, aim, aim.target?)),
        }
    }

    fn governed(&self, question: Option<&Question>, seat: &Seat, aim: &Aim<'_>, target: Target) -> Standing {
        let none = X2GatewayStatus::default();
        let status = self.status().unwrap_or(&none);
        let ours = status.policy.as_deref() == Some(aim.policy);
        let pending = status.pending.as_ref().filter(|pending| ours && target.holds(pending.to));
        if pending.is_some_and(|pending| aim.started.is_some_and(|started| pending.since.0 >= started)) {
            return Standing::Failed { asks: question.is_some() };
        }
        match question.map(|question| question.wish) {
            Some(Wish::Repair) => Standing::Drifted,
            Some(Wish::Change { .. } | Wish::Restore) => Standing::Waiting,
            None if ours && is_proven(status, target) => Standing::Proven,
            // Its change failed before the rollout was resumed, and it still fails.
            None if pending.is_some() && aim.started.is_some() && seat.reconciled => {
                Standing::Failed { asks: false }
            }
            None if status.pending.is_some() && !seat.reconciled => Standing::Unread,
            None if seat.reconciled || self.could_not_be_read(status) => Standing::Unreadable,
            // Others could keep a rollout from beginning by creating one after the other.
            None if self.created() > Some(aim.latest) => Standing::Unreadable,
            None => Standing::Unread,
        }
    }

    /// Whether the last reconcile, though it was for another target, could not read it.
    fn could_not_be_read(&self, status: &X2GatewayStatus) -> bool {
        let failed = verdict::ready_reason(&status.conditions).is_some_and(Reason::is_failed_change);
        status.observed_generation == self.object.metadata.generation && failed
    }
}

fn is_proven(status: &X2GatewayStatus, target: Target) -> bool {
    let values = status.timeout_seconds.zip(status.proven_timeout_seconds);
    status.pending.is_none()
        && verdict::ready_reason(&status.conditions) == Some(Reason::InSync)
        && values.is_some_and(|(set, token)| target.holds(set) && proves(token, set))
}
