//! The rollout of one policy as a machine: what its gateways ask, which permits are out, and what became of them. Its state
//! does not survive the process; what has to is in the statuses.
//!
//! Gateways call [`Machine::begin`], [`Machine::ask`] and [`Machine::ended`], each for itself. Only the policy's own task
//! gives permits: it takes a [`Machine::survey`], decides, writes the policy's status, and then [`Machine::answer`]s.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::TRIES;
use super::decision::Decision;
use super::outcome::Outcome;
use crate::engine::lifetime::Target;

/// How long a question may stay without an answer before its gateway reports that it waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a gateway asks to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// It does not have the policy's target yet.
    Change {
        /// Whether its tokens would live shorter than now.
        tightens: bool,
    },
    /// It had the target, and something else has changed it.
    Repair,
    /// Its original value is to be restored.
    Restore,
}

/// Permission for one change of one gateway. It cannot be copied, and is valid only for this target and gateway.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not returned blocks a place in the rollout"]
pub struct Permit {
    uid: String,
    target: Option<Target>,
    started: Option<Timestamp>,
}

impl Permit {
    /// Which gateway it is for.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Whether it allows to bring this gateway to this target; none stands for the original value.
    #[must_use]
    pub fn allows(&self, uid: &str, target: Option<Target>) -> bool {
        self.uid == uid && self.target == target
    }

    /// When the rollout that it belongs to began or was resumed: its change is dated no earlier.
    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        self.started
    }
}

/// The answer to a gateway that asks for a permit.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// It may be changed now.
    Granted(Permit),
    /// Not now.
    Later {
        /// The rollout has halted.
        halted: bool,
    },
    /// The policy's task has not answered yet: it wakes the gateway when it has.
    Asked,
}

/// What a gateway asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) target: Option<Target>,
    pub(super) wish: Wish,
    /// It asked after the rollout had begun.
    pub(super) late: bool,
    since: Duration,
    stage: Stage,
    /// The gateway reports that it waits.
    reported: bool,
}

/// How far a question has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The policy's task has not seen it.
    New,
    /// It is part of a survey.
    Surveyed,
    /// It was answered: not now.
    Answered,
}

/// A permit that is out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Issued {
    target: Option<Target>,
    started: Option<Timestamp>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// The gateway was woken for it.
    Offered,
    /// A reconcile of the gateway has begun since.
    Noticed,
    /// A reconcile works under it.
    Held,
}

/// What is known of one gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    name: String,
    /// A reconcile has ended since the policy has its present target.
    pub(super) reconciled: bool,
    pub(super) question: Option<Question>,
    pub(super) permit: Option<Issued>,
    /// When the last reconcile began that found it healthy.
    pub(super) checked: Option<Timestamp>,
    /// Reconciles in a row that have failed.
    pub(super) tries: u8,
    /// It is to be checked now, as a canary.
    due: bool,
    /// When it was found to have drifted.
    pub(super) drifted: Option<Duration>,
}

/// The rollout of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Machine {
    target: Option<Target>,
    /// When it was first seen.
    aimed: Duration,
    /// By UID.
    pub(super) seats: BTreeMap<String, Seat>,
    started: Option<Timestamp>,
    halted: bool,
    /// Whether the drifts that histories show are known.
    recalled: bool,
}

impl Seat {
    pub(super) fn is_late(&self) -> bool {
        self.question.as_ref().is_some_and(|question| question.late)
    }

    pub(super) fn is_held(&self) -> bool {
        self.permit.as_ref().is_some_and(|issued| issued.place == Place::Held)
    }

    /// Takes back a permit that no reconcile works under.
    fn revoke(&mut self) -> bool {
        self.permit.take_if(|issued| issued.place != Place::Held).is_some()
    }
}

impl Machine {
    fn seat(&mut self, uid: &str, name: &str) -> &mut Seat {
        let new = || Seat { name: name.to_owned(), ..Seat::default() };
        self.seats.entry(uid.to_owned()).or_insert_with(new)
    }

    /// Whether a gateway is to be reconciled now for its policy's sake.
    #[must_use]
    pub fn calls(&self, uid: &str) -> bool {
        self.seats.get(uid).is_some_and(|seat| {
            let answered = |question: &Question| question.stage == Stage::Answered && !question.reported;
            seat.due
                || seat.permit.as_ref().is_some_and(|issued| issued.place != Place::Held)
                || seat.question.as_ref().is_some_and(answered)
        })
    }

    /// A reconcile of a gateway begins.
    pub fn begin(&mut self, uid: &str) {
        let issued = self.seats.get_mut(uid).and_then(|seat| seat.permit.as_mut());
        if let Some(issued) = issued.filter(|issued| issued.place == Place::Offered) {
            issued.place = Place::Noticed;
        }
    }

    /// Asks for a permit to bring a gateway to a target, or to its original value if that is none. `now` counts from any
    /// moment in the past. Also returns whether the policy's task has to know of the question.
    pub fn ask(
        &mut self,
        (uid, name): (&str, &str),
        target: Option<Target>,
        wish: Wish,
        now: Duration,
    ) -> (Reply, bool) {
        let (late, halted) = (self.started.is_some(), self.halted);
        let seat = self.seat(uid, name);
        if let Some(issued) = seat.permit.as_mut().filter(|issued| issued.place != Place::Held) {
            if issued.target == target {
                issued.place = Place::Held;
                let permit = Permit { uid: uid.to_owned(), target, started: issued.started };
                return (Reply::Granted(permit), false);
            }
            seat.permit = None;
        }
        if wish == Wish::Repair {
            seat.drifted.get_or_insert(now);
        }
        let same = |question: &&mut Question| question.target == target && question.wish == wish;
        if let Some(question) = seat.question.as_mut().filter(same) {
            let answered = question.stage == Stage::Answered;
            let reply = if answered || now >= question.since + PATIENCE {
                Reply::Later { halted }
            } else {
                Reply::Asked
            };
            return (reply, !answered);
        }
        let late = seat.question.as_ref().filter(|before| before.target == target).map_or(late, |b| b.late);
        seat.question = Some(Question { target, wish, late, since: now, stage: Stage::New, reported: false });
        (Reply::Asked, true)
    }

    /// A gateway's permit is not needed anymore: the change was made, or came to nothing.
    pub fn give_back(&mut self, uid: &str) {
        if let Some(seat) = self.seats.get_mut(uid) {
            (seat.permit, seat.question) = (None, None);
        }
    }

    /// Permits that are out.
    #[must_use]
    pub fn permits(&self) -> usize {
        self.seats.values().filter(|seat| seat.permit.is_some()).count()
    }

    /// The gateways that anything is known of, by UID.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.seats.keys().map(String::as_str)
    }

    /// A reconcile for a target has ended, and its report is written. Returns whether that is news to the policy's task.
    pub fn ended(&mut self, (uid, name): (&str, &str), target: Option<Target>, outcome: Outcome) -> bool {
        let current = self.target == target;
        let seat = self.seat(uid, name);
        let mut news = match outcome {
            // A permit that was there from the beginning and was not used is another's.
            Outcome::Nothing | Outcome::Waits => {
                let unused = seat.permit.take_if(|issued| issued.place == Place::Noticed).is_some();
                if unused && outcome == Outcome::Nothing {
                    seat.question = None;
                }
                if let Some(question) = seat.question.as_mut().filter(|_| outcome == Outcome::Waits) {
                    question.reported = true;
                }
                unused
            }
            Outcome::Healthy(_) | Outcome::Failed => seat.revoke() | seat.question.take().is_some(),
        };
        if current {
            news |= !std::mem::replace(&mut seat.reconciled, true);
            news |= std::mem::take(&mut seat.due);
            match outcome {
                Outcome::Healthy(begun) => {
                    // As a status would show it: checks before the end of a soak count for nothing.
                    seat.checked = Some(begun);
                    news |= std::mem::take(&mut seat.tries) > 0;
                }
                Outcome::Failed if seat.tries < TRIES => {
                    seat.tries += 1;
                    news = true;
                }
                // It was read: what failed before is over.
                Outcome::Waits => news |= std::mem::take(&mut seat.tries) > 0,
                Outcome::Failed | Outcome::Nothing => {}
            }
        }
        news
    }

    /// What is known now, for the policy's task to decide by; gateways may go on asking meanwhile. What was found out for
    /// another target is forgotten first, and so are drifts that are an interval old.
    pub fn survey(&mut self, target: Option<Target>, interval: Duration, now: Duration) -> Survey {
        if self.target != target {
            self.aim(target, now);
        }
        for seat in self.seats.values_mut() {
            seat.drifted = seat.drifted.filter(|at| now.saturating_sub(*at) < interval);
            if let Some(question) = seat.question.as_mut().filter(|question| question.stage == Stage::New) {
                question.stage = Stage::Surveyed;
            }
        }
        Survey { machine: self.clone(), interval, now }
    }

    fn aim(&mut self, target: Option<Target>, now: Duration) {
        (self.target, self.aimed) = (target, now);
        (self.started, self.halted) = (None, false);
        for seat in self.seats.values_mut() {
            let fits = |aim: Option<Target>| aim.is_none() || aim == target;
            seat.permit.take_if(|issued| issued.place != Place::Held && !fits(issued.target));
            seat.question.take_if(|question| !fits(question.target));
            if let Some(question) = &mut seat.question {
                (question.late, question.stage) = (false, Stage::New);
            }
            (seat.reconciled, seat.due) = (false, false);
            (seat.checked, seat.tries, seat.drifted) = (None, 0, None);
        }
    }

    /// Carries a decision out, once what it decides of the rollout is in the policy's status. Returns the names of the gateways
    /// that are to be woken.
    pub fn answer(&mut self, decision: &Decision) -> Vec<String> {
        if decision.target != self.target {
            return Vec::new();
        }
        if decision.started != self.started {
            self.seats.values_mut().for_each(|seat| seat.tries = 0);
        }
        if decision.resumed {
            // What has failed is reconciled again before anything is concluded of it.
            self.seats.values_mut().for_each(|seat| seat.reconciled = false);
        }
        (self.started, self.halted) = (decision.started, decision.halted);
        self.recalled = true;
        self.seats.retain(|uid, seat| decision.takes_part(uid) || !seat.is_forgettable());
        let mut called = Vec::new();
        for (uid, seat) in &mut self.seats {
            if !decision.takes_part(uid) {
                seat.revoke();
                continue;
            }
            if let Some(at) = decision.recalled(uid) {
                seat.drifted.get_or_insert(at);
            }
            // After a check that failed, the next ones come at the gateway's own pace: three in a burst say little.
            let check = decision.checks(uid) && seat.tries == 0 && !seat.due;
            seat.due |= check;
            if check | seat.settle(decision, uid) {
                called.push(seat.name.clone());
            }
        }
        called
    }
}

impl Seat {
    /// Whether nothing in it concerns a gateway that does not take part: it may have asked since the survey.
    fn is_forgettable(&self) -> bool {
        let new = |question: &Question| question.stage == Stage::New;
        !self.is_held() && !self.question.as_ref().is_some_and(new)
    }

    /// Offers a permit, or answers that it is not time yet. Returns whether the gateway is to be woken.
    fn settle(&mut self, decision: &Decision, uid: &str) -> bool {
        let Some(question) = &mut self.question else { return false };
        if self.permit.is_none() && decision.grants(uid, question.target) {
            let target = question.target;
            self.permit = Some(Issued { target, started: decision.started, place: Place::Offered });
            return true;
        }
        if self.permit.is_none() && !decision.plan.undecided && question.stage == Stage::Surveyed {
            question.stage = Stage::Answered;
            return !question.reported;
        }
        // Halted: also for a gateway that was called and has not begun.
        if decision.halted && question.wish != Wish::Restore {
            self.revoke();
        }
        false
    }
}

/// What was known at one moment.
#[derive(Clone, Debug)]
pub struct Survey {
    pub(super) machine: Machine,
    pub(super) interval: Duration,
    pub(super) now: Duration,
}

impl Survey {
    /// The target that everything in here is about.
    pub(super) fn target(&self) -> Option<Target> {
        self.machine.target
    }

    /// How long it has been the target.
    pub(super) fn since_aim(&self) -> Duration {
        self.now.saturating_sub(self.machine.aimed)
    }

    pub(super) fn seat(&self, uid: &str) -> Seat {
        self.machine.seats.get(uid).cloned().unwrap_or_default()
    }

    /// Whether drifts that only histories show are known.
    pub(super) fn has_recalled(&self) -> bool {
        self.machine.recalled
    }
}
