//! Every interleaving of what can happen to a rollout of three gateways: an edit of the target, the operator's death, a write
//! that is lost, a change that is refused, and a gateway that is deleted and created again.

mod fold;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash as _;
use std::time::Duration;

use jiff::Timestamp;
use tenure::crd::{Approval, Phase};
use tenure::engine::lifetime::Target;
use tenure::engine::rollout::{
    Canary, Choice, Circumstances, Decision, Machine, Outcome, Record, Rules, Wish, decide, target_hash,
};
use tenure::engine::verdict::Reason;

use fold::Fold;

use super::gateway::{Found, Gateway, Moment, POLICY, Stage};

const TARGETS: [Target; 2] = [Target::Exact(28_800), Target::Exact(14_400)];
const FACTORY: u32 = 86_400;
const START: Timestamp = Timestamp::constant(1_700_000_000, 0);
const ELAPSED: Duration = Duration::from_hours(24);

/// What may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
struct Faults {
    edit: bool,
    crash: bool,
    lost: bool,
    refused: bool,
    recreated: bool,
}

/// What the policy's task is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Work {
    target: usize,
    decision: Decision,
    /// The policy's status holds it.
    written: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    faults: Faults,
    now: Timestamp,
    target: usize,
    /// Which target the status speaks of.
    observed: usize,
    record: Option<Record>,
    /// The target hash that a person has approved.
    approved: Option<String>,
    gateways: Vec<Gateway>,
    machine: Machine,
    work: Option<Work>,
    /// Whom something is to be done about: gateways, and last the policy.
    woken: [bool; 4],
    born: u8,
}

impl World {
    fn new(faults: Faults) -> Self {
        let gateway = |n: u8| Gateway::new(format!("x2-{n}"), format!("uid-{n}"), FACTORY, false);
        Self {
            faults,
            now: START,
            target: 0,
            observed: 0,
            record: None,
            approved: None,
            gateways: (0..3).map(gateway).collect(),
            machine: Machine::default(),
            work: None,
            woken: [true; 4],
            born: 3,
        }
    }

    /// 128 bits: two states with one fingerprint are not to be expected.
    fn fingerprint(&self) -> u128 {
        let mut fold = Fold(0xcbf2_9ce4_8422_2325, 0x9e37_79b9_7f4a_7c15);
        self.hash(&mut fold);
        u128::from(fold.0) << 64 | u128::from(fold.1)
    }

    fn target(&self) -> Target {
        TARGETS[self.target]
    }

    fn wake(&mut self, names: &[String]) {
        for (index, gateway) in self.gateways.iter().enumerate() {
            self.woken[index] |= names.contains(&gateway.name);
        }
    }

    /// Everything that can happen next, each with its name.
    fn next(&self, rules: &Rules) -> Vec<(String, Self)> {
        let mut next = Vec::new();
        let mut add = |name: String, change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            next.push((name, world));
        };
        for index in 0..3 {
            match self.gateways[index].task.as_ref().map(|task| task.stage) {
                None if self.woken[index] => {
                    add(format!("reconcile {index}"), &|w| w.reconcile(index, rules));
                    if self.faults.lost {
                        let name = format!("reconcile {index}, report lost");
                        add(name, &|w| w.reconcile_unreported(index, rules));
                    }
                }
                None => {}
                Some(stage) => {
                    add(format!("go on {index} after {stage:?}"), &|w| w.go_on(index));
                    if self.faults.refused && stage == Stage::Noted {
                        add(format!("refuse {index}"), &|w| w.refuse(index));
                    }
                    if self.faults.lost && stage != Stage::Noted {
                        add(format!("lose the status of {index} after {stage:?}"), &|w| w.lose(index));
                    }
                }
            }
            if self.faults.recreated {
                add(format!("recreate {index}"), &|w| w.recreate(index));
            }
        }
        match &self.work {
            None if self.woken[3] => add("decide".to_owned(), &|w| w.decide(rules)),
            None => {}
            Some(work) if work.written => add("answer".to_owned(), &World::answer),
            Some(_) => {
                add("write the record".to_owned(), &World::write);
                if self.faults.lost {
                    add("lose the record".to_owned(), &|w| {
                        (w.work, w.woken[3], w.faults.lost) = (None, true, false);
                    });
                }
            }
        }
        if self.faults.edit {
            add("edit".to_owned(), &|w| {
                (w.target, w.faults.edit, w.woken) = (1 - w.target, false, [true; 4]);
            });
        }
        if self.faults.crash {
            add("crash".to_owned(), &World::crash);
        }
        if self.may_be_approved(rules) {
            add("approve".to_owned(), &World::approve);
        }
        if let Some(until) = self.soak() {
            add("let the soak pass".to_owned(), &|w| (w.now, w.woken[3]) = (until, true));
        }
        next
    }

    fn approve(&mut self) {
        self.approved = self.record.as_ref().map(|record| record.target_hash.clone());
        self.woken[3] = true;
    }

    /// Whether a person may approve what the status shows: during the soak, after it, or when another target is required
    /// already.
    fn may_be_approved(&self, rules: &Rules) -> bool {
        let soaks = |record: &&Record| record.soak_until.is_some() && record.phase != Phase::Complete;
        let shown = self.record.as_ref().filter(soaks).map(|record| &record.target_hash);
        is_approval_required(rules) && shown.is_some() && shown != self.approved.as_ref()
    }

    fn soak(&self) -> Option<Timestamp> {
        self.record.as_ref()?.soak_until.filter(|until| *until > self.now)
    }

    fn moment(&self) -> Moment {
        Moment { target: self.target(), now: self.now, elapsed: ELAPSED, window_open: true }
    }

    fn reconcile(&mut self, index: usize, rules: &Rules) {
        let moment = self.moment();
        self.woken[index] = false;
        let before = (self.machine.clone(), self.gateways[index].status());
        if self.gateways[index].reconcile(&mut self.machine, &moment) == Found::Begun {
            self.may_begin(index, rules);
        }
        // Whatever it has found out may be news.
        self.woken[3] |= before != (self.machine.clone(), self.gateways[index].status());
    }

    /// The status could not be written: it stays as it was, and the next reconcile comes soon.
    fn reconcile_unreported(&mut self, index: usize, rules: &Rules) {
        let before = self.gateways[index].clone();
        self.reconcile(index, rules);
        let after = &mut self.gateways[index];
        let (task, seen) = (after.task.take(), after.seen_in_order);
        *after = Gateway { task, seen_in_order: seen, ..before };
        (self.woken[index], self.faults.lost) = (true, false);
    }

    fn still_holds(&self, index: usize) -> bool {
        let gateway = &self.gateways[index];
        gateway.task.as_ref().is_some_and(|task| task.target == self.target() && task.uid == gateway.uid)
    }

    fn go_on(&mut self, index: usize) {
        let stage = self.gateways[index].task.as_ref().unwrap().stage;
        if stage != Stage::Written && !self.still_holds(index) {
            return self.abandon(index);
        }
        match stage {
            Stage::Permitted => {
                let now = self.now;
                self.gateways[index].note(now);
            }
            Stage::Noted => {
                let gateway = &mut self.gateways[index];
                let task = gateway.task.as_mut().unwrap();
                (task.stage, gateway.value) = (Stage::Written, task.to);
            }
            Stage::Written => {
                let now = self.now;
                self.gateways[index].conclude(&mut self.machine, Ok(now));
                self.woken[3] = true;
                // What was written for another target is found at once by the next reconcile.
                self.woken[index] |= !self.target().holds(self.gateways[index].value);
            }
        }
    }

    /// What it began with does not hold any more: nothing is sent, and it begins again.
    fn abandon(&mut self, index: usize) {
        let task = self.gateways[index].task.take().unwrap();
        self.machine.give_back(&task.uid);
        let name = self.gateways[index].name.clone();
        self.machine.ended((&task.uid, &name), Some(task.target), Outcome::Nothing);
        (self.woken[index], self.woken[3]) = (true, true);
    }

    fn refuse(&mut self, index: usize) {
        if !self.still_holds(index) {
            return;
        }
        self.gateways[index].conclude(&mut self.machine, Err(Reason::Unreachable));
        (self.woken[index], self.woken[3], self.faults.refused) = (true, true, false);
    }

    fn lose(&mut self, index: usize) {
        self.faults.lost = false;
        if self.gateways[index].task.as_ref().unwrap().stage == Stage::Permitted {
            return self.abandon(index);
        }
        // The report of a change that was made: the appliance has it, the status does not.
        let before = self.gateways[index].clone();
        self.go_on(index);
        let seen = self.gateways[index].seen_in_order;
        self.gateways[index] = Gateway { task: None, seen_in_order: seen, ..before };
        self.woken[index] = true;
    }

    fn recreate(&mut self, index: usize) {
        let old = &self.gateways[index];
        let mut new = Gateway::new(old.name.clone(), format!("uid-{}", self.born), FACTORY, false);
        // The reconcile of the old one ends when it notices.
        new.task = old.task.clone().filter(|task| task.stage != Stage::Written);
        if old.task.is_some() && new.task.is_none() {
            self.machine.give_back(&old.uid);
        }
        self.gateways[index] = new;
        (self.woken[index], self.woken[3]) = (true, true);
        (self.born, self.faults.recreated) = (self.born + 1, false);
    }

    fn decide(&mut self, rules: &Rules) {
        self.woken[3] = false;
        let survey = self.machine.survey(Some(self.target()), Duration::from_secs(60), ELAPSED);
        let gateways: Vec<_> = self.gateways.iter().map(Gateway::resource).collect();
        let at = Circumstances {
            policy: POLICY,
            gateways: &gateways,
            rules: Some(rules.clone()),
            record: self.record.as_ref(),
            window_open: true,
            resume: self.observed != self.target,
            approved: self.approved.as_deref(),
            now: self.now,
        };
        let decision = decide(&survey, &at);
        self.work = Some(Work { target: self.target, decision, written: false });
    }

    fn write(&mut self) {
        let work = self.work.as_mut().unwrap();
        work.written = true;
        // A status that has changed wakes the policy's own task.
        self.woken[3] |= self.record != work.decision.plan.record || self.observed != work.target;
        self.record = work.decision.plan.record.clone();
        self.observed = work.target;
    }

    fn answer(&mut self) {
        let work = self.work.take().unwrap();
        if work.target != self.target {
            self.woken[3] = true;
            return;
        }
        let called = self.machine.answer(&work.decision);
        self.wake(&called);
    }

    fn crash(&mut self) {
        (self.machine, self.work, self.faults.crash) = (Machine::default(), None, false);
        self.gateways.iter_mut().for_each(|gateway| gateway.task = None);
        self.woken = [true; 4];
    }

    /// What must hold whenever a change is begun.
    fn may_begin(&self, index: usize, rules: &Rules) {
        let gateway = &self.gateways[index];
        if gateway.task.as_ref().unwrap().wish == Wish::Repair {
            return;
        }
        let record = self.record.as_ref().unwrap();
        assert_eq!(record.target_hash, target_hash(self.target(), false), "a permit of an old target");
        assert_ne!(record.phase, Phase::Halted, "{} is changed while halted", gateway.name);
        if record.canaries.contains(&gateway.name) {
            return;
        }
        assert_eq!(record.phase, Phase::Progressing, "{} goes before the canary", gateway.name);
        let approved = !is_approval_required(rules) || self.approved.as_ref() == Some(&record.target_hash);
        assert!(approved, "{} is changed without approval", gateway.name);
        let until = record.soak_until.unwrap();
        assert!(until <= self.now, "{} is changed during the soak", gateway.name);
    }

    fn holds(&self, rules: &Rules) {
        let under_way = self.gateways.iter().filter(|gateway| gateway.task.is_some()).count();
        assert!(under_way <= rules.max_concurrent, "{under_way} at once");
        assert!(self.machine.permits() <= rules.max_concurrent + 1, "{} permits", self.machine.permits());
    }

    /// Nothing happens any more, but what might go wrong.
    fn is_at_rest(&self, rules: &Rules) -> bool {
        let tasks = self.gateways.iter().any(|gateway| gateway.task.is_some());
        let waits = self.soak().is_some() || self.may_be_approved(rules);
        !tasks && self.work.is_none() && self.woken == [false; 4] && !waits
    }

    fn has_ended_well(&self) {
        let record = self.record.as_ref().unwrap();
        assert_eq!(self.machine.permits(), 0, "a permit is left");
        let known = |uid: &str| self.gateways.iter().any(|gateway| gateway.uid == uid);
        assert!(self.machine.known().all(known), "something is known of a gateway that is gone");
        match record.phase {
            Phase::Complete => {
                assert!(self.gateways.iter().all(|g| self.target().holds(g.value)), "not all are changed");
            }
            phase => assert_eq!(phase, Phase::Halted),
        }
    }
}

fn is_approval_required(rules: &Rules) -> bool {
    rules.canary.as_ref().is_some_and(|canary| canary.approval == Approval::Required)
}

/// Every state that can come about, breadth first.
fn explore(rules: &Rules, faults: Faults) -> usize {
    let first = World::new(faults);
    let mut seen: HashMap<u128, (u128, String)> = HashMap::from([(first.fingerprint(), (0, String::new()))]);
    let mut queue = VecDeque::from([(first.fingerprint(), first)]);
    while let Some((from, world)) = queue.pop_front() {
        let checked = std::panic::catch_unwind(|| {
            world.holds(rules);
            if world.is_at_rest(rules) {
                world.has_ended_well();
            }
            world.next(rules)
        });
        let next = checked.unwrap_or_else(|_| panic!("after{}\n{world:#?}", way(&seen, from)));
        for (name, next) in next {
            let fingerprint = next.fingerprint();
            if let std::collections::hash_map::Entry::Vacant(new) = seen.entry(fingerprint) {
                new.insert((from, name));
                queue.push_back((fingerprint, next));
            }
        }
    }
    seen.len()
}

/// How a state came about.
fn way(seen: &HashMap<u128, (u128, String)>, mut state: u128) -> String {
    let mut steps = Vec::new();
    while let Some((from, name)) = seen.get(&state).filter(|(from, _)| *from != 0) {
        steps.push(name.clone());
        state = *from;
    }
    steps.into_iter().rev().fold(String::new(), |text, step| text + "\n  " + &step)
}

/// What goes wrong in one exploration: nothing, or each in turn.
fn faults() -> [Faults; 6] {
    let none = Faults { edit: false, crash: false, lost: false, refused: false, recreated: false };
    [
        none,
        Faults { edit: true, ..none },
        Faults { crash: true, ..none },
        Faults { lost: true, ..none },
        Faults { refused: true, ..none },
        Faults { recreated: true, ..none },
    ]
}

#[test]
fn whatever_happens_a_rollout_keeps_its_bounds_and_ends() {
    let rules = [Approval::Automatic, Approval::Required].map(|approval| {
        let canary = Canary { choice: Choice::First(1), soak: Duration::from_secs(10), approval };
        Rules { max_concurrent: 1, max_failures: 0, canary: Some(canary) }
    });
    let states: usize = std::thread::scope(|scope| {
        let of = |rules| faults().map(|faults| scope.spawn(move || (faults, explore(rules, faults))));
        let explored = rules.iter().flat_map(of).collect::<Vec<_>>().into_iter().map(|exploration| {
            let (faults, states) = exploration.join().unwrap_or_else(|why| std::panic::resume_unwind(why));
            println!("{states} states with {faults:?}");
            states
        });
        explored.sum()
    });
    println!("{states} states in all");
    assert!(states > 100_000, "{states}");
}
