//! A model of a fleet and of the controller that asks for plans: what is durable survives a kill, what it has only
//! found out does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tenure::crd::{Approval, Phase};
use tenure::engine::lifetime::Target;
use tenure::engine::rollout::{
    Canary, Choice, Circumstances, Decision, Machine, Member, Outcome, Record, Rules, Standing, decide,
    target_hash,
};
use tenure::engine::verdict::Reason;

use super::gateway::{Found, Gateway, Moment, POLICY, Stage};

pub(super) const TARGETS: [Target; 3] =
    [Target::Exact(1800), Target::Exact(28_800), Target::Range { least: 3600, most: 43_200 }];
const INTERVAL: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp::constant(1_700_000_000, 300_000_000);

/// What happens to the fleet or to the operator between two plans. Numbers choose a gateway.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Look(usize),
    LookAtAll,
    Work(usize),
    WorkAtAll,
    Wait(u64),
    ClockSetBack(u64),
    Window(bool),
    Reachable(usize, bool),
    TakesWrites(usize, bool),
    Drift(usize, usize),
    Appear(bool),
    Delete(usize),
    Leave(usize),
    Target(usize),
    Resume,
    Approve,
    Kill,
}

/// What becomes of a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Carried,
    KilledBeforeRecord,
    KilledAfterRecord,
}

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(super) struct Fleet {
    gateways: BTreeMap<String, Gateway>,
    machine: Machine,
    born: usize,
    rules: Rules,
    by_label: bool,
    pub(super) target: Target,
    pub(super) record: Option<Record>,
    window_open: bool,
    pub(super) resume: bool,
    /// The target hash that was approved.
    approved: Option<String>,
    now: Timestamp,
    /// The latest time a clock has shown: it may be set back.
    latest: Timestamp,
    /// Time that goes on whatever the clock shows.
    elapsed: Duration,
    /// Gateways whose latest attempt of this rollout failed, a present retry aside. What is put back by itself belongs to none.
    failed: BTreeSet<String>,
    troubled: bool,
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap()
}

impl Fleet {
    pub(super) fn new(rules: Rules, by_label: bool, target: usize, values: &[(u32, bool)]) -> Self {
        let mut fleet = Self {
            gateways: BTreeMap::new(),
            machine: Machine::default(),
            born: 0,
            rules,
            by_label,
            target: TARGETS[target % TARGETS.len()],
            record: None,
            window_open: true,
            resume: false,
            approved: None,
            now: START,
            latest: START,
            elapsed: Duration::from_hours(24),
            failed: BTreeSet::new(),
            troubled: false,
        };
        values.iter().for_each(|(value, labelled)| fleet.add(*value, *labelled));
        fleet
    }

    fn add(&mut self, value: u32, labelled: bool) {
        // Later ones are anywhere in the order of names.
        let name = format!("x2-{:04}", (self.born * 617) % 1009);
        self.born += 1;
        let uid = format!("uid-{}", self.born);
        let gateway = Gateway { created: self.now, ..Gateway::new(name.clone(), uid, value, labelled) };
        self.gateways.insert(name, gateway);
    }

    fn name(&self, number: usize) -> Option<String> {
        self.gateways.keys().nth(number % self.gateways.len().max(1)).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.gateways.keys().cloned().collect()
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Look(n) => self.name(*n).iter().for_each(|name| self.look(name)),
            Event::LookAtAll => self.names().iter().for_each(|name| self.look(name)),
            Event::Work(n) => self.name(*n).iter().for_each(|name| self.work(name)),
            Event::WorkAtAll => self.names().iter().for_each(|name| self.work(name)),
            Event::Wait(ms) => {
                self.now = self.now.checked_add(Duration::from_millis(*ms)).unwrap();
                self.elapsed += Duration::from_millis(*ms);
            }
            Event::ClockSetBack(ms) => self.now = self.now.checked_sub(Duration::from_millis(*ms)).unwrap(),
            Event::Window(open) => self.window_open = *open,
            Event::Reachable(n, reachable) => self.edit(*n, |gateway| gateway.reachable = *reachable),
            Event::TakesWrites(n, takes) => self.edit(*n, |gateway| gateway.takes_writes = *takes),
            Event::Drift(n, count) => {
                (*n..n + count).for_each(|n| self.edit(n, |gateway| gateway.value = 86_400));
            }
            Event::Appear(labelled) => self.add(86_400, *labelled),
            Event::Delete(n) => {
                let name = self.name(*n);
                name.iter().for_each(|name| self.forget(name));
            }
            Event::Leave(n) => self.edit(*n, |gateway| gateway.leaving = true),
            Event::Target(n) => self.target = TARGETS[n % TARGETS.len()],
            Event::Resume => self.resume = true,
            Event::Approve => self.approved = self.record.as_ref().map(|record| record.target_hash.clone()),
            Event::Kill => self.kill(),
        }
        self.latest = self.latest.max(self.now);
        self.troubled |=
            matches!(event, Event::Reachable(_, false) | Event::TakesWrites(_, false) | Event::Drift(..));
    }

    fn edit(&mut self, number: usize, change: impl FnOnce(&mut Gateway)) {
        if let Some(gateway) = self.name(number).and_then(|name| self.gateways.get_mut(&name)) {
            change(gateway);
        }
    }

    fn forget(&mut self, name: &str) {
        let gone = self.gateways.remove(name);
        // A reconcile that is under way ends when it notices.
        gone.iter().for_each(|gateway| self.machine.give_back(&gateway.uid));
        self.failed.remove(name);
    }

    fn kill(&mut self) {
        self.machine = Machine::default();
        for (name, gateway) in &mut self.gateways {
            gateway.task = None;
            if gateway.is_begun() {
                // Nobody knows how this attempt ended.
                self.failed.remove(name);
            }
        }
    }

    /// When the rollout began that goes on.
    fn started(&self) -> Option<Timestamp> {
        self.record.as_ref().filter(|record| record.phase != Phase::Complete).map(|record| record.started)
    }

    /// One reconcile.
    pub(super) fn look(&mut self, name: &str) {
        let (target, started) = (self.target, self.started());
        let (now, elapsed, window_open) = (self.now, self.elapsed, self.window_open);
        let moment = Moment { target, now, elapsed, window_open };
        let Some(gateway) = self.gateways.get_mut(name).filter(|g| g.task.is_none()) else { return };
        let was_begun = gateway.is_begun();
        match gateway.reconcile(&mut self.machine, &moment) {
            Found::Unreachable if was_begun && gateway.is_part_of(target, started) => {
                self.failed.insert(name.to_owned());
            }
            Found::InOrder => {
                self.failed.remove(name);
            }
            _ => {}
        }
    }

    /// Takes a change one step further.
    pub(super) fn work(&mut self, name: &str) {
        let now = whole(self.now);
        let (target, started) = (self.target, self.started());
        let Some(gateway) = self.gateways.get_mut(name) else { return };
        let Some(task) = gateway.task.clone() else { return };
        match task.stage {
            Stage::Permitted if gateway.leaving => {
                gateway.conclude(&mut self.machine, Ok(self.now));
                self.forget(name);
            }
            // Decided for another target: what is not sent yet is not sent any more.
            Stage::Permitted | Stage::Noted if task.target != target => self.abandon(name),
            Stage::Permitted if !gateway.reachable => self.fail(name, started, Reason::Unreachable),
            Stage::Permitted => gateway.note(now),
            Stage::Noted if gateway.reachable && gateway.takes_writes => {
                gateway.value = task.to;
                gateway.task.as_mut().unwrap().stage = Stage::Written;
            }
            Stage::Written if gateway.reachable && gateway.value == task.to => {
                gateway.conclude(&mut self.machine, Ok(self.now));
                self.failed.remove(name);
            }
            Stage::Noted | Stage::Written => self.fail(name, started, Reason::Unreachable),
        }
    }

    fn abandon(&mut self, name: &str) {
        let gateway = self.gateways.get_mut(name).unwrap();
        let task = gateway.task.take().unwrap();
        self.machine.give_back(&task.uid);
        gateway.ended(&mut self.machine, task.target, Outcome::Nothing);
        // It is tried again soon.
        self.look(name);
    }

    fn fail(&mut self, name: &str, started: Option<Timestamp>, reason: Reason) {
        let gateway = self.gateways.get_mut(name).unwrap();
        let was_begun = gateway.is_begun();
        gateway.conclude(&mut self.machine, Err(reason));
        if was_begun && gateway.is_part_of(self.target, started) {
            self.failed.insert(name.to_owned());
        }
    }

    /// The bounds, where canaries are chosen by their labels: with those that have them now.
    fn rules(&self) -> Rules {
        let mut rules = self.rules.clone();
        if self.by_label
            && let Some(Canary { choice, .. }) = &mut rules.canary
        {
            let labelled = self.gateways.iter().filter(|(_, gateway)| gateway.labelled);
            *choice = Choice::Named(labelled.map(|(name, _)| name.clone()).collect());
        }
        rules
    }

    /// A decision made with `record` in the policy's status.
    pub(super) fn planned(&self, record: Option<&Record>, resume: bool) -> (Decision, View) {
        let mut machine = self.machine.clone();
        self.decided(&mut machine, record, resume)
    }

    fn decided(&self, machine: &mut Machine, record: Option<&Record>, resume: bool) -> (Decision, View) {
        let rules = self.rules();
        let survey = machine.survey(Some(self.target), INTERVAL, self.elapsed);
        let gateways: Vec<_> = self.gateways.values().map(Gateway::resource).collect();
        let (window_open, now) = (self.window_open, self.now);
        let bounds = Some(rules.clone());
        let at = Circumstances {
            policy: POLICY,
            gateways: &gateways,
            rules: bounds,
            record,
            window_open,
            resume,
            approved: self.approved.as_deref(),
            now,
        };
        let decision = decide(&survey, &at);
        let (members, drifts) = (decision.members.clone(), decision.drifts);
        (decision, View { rules, members, drifts, window_open, latest: self.latest })
    }

    /// A decision, carried out as far as `outcome` lets it.
    pub(super) fn carry_out(&mut self, decision: &Decision, outcome: End) {
        if outcome == End::KilledBeforeRecord {
            return self.kill();
        }
        let started = |record: &Option<Record>| record.as_ref().map(|record| record.started);
        if started(&decision.plan.record) != started(&self.record) {
            self.failed.clear();
        }
        let mut machine = std::mem::take(&mut self.machine);
        let _ = machine.survey(Some(self.target), INTERVAL, self.elapsed);
        self.machine = machine;
        // A status holds whole seconds.
        self.record = decision.plan.record.clone().map(|mut record| {
            record.soak_until = record.soak_until.map(whole);
            record.started = whole(record.started);
            record
        });
        self.resume = false;
        if outcome == End::KilledAfterRecord {
            return self.kill();
        }
        for name in self.machine.answer(decision) {
            self.look(&name);
        }
    }

    /// Looks at those who are not known to be in order, and at those who are to be checked.
    pub(super) fn look_where_needed(&mut self, check: &[String]) {
        let members = self.planned(self.record.as_ref(), false).1.members;
        let proven = |name: &String| members.get(name).is_some_and(|m| m.standing == Standing::Proven);
        self.names()
            .iter()
            .filter(|name| check.contains(name) || !proven(name))
            .for_each(|name| self.look(name));
    }

    /// Nothing fails any more.
    pub(super) fn mend(&mut self) {
        self.window_open = true;
        for gateway in self.gateways.values_mut() {
            (gateway.reachable, gateway.takes_writes) = (true, true);
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.gateways.values().all(|gateway| self.target.holds(gateway.value))
    }

    /// Changes that a living operator is carrying out.
    pub(super) fn under_way(&self) -> usize {
        self.gateways.values().filter(|gateway| gateway.task.is_some()).count()
    }

    pub(super) fn failed(&self) -> usize {
        self.failed.len()
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.troubled
    }

    pub(super) fn governs(&self, name: &str) -> bool {
        self.gateways.get(name).is_some_and(|gateway| !gateway.leaving)
    }

    /// Whether the others may follow the canaries of the target.
    pub(super) fn is_approved(&self) -> bool {
        let required = self.rules.canary.as_ref().is_some_and(|canary| canary.approval == Approval::Required);
        let approved = |of_drifts| self.approved.as_ref() == Some(&target_hash(self.target, of_drifts));
        !required || approved(false) || approved(true)
    }

    /// Whether a canary that is still there was seen in order at `until` or later.
    pub(super) fn has_passed(&self, canary: &str, until: Timestamp) -> bool {
        let in_time = |(target, time)| target == self.target && time >= until;
        !self.governs(canary) || self.gateways[canary].seen_in_order.is_some_and(in_time)
    }
}

/// What a plan was made of.
pub(super) struct View {
    pub(super) rules: Rules,
    pub(super) members: BTreeMap<String, Member>,
    pub(super) drifts: usize,
    pub(super) window_open: bool,
    pub(super) latest: Timestamp,
}

impl View {
    pub(super) fn standing(&self, name: &str) -> Option<Standing> {
        self.members.get(name).map(|member| member.standing)
    }

    pub(super) fn count(&self, wanted: impl Fn(Standing) -> bool) -> usize {
        self.members.values().filter(|member| wanted(member.standing)).count()
    }
}
