//! A model of a fleet and of the controller that asks for plans: what is durable survives a kill, what it has only
//! found out does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tenure::crd::Phase;
use tenure::engine::lifetime::Target;
use tenure::engine::rollout::{Canary, Choice, Member, Plan, Record, Rules, Scene, Standing, plan};

use super::gateway::{Gateway, Look, Memory, Ready, Stage};

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
    Kill,
}

/// What becomes of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Carried,
    KilledBeforeRecord,
    KilledAfterRecord,
}

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(super) struct Fleet {
    gateways: BTreeMap<String, Gateway>,
    born: usize,
    rules: Rules,
    by_label: bool,
    pub(super) target: Target,
    pub(super) record: Option<Record>,
    window_open: bool,
    pub(super) resume: bool,
    now: Timestamp,
    /// The latest time a clock has shown: it may be set back.
    latest: Timestamp,
    drifts: Vec<(String, Timestamp)>,
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
            born: 0,
            rules,
            by_label,
            target: TARGETS[target % TARGETS.len()],
            record: None,
            window_open: true,
            resume: false,
            now: START,
            latest: START,
            drifts: Vec::new(),
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
        let late = self.record.as_ref().is_some_and(|record| record.phase != Phase::Complete);
        self.gateways.insert(name, Gateway::new(value, labelled, late));
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
            Event::Wait(ms) => self.now = self.now.checked_add(Duration::from_millis(*ms)).unwrap(),
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
            Event::Target(n) => self.want(TARGETS[n % TARGETS.len()]),
            Event::Resume => self.resume = true,
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
        self.gateways.remove(name);
        self.failed.remove(name);
    }

    fn want(&mut self, target: Target) {
        if target != self.target {
            self.target = target;
            self.gateways.values_mut().for_each(|gateway| gateway.memory.checked = None);
        }
    }

    fn kill(&mut self) {
        for (name, gateway) in &mut self.gateways {
            let checked = gateway.last_checked.filter(|(target, _)| *target == self.target);
            gateway.memory = Memory { checked: checked.map(|(_, time)| time), ..Memory::default() };
            if gateway.ready == Ready::Progressing {
                // Nobody knows how this attempt ended.
                self.failed.remove(name);
            }
        }
    }

    /// When the rollout began that goes on.
    fn started(&self) -> Option<Timestamp> {
        self.record.as_ref().filter(|record| record.phase != Phase::Complete).map(|record| record.started)
    }

    /// One GET, and a login where its value is wanted but not proven.
    pub(super) fn look(&mut self, name: &str) {
        let (target, now, started, open) = (self.target, self.now, self.started(), self.window_open);
        let Some(gateway) = self.gateways.get_mut(name).filter(|g| g.memory.task.is_none()) else { return };
        if !gateway.reachable {
            if gateway.found_unreachable(target, started) {
                self.failed.insert(name.to_owned());
            }
            return;
        }
        if target.holds(gateway.value) {
            gateway.found_in_order(target, now);
            self.failed.remove(name);
            return;
        }
        let known = gateway.memory.look == Some(Look::Value(gateway.value));
        if !known && gateway.proven.is_some_and(|proven| target.holds(proven)) {
            self.drifts.push((name.to_owned(), now));
        }
        let goes_on = open && gateway.is_interrupted(target, started);
        let memory = &mut gateway.memory;
        memory.late |= memory.look == Some(Look::Unreachable);
        (memory.look, memory.asks) = (Some(Look::Value(gateway.value)), true);
        if goes_on {
            memory.task = Some((Stage::Granted, target.nearest(gateway.value)));
        } else if gateway.ready == Ready::Progressing {
            // What was only begun has come to nothing.
            (gateway.pending, gateway.ready) = (None, Ready::New);
        }
    }

    /// Takes a granted change one step further.
    pub(super) fn work(&mut self, name: &str) {
        let latest = self.record.as_ref().map(|record| record.started);
        let now = whole(self.now).max(latest.unwrap_or(whole(self.now)));
        let (target, started) = (self.target, self.started());
        let Some(gateway) = self.gateways.get_mut(name) else { return };
        let Some((stage, to)) = gateway.memory.task else { return };
        if gateway.leaving && stage == Stage::Granted {
            return self.forget(name);
        }
        let next = match stage {
            Stage::Granted if !gateway.reachable => {
                if gateway.found_unreachable(target, started) {
                    self.failed.insert(name.to_owned());
                }
                None
            }
            Stage::Granted => {
                (gateway.pending, gateway.ready) = (Some((now, to)), Ready::Progressing);
                Some((Stage::Noted, to))
            }
            Stage::Noted if gateway.reachable && gateway.takes_writes => {
                gateway.value = to;
                Some((Stage::Written, to))
            }
            Stage::Written if gateway.reachable && gateway.value == to => {
                gateway.found_in_order(target, self.now);
                gateway.last_checked = Some((target, whole(self.now)));
                self.failed.remove(name);
                None
            }
            Stage::Noted | Stage::Written => {
                gateway.ready = Ready::Failing;
                let memory = &mut gateway.memory;
                (memory.tries, memory.asks) = (memory.tries.saturating_add(1), false);
                if gateway.is_part_of(target, started) {
                    self.failed.insert(name.to_owned());
                }
                None
            }
        };
        gateway.memory.task = next;
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

    fn members(&self, record: Option<&Record>) -> BTreeMap<String, Member> {
        let member = |gateway: &Gateway| gateway.member(self.target, record);
        self.gateways.iter().map(|(name, gateway)| (name.clone(), member(gateway))).collect()
    }

    /// A plan made with `record` in the policy's status.
    pub(super) fn planned(&self, record: Option<&Record>, resume: bool) -> (Plan, View) {
        let (rules, members) = (self.rules(), self.members(record));
        let since = self.now.checked_sub(INTERVAL).unwrap();
        let recent = self.drifts.iter().filter(|(name, time)| *time > since && members.contains_key(name));
        let drifts = recent.map(|(name, _)| name).collect::<BTreeSet<_>>().len();
        let scene = Scene {
            rules: &rules,
            target: self.target,
            members: &members,
            drifts,
            latest_attempt: self.gateways.values().filter_map(|gateway| Some(gateway.pending?.0)).max(),
            window_open: self.window_open,
            resume,
            now: self.now,
        };
        let plan = plan(record, &scene);
        (plan, View { rules, members, drifts, window_open: self.window_open, latest: self.latest })
    }

    /// What a plan promises, carried out as far as `outcome` lets it.
    pub(super) fn carry_out(&mut self, plan: &Plan, outcome: Outcome) {
        if outcome == Outcome::KilledBeforeRecord {
            return self.kill();
        }
        let started = |record: &Option<Record>| record.as_ref().map(|record| record.started);
        if started(&plan.record) != started(&self.record) {
            self.failed.clear();
            self.gateways.values_mut().for_each(|gateway| gateway.memory.tries = 0);
        }
        // A status holds whole seconds.
        self.record = plan.record.clone().map(|mut record| {
            record.soak_until = record.soak_until.map(whole);
            record.started = whole(record.started);
            record
        });
        self.resume = false;
        if outcome == Outcome::KilledAfterRecord {
            return self.kill();
        }
        for name in &plan.begin {
            let gateway = self.gateways.get_mut(name).unwrap();
            gateway.memory.task = Some((Stage::Granted, self.target.nearest(gateway.value)));
        }
    }

    /// Looks at those who are not known to be in order, and at those who are to be checked.
    pub(super) fn look_where_needed(&mut self, check: &[String]) {
        let members = self.members(self.record.as_ref());
        let needed = |name: &String| check.contains(name) || members[name].standing != Standing::Proven;
        members.keys().filter(|name| needed(name)).for_each(|name| self.look(name));
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
        self.gateways.values().filter(|gateway| gateway.memory.task.is_some()).count()
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
