//! Who may be changed now: what gateways ask, and what their policies' tasks answer. Nothing here survives the process; what
//! must is in the statuses.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::Context;
use super::governance;
use super::store::Key;
use super::workers::{Kind, wake};
use crate::clock;
use crate::crd::{DeletionPolicy, TokenPolicy};
use crate::engine::lifetime::Target;
use crate::engine::rollout;

/// How long a gateway waits, within its look, for its policy's task to see the whole fleet.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a policy's changes need its task's leave: because of its bounds, because they may be felt by many, or because
/// its finalizer has to be in place first.
#[must_use]
pub fn is_bounded(policy: &TokenPolicy, target: Target) -> bool {
    policy.spec.rollout.is_some()
        || policy.spec.deletion_policy == DeletionPolicy::Restore
        || rollout::is_short(target)
}

/// Why a gateway asks to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It does not have the policy's target yet.
    Change {
        /// Whether its tokens would live shorter than now.
        tightens: bool,
    },
    /// It had it, and somebody has changed it.
    Repair,
    /// It is to have back what stood there before the policy.
    Restore,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Now. A change of a rollout is dated no earlier than the rollout itself.
    Now {
        /// When the rollout began or was resumed.
        started: Option<Timestamp>,
    },
    /// Not now.
    Later {
        /// The rollout was halted.
        halted: bool,
    },
    /// The operator is ending, or the fleet could not be seen in time.
    Unknown,
}

/// A gateway that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    pub(super) wish: Wish,
    /// It asked after the rollout had begun.
    pub(super) late: bool,
    /// Which question it was.
    number: u64,
}

/// What is known of the gateways of one policy.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// What all of this is about.
    target: Option<Target>,
    /// Who was looked at.
    pub(super) looked: HashSet<String>,
    pub(super) asking: BTreeMap<String, Asking>,
    /// Who may be changed now, and has not ended its look.
    pub(super) granted: BTreeSet<String>,
    /// When a look last found a gateway in order.
    pub(super) checked: BTreeMap<String, Timestamp>,
    /// Looks in a row that have failed.
    pub(super) tries: BTreeMap<String, u8>,
    /// Canaries that are to be looked at now.
    due: BTreeSet<String>,
    /// When a gateway was last found to have drifted.
    pub(super) drifted: BTreeMap<String, Instant>,
    /// Whether drifts that statuses tell of are in there.
    seeded: bool,
    questions: u64,
    /// Questions up to this one were answered.
    answered: u64,
    started: Option<Timestamp>,
    halted: bool,
    /// Told when there are answers.
    answers: watch::Sender<()>,
}

impl Stage {
    /// Forgets what was found out for another target.
    fn aim(&mut self, target: Target) {
        if self.target != Some(target) {
            self.target = Some(target);
            self.looked.clear();
            self.asking.retain(|_, asking| asking.wish == Wish::Restore);
            self.granted.retain(|name| self.asking.contains_key(name));
            self.checked.clear();
            self.tries.clear();
            self.drifted.clear();
            self.due.clear();
            self.answered = self.questions;
            (self.started, self.halted) = (None, false);
        }
    }

    /// Forgets gateways that do not take part any more: should they come back, they are found out about anew. Whoever has
    /// asked after question `asked`, when the fleet was gathered, may have come since.
    pub(super) fn keep(&mut self, asked: u64, takes_part: impl Fn(&String) -> bool) {
        self.looked.retain(&takes_part);
        self.granted.retain(&takes_part);
        self.due.retain(&takes_part);
        self.asking.retain(|name, asking| asking.number > asked || takes_part(name));
        self.checked.retain(|name, _| takes_part(name));
        self.tries.retain(|name, _| takes_part(name));
    }

    /// Puts a question, or finds the answer to it.
    fn ask(&mut self, name: &str, wish: Wish, number: Option<u64>) -> (Option<Turn>, u64) {
        let number = number.unwrap_or_else(|| {
            self.questions += 1;
            let late = self.started.is_some();
            let before = self.asking.get(name).map(|asking| asking.late);
            let asking = Asking { wish, late: before.unwrap_or(late), number: self.questions };
            self.asking.insert(name.to_owned(), asking);
            if wish == Wish::Repair {
                self.drifted.entry(name.to_owned()).or_insert_with(clock::instant);
            }
            self.questions
        });
        let answer = if self.granted.contains(name) {
            Some(Turn::Now { started: self.started })
        } else {
            (self.answered >= number).then_some(Turn::Later { halted: self.halted })
        };
        (answer, number)
    }
}

/// The stages of all policies.
#[derive(Debug, Default)]
pub struct Rollouts(Mutex<HashMap<Key, Stage>>);

/// What a policy's task has come to.
pub(super) struct Answers {
    /// Who may be changed now, beside those who may already.
    pub(super) begin: Vec<String>,
    /// Who is to be looked at now.
    pub(super) check: Vec<String>,
    /// Up to which question this goes; none where it is too early to say.
    pub(super) number: Option<u64>,
    pub(super) started: Option<Timestamp>,
    pub(super) halted: bool,
    /// A halted rollout goes on: what has failed before does not count.
    pub(super) resumed: bool,
}

impl Rollouts {
    fn stages(&self) -> MutexGuard<'_, HashMap<Key, Stage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the last question so far.
    pub(super) fn asked(&self, policy: &Key) -> u64 {
        self.stages().get(policy).map_or(0, |stage| stage.questions)
    }

    /// Looks at what is known of a policy's gateways, for a target.
    pub(super) fn survey<R>(
        &self,
        policy: &Key,
        target: Target,
        look: impl FnOnce(&mut Stage, bool) -> R,
    ) -> R {
        let mut stages = self.stages();
        let stage = stages.entry(policy.clone()).or_default();
        stage.aim(target);
        let seed = !std::mem::replace(&mut stage.seeded, true);
        look(stage, seed)
    }

    /// Answers, and wakes whom that concerns.
    pub(super) fn answer(&self, context: &Arc<Context>, policy: &Key, answers: Answers) {
        let mut stages = self.stages();
        let stage = stages.entry(policy.clone()).or_default();
        if answers.started != stage.started {
            stage.tries.clear();
        }
        if answers.resumed {
            // What has failed is looked at anew before anything is said of it.
            stage.looked.clear();
        }
        (stage.started, stage.halted) = (answers.started, answers.halted);
        if let Some(number) = answers.number {
            stage.answered = stage.answered.max(number);
        }
        // Where a check has failed, the next tries come at the gateway's own pace: three in a burst say little.
        let check = answers.check.into_iter().filter(|name| !stage.tries.contains_key(name));
        let check: Vec<String> = check.collect();
        let called: Vec<String> = answers.begin.iter().chain(&check).cloned().collect();
        stage.granted.extend(answers.begin);
        stage.due.extend(check);
        stage.answers.send_replace(());
        drop(stages);
        for name in called {
            wake(context, Kind::Gateway, Key::new(policy.namespace.clone(), name));
        }
    }

    /// Whether a gateway is to be looked at now for its policy's sake.
    #[must_use]
    pub fn calls(&self, policy: &Key, gateway: &str) -> bool {
        let stages = self.stages();
        stages.get(policy).is_some_and(|stage| stage.granted.contains(gateway) || stage.due.contains(gateway))
    }

    /// A look at a gateway has ended, and its report is written. `asks` tells that it still waits for its turn, `in_order`
    /// when it had begun, if all was well. Returns whether that is news to the policy's task.
    pub fn ended(&self, policy: &Key, gateway: &str, asks: bool, in_order: Option<Timestamp>) -> bool {
        let mut stages = self.stages();
        let stage = stages.entry(policy.clone()).or_default();
        let mut news = stage.looked.insert(gateway.to_owned());
        news |= stage.granted.remove(gateway);
        news |= stage.due.remove(gateway);
        if !asks {
            news |= stage.asking.remove(gateway).is_some();
        }
        if let Some(begun) = in_order {
            stage.checked.insert(gateway.to_owned(), begun);
            news |= stage.tries.remove(gateway).is_some();
        } else if !asks {
            let tries = stage.tries.entry(gateway.to_owned()).or_default();
            *tries = tries.saturating_add(1);
            news = true;
        }
        news
    }

    /// A look at a gateway has come to nothing: its turn is another's. Returns whether that is news to the policy's task.
    pub fn give_back(&self, policy: &Key, gateway: &str) -> bool {
        let mut stages = self.stages();
        let stage = stages.entry(policy.clone()).or_default();
        let new = stage.looked.insert(gateway.to_owned());
        let had = stage.granted.remove(gateway) && stage.asking.remove(gateway).is_some();
        new || had
    }

    /// A policy is gone.
    pub fn forget(&self, policy: &Key) {
        self.stages().remove(policy);
    }

    /// Asks whether a gateway may be changed, and waits until its policy's task has seen the fleet as it is now.
    pub async fn turn(
        &self,
        context: &Arc<Context>,
        policy: &Key,
        target: Option<Target>,
        gateway: &str,
        wish: Wish,
    ) -> Turn {
        let patience = clock::instant() + PATIENCE;
        let mut ending = context.ending.clone();
        let mut number = None;
        loop {
            let mut answers = {
                let mut stages = self.stages();
                let stage = stages.entry(policy.clone()).or_default();
                match target {
                    Some(target) if number.is_none() && is_wanted(context, policy, target) => {
                        stage.aim(target);
                    }
                    // The policy wants something else by now: another look will ask for that.
                    Some(_) if stage.target != target => return Turn::Unknown,
                    _ => {}
                }
                let (answer, asked) = stage.ask(gateway, wish, number);
                if let Some(answer) = answer {
                    return answer;
                }
                if number.replace(asked).is_none() {
                    wake(context, Kind::Policy, policy.clone());
                }
                stage.answers.subscribe()
            };
            tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => return Turn::Unknown,
                _ = answers.changed() => {}
                () = tokio::time::sleep_until(patience) => return Turn::Unknown,
            }
        }
    }
}

/// Whether a policy still wants this.
fn is_wanted(context: &Context, policy: &Key, target: Target) -> bool {
    let policy = context.policies.valid(policy);
    policy.is_some_and(|policy| governance::target(&policy, context) == Ok(target))
}

/// What the record in a status says of a rollout.
impl From<&crate::crd::RolloutStatus> for rollout::Record {
    fn from(status: &crate::crd::RolloutStatus) -> Self {
        Self {
            phase: status.phase,
            target_hash: status.target_hash.clone(),
            canaries: status.canaries.clone(),
            soak_until: status.soak_until.as_ref().map(|time| time.0),
            started: status.started_time.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway that appears, is looked at and asks while its policy's task has gathered the fleet without it.
    #[test]
    fn who_asks_while_the_fleet_is_surveyed_is_not_forgotten_and_waits_for_the_next_survey() {
        let (rollouts, policy) = (Rollouts::default(), Key::new("berlin", "short"));
        let target = Target::Exact(28800);
        let wish = Wish::Change { tightens: true };
        let ask =
            |name: &str, number| rollouts.stages().entry(policy.clone()).or_default().ask(name, wish, number);
        let survey = |asked, known: &str| {
            rollouts.survey(&policy, target, |stage, _| {
                stage.keep(asked, |name| name == known);
                stage.answered = asked;
                stage.asking.keys().cloned().collect::<Vec<_>>()
            })
        };
        survey(0, "first");
        ask("gone", None);
        let asked = rollouts.asked(&policy);
        let (answer, number) = ask("new", None);
        assert_eq!(answer, None);
        assert_eq!(survey(asked, "first"), ["new"], "who has gone is forgotten, who has come is not");
        assert_eq!(ask("new", Some(number)).0, None, "the survey was made without it");
        assert_eq!(survey(rollouts.asked(&policy), "new"), ["new"]);
        assert_eq!(ask("new", Some(number)).0, Some(Turn::Later { halted: false }));
    }
}
