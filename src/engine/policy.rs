//! What a policy reports of its gateways and its rollout, and what its deletion waits for.

mod events;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use self::events::{Event, events};
pub use self::report::{Hold, Report, must_be_durable};
use super::annotation;
use super::gateway::{Regime, is_changed, wrote_last};
use super::governance::{Policy, open_request};
use super::lifetime::proves;
use super::reason::Reason;
use super::restoration::{SkipReason, has_finalizer, is_released};
use super::rollout::{
    Canary, Choice, Circumstances, Decision, Gateway, Record, Relation, Rules, Survey, decide,
};
use super::tally::{Part, State, state_of};
use super::verdict::Verdict;
use super::window::override_annotation;
use crate::crd::{
    APPROVE, DeletionPolicy, GatewaySelector, Mode, Phase, TokenPolicy, X2Gateway, X2GatewayStatus,
};

/// Gateways that an event names.
const NAMES: usize = 20;

/// A policy with the gateways that concern it.
#[derive(Clone, Debug)]
pub struct Fleet<'a> {
    policy: &'a Policy,
    subjects: Vec<Subject>,
}

/// A gateway that a policy selects, governs or is left by.
#[derive(Clone, Debug)]
struct Subject {
    name: String,
    /// Whether the policy selects it.
    selected: bool,
    known: Known,
}

#[derive(Clone, Debug)]
enum Known {
    Valid {
        gateway: Arc<X2Gateway>,
        regime: Arc<Regime>,
    },
    /// It does not match this version of the schema.
    Undecodable {
        is_held: bool,
    },
}

impl<'a> Fleet<'a> {
    /// A policy with those gateways of its namespace that concern it: each by its metadata and, if it is understood, as a
    /// whole. `regime` finds out what is required of one.
    #[must_use]
    pub fn of<'g>(
        policy: &'a Policy,
        gateways: impl IntoIterator<Item = (&'g ObjectMeta, Option<&'g Arc<X2Gateway>>)>,
        regime: impl Fn(&Arc<X2Gateway>) -> Arc<Regime>,
    ) -> Self {
        let subject = |(meta, gateway)| Subject::of(policy, meta, gateway, &regime);
        Self { policy, subjects: gateways.into_iter().filter_map(subject).collect() }
    }

    /// The gateways that the policy selects, each with its state.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        self.selected().map(|subject| subject.part(self.policy)).collect()
    }

    fn selected(&self) -> impl Iterator<Item = &Subject> {
        self.subjects.iter().filter(|subject| subject.selected)
    }

    /// The bounds that the policy asks for, in gateways.
    fn rules(&self) -> Option<Rules> {
        let rollout = self.policy.spec.rollout.as_ref()?;
        let matched = self.selected().count();
        let named = |selector: &GatewaySelector| -> BTreeSet<String> {
            let named = self.subjects.iter().filter(|subject| subject.is_selected_by(selector));
            named.map(|subject| subject.name.clone()).collect()
        };
        let canary = rollout.canary.as_ref().map(|canary| Canary {
            choice: match &canary.selector {
                Some(selector) => Choice::Named(named(selector)),
                None => Choice::First(canary.count),
            },
            soak: canary.soak,
            approval: canary.approval,
        });
        Some(Rules {
            max_concurrent: rollout.max_concurrent.at_least_one(matched),
            max_failures: rollout.max_failures.at_most(matched),
            canary,
        })
    }

    /// Decides what is next in the policy's rollout. `resumed_for` is the request that a halted one was last resumed for.
    #[must_use]
    pub fn decide(&self, survey: &Survey, resumed_for: Option<&str>, now: Timestamp) -> Decision {
        let object = &*self.policy.object;
        let record = object.status.as_ref().and_then(|status| status.rollout.as_ref()).map(Record::from);
        let gateways: Vec<Gateway> =
            self.subjects.iter().filter_map(|subject| subject.in_rollout(self.policy.name())).collect();
        let at = Circumstances {
            policy: self.policy.name(),
            gateways: &gateways,
            rules: self.rules(),
            record: record.as_ref(),
            window_open: self.policy.closed_window(now).is_none(),
            resume: is_to_resume(object, resumed_for),
            approved: annotation::value(&object.metadata, APPROVE),
            now,
        };
        decide(survey, &at)
    }

    /// The gateways whose original values the policy still has to restore.
    #[must_use]
    pub fn awaiting_restoration(&self) -> Vec<String> {
        let open = self.subjects.iter().filter(|subject| subject.awaits_restoration(self.policy.name()));
        open.map(|subject| subject.name.clone()).collect()
    }
}

impl Subject {
    /// None if it does not concern the policy.
    fn of(
        policy: &Policy,
        meta: &ObjectMeta,
        gateway: Option<&Arc<X2Gateway>>,
        regime: impl Fn(&Arc<X2Gateway>) -> Arc<Regime>,
    ) -> Option<Self> {
        let selected = policy.selects(meta);
        let status = gateway.and_then(|gateway| gateway.status.as_ref());
        let has_its_value = status.is_some_and(|status| {
            [status.policy.as_deref(), wrote_last(status)].contains(&Some(policy.name()))
        });
        if is_released(meta) || !selected && !has_its_value {
            return None;
        }
        let known = match gateway {
            Some(gateway) => Known::Valid { gateway: Arc::clone(gateway), regime: regime(gateway) },
            None => Known::Undecodable { is_held: has_finalizer(meta) },
        };
        Some(Self { name: meta.name.clone().unwrap_or_default(), selected, known })
    }

    /// Whether the policy still has to restore its original value. One that is suspended is left alone.
    fn awaits_restoration(&self, policy: &str) -> bool {
        let (gateway, regime) = match &self.known {
            Known::Valid { gateway, regime } => (gateway, regime),
            // It may be understood again in time.
            Known::Undecodable { is_held } => return *is_held,
        };
        let status = gateway.status.as_ref().filter(|status| is_changed(status));
        let is_its_own = |policy_in_force: Option<&str>| {
            policy_in_force == Some(policy) || relation(regime, policy) == Relation::Left
        };
        status.is_some_and(|status| is_its_own(status.policy.as_deref())) && !gateway.spec.connection.suspend
    }

    /// The gateway as the policy's rollout sees it.
    fn in_rollout(&self, policy: &str) -> Option<Gateway> {
        match &self.known {
            Known::Valid { gateway, regime } => {
                Some(Gateway { object: Arc::clone(gateway), relation: relation(regime, policy) })
            }
            Known::Undecodable { .. } => None,
        }
    }

    fn is_selected_by(&self, selector: &GatewaySelector) -> bool {
        match &self.known {
            Known::Valid { gateway, .. } => selector.matches(gateway.metadata.labels.as_ref()),
            Known::Undecodable { .. } => false,
        }
    }

    fn part(&self, policy: &Policy) -> Part {
        let name = self.name.clone();
        match &self.known {
            Known::Valid { gateway, regime } => {
                let is_current =
                    |status: &&X2GatewayStatus| status.observed_generation == gateway.metadata.generation;
                let current = gateway.status.as_ref().filter(is_current);
                let verdict = current.and_then(|status| Verdict::reported(&status.conditions));
                let reason = verdict.as_ref().map(|verdict| verdict.reason);
                Part { name, state: state(policy, regime, gateway, reason), verdict }
            }
            Known::Undecodable { .. } => {
                let message = "The spec does not match this version of X2Gateway.";
                Part { name, state: State::Failed, verdict: Some(Verdict::new(Reason::InvalidSpec, message)) }
            }
        }
    }
}

fn relation(regime: &Regime, policy: &str) -> Relation {
    match regime {
        Regime::Enforced { policy: governor, suspended: false, .. } if governor == policy => {
            Relation::Governed
        }
        Regime::Left { policy: left } if left == policy => Relation::Left,
        _ => Relation::Unrelated,
    }
}

/// The state of a selected gateway with regard to the policy. `reason` is what it reports of its current spec.
fn state(policy: &Policy, regime: &Regime, gateway: &X2Gateway, reason: Option<Reason>) -> State {
    let nothing = X2GatewayStatus::default();
    let status = gateway.status.as_ref().unwrap_or(&nothing);
    let is_current = status.observed_generation == gateway.metadata.generation;
    let target = policy.spec.target();
    let fits =
        |seconds: Option<u32>| target.zip(seconds).is_some_and(|(target, seconds)| target.holds(seconds));
    if gateway.spec.connection.suspend {
        return State::Suspended;
    }
    if policy.spec.claim.mode == Mode::Observe {
        return match (status.timeout_seconds.filter(|_| is_current), reason) {
            (_, Some(Reason::Progressing)) => State::Pending,
            (_, Some(reason)) if !reason.is_ready() && reason != Reason::Drifted => State::Failed,
            (None, _) => State::Pending,
            (seconds, _) if fits(seconds) => State::InSync,
            _ => State::Drifted,
        };
    }
    if regime.policy() != Some(policy.name()) {
        return State::Overridden;
    }
    let governed = status.policy.as_deref() == Some(policy.name());
    if is_current && !governed && reason.is_none_or(Reason::is_ready) {
        return State::Pending;
    }
    let token = status.proven_timeout_seconds;
    let is_proven = status.timeout_seconds.zip(token).is_some_and(|(set, token)| proves(token, set));
    // Within the same tolerance as a proof: a token may be a second or two off.
    let was_proven = target.zip(token).is_some_and(|(target, token)| target.is_proven_by(token));
    state_of(reason, governed && is_proven && fits(status.timeout_seconds), governed && was_proven)
}

/// Whether a halted rollout is to go on: the spec was edited, or there is a request that it was not resumed for.
fn is_to_resume(policy: &TokenPolicy, resumed_for: Option<&str>) -> bool {
    let status = policy.status.as_ref();
    let is_edited = status.is_some_and(|status| status.observed_generation != policy.metadata.generation);
    is_edited || open_request(policy).is_some_and(|request| resumed_for != Some(request))
}

/// When time alone changes the plan: at the end of a soak, or when a window opens.
#[must_use]
pub fn next_moment(policy: &Policy, decision: &Decision, now: Timestamp) -> Option<Timestamp> {
    let rollout = decision.plan.record.as_ref()?;
    let soak = rollout.soak_until.filter(|until| *until > now);
    let waits = rollout.phase == Phase::AwaitingWindow;
    let opening = policy.closed_window(now).filter(|_| waits).map(|closed| closed.next);
    soak.into_iter().chain(opening).min()
}

/// Whether nothing has changed that gateways depend on.
#[must_use]
pub fn is_alike(before: &TokenPolicy, after: &TokenPolicy) -> bool {
    let annotations = |policy: &TokenPolicy| {
        let by_hand = override_annotation(&policy.metadata);
        (open_request(policy).map(str::to_owned), by_hand.map(str::to_owned))
    };
    before.metadata.uid == after.metadata.uid
        && before.spec == after.spec
        && annotations(before) == annotations(after)
        && before.metadata.deletion_timestamp == after.metadata.deletion_timestamp
}

/// What is to be done about a policy's finalizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finalizer {
    /// A deletion will have to wait for gateways.
    Add,
    /// No deletion will have to wait.
    Remove,
    /// The policy is being deleted, and these gateways have to be restored first.
    Wait(Vec<String>),
    /// The policy is being deleted, and there is nothing to wait for.
    Release,
    /// Its deletion does not wait for us.
    Gone,
}

/// Decides what is to be done about a policy's finalizer. `open` finds the gateways that still have to be restored.
#[must_use]
pub fn finalizer(policy: &Policy, open: impl FnOnce() -> Vec<String>) -> Finalizer {
    let TokenPolicy { spec, metadata: meta, .. } = &*policy.object;
    match (meta.deletion_timestamp.is_some(), spec.deletion_policy) {
        (false, DeletionPolicy::Restore) => Finalizer::Add,
        (false, DeletionPolicy::Retain) => Finalizer::Remove,
        _ if !has_finalizer(meta) => Finalizer::Gone,
        _ if !policy.restores() => Finalizer::Release,
        _ => Some(open()).filter(|open| !open.is_empty()).map_or(Finalizer::Release, Finalizer::Wait),
    }
}

/// Why the original values of these gateways are not restored, as a clause.
#[must_use]
pub fn not_restored(why: SkipReason, gateways: &[String]) -> String {
    format!("{}; these gateways keep their values: {}", why.as_str(), listed(gateways, NAMES))
}

/// Names, as many as a sentence takes.
fn listed(names: &[String], most: usize) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let more = if names.len() > most { ", …" } else { "" };
    format!("{}{more}", names.iter().take(most).cloned().collect::<Vec<_>>().join(", "))
}
