//! The controller of `TokenPolicy`: it asks no remote system; it says who may be changed, and sums up.

mod rolling;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use self::rolling::Rolling;
use self::summary::{Summary, listed};
use super::context::Context;
use crate::clock;
use crate::crd::{
    DeletionPolicy, Kind, Mode, Phase, TokenPolicy, TokenPolicyStatus, X2Gateway, X2GatewayStatus,
};
use crate::engine::change;
use crate::engine::gateway::{Regime, is_changed, wrote_last};
use crate::engine::governance::{Policy, open_request};
use crate::engine::reason::{EventReason, Reason};
use crate::engine::tally::{Part, State, Tally};
use crate::engine::verdict::{self, Verdict};
use crate::engine::window::override_annotation;
use crate::metrics::Whole;
use crate::runtime::events::{Happening, reference};
use crate::runtime::object::{Entry, Key};
use crate::runtime::reconcile::{Reconcile, Reconciled};
use crate::runtime::status::{self, AGAIN};
use crate::runtime::store::Store;
use crate::runtime::workers::{Pool, UNDISTURBED};
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, restore};

/// While gateways move, a policy's status is written at most once in this time.
const SPACING: Duration = Duration::from_secs(1);
/// While gateways move, a rollout is planned anew at most once in this time,
const PLANNING: Duration = Duration::from_millis(100);
/// and for not more than one part of this many of all time: a plan looks at the whole fleet.
const SHARE: u32 = 10;
/// Gateways that an event names.
const NAMES: usize = 20;
/// Wait after our finalizer could not be changed: somebody else was faster, as a rule.
const AGAIN_SOON: Duration = Duration::from_secs(1);

/// UID of a policy.
pub fn uid(context: &Context, namespace: &str, policy: &str) -> Option<String> {
    context.policies.get(&Key::new(namespace, policy)).and_then(|entry| entry.meta().uid.clone())
}

/// Reconciles the policies that a change of a gateway concerns.
pub fn wake_concerned(context: &Context, gateway: &[Option<&Entry<X2Gateway>>; 2]) {
    for entry in gateway.iter().flatten() {
        wake_of(context, entry.meta(), entry.valid().and_then(|gateway| gateway.status.as_ref()));
    }
}

/// Reconciles the policies that a gateway concerns.
pub fn wake_of(context: &Context, gateway: &ObjectMeta, status: Option<&X2GatewayStatus>) {
    let namespace = gateway.namespace.as_deref().unwrap_or_default();
    for policy in context.specs.namespace(namespace).concerned(gateway, status) {
        context.cluster.wake(Kind::Policy, Key::new(namespace, policy));
    }
}

/// What is kept in memory of a policy between looks.
#[derive(Debug, Default)]
pub struct Memory {
    generation: Option<i64>,
    /// When it is to be planned again, at the earliest.
    plan_after: Option<Instant>,
    summed_up: Option<Instant>,
    /// Our finalizer is off for good; the watch has not told yet.
    has_gone: bool,
    /// The request that a halted rollout was resumed for.
    resumed: Option<String>,
}

/// A gateway that a policy selects, governs or is left by.
struct Subject {
    entry: Entry<X2Gateway>,
    /// None where the gateway is not understood.
    regime: Option<Regime>,
    selected: bool,
}

impl Subject {
    /// Whether the policy still owes this gateway what stood there before. One that is suspended is left alone, and one whose
    /// own deletion waits for us no longer is gone.
    fn awaits_restoration(&self, policy: &str) -> bool {
        // What is not understood may be understood again in time.
        self.entry.valid().map_or(finalizers::is_held(self.entry.meta()), |gateway| {
            let status = gateway.status.as_ref().filter(|status| is_changed(status));
            let left = matches!(&self.regime, Some(Regime::Left { policy: left }) if left == policy);
            status.is_some_and(|status| left || status.policy.as_deref() == Some(policy))
                && !gateway.spec.connection.suspend
                && !finalizers::is_released(gateway.meta())
        })
    }

    fn is_governed_by(&self, policy: &str) -> bool {
        matches!(&self.regime, Some(Regime::Enforced { policy: governor, suspended: false, .. }) if governor == policy)
    }
}

impl Reconciled for TokenPolicy {
    type Context = Context;
    type Memory = Memory;
    const POOL: Pool = Pool::Cluster;

    fn store(context: &Context) -> &Arc<Store<Self>> {
        &context.policies
    }

    async fn reconcile(context: &Arc<Context>, policy: &Arc<Self>, memory: &mut Memory) -> Reconcile {
        let parsed = &context.specs.of(policy);
        let edited = memory.generation != policy.meta().generation;
        if let Some(next) = memory.plan_after.filter(|after| !edited && *after > clock::instant()) {
            return Reconcile::NotDue(next);
        }
        memory.generation = policy.meta().generation;
        let hold = keep_hold(context, parsed, &subjects(context, parsed), memory).await;
        if let Hold::Until(next) = hold {
            return Reconcile::NotDue(next);
        }
        let barred = matches!(hold, Hold::Forbidden);
        let begun = clock::instant();
        let rollout = context.rollouts.of(&context.policies, policy).filter(|_| rolls(parsed));
        // Before the gateways are read: a report is written before a permit is given back, and must not be missed.
        let survey =
            rollout.as_ref().map(|rollout| rollout.survey(parsed.spec.target(), parsed.spec.interval));
        let subjects = subjects(context, parsed);
        let parts = summary::parts(parsed, &subjects);
        count(context, policy, Some(&parts));
        let rolling =
            survey.map(|survey| rolling::roll(parsed, &subjects, &survey, is_to_resume(policy, memory)));
        let (status, verdict) =
            Summary { context, policy: parsed, parts: &parts, rolling: rolling.as_ref(), barred }.status();
        memory.plan_after = Some(clock::instant() + PLANNING.max(begun.elapsed() * SHARE));
        let ready = verdict.reason.is_ready();
        let spaced = memory.summed_up.and_then(|last| still_to_come(last, SPACING));
        let spaced = spaced.filter(|_| !edited && !must_be_kept(policy, &status));
        let mut next = spaced.unwrap_or_else(|| clock::instant() + UNDISTURBED);
        if spaced.is_none() {
            let written = conclude(context, policy, (status, verdict), rolling.as_ref(), memory).await;
            if !matches!(written, Written::Done | Written::Unchanged) {
                // What could not be written is not acted upon.
                return Reconcile::Done { next: clock::instant() + AGAIN, ready };
            }
        }
        if let Some((mut rolling, rollout)) = rolling.zip(rollout) {
            if barred {
                rolling.decision.withhold();
            }
            if rolling.phase() != Some(Phase::Halted) {
                memory.resumed = open_request(policy).map(str::to_owned);
            }
            let moment = moment(parsed, &rolling).map(clock::instant_of);
            next = moment.map_or(next, |moment| next.min(moment));
            // Writing took time: what was decided for an earlier spec is not carried out.
            if is_as_before(context, policy) {
                rollout.answer(&rolling.decision);
            }
        }
        if finalizers::is_leaving(policy.meta()) {
            next = next.min(restore::next_check(policy.meta()));
        }
        Reconcile::Done { next, ready }
    }

    fn changed(context: &Arc<Context>, before: Option<&Entry<Self>>, after: Option<&Entry<Self>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        let key = Key::of(meta);
        if !is_alike(before, after) {
            for gateway in context.gateways.namespace(&key.namespace) {
                context.cluster.wake(Kind::Gateway, Key::of(gateway.meta()));
            }
            // Others may have lost or won gateways.
            for policy in context.policies.namespace(&key.namespace) {
                context.cluster.wake(Kind::Policy, Key::of(policy.meta()));
            }
        }
        context.cluster.wake(Kind::Policy, key);
    }

    fn gone(context: &Context, key: &Key) {
        for state in State::ALL {
            context.cluster.metrics.counted(Whole::Policy, &key.name, &key.namespace, state.as_str(), None);
        }
        context.rollouts.forget(key);
        context.specs.forget(key);
    }
}

/// Whether nothing has changed that gateways depend on.
fn is_alike(before: Option<&Entry<TokenPolicy>>, after: Option<&Entry<TokenPolicy>>) -> bool {
    let (Some(before), Some(after)) = (before.and_then(Entry::valid), after.and_then(Entry::valid)) else {
        return false;
    };
    let asked = |policy: &TokenPolicy| {
        (open_request(policy).map(str::to_owned), override_annotation(policy.meta()).map(str::to_owned))
    };
    before.uid() == after.uid()
        && before.spec == after.spec
        && asked(before) == asked(after)
        && before.meta().deletion_timestamp == after.meta().deletion_timestamp
}

/// A moment so long after another, unless it is over.
fn still_to_come(last: Instant, spacing: Duration) -> Option<Instant> {
    Some(last + spacing).filter(|next| *next > clock::instant())
}

fn subjects(context: &Context, policy: &Policy) -> Vec<Subject> {
    let (name, namespace) = (policy.name(), policy.object.namespace().unwrap_or_default());
    let policies = context.specs.namespace(&namespace);
    let subject = |entry: Entry<X2Gateway>| {
        if finalizers::is_released(entry.meta()) {
            return None;
        }
        let selected = policy.selects(entry.meta());
        let in_force = |gateway: &Arc<X2Gateway>| {
            gateway.status.as_ref().is_some_and(|status| {
                status.policy.as_deref() == Some(name) || wrote_last(status) == Some(name)
            })
        };
        let concerned = selected || entry.valid().is_some_and(in_force);
        let regime = entry.valid().filter(|_| concerned).map(|gateway| policies.governance(gateway).regime);
        concerned.then_some(Subject { entry, regime, selected })
    };
    context.gateways.namespace(&namespace).into_iter().filter_map(subject).collect()
}

/// Whether a policy's deletion waits for us as it should.
enum Hold {
    AsWanted,
    /// We may not put our finalizer on, so nothing may be changed.
    Forbidden,
    /// Nothing else is to be done before that.
    Until(Instant),
}

/// Puts our finalizer on where a deletion is to wait for gateways, and takes it off where it need not.
async fn keep_hold(
    context: &Arc<Context>,
    policy: &Policy,
    subjects: &[Subject],
    memory: &mut Memory,
) -> Hold {
    let TokenPolicy { spec, metadata: meta, .. } = &*policy.object;
    let gives_back = spec.deletion_policy == DeletionPolicy::Restore;
    if meta.deletion_timestamp.is_some() {
        return release_deleted(context, policy, subjects, memory).await;
    }
    let written = if gives_back {
        finalizers::hold(&context.policies, meta).await
    } else {
        finalizers::release(&context.policies, meta).await
    };
    match written {
        Written::Failed | Written::Gone => Hold::Until(clock::instant() + AGAIN_SOON),
        Written::Forbidden if gives_back => Hold::Forbidden,
        _ => Hold::AsWanted,
    }
}

/// Lets a deleted policy go once its gateways have what stood there before, or will not get it.
async fn release_deleted(
    context: &Arc<Context>,
    policy: &Policy,
    subjects: &[Subject],
    memory: &mut Memory,
) -> Hold {
    let meta = policy.object.meta();
    if memory.has_gone || !finalizers::is_held(meta) {
        return Hold::Until(clock::instant() + UNDISTURBED);
    }
    let open = subjects.iter().filter(|subject| subject.awaits_restoration(policy.name()));
    let open: Vec<String> = open.filter_map(|subject| subject.entry.meta().name.clone()).collect();
    let nothing_to_do = open.is_empty() || !policy.restores();
    let why = if nothing_to_do { None } else { restore::skip_reason(&context.cluster, meta).await };
    if why.is_none() && !nothing_to_do {
        return Hold::AsWanted;
    }
    match finalizers::release(&context.policies, meta).await {
        Written::Failed => return Hold::Until(clock::instant() + AGAIN_SOON),
        Written::Forbidden => return Hold::Until(restore::next_check(meta)),
        Written::Unchanged | Written::Done | Written::Gone => {}
    }
    memory.has_gone = true;
    if let Some(why) = why {
        let why = format!("{}; these gateways keep their values: {}", why.as_str(), listed(&open, NAMES));
        restore::report_skipped(&context.cluster, reference(&*policy.object), &why);
    }
    Hold::Until(clock::instant() + UNDISTURBED)
}

/// Whether a policy's changes need permits now.
fn rolls(policy: &Policy) -> bool {
    let spec = &policy.object.spec;
    !spec.suspend && spec.mode != Mode::Observe && policy.is_bounded()
}

/// Whether a halted rollout is to go on.
fn is_to_resume(policy: &TokenPolicy, memory: &Memory) -> bool {
    let status = policy.status.as_ref();
    let edited = status.is_some_and(|status| status.observed_generation != policy.meta().generation);
    edited || open_request(policy).is_some_and(|request| memory.resumed.as_deref() != Some(request))
}

/// Whether a policy still is what a decision was made for.
fn is_as_before(context: &Context, policy: &TokenPolicy) -> bool {
    context
        .policies
        .valid(&Key::of(policy.meta()))
        .is_some_and(|now| now.uid() == policy.uid() && now.meta().generation == policy.meta().generation)
}

/// Whether a status holds something of a rollout that must be written before anything is done.
fn must_be_kept(policy: &TokenPolicy, new: &TokenPolicyStatus) -> bool {
    let kept = |status: &TokenPolicyStatus| {
        status.rollout.clone().map(|rollout| crate::crd::RolloutStatus { changed: 0, failed: 0, ..rollout })
    };
    policy.status.as_ref().and_then(kept) != kept(new)
}

/// Writes the status and tells what has come of it.
async fn conclude(
    context: &Arc<Context>,
    policy: &Arc<TokenPolicy>,
    (status, verdict): (TokenPolicyStatus, Verdict),
    rolling: Option<&Rolling>,
    memory: &mut Memory,
) -> Written {
    memory.summed_up = Some(clock::instant());
    let before = policy.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
    let phase = |status: &TokenPolicyStatus| status.rollout.as_ref().map(|rollout| rollout.phase);
    let moved = phase(&status).filter(|now| policy.status.as_ref().and_then(phase) != Some(*now));
    let start =
        |status: &TokenPolicyStatus| status.rollout.as_ref().map(|rollout| rollout.started_time.clone());
    let has_started = start(&status).is_some() && policy.status.as_ref().and_then(start) != start(&status);
    let written = status::write(&context.policies, &**policy, status).await;
    if written == Written::Done && !policy.spec.suspend {
        context.warn_of(reference(&**policy), None, before, &verdict);
        if let Some(rolling) = rolling.filter(|_| has_started) {
            publish(context, policy, EventReason::RolloutStarted, rolling.beginning(NAMES));
        }
        if let (Some(phase), Some(rolling)) = (moved, rolling) {
            announce(context, policy, phase, rolling);
        }
    }
    written
}

fn announce(context: &Context, policy: &TokenPolicy, phase: Phase, rolling: &Rolling) {
    let (reason, note) = match phase {
        Phase::Halted => (
            EventReason::NotReady(Reason::RolloutHalted),
            format!(
                "The rollout is halted: {}. Updated: {}. Not updated: {}.",
                rolling.cause(NAMES),
                listed(&rolling.decision.changed, NAMES),
                listed(&rolling.decision.unchanged, NAMES)
            ),
        ),
        // Nobody is proven to have anything where all have gone to another policy, or are given back what they had.
        Phase::Complete
            if rolling.decision.changed.is_empty() || policy.meta().deletion_timestamp.is_some() =>
        {
            return;
        }
        Phase::Complete => {
            let target = policy.status.as_ref().and_then(|status| status.target.clone()).unwrap_or_default();
            (
                EventReason::RolloutComplete,
                format!("Every reachable gateway has the token lifetime {target}s (verified by new logins)."),
            )
        }
        Phase::Canary | Phase::AwaitingApproval | Phase::Progressing | Phase::AwaitingWindow => return,
    };
    publish(context, policy, reason, note);
}

fn publish(context: &Context, policy: &TokenPolicy, reason: EventReason, note: String) {
    let warning = matches!(reason, EventReason::NotReady(_));
    let note = change::referring(note, change::reference(policy.meta().annotations.as_ref()).as_deref());
    let object = reference(policy);
    let (kind, word) = (Kind::Policy.as_str(), reason.as_str());
    tracing::info!(kind, namespace = object.namespace, name = object.name, reason = word, "{note}");
    context.cluster.events.publish(Happening { object, reason, note, warning, policy: None });
}

/// When time alone changes the plan.
fn moment(policy: &Policy, rolling: &Rolling) -> Option<Timestamp> {
    let rollout = rolling.status.as_ref()?;
    let soak = rollout.soak_until.as_ref().map(|until| until.0).filter(|until| *until > clock::now().0);
    let opening = policy
        .closed_window(clock::now().0)
        .filter(|_| rollout.phase == Phase::AwaitingWindow)
        .map(|closed| closed.next);
    soak.into_iter().chain(opening).min()
}

fn count(context: &Context, policy: &TokenPolicy, parts: Option<&[Part]>) {
    let tally = parts.map(Tally::of);
    let (name, namespace) = (policy.name_any(), policy.namespace().unwrap_or_default());
    for state in State::ALL {
        let count = tally.map(|tally| tally.count(state));
        context.cluster.metrics.counted(Whole::Policy, &name, &namespace, state.as_str(), count);
    }
}
