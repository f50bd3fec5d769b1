//! A gateway of the model: the appliance, its status, and what the controller remembers of it.

use jiff::Timestamp;
use tenure::crd::Phase;
use tenure::engine::lifetime::Target;
use tenure::engine::rollout::{Member, Record, Standing};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ready {
    New,
    Progressing,
    InSync,
    Failing,
}

/// How far a change that was granted has got.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Granted,
    Noted,
    Written,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Look {
    Unreachable,
    Value(u32),
}

/// What the controller knows of a gateway and forgets with its death.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) look: Option<Look>,
    pub(super) asks: bool,
    pub(super) task: Option<(Stage, u32)>,
    pub(super) late: bool,
    pub(super) tries: u8,
    pub(super) checked: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(super) struct Gateway {
    pub(super) value: u32,
    pub(super) reachable: bool,
    pub(super) takes_writes: bool,
    pub(super) labelled: bool,
    pub(super) leaving: bool,
    /// A change that was begun: when, and to which lifetime.
    pub(super) pending: Option<(Timestamp, u32)>,
    pub(super) ready: Ready,
    pub(super) proven: Option<u32>,
    pub(super) last_checked: Option<(Target, Timestamp)>,
    pub(super) memory: Memory,
    /// When it was last seen in order, at which target: never forgotten.
    pub(super) seen_in_order: Option<(Target, Timestamp)>,
}

impl Gateway {
    pub(super) fn new(value: u32, labelled: bool, late: bool) -> Self {
        Self {
            value,
            reachable: true,
            takes_writes: true,
            labelled,
            leaving: false,
            pending: None,
            ready: Ready::New,
            proven: None,
            last_checked: None,
            memory: Memory { late, ..Memory::default() },
            seen_in_order: None,
        }
    }

    pub(super) fn standing(&self, target: Target, record: Option<&Record>) -> Standing {
        let memory = &self.memory;
        if memory.task.is_some() || self.pending.is_some() && self.ready == Ready::Progressing {
            return Standing::UnderWay;
        }
        if self.leaving {
            return Standing::Restoring;
        }
        let differs = matches!(memory.look, Some(Look::Value(value)) if !target.holds(value));
        let active = record.filter(|record| record.phase != Phase::Complete);
        let counts = self.is_part_of(target, active.map(|record| record.started));
        let failed_before = active.is_some() && self.pending.is_some_and(|(_, to)| target.holds(to));
        match memory.look {
            _ if counts && self.ready == Ready::Failing => Standing::Failed { asks: differs && memory.asks },
            Some(Look::Unreachable) if failed_before => Standing::Failed { asks: false },
            Some(Look::Unreachable) => Standing::Unreadable,
            Some(Look::Value(_)) if differs && !memory.asks => Standing::Unread,
            Some(Look::Value(_)) if differs && self.proven.is_some_and(|p| target.holds(p)) => {
                Standing::Drifted
            }
            Some(Look::Value(_)) if differs => Standing::Waiting,
            // After a failed change, what was seen before it says nothing.
            Some(Look::Value(value)) if self.ready == Ready::InSync && self.proven == Some(value) => {
                Standing::Proven
            }
            None | Some(Look::Value(_)) => Standing::Unread,
        }
    }

    /// Whether its last attempt was made in this target's rollout that began then.
    pub(super) fn is_part_of(&self, target: Target, started: Option<Timestamp>) -> bool {
        let attempt = self.pending.filter(|(_, to)| target.holds(*to)).zip(started);
        attempt.is_some_and(|((since, _), started)| since >= started)
    }

    /// Whether a death has interrupted a change that still is to be made.
    pub(super) fn is_interrupted(&self, target: Target, started: Option<Timestamp>) -> bool {
        let drifted = self.proven.is_some_and(|proven| target.holds(proven));
        self.ready == Ready::Progressing
            && self.pending.is_some_and(|(since, to)| {
                let in_this_rollout = started.is_none_or(|started| since >= started);
                self.leaving || target.holds(to) && (drifted || in_this_rollout)
            })
    }

    pub(super) fn found_in_order(&mut self, target: Target, now: Timestamp) {
        (self.pending, self.ready, self.proven) = (None, Ready::InSync, Some(self.value));
        let memory = &mut self.memory;
        (memory.look, memory.tries, memory.checked) = (Some(Look::Value(self.value)), 0, Some(now));
        let seen = self.seen_in_order.filter(|(at, time)| *at == target && *time > now);
        self.seen_in_order = seen.or(Some((target, now))).filter(|_| target.holds(self.value));
    }

    /// True where a change of the rollout that began then is now known to have failed.
    pub(super) fn found_unreachable(&mut self, target: Target, started: Option<Timestamp>) -> bool {
        self.memory.look = Some(Look::Unreachable);
        self.memory.tries = self.memory.tries.saturating_add(1);
        let was_begun = self.ready == Ready::Progressing;
        if was_begun {
            self.ready = Ready::Failing;
        }
        was_begun && self.is_part_of(target, started)
    }

    pub(super) fn member(&self, target: Target, record: Option<&Record>) -> Member {
        let Memory { late, checked, tries, .. } = self.memory;
        Member { standing: self.standing(target, record), late, checked, tries }
    }
}
