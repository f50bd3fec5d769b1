//! The controller of `TokenPolicy`: it asks no remote system; it says who governs a gateway, and sums up.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use super::context::{Context, Request, UNDISTURBED};
use super::events::reference;
use super::report::{self, Reported, Written};
use super::request;
use super::store::{Entry, Key, Store};
use super::workers::{Kind, Look, Reconciled, wake};
use crate::clock;
use crate::crd::{Condition, Failure, GatewayCounts, Mode, Time, TokenPolicy, TokenPolicyStatus, X2Gateway};
use crate::engine::gateway::Regime;
use crate::engine::lifetime::{Bounds, InvalidTarget, Target, proves};
use crate::engine::precedence::{Claim, winner};
use crate::engine::schedule;
use crate::engine::tally::{Part, State, Tally, policy_verdict, state_of};
use crate::engine::verdict::{self, Notes, Reason, Standing, Verdict};
use crate::metrics::Whole;

/// While gateways move, a policy's status is written at most once in this time.
const SPACING: Duration = Duration::from_secs(1);
/// Failures that a status lists.
const FAILURES: usize = 20;
/// Wait after the API server did not take a status.
const AGAIN: Duration = Duration::from_secs(15);

/// Who governs a gateway.
#[derive(Clone, Debug)]
pub struct Governance {
    /// What is wanted of it.
    pub regime: Regime,
    /// Time between checks.
    pub interval: Duration,
    /// Requests on the policies that govern or observe it, not carried out yet.
    pub requests: Vec<Request>,
}

/// The policies of a namespace, made ready for finding out who governs which gateway.
pub struct PolicySet {
    entries: Vec<Entry<TokenPolicy>>,
    claims: Vec<(Arc<TokenPolicy>, Selector, Claim)>,
}

impl PolicySet {
    /// The policies of a namespace as they are now.
    pub fn of(context: &Context, namespace: &str) -> Self {
        let entries = context.policies.namespace(namespace);
        let ready = |policy: &Arc<TokenPolicy>| {
            Some((Arc::clone(policy), selector(policy)?, claim(policy, context.settings.bounds)))
        };
        let claims = entries.iter().filter_map(Entry::valid).filter_map(ready).collect();
        Self { entries, claims }
    }

    /// Finds out who governs a gateway.
    pub fn governance(&self, gateway: &X2Gateway) -> Governance {
        if let Some(held) = held_by_undecodable(gateway, &self.entries) {
            return held;
        }
        let selecting = || self.claims.iter().filter(|(_, selector, _)| selector.matches(gateway.labels()));
        let governor = winner(selecting().map(|(_, _, claim)| claim)).cloned();
        let (names, regime) = match governor {
            Some(Claim { policy, target, suspended, .. }) => {
                (vec![policy.clone()], Regime::Enforced { policy, target, suspended })
            }
            None => {
                let wants = |claim: &Claim| {
                    Some((claim.policy.clone(), claim.target.ok()?)).filter(|_| !claim.suspended)
                };
                let wants: Vec<(String, Target)> =
                    selecting().filter_map(|(_, _, claim)| wants(claim)).collect();
                let names = wants.iter().map(|(policy, _)| policy.clone()).collect();
                (names, if wants.is_empty() { Regime::Unmanaged } else { Regime::Observed(wants) })
            }
        };
        let concerned =
            || selecting().map(|(policy, _, _)| policy).filter(|policy| names.contains(&policy.name_any()));
        let interval = concerned().filter_map(|policy| schedule::parse(&policy.spec.interval)).min();
        // An observing policy's request covers its gateways, too, whoever governs them.
        let asking = selecting()
            .map(|(policy, _, _)| policy)
            .filter(|policy| policy.spec.mode == Mode::Observe || names.contains(&policy.name_any()));
        let requests =
            asking.filter_map(|policy| Some((Key::of(policy.meta()), open_request(policy)?.to_owned())));
        Governance { regime, interval: interval.unwrap_or(schedule::UNMANAGED), requests: requests.collect() }
    }
}

/// A policy that cannot be understood any more keeps the gateways it had: nobody knows what it wants, so nothing is
/// changed.
fn held_by_undecodable(gateway: &X2Gateway, policies: &[Entry<TokenPolicy>]) -> Option<Governance> {
    let policy = gateway.status.as_ref()?.policy.clone()?;
    let is_it =
        |entry: &Entry<TokenPolicy>| entry.valid().is_none() && entry.meta().name.as_ref() == Some(&policy);
    policies.iter().any(is_it).then(|| Governance {
        regime: Regime::Enforced { policy, target: Err(InvalidTarget::Undecodable), suspended: false },
        interval: schedule::UNMANAGED,
        requests: Vec::new(),
    })
}

fn claim(policy: &TokenPolicy, bounds: Bounds) -> Claim {
    let spec = &policy.spec;
    Claim {
        policy: policy.name_any(),
        priority: spec.priority,
        mode: spec.mode,
        suspended: spec.suspend,
        target: target(policy, bounds),
    }
}

fn target(policy: &TokenPolicy, bounds: Bounds) -> Result<Target, InvalidTarget> {
    let spec = &policy.spec;
    Target::new(spec.timeout_seconds, spec.min_timeout_seconds, spec.max_timeout_seconds)?.within(bounds)
}

fn selector(policy: &TokenPolicy) -> Option<Selector> {
    LabelSelector::from(&policy.spec.gateway_selector).try_into().ok()
}

fn open_request(policy: &TokenPolicy) -> Option<&str> {
    request::open(policy, policy.status.as_ref().and_then(|s| s.last_handled_reconcile_at.as_deref()))
}

/// UID of a policy.
pub fn uid(context: &Context, namespace: &str, policy: &str) -> Option<String> {
    context.policies.get(&Key::new(namespace, policy)).and_then(|entry| entry.meta().uid.clone())
}

/// Lets every policy of a namespace sum up again.
pub fn wake_all(context: &Arc<Context>, namespace: &str) {
    for policy in context.policies.namespace(namespace) {
        wake(context, Kind::Policy, Key::of(policy.meta()));
    }
}

impl Reported for TokenPolicy {
    type Status = TokenPolicyStatus;

    fn status(&self) -> Option<&TokenPolicyStatus> {
        self.status.as_ref()
    }

    fn times(_: &mut TokenPolicyStatus) -> [Option<&mut Option<Time>>; 2] {
        [None, None]
    }

    fn head(status: &mut TokenPolicyStatus) -> (&mut Option<i64>, &mut Vec<Condition>) {
        (&mut status.observed_generation, &mut status.conditions)
    }
}

/// What is kept in memory of a policy between looks.
#[derive(Debug, Default)]
pub struct Memory {
    generation: Option<i64>,
    summed_up: Option<Instant>,
}

impl Reconciled for TokenPolicy {
    const KIND: Kind = Kind::Policy;
    type Memory = Memory;

    fn store(context: &Context) -> &Store<Self> {
        &context.policies
    }

    async fn look(context: &Arc<Context>, policy: &Arc<Self>, memory: &mut Memory) -> Look {
        let generation = policy.meta().generation;
        if let Some(last) = memory.summed_up
            && memory.generation == generation
            && last.elapsed() < SPACING
        {
            return Look::NotDue(last + SPACING);
        }
        *memory = Memory { generation, summed_up: Some(clock::instant()) };
        let parts = parts(context, policy);
        count(context, policy, Some(&parts));
        let (status, verdict) = new_status(context, policy, &parts);
        let before = policy.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
        let ready = verdict.reason.standing() == Standing::Current;
        let next = match report::write(context, &**policy, status).await {
            Written::Failed => AGAIN,
            Written::Written if policy.spec.suspend => UNDISTURBED,
            Written::Written => {
                context.warn_of(reference(&**policy), None, before, &verdict);
                UNDISTURBED
            }
            Written::Unchanged | Written::Gone => UNDISTURBED,
        };
        Look::Done { next: clock::instant() + next, ready }
    }

    fn changed(context: &Arc<Context>, before: Option<&Entry<Self>>, after: Option<&Entry<Self>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        let key = Key::of(meta);
        if !is_alike(before, after) {
            for gateway in context.gateways.namespace(&key.namespace) {
                wake(context, Kind::Gateway, Key::of(gateway.meta()));
            }
            // Others may have lost or won gateways.
            wake_all(context, &key.namespace);
        }
        wake(context, Kind::Policy, key);
    }

    fn gone(context: &Context, key: &Key) {
        for state in State::ALL {
            context.metrics.counted(Whole::Policy, &key.name, &key.namespace, state.as_str(), None);
        }
        context.metrics.succeeded(Self::KIND.as_str(), &key.namespace, &key.name, None);
    }
}

/// Whether nothing has changed that gateways depend on.
fn is_alike(before: Option<&Entry<TokenPolicy>>, after: Option<&Entry<TokenPolicy>>) -> bool {
    let (Some(before), Some(after)) = (before.and_then(Entry::valid), after.and_then(Entry::valid)) else {
        return false;
    };
    before.uid() == after.uid() && before.spec == after.spec && open_request(before) == open_request(after)
}

fn parts(context: &Context, policy: &TokenPolicy) -> Vec<Part> {
    let Some(selector) = selector(policy) else { return Vec::new() };
    let namespace = policy.namespace().unwrap_or_default();
    let set = PolicySet::of(context, &namespace);
    let wanted = target(policy, context.settings.bounds).ok();
    let gateways = context.gateways.namespace(&namespace);
    let selected =
        gateways.iter().filter(|entry| selector.matches(entry.meta().labels.as_ref().unwrap_or(&NO_LABELS)));
    selected
        .map(|entry| match entry.valid() {
            Some(gateway) => part(policy, wanted, &set.governance(gateway).regime, gateway),
            None => undecodable_part(entry.meta().name.clone().unwrap_or_default()),
        })
        .collect()
}

static NO_LABELS: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();

fn undecodable_part(name: String) -> Part {
    let message = "The spec does not fit this version of X2Gateway.";
    Part { name, state: State::Failed, verdict: Some(Verdict::new(Reason::InvalidSpec, message)) }
}

fn part(policy: &TokenPolicy, wanted: Option<Target>, governor: &Regime, gateway: &X2Gateway) -> Part {
    let name = gateway.name_any();
    let status = gateway.status.clone().unwrap_or_default();
    let current = status.observed_generation == gateway.meta().generation;
    let verdict = verdict::ready(&status.conditions)
        .filter(|_| current)
        .and_then(|c| Some(Verdict::new(Reason::parse(&c.reason)?, c.message.clone())));
    let reason = verdict.as_ref().map(|v| v.reason);
    let observes = policy.spec.mode == Mode::Observe;
    let holds =
        |seconds: Option<u32>| wanted.zip(seconds).is_some_and(|(target, seconds)| target.holds(seconds));
    let state = if gateway.spec.connection.suspend {
        State::Suspended
    } else if observes {
        match (status.timeout_seconds.filter(|_| current), reason) {
            (_, Some(Reason::Progressing)) => State::Pending,
            (_, Some(reason)) if reason.standing() != Standing::Current && reason != Reason::Drifted => {
                State::Failed
            }
            (None, _) => State::Pending,
            (seconds, _) if holds(seconds) => State::InSync,
            _ => State::Drifted,
        }
    } else if governor.policy() != Some(&policy.name_any()) {
        State::Overridden
    } else {
        let proven = status
            .timeout_seconds
            .zip(status.proven_timeout_seconds)
            .is_some_and(|(set, token)| proves(token, set));
        let governed = status.policy.as_deref() == governor.policy();
        if current && !governed && reason.is_none_or(|r| r.standing() == Standing::Current) {
            State::Pending
        } else {
            state_of(reason, governed && proven && holds(status.timeout_seconds))
        }
    };
    Part { name, state, verdict }
}

fn count(context: &Context, policy: &TokenPolicy, parts: Option<&[Part]>) {
    let tally = parts.map(Tally::of);
    let (name, namespace) = (policy.name_any(), policy.namespace().unwrap_or_default());
    for state in State::ALL {
        let count = tally.map(|tally| tally.count(state));
        context.metrics.counted(Whole::Policy, &name, &namespace, state.as_str(), count);
    }
}

fn new_status(context: &Context, policy: &TokenPolicy, parts: &[Part]) -> (TokenPolicyStatus, Verdict) {
    let mut status = policy.status.clone().unwrap_or_default();
    let target = target(policy, context.settings.bounds);
    let verdict = match target {
        Err(why) => {
            Verdict::new(Reason::InvalidSpec, format!("The policy is refused: {why}. Correct its spec."))
        }
        Ok(_) => policy_verdict(parts, policy.spec.mode == Mode::Observe),
    };
    if let Some(asked) = open_request(policy)
        && has_been_handled(context, policy, parts, asked)
    {
        status.last_handled_reconcile_at = Some(asked.to_owned());
    }
    if policy.spec.suspend {
        report::set_suspended(
            &mut status,
            policy,
            "spec.suspend is true: no gateway is changed. The policy keeps its claim to them.",
        );
        return (status, verdict);
    }
    report::set_verdict(&mut status, policy, &verdict, &Notes::default());
    status.target = target.ok().map(|target| target.to_string());
    status.gateways = Some(counts(&Tally::of(parts)));
    let failures = parts.iter().filter(|part| part.state == State::Failed).filter_map(|part| {
        let verdict = part.verdict.as_ref()?;
        let (reason, message) = (verdict.reason.as_str().to_owned(), verdict.message.clone());
        Some(Failure { gateway: part.name.clone(), reason, message })
    });
    status.failures = failures.take(FAILURES).collect();
    (status, verdict)
}

/// Whether every gateway that a request covers has ended its look for it.
fn has_been_handled(context: &Context, policy: &TokenPolicy, parts: &[Part], asked: &str) -> bool {
    let request = (Key::of(policy.meta()), asked.to_owned());
    let namespace = policy.namespace().unwrap_or_default();
    let covered = parts.iter().filter(|part| !matches!(part.state, State::Overridden | State::Suspended));
    covered
        .map(|part| Key::new(namespace.clone(), part.name.clone()))
        .filter(|key| context.gateways.valid(key).is_some())
        .all(|key| context.handled.has(Kind::Gateway, &key, &request))
}

fn counts(tally: &Tally) -> GatewayCounts {
    GatewayCounts {
        matched: tally.total(),
        in_sync: tally.count(State::InSync),
        pending: tally.count(State::Pending),
        drifted: tally.count(State::Drifted),
        failed: tally.count(State::Failed),
        overridden: tally.count(State::Overridden),
        suspended: tally.count(State::Suspended),
        summary: tally.summary(),
    }
}
