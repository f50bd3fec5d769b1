//! The controller of `TokenPolicy`: it asks no remote system; it permits changes, and sums up.

mod finalizer;

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use self::finalizer::Tries;
use super::planning::Planning;
use super::requests::Handled;
use super::rollout::{Rollout, Rollouts};
use super::specs::Specs;
use crate::clock;
use crate::crd::{Kind, Phase, TokenPolicy, TokenPolicyStatus, X2Gateway};
use crate::engine::conditions::since_ready;
use crate::engine::governance::Policy;
use crate::engine::policy::{Event, Fleet, Hold, Report, events, is_alike, must_be_durable, next_moment};
use crate::engine::rollout::Decision;
use crate::engine::tally::{Tally, covered};
use crate::engine::verdict::{self, Reason, Verdict};
use crate::metrics::{Outcome, Whole};
use crate::runtime::counts::count;
use crate::runtime::events::reference;
use crate::runtime::object::{Entry, Key};
use crate::runtime::reconcile::{Reconcile, Reconciler};
use crate::runtime::status::{self, AGAIN};
use crate::runtime::store::Store;
use crate::runtime::workers::{Pool, Trigger, UNDISTURBED};
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, restore};

/// While gateways change, a policy's status is written at most once in this time.
const SPACING: Duration = Duration::from_secs(1);
/// While gateways change, a rollout is planned at most once in this time.
const PLANNING: Duration = Duration::from_millis(100);

/// What is kept in memory of a policy between reconciles.
#[derive(Debug, Default)]
pub struct Memory {
    generation: Option<i64>,
    /// When it is planned next, at the earliest.
    plan_after: Option<Instant>,
    /// When it is planned, if others of the namespace come first.
    turn: Option<Instant>,
    summed_up: Option<Instant>,
    finalizer: Tries,
    /// The last reason that was a warning since the policy was ready.
    warned: Option<Reason>,
    /// The request that a halted rollout was resumed for.
    resumed: Option<String>,
}

/// Reconciles policies.
pub(crate) struct PolicyController {
    pub(super) policies: Arc<Store<TokenPolicy>>,
    pub(super) gateways: Arc<Store<X2Gateway>>,
    pub(super) specs: Arc<Specs>,
    pub(super) rollouts: Arc<Rollouts>,
    pub(super) planning: Planning,
    /// Which requests were carried out.
    pub(super) handled: Arc<Handled>,
}

impl Reconciler for PolicyController {
    type Object = TokenPolicy;
    type Memory = Memory;
    const POOL: Pool = Pool::Cluster;
    const WHOLE: Option<Whole> = Some(Whole::Policy);

    fn store(&self) -> &Arc<Store<TokenPolicy>> {
        &self.policies
    }

    async fn reconcile(&self, object: &Arc<TokenPolicy>, memory: &mut Memory) -> Reconcile {
        let is_edited = memory.generation != object.meta().generation;
        if let Some(next) = memory.plan_after.filter(|after| !is_edited && *after > clock::instant()) {
            return Reconcile::NotDue(next);
        }
        let namespace = &object.namespace().unwrap_or_default();
        if let Some(turn) = self.turn(namespace, memory) {
            return Reconcile::NotDue(turn);
        }
        memory.generation = object.meta().generation;
        let finding_out = clock::instant();
        self.specs.namespace(namespace).regimes.find_out(|| self.gateways.namespace(namespace)).await;
        let finding_out = finding_out.elapsed();
        let policy = &self.specs.of(object);
        let gather = || fleet(policy, &self.gateways, &self.specs);
        let hold = match memory.finalizer.keep(&self.policies, policy, gather).await {
            Ok(hold) => hold,
            Err(next) => return Reconcile::NotDue(next),
        };
        let begun = clock::instant();
        let rollout = self.rollouts.of(&self.policies, object).filter(|_| policy.rolls());
        // Before the gateways are read: a report is written before a permit is returned, and must not be missed.
        let survey =
            rollout.as_ref().map(|rollout| rollout.survey(policy.spec.target(), policy.spec.interval));
        let fleet = gather();
        let parts = fleet.parts();
        let (key, metrics) = (Key::of(object.meta()), &self.policies.cluster().metrics);
        count(metrics, Whole::Policy, &key, Some(&Tally::of(&parts)));
        let decide = |survey| fleet.decide(&survey, memory.resumed.as_deref(), clock::precisely());
        let mut decision = survey.map(decide);
        if hold != Hold::InPlace {
            decision.iter_mut().for_each(Decision::withhold);
        }
        self.planning.took(namespace, finding_out, begun.elapsed(), clock::instant());
        memory.plan_after = Some(clock::instant() + PLANNING);
        let report = Report { policy, parts: &parts, decision: decision.as_ref(), hold, now: clock::now().0 };
        let verdict = report.verdict();
        let request = policy.open_request().filter(|request| self.is_handled(&report, request));
        let status = report.status(&verdict, request);
        let outcome = if object.spec.suspend { Outcome::Waiting } else { verdict.reason.into() };
        let spaced = memory.summed_up.map(|last| last + SPACING).filter(|next| *next > clock::instant());
        let spaced = spaced.filter(|_| !is_edited && !must_be_durable(object.status.as_ref(), &status));
        if spaced.is_none() {
            memory.summed_up = Some(clock::instant());
            let written = self.write(&report, status, &verdict, &mut memory.warned).await;
            if !matches!(written, Written::Done | Written::Unchanged) {
                // What could not be written is not acted upon.
                return Reconcile::Done { next: clock::instant() + AGAIN, outcome };
            }
        }
        let mut next = spaced.or(memory.finalizer.due()).unwrap_or_else(|| clock::instant() + UNDISTURBED);
        if let Some((decision, rollout)) = decision.zip(rollout) {
            let moment = self.carry_out(policy, &decision, &rollout, memory);
            next = moment.map_or(next, |moment| next.min(moment));
        }
        if finalizers::is_leaving(object.meta()) {
            next = next.min(restore::next_check(object.meta()));
        }
        Reconcile::Done { next, outcome }
    }

    fn changed(&self, before: Option<&Entry<TokenPolicy>>, after: Option<&Entry<TokenPolicy>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        let (key, cluster) = (Key::of(meta), self.policies.cluster());
        self.specs.changed(&key.namespace);
        cluster.wake(Kind::Policy, key.clone(), Trigger::Change);
        let both = before.and_then(Entry::valid).zip(after.and_then(Entry::valid));
        if !both.is_some_and(|(before, after)| is_alike(before, after)) {
            for gateway in self.gateways.namespace(&key.namespace) {
                cluster.wake(Kind::Gateway, Key::of(gateway.meta()), Trigger::Related);
            }
            // Others may have lost or won gateways.
            for policy in self.policies.namespace(&key.namespace) {
                cluster.wake(Kind::Policy, Key::of(policy.meta()), Trigger::Related);
            }
        }
    }

    fn gone(&self, key: &Key) {
        self.rollouts.forget(key);
        self.specs.gone(&key.namespace);
    }
}

impl PolicyController {
    /// When it is this policy's turn to be planned, if it is not now.
    fn turn(&self, namespace: &str, memory: &mut Memory) -> Option<Instant> {
        let now = clock::instant();
        let turn = memory.turn.unwrap_or_else(|| self.planning.next(namespace, now));
        memory.turn = Some(turn).filter(|turn| *turn > now);
        memory.turn
    }

    /// Whether every gateway that a request covers has carried it out.
    fn is_handled(&self, report: &Report<'_>, request: &str) -> bool {
        let request = (Key::of(report.policy.object.meta()), request.to_owned());
        let understood =
            |name: &&str| self.gateways.valid(&Key::new(request.0.namespace.clone(), *name)).is_some();
        self.handled.by_all(Kind::Gateway, covered(report.parts).filter(understood), &request)
    }

    /// Carries out what was decided and reported. When something comes of it by itself, if anything does.
    fn carry_out(
        &self,
        policy: &Policy,
        decision: &Decision,
        rollout: &Rollout,
        memory: &mut Memory,
    ) -> Option<Instant> {
        if decision.phase() != Some(Phase::Halted) {
            memory.resumed = policy.open_request().map(str::to_owned);
        }
        // Writing took time: what was decided for an earlier spec is not carried out.
        if is_current(&self.policies, &policy.object) {
            rollout.answer(decision);
        }
        next_moment(policy, decision, clock::now().0).map(clock::instant_of)
    }

    /// Writes the status, and publishes what is new once it is written.
    async fn write(
        &self,
        report: &Report<'_>,
        status: TokenPolicyStatus,
        verdict: &Verdict,
        warned: &mut Option<Reason>,
    ) -> Written {
        let policy = &*report.policy.object;
        let before = policy.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
        let events = report.decision.map(|decision| events(policy, &status, decision)).unwrap_or_default();
        let written = status::write(&self.policies, policy, status).await;
        if written == Written::Done && !policy.spec.suspend {
            self.policies.cluster().report_transition(reference(policy), || None, (before, *warned), verdict);
            *warned = since_ready(Some(verdict.reason), since_ready(before, *warned));
            for Event { reason, note } in events {
                self.policies.cluster().publish(policy, reason, note, None);
            }
        }
        written
    }
}

/// A policy with the gateways that concern it, as they are now.
fn fleet<'a>(policy: &'a Policy, gateways: &Store<X2Gateway>, specs: &Specs) -> Fleet<'a> {
    let namespace = policy.object.namespace().unwrap_or_default();
    let (entries, regimes) = (gateways.namespace(&namespace), specs.namespace(&namespace).regimes);
    let gateways = entries.iter().map(|entry| (entry.meta(), entry.valid()));
    Fleet::of(policy, gateways, |gateway| regimes.of(gateway))
}

/// Whether a policy still is what a decision was made for.
fn is_current(policies: &Store<TokenPolicy>, policy: &TokenPolicy) -> bool {
    policies
        .valid(&Key::of(policy.meta()))
        .is_some_and(|now| now.uid() == policy.uid() && now.meta().generation == policy.meta().generation)
}
