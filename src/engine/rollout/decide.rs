//! From everything known of a policy's gateways to what its task does next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::decision::Decision;
use super::gateway::{Aim, Gateway};
use super::guard::{Guard, guard};
use super::machine::{Seat, Survey, Wish};
use super::{Member, Plan, Record, Rules, Scene, Standing, later, plan};
use crate::crd::{Cause, Phase};
use crate::engine::lifetime::Target;

/// How much later than the target a gateway may be created and still be waited for, until it was read.
const JOINING: Duration = Duration::from_mins(1);

/// A policy, its gateways, and the moment.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// Name of the policy.
    pub policy: &'a str,
    /// Every gateway that the policy governs or that is to be restored for it, read after the survey was taken.
    pub gateways: &'a [Gateway],
    /// The bounds that the policy sets, if any.
    pub rules: Option<Rules>,
    /// What its status holds of its rollout.
    pub record: Option<&'a Record>,
    /// Whether changes may begin.
    pub window_open: bool,
    /// A halted rollout is to go on.
    pub resume: bool,
    /// The target hash that a person has approved.
    pub approved: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// The gateways that take part, by name.
struct Fleet<'a> {
    gateways: BTreeMap<&'a str, (&'a Gateway, Seat)>,
    members: BTreeMap<String, Member>,
    /// Permits under which gateways are changed that do not take part anymore.
    elsewhere: usize,
}

impl<'a> Fleet<'a> {
    fn of(survey: &Survey, gateways: &'a [Gateway], aim: &Aim<'_>) -> Self {
        let seated = gateways.iter().map(|gateway| (gateway.name(), (gateway, survey.seat(gateway.uid()))));
        let gateways: BTreeMap<_, _> = seated.collect();
        let member = |(name, (gateway, seat)): (&&str, &(&Gateway, Seat))| {
            let standing = gateway.standing(seat, aim)?;
            let (late, checked, tries) = (seat.is_late(), seat.checked, seat.tries);
            Some(((*name).to_owned(), Member { standing, late, checked, tries }))
        };
        let members: BTreeMap<String, Member> = gateways.iter().filter_map(member).collect();
        let taking = members.keys().filter_map(|name| gateways.get(name.as_str()));
        let uids: BTreeSet<&str> = taking.map(|(gateway, _)| gateway.uid()).collect();
        let elsewhere =
            survey.machine.seats.iter().filter(|(uid, seat)| seat.is_held() && !uids.contains(uid.as_str()));
        let elsewhere = elsewhere.count();
        Self { gateways, members, elsewhere }
    }

    fn uid(&self, name: &str) -> Option<String> {
        self.gateways.get(name).map(|(gateway, _)| gateway.uid().to_owned())
    }

    fn uids(&self, names: &[String]) -> BTreeSet<String> {
        names.iter().filter_map(|name| self.uid(name)).collect()
    }

    fn names(&self, matches: impl Fn(Standing) -> bool) -> Vec<String> {
        let members = self.members.iter().filter(|(_, member)| matches(member.standing));
        members.map(|(name, _)| name.clone()).collect()
    }

    fn taking_part(&self) -> impl Iterator<Item = (&&'a str, &(&'a Gateway, Seat))> {
        self.gateways.iter().filter(|(name, _)| self.members.contains_key(**name))
    }

    fn drifts(&self, recalled: &BTreeMap<String, Duration>) -> usize {
        let drifted = |(gateway, seat): &(&Gateway, Seat)| {
            seat.drifted.is_some() || recalled.contains_key(gateway.uid())
        };
        self.taking_part().filter(|(_, member)| drifted(member)).count()
    }

    /// How many of those that ask would get a shorter lifetime.
    fn tightened(&self, aim: &Aim<'_>) -> usize {
        let tightens = |(gateway, seat): &(&Gateway, Seat)| {
            gateway.question(seat, aim).is_some_and(|q| q.wish == Wish::Change { tightens: true })
        };
        self.taking_part().filter(|(_, member)| tightens(member)).count()
    }

    /// Gateways whose change was begun and that ask to go on with it: they hold a place already.
    fn interrupted(&self, aim: &Aim<'_>, goes_on: impl Fn(Wish) -> bool) -> Vec<String> {
        let open = |(gateway, seat): &(&Gateway, Seat)| {
            let wish = gateway.question(seat, aim).map(|question| question.wish);
            seat.permit.is_none() && gateway.is_interrupted(seat, aim) && wish.is_some_and(&goes_on)
        };
        self.taking_part().filter(|(_, member)| open(member)).map(|(name, _)| (*name).to_owned()).collect()
    }
}

/// Decides what a policy's task does next.
#[must_use]
pub fn decide(survey: &Survey, at: &Circumstances<'_>) -> Decision {
    // Once all is done, what fails is the repair of a drift: no failed change of a rollout.
    let under_way = at.record.filter(|record| record.phase != Phase::Complete);
    let started = under_way.map(|record| record.started);
    let latest = later(at.now, JOINING).saturating_sub(survey.since_aim()).unwrap_or(Timestamp::MIN);
    let aim = Aim { policy: at.policy, target: survey.target(), started, latest };
    let fleet = Fleet::of(survey, at.gateways, &aim);
    let recalled = recall(survey, at.gateways, at.now);
    let plan = match aim.target {
        Some(target) => planned(at, &fleet, (target, &aim), &recalled),
        None => restoring(at, &fleet),
    };
    concluded(at, &fleet, &aim, plan, recalled)
}

fn concluded(
    at: &Circumstances<'_>,
    fleet: &Fleet<'_>,
    aim: &Aim<'_>,
    plan: Plan,
    recalled: BTreeMap<String, Duration>,
) -> Decision {
    let halted = |record: Option<&Record>| record.is_some_and(|record| record.phase == Phase::Halted);
    let failed = fleet.names(|standing| matches!(standing, Standing::Failed { .. }));
    let resumed = halted(at.record) && !halted(plan.record.as_ref());
    let is_halted = halted(plan.record.as_ref());
    let goes_on = |wish| wish == Wish::Restore || at.window_open && !is_halted;
    let interrupted = fleet.interrupted(aim, goes_on);
    let mut check = fleet.uids(&plan.check);
    if resumed {
        // What has failed need not wait for its next check.
        check.extend(fleet.uids(&failed));
    }
    let target = |name: &String| match fleet.members.get(name).map(|member| member.standing) {
        Some(Standing::Restoring) => None,
        _ => {
            fleet.gateways.get(name.as_str()).and_then(|(gateway, seat)| gateway.question(seat, aim)?.target)
        }
    };
    let begin =
        plan.begin.iter().chain(&interrupted).filter_map(|name| Some((fleet.uid(name)?, target(name))));
    Decision {
        target: aim.target,
        started: plan.record.as_ref().map(|record| record.started),
        resumed,
        guarded: at.rules.is_none()
            && plan.record.as_ref().is_some_and(|record| record.phase != Phase::Complete),
        halted: is_halted,
        uids: fleet.members.keys().filter_map(|name| fleet.uid(name)).collect(),
        begin: begin.collect(),
        check,
        changed: fleet.names(|standing| standing == Standing::Proven),
        unchanged: fleet.names(|s| !matches!(s, Standing::Failed { .. } | Standing::Proven)),
        failed,
        drifts: fleet.drifts(&recalled),
        members: fleet.members.clone(),
        recalled,
        plan,
    }
}

fn planned(
    at: &Circumstances<'_>,
    fleet: &Fleet<'_>,
    (target, aim): (Target, &Aim<'_>),
    recalled: &BTreeMap<String, Duration>,
) -> Plan {
    let mut rules = at.rules.clone();
    let mut undecided = false;
    if rules.is_none() {
        match guard(at.record, target, &fleet.members, fleet.tightened(aim)) {
            Guard::OneFirst => rules = Some(Rules::guard()),
            how => undecided = how == Guard::Undecided,
        }
    }
    let Some(rules) = &rules else { return at_once(&fleet.members, undecided, at.window_open) };
    let scene = Scene {
        rules,
        target,
        members: &fleet.members,
        elsewhere: fleet.elsewhere,
        drifts: fleet.drifts(recalled),
        latest_attempt: at.gateways.iter().filter_map(Gateway::attempted).max(),
        window_open: at.window_open,
        resume: at.resume,
        approved: at.approved,
        now: at.now,
    };
    plan(at.record, &scene)
}

/// Without bounds every gateway that asks may begin.
fn at_once(members: &BTreeMap<String, Member>, undecided: bool, window_open: bool) -> Plan {
    let may = |standing| match standing {
        Standing::Restoring => true,
        Standing::Drifted => window_open,
        Standing::Waiting | Standing::Failed { asks: true } => window_open && !undecided,
        _ => false,
    };
    let begin = members.iter().filter(|(_, member)| may(member.standing)).map(|(name, _)| name.clone());
    Plan { begin: begin.collect(), undecided, ..Plan::default() }
}

/// With an invalid target nothing is changed but what is restored, and that within the same bounds.
fn restoring(at: &Circumstances<'_>, fleet: &Fleet<'_>) -> Plan {
    let under_way = fleet.names(|standing| standing == Standing::UnderWay).len() + fleet.elsewhere;
    let most = at.rules.as_ref().map_or(usize::MAX, |rules| rules.max_concurrent);
    let mut begin = fleet.names(|standing| standing == Standing::Restoring);
    begin.truncate(most.saturating_sub(under_way));
    Plan { record: at.record.cloned(), begin, ..Plan::default() }
}

/// Drifts corrected within the last interval that only histories show: searched for once, after a restart.
fn recall(survey: &Survey, gateways: &[Gateway], now: Timestamp) -> BTreeMap<String, Duration> {
    let drift = |gateway: &Gateway| {
        let last = gateway.status()?.history.first().filter(|last| last.cause == Cause::Drift)?;
        let ago = Duration::try_from(now.duration_since(last.time.0)).unwrap_or_default();
        let at = survey.now.checked_sub(ago).filter(|_| ago < survey.interval)?;
        Some((gateway.uid().to_owned(), at))
    };
    if survey.has_recalled() { BTreeMap::new() } else { gateways.iter().filter_map(drift).collect() }
}
