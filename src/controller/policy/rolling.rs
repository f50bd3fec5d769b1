//! A policy's rollout: what its gateways' statuses and questions say, made into a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

use super::Subject;
use super::summary::listed;
use crate::clock;
use crate::controller::context::Context;
use crate::controller::governance;
use crate::controller::rollouts::{Answers, Stage, Wish};
use crate::controller::store::Key;
use crate::crd::{Cause, Phase, RolloutStatus, Time, TokenPolicy, X2Gateway, X2GatewayStatus};
use crate::engine::gateway::Regime;
use crate::engine::guard::{Guard, guard};
use crate::engine::lifetime::{Target, proves};
use crate::engine::rollout::{
    Canary, Choice, Member, Plan, Record, Rules, Scene, Standing, at_least_one, at_most, plan,
};
use crate::engine::schedule;
use crate::engine::verdict::{self, Reason};

/// What a policy's task does next about its rollout.
pub(super) struct Rolling {
    /// To be written before the answers are given.
    pub(super) status: Option<RolloutStatus>,
    pub(super) answers: Answers,
    /// The canaries' selector selects nothing.
    pub(super) lacks_canaries: bool,
    /// One gateway goes first because the change would be felt.
    pub(super) guarded: bool,
    /// Gateways whose change has failed,
    pub(super) failed: Vec<String>,
    /// that are proven at the target,
    pub(super) changed: Vec<String>,
    /// and that are neither.
    pub(super) unchanged: Vec<String>,
}

impl Rolling {
    fn of(
        policy: &TokenPolicy,
        record: Option<&Record>,
        plan: Plan,
        members: &BTreeMap<String, Member>,
        number: u64,
    ) -> Self {
        let names = |wanted: fn(Standing) -> bool| -> Vec<String> {
            members
                .iter()
                .filter(|(_, member)| wanted(member.standing))
                .map(|(name, _)| name.clone())
                .collect()
        };
        let failed = names(|standing| matches!(standing, Standing::Failed { .. }));
        let changed = names(|standing| standing == Standing::Proven);
        let count = |names: &[String]| i64::try_from(names.len()).unwrap_or(i64::MAX);
        let halted = |record: Option<&Record>| record.is_some_and(|r| r.phase == Phase::Halted);
        let resumed = halted(record) && !halted(plan.record.as_ref());
        // What has failed need not wait for its next look.
        let again = failed.iter().filter(|_| resumed).cloned();
        Self {
            answers: Answers {
                number: Some(number).filter(|_| !plan.undecided),
                started: plan.record.as_ref().map(|record| record.started),
                halted: halted(plan.record.as_ref()),
                resumed,
                begin: plan.begin,
                check: plan.check.into_iter().chain(again).collect(),
            },
            lacks_canaries: plan.lacks_canaries,
            guarded: policy.spec.rollout.is_none()
                && plan.record.as_ref().is_some_and(|record| record.phase != Phase::Complete),
            status: plan.record.map(|record| RolloutStatus {
                phase: record.phase,
                target_hash: record.target_hash,
                canaries: record.canaries,
                soak_until: record.soak_until.map(Time),
                started_time: Time(record.started),
                changed: count(&changed),
                failed: count(&failed),
            }),
            unchanged: names(|s| !matches!(s, Standing::Failed { .. } | Standing::Proven)),
            changed,
            failed,
        }
    }

    /// Why it has halted, as a clause: changes have failed, or else canaries could not be found in order.
    pub(super) fn cause(&self, names: usize) -> String {
        if !self.failed.is_empty() {
            return format!("changing {} failed", listed(&self.failed, names));
        }
        let canaries = self.status.as_ref().map(|status| &*status.canaries).unwrap_or_default();
        format!("canaries failed three checks in a row: {}", listed(canaries, names))
    }

    /// How far the rollout has got.
    pub(super) fn phase(&self) -> Option<Phase> {
        self.status.as_ref().map(|status| status.phase)
    }
}

/// Makes the plan. `asked` is the last question that was put before the subjects were gathered; `resume` tells that somebody
/// asks for a halted rollout to go on.
pub(super) fn roll(
    context: &Context,
    policy: &TokenPolicy,
    target: Target,
    subjects: &[Subject],
    asked: u64,
    resume: bool,
) -> Rolling {
    let key = Key::of(&policy.metadata);
    let record = policy.status.as_ref().and_then(|status| status.rollout.as_ref()).map(Record::from);
    // Once all is done, what fails is the repair of a drift: no failed change of a rollout.
    let under_way = record.as_ref().filter(|record| record.phase != Phase::Complete);
    let started = under_way.map(|record| record.started);
    let survey = context.rollouts.survey(&key, target, |stage, seed| {
        // Only now: a report is written before the turn is given back, and must not be missed once that is done.
        let subjects = present(context, subjects);
        View { policy, target, subjects: &subjects, asked, started }.survey(stage, seed)
    });
    let Survey { members, tightened, drifts, interrupted, latest_attempt } = survey;
    let mut rules = rules(policy, subjects);
    let mut undecided = false;
    if policy.spec.rollout.is_none() {
        match guard(record.as_ref(), target, &members, tightened) {
            Guard::OneFirst => rules = Some(Rules::guard()),
            how => undecided = how == Guard::Undecided,
        }
    }
    let window_open = governance::closed_window(context, policy).is_none();
    let mut plan = match &rules {
        Some(rules) => plan(
            record.as_ref(),
            &Scene {
                rules,
                target,
                members: &members,
                drifts,
                latest_attempt,
                window_open,
                resume,
                now: clock::precisely(),
            },
        ),
        None => at_once(&members, undecided, window_open),
    };
    let halted = plan.record.as_ref().is_some_and(|record| record.phase == Phase::Halted);
    let goes_on = |wish| wish == Wish::Restore || window_open && !halted;
    // They hold a place already.
    plan.begin.extend(interrupted.into_iter().filter(|(_, wish)| goes_on(*wish)).map(|(name, _)| name));
    Rolling::of(policy, record.as_ref(), plan, &members, asked)
}

/// Without bounds whoever asks may begin.
fn at_once(members: &BTreeMap<String, Member>, undecided: bool, window_open: bool) -> Plan {
    let may = |standing| match standing {
        Standing::Restoring => true,
        Standing::Drifted => window_open,
        Standing::Waiting | Standing::Failed { asks: true } => window_open && !undecided,
        _ => false,
    };
    let begin = members.iter().filter(|(_, member)| may(member.standing)).map(|(name, _)| name.clone());
    Plan { record: None, begin: begin.collect(), check: Vec::new(), undecided, lacks_canaries: false }
}

/// How a policy's gateways stand.
struct Survey {
    /// Every gateway that takes part.
    members: BTreeMap<String, Member>,
    /// How many of those that ask would be tightened.
    tightened: usize,
    /// How many have drifted lately.
    drifts: usize,
    /// Whose change was begun and came to no end, as when the operator died: they ask to go on.
    interrupted: Vec<(String, Wish)>,
    /// When the latest change was begun that statuses tell of.
    latest_attempt: Option<Timestamp>,
}

/// The gateways as they are by now.
fn present(context: &Context, subjects: &[Subject]) -> Vec<Subject> {
    let now = |subject: &Subject| {
        let entry = context.gateways.get(&Key::of(subject.entry.meta()))?;
        Some(Subject { entry, regime: subject.regime.clone(), selected: subject.selected })
    };
    subjects.iter().filter_map(now).collect()
}

/// The bounds that the policy asks for, in gateways.
fn rules(policy: &TokenPolicy, subjects: &[Subject]) -> Option<Rules> {
    let rollout = policy.spec.rollout.as_ref()?;
    let matched = subjects.iter().filter(|subject| subject.selected).count();
    let canary = rollout.canary.as_ref().map(|canary| Canary {
        choice: match (&canary.selector, canary.count) {
            (Some(selector), _) => Choice::Named(named(subjects, governance::labels(selector).as_ref())),
            (None, count) => Choice::First(count.unwrap_or(1).try_into().unwrap_or(usize::MAX)),
        },
        soak: canary.soak.as_deref().and_then(schedule::parse).unwrap_or_default(),
    });
    Some(Rules {
        max_concurrent: at_least_one(&rollout.max_concurrent, matched),
        max_failures: at_most(&rollout.max_failures, matched),
        canary,
    })
}

fn named(subjects: &[Subject], selector: Option<&Selector>) -> BTreeSet<String> {
    let Some(selector) = selector else { return BTreeSet::new() };
    let gateways = subjects.iter().filter_map(|subject| subject.entry.valid());
    gateways.filter(|gateway| selector.matches(gateway.labels())).map(|gateway| gateway.name_any()).collect()
}

/// A policy and its gateways.
struct View<'a> {
    policy: &'a TokenPolicy,
    target: Target,
    subjects: &'a [Subject],
    asked: u64,
    started: Option<Timestamp>,
}

impl View<'_> {
    fn survey(&self, stage: &mut Stage, seed: bool) -> Survey {
        let interval = schedule::parse(&self.policy.spec.interval).unwrap_or(schedule::CAP);
        if seed {
            self.recall_drifts(stage, interval);
        }
        stage.drifted.retain(|_, at| at.elapsed() < interval);
        let parts = self.subjects.iter().filter_map(|subject| {
            let gateway = subject.entry.valid()?;
            Some((gateway.name_any(), self.member(stage, subject, gateway)?))
        });
        let members: BTreeMap<String, Member> = parts.collect();
        stage.keep(self.asked, |name| members.contains_key(name));
        let tightens = |name: &String| {
            stage.asking.get(name).is_some_and(|asking| asking.wish == Wish::Change { tightens: true })
        };
        let tightened = members.keys().filter(|name| tightens(name)).count();
        let interrupted = self.subjects.iter().filter_map(|subject| {
            let gateway = subject.entry.valid()?;
            let name = gateway.name_any();
            let wish = stage.asking.get(&name)?.wish;
            let open = !stage.granted.contains(&name) && members.contains_key(&name);
            (open && self.is_interrupted(gateway, wish)).then_some((name, wish))
        });
        let interrupted = interrupted.collect();
        let latest_attempt = self.latest_attempt();
        Survey { interrupted, members, tightened, drifts: stage.drifted.len(), latest_attempt }
    }

    /// Whether a gateway that asks has begun this very change before.
    fn is_interrupted(&self, gateway: &X2Gateway, wish: Wish) -> bool {
        let status = gateway.status.as_ref().filter(|status| is_begun(status, &self.policy.name_any()));
        let pending = status.and_then(|status| status.pending.as_ref());
        let in_this_rollout = |since| self.started.is_none_or(|started| since >= started);
        pending.is_some_and(|pending| match wish {
            Wish::Restore => true,
            Wish::Repair => self.target.holds(pending.to),
            Wish::Change { .. } => self.target.holds(pending.to) && in_this_rollout(pending.since.0),
        })
    }

    /// Drifts put back within the last interval, as histories tell of them.
    fn recall_drifts(&self, stage: &mut Stage, interval: Duration) {
        for gateway in self.subjects.iter().filter_map(|subject| subject.entry.valid()) {
            let last = gateway.status.as_ref().and_then(|status| status.history.first());
            let Some(last) = last.filter(|last| last.cause == Cause::Drift) else { continue };
            let ago = Duration::try_from(clock::now().0.duration_since(last.time.0)).unwrap_or_default();
            let at = clock::instant().checked_sub(ago).filter(|_| ago < interval);
            at.map(|at| stage.drifted.entry(gateway.name_any()).or_insert(at));
        }
    }

    fn member(&self, stage: &Stage, subject: &Subject, gateway: &Arc<X2Gateway>) -> Option<Member> {
        let name = gateway.name_any();
        let standing = self.standing(stage, subject, gateway, &name)?;
        Some(Member {
            standing,
            late: stage.asking.get(&name).is_some_and(|asking| asking.late),
            checked: stage.checked.get(&name).copied(),
            tries: stage.tries.get(&name).copied().unwrap_or_default(),
        })
    }

    fn standing(
        &self,
        stage: &Stage,
        subject: &Subject,
        gateway: &X2Gateway,
        name: &str,
    ) -> Option<Standing> {
        let policy = self.policy.name_any();
        let none = X2GatewayStatus::default();
        let status = gateway.status.as_ref().unwrap_or(&none);
        let reason = verdict::ready_reason(&status.conditions);
        let asking = stage.asking.get(name).map(|asking| asking.wish);
        let ours = status.policy.as_ref() == Some(&policy);
        let governed = subject.is_governed_by(&policy);
        let left = matches!(&subject.regime, Some(Regime::Left { policy: left }) if *left == policy);
        let begun = is_begun(status, &policy);
        if gateway.spec.connection.suspend {
            return begun.then_some(Standing::UnderWay).filter(|_| stage.granted.contains(name));
        }
        if begun || stage.granted.contains(name) && (governed || left) {
            return Some(Standing::UnderWay);
        }
        if left {
            return (asking == Some(Wish::Restore)).then_some(Standing::Restoring);
        }
        if !governed {
            return None;
        }
        let pending = status.pending.as_ref().filter(|pending| ours && self.target.holds(pending.to));
        if pending.is_some_and(|pending| self.started.is_some_and(|started| pending.since.0 >= started)) {
            return Some(Standing::Failed { asks: asking.is_some() });
        }
        Some(match asking {
            Some(Wish::Repair) => Standing::Drifted,
            Some(Wish::Change { .. } | Wish::Restore) => Standing::Waiting,
            None if ours && self.is_proven(status, reason) => Standing::Proven,
            // It had failed before the rollout was resumed, and still does.
            None if pending.is_some() && self.started.is_some() && stage.looked.contains(name) => {
                Standing::Failed { asks: false }
            }
            None if status.pending.is_some() && !stage.looked.contains(name) => Standing::Unread,
            None if stage.looked.contains(name) || could_not_be_read(gateway, status, reason) => {
                Standing::Unreadable
            }
            None => Standing::Unread,
        })
    }

    fn is_proven(&self, status: &X2GatewayStatus, reason: Option<Reason>) -> bool {
        let values = status.timeout_seconds.zip(status.proven_timeout_seconds);
        status.pending.is_none()
            && reason == Some(Reason::InSync)
            && values.is_some_and(|(set, token)| self.target.holds(set) && proves(token, set))
    }

    fn latest_attempt(&self) -> Option<Timestamp> {
        let gateways = self.subjects.iter().filter_map(|subject| subject.entry.valid());
        let pending = gateways.filter_map(|gateway| gateway.status.as_ref()?.pending.as_ref());
        pending.map(|pending| pending.since.0).max()
    }
}

/// Whether a policy's change was begun, and nothing is known of its end.
fn is_begun(status: &X2GatewayStatus, policy: &str) -> bool {
    let progressing = verdict::ready_reason(&status.conditions) == Some(Reason::Progressing);
    status.policy.as_deref() == Some(policy) && status.pending.is_some() && progressing
}

/// Whether the last look at a gateway, though not one for this target, could not read it.
fn could_not_be_read(gateway: &X2Gateway, status: &X2GatewayStatus, reason: Option<Reason>) -> bool {
    status.observed_generation == gateway.metadata.generation && reason.is_some_and(Reason::is_failed_change)
}
