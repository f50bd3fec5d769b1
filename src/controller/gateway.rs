//! The controller of `X2Gateway`.

mod change;
mod claim;
mod examine;
mod leaving;
mod settle;
mod telling;
mod turns;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};

use self::change::window_has_moved;
use self::claim::{claim, claim_id, has_got_in};
use self::leaving::{at_the_latest, keep_hold, time_left};
use self::turns::Turns;
use super::context::{AGAIN, Context, Request, UNDISTURBED};
use super::governance::{Governance, PolicySet, is_deleted};
use super::pace::{Pace, Rest};
use super::report::{self, Owed, Reported, Written};
use super::store::{Entry, Key, Store};
use super::windows::Closed;
use super::workers::{Kind, Look, Reconciled, wake};
use super::{connection, logins, policy, request, restore};
use crate::clock;
use crate::crd::{Change, Condition, Time, X2Gateway, X2GatewayStatus};
use crate::engine::contest::Contest;
use crate::engine::gateway::{OpenChange, Regime};
use crate::engine::lifetime::Target;
use crate::engine::login::{self, News};
use crate::engine::ownership::Standing;
use crate::engine::verdict::{self, Notes, Reason, Verdict};

/// Wait after our finalizer could not be changed, and while a deletion waits.
const SOON: Duration = Duration::from_secs(2);

/// What is kept in memory of a gateway between looks.
#[derive(Debug, Default)]
pub struct Memory {
    inputs: Option<Inputs>,
    pace: Pace,
    contest: Contest,
    contested: Option<(String, Target)>,
    /// The URL that the change and what is owed are about.
    url: Option<String>,
    handled: HashSet<Request>,
    /// The change that was begun and is not seen to its end.
    change: Option<OpenChange>,
    /// Whether what the status has on record of an open change was taken over.
    has_recalled: bool,
    rest: Rest<Inputs>,
    /// What was last reported of a closed change window.
    window: Option<Closed>,
    /// Changes made but not yet reported.
    owed: Owed<Change>,
    polled: bool,
    /// A refusal that another user may end.
    barred: Option<logins::Barred>,
    /// Where the resource stood among its rivals in the last look.
    judged: Option<Standing>,
    /// Our finalizer is off for good; the watch has not told yet.
    has_gone: bool,
}

/// What, when it changes, is a reason to look at once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inputs {
    generation: Option<i64>,
    regime: Regime,
    interval: Duration,
    standing: Standing,
    /// Whether the policy's task calls for a look.
    called: bool,
}

/// What an examination came to.
#[derive(Debug)]
struct Findings {
    verdict: Verdict,
    insecure: Option<String>,
    effective_url: Option<String>,
    /// Value of the setting, in seconds, where this look ended with a trustworthy one.
    timeout: Option<u32>,
    /// Lifetime of a token issued during this look, in seconds.
    token: Option<u32>,
    change: Option<Change>,
    /// Whether tokens issued before the change were invalidated.
    revoked: bool,
    /// What the value was before something else changed it, if that is found and not corrected, in seconds.
    drifted_from: Option<u32>,
    /// What was reported when the reconcile began.
    before: Option<Reason>,
    /// Why what stood there before is not restored.
    skipped: Option<&'static str>,
    /// What is new about the login.
    news: Option<News>,
    retry_after: Option<Duration>,
    /// Whether a Secret or `ConfigMap` may bring the change.
    polls: bool,
}

impl Findings {
    fn of(verdict: Verdict) -> Self {
        Self {
            polls: verdict.reason.awaits_reference(),
            verdict,
            insecure: None,
            effective_url: None,
            timeout: None,
            token: None,
            change: None,
            revoked: false,
            drifted_from: None,
            before: None,
            skipped: None,
            news: None,
            retry_after: None,
        }
    }
}

impl Reported for X2Gateway {
    type Status = X2GatewayStatus;

    fn status(&self) -> Option<&X2GatewayStatus> {
        self.status.as_ref()
    }

    fn times(status: &mut X2GatewayStatus) -> [Option<&mut Option<Time>>; 2] {
        [Some(&mut status.last_checked_time), Some(&mut status.last_proven_time)]
    }

    fn head(status: &mut X2GatewayStatus) -> (&mut Option<i64>, &mut Vec<Condition>) {
        (&mut status.observed_generation, &mut status.conditions)
    }

    fn conditions(status: &X2GatewayStatus) -> &[Condition] {
        &status.conditions
    }
}

impl Reconciled for X2Gateway {
    const KIND: Kind = Kind::Gateway;
    type Memory = Memory;

    fn store(context: &Context) -> &Store<Self> {
        &context.gateways
    }

    async fn look(context: &Arc<Context>, gateway: &Arc<Self>, memory: &mut Memory) -> Look {
        let governance = PolicySet::of(context, &gateway.namespace().unwrap_or_default()).governance(gateway);
        if let Some(next) = keep_hold(context, gateway, &governance, memory).await {
            return Look::NotDue(next);
        }
        let id = claim_id(gateway);
        let standing = context.gateway_claims.standing(&id);
        let Governance { regime, interval, .. } = governance.clone();
        let generation = gateway.meta().generation;
        let turns = Turns::of(context, gateway, &governance);
        let called_upon =
            context.remotes.admission.calls(&logins::holder(login::Kind::Gateway, gateway.meta()));
        let inputs = Inputs { generation, regime, interval, standing, called: turns.calls() };
        let requests = requests(gateway, &governance);
        let moved = match current_reason(gateway) {
            Some(Reason::AwaitingWindow) => {
                window_has_moved(context, &governance, &mut memory.pace, memory.window)
            }
            Some(Reason::AwaitingRollout) => !turns.are_given(),
            _ => false,
        };
        let asked = !requests.is_subset(&memory.handled);
        let unpermitted = Inputs { called: false, ..inputs.clone() };
        if let Some(next) = memory.rest.until(&unpermitted).filter(|_| !asked) {
            return at_the_latest(gateway, Look::NotDue(next));
        }
        if let Some(next) = not_due(
            gateway,
            memory,
            &inputs,
            &requests,
            moved || called_upon,
            time_left(gateway, &governance),
        ) {
            return at_the_latest(gateway, Look::NotDue(next));
        }
        turns.begun();
        let suspended = gateway.spec.connection.suspend;
        let look = if suspended {
            pause(context, gateway, memory).await
        } else {
            let working = Arc::clone(gateway);
            let examination = examine_and_report(context, working, memory, &governance, asked);
            let (meta, restores) = (gateway.meta(), governance.restores());
            let examined = restore::until_given_up::<Self, _>(context, meta, restores, examination);
            match Box::pin(examined).await {
                Some((look, reason)) => {
                    turns.ended(reason);
                    look
                }
                None => return came_to_nothing(gateway, memory, unpermitted),
            }
        };
        // A standing that this look itself has changed is no reason for another; one that a rival has changed meanwhile is.
        let standing = memory.judged.take().unwrap_or(inputs.standing);
        memory.inputs = Some(Inputs { standing, called: false, ..inputs });
        // A request is carried out when the gateway is resumed.
        if !suspended {
            carried_out(context, gateway, memory, requests);
        }
        at_the_latest(gateway, look)
    }

    fn changed(context: &Arc<Context>, before: Option<&Entry<Self>>, after: Option<&Entry<Self>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        let key = Key::of(meta);
        logins::observe_gateway(
            &context.remotes.admission,
            meta,
            after.and_then(Entry::valid).map(Arc::as_ref),
        );
        let rivals = match (before.and_then(Entry::valid), after.and_then(Entry::valid)) {
            (_, Some(gateway)) => {
                let claimed = claim(gateway);
                let got_in = claimed.is_some() && has_got_in(gateway, claimed.as_deref());
                let suspended = gateway.spec.connection.suspend;
                context.gateway_claims.set(&claim_id(gateway), claimed, suspended, got_in)
            }
            (Some(gone), None) => context.gateway_claims.set(&claim_id(gone), None, false, false),
            (None, None) => Vec::new(),
        };
        rivals.into_iter().for_each(|rival| wake(context, Kind::Gateway, rival));
        if after.is_none() || !only_times_differ(before, after) {
            policy::wake_all(context, &key.namespace);
        }
        wake(context, Kind::Gateway, key);
    }

    fn gone(context: &Context, key: &Key) {
        context.handled.set(Kind::Gateway, key.clone(), HashSet::new());
        context.metrics.succeeded(Self::KIND.as_str(), &key.namespace, &key.name, None);
    }
}

/// Nothing came of a reconcile: it is still to be done.
fn came_to_nothing(gateway: &X2Gateway, memory: &mut Memory, inputs: Inputs) -> Look {
    let next = clock::instant() + if is_deleted(gateway) { SOON } else { AGAIN };
    memory.rest.begin(inputs, next);
    Look::NotDue(next)
}

/// A reconcile that was asked for has ended.
fn carried_out(context: &Arc<Context>, gateway: &X2Gateway, memory: &mut Memory, requests: HashSet<Request>) {
    let asked = !requests.is_subset(&memory.handled);
    memory.handled.clone_from(&requests);
    context.handled.set(Kind::Gateway, Key::of(gateway.meta()), requests);
    if asked {
        policy::wake_all(context, &gateway.namespace().unwrap_or_default());
    }
}

/// The time of the next look, if nothing that counts has changed since the last one and it is not due yet.
fn not_due(
    gateway: &X2Gateway,
    memory: &mut Memory,
    inputs: &Inputs,
    requests: &HashSet<Request>,
    moved: bool,
    time_left: Option<Duration>,
) -> Option<tokio::time::Instant> {
    let asked = !requests.is_subset(&memory.handled);
    match &memory.inputs {
        None => {
            let reason = current_reason(gateway);
            memory.contest = resumed_contest(gateway, reason, &inputs.regime);
            if reason.is_some_and(Reason::is_remote) && !asked {
                memory.pace.postpone();
                if let Some(left) = time_left {
                    // No longer than what is left for restoring.
                    memory.pace.not_later_than(clock::instant() + left.mul_f64(clock::random()));
                }
                memory.inputs = Some(inputs.clone());
            }
        }
        Some(before) if before != inputs || asked || moved => memory.pace.reset(),
        Some(_) => {}
    }
    if asked {
        memory.contest = Contest::default();
    }
    memory.pace.due().filter(|due| *due > clock::instant())
}

/// Reason of the Ready condition, if it speaks of the present spec.
fn current_reason(gateway: &X2Gateway) -> Option<Reason> {
    let status = gateway.status.as_ref().filter(|s| s.observed_generation == gateway.meta().generation)?;
    verdict::ready_reason(&status.conditions)
}

/// The fight that the status shows, unless something else is required by now.
fn resumed_contest(gateway: &X2Gateway, reason: Option<Reason>, regime: &Regime) -> Contest {
    let last = gateway.status.as_ref().and_then(|status| status.history.first());
    let last = last.filter(|last| regime.target().is_some_and(|target| target.holds(last.to)));
    match (reason, last) {
        (Some(Reason::Contested), Some(last)) => {
            let ago = Duration::try_from(clock::now().0.duration_since(last.time.0)).unwrap_or_default();
            Contest::resumed(clock::elapsed(), ago)
        }
        _ => Contest::default(),
    }
}

fn requests(gateway: &X2Gateway, governance: &Governance) -> HashSet<Request> {
    let handled = gateway.status.as_ref().and_then(|s| s.last_handled_reconcile_at.as_deref());
    let own = request::open(gateway, handled).map(|asked| (Key::of(gateway.meta()), asked.to_owned()));
    own.into_iter().chain(governance.requests.iter().cloned()).collect()
}

async fn pause(context: &Arc<Context>, gateway: &Arc<X2Gateway>, memory: &mut Memory) -> Look {
    let mut status = gateway.status.clone().unwrap_or_default();
    report::set_suspended(&mut status, &**gateway, "spec.suspend is true: nothing is read or changed.");
    let written = report::write(context, &**gateway, status).await;
    memory.pace.reset();
    Look::Done { next: next(written, None), ready: true }
}

fn next(written: Written, due: Option<tokio::time::Instant>) -> tokio::time::Instant {
    match written {
        Written::Failed => clock::instant() + AGAIN,
        _ => due.unwrap_or_else(|| clock::instant() + UNDISTURBED),
    }
}

async fn examine_and_report(
    context: &Arc<Context>,
    mut gateway: Arc<X2Gateway>,
    memory: &mut Memory,
    governance: &Governance,
    asked: bool,
) -> Option<(Look, Reason)> {
    let (key, generation) = (Key::of(gateway.meta()), gateway.meta().generation);
    let request = request::of(&*gateway).map(str::to_owned);
    let before = gateway.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
    let findings = examine::examine(context, &mut gateway, memory, governance, asked).await?;
    let findings = Findings { before, ..findings };
    memory.owed.add(findings.change.clone());
    // What was found must not be reported of another spec.
    let now = context.gateways.valid(&key);
    now.filter(|now| now.uid() == gateway.uid() && now.meta().generation == generation)?;
    let gateway = &gateway;
    let was_ready = current_reason(gateway).is_some_and(Reason::is_ready);
    let verdict = findings.verdict.clone();
    let ready = verdict.reason.is_ready();
    memory.polled = findings.polls;
    let Governance { interval, .. } = *governance;
    let reported = memory.pace.after(&verdict, findings.retry_after, interval, was_ready, findings.polls);
    memory.window = governance.closed_window(context).filter(|_| verdict.reason == Reason::AwaitingWindow);
    if let Some(closed) = memory.window {
        memory.pace.not_later_than(clock::instant_of(closed.next));
    }
    let done = |memory: &Memory| {
        Some((Look::Done { next: next(Written::Unchanged, memory.pace.due()), ready }, verdict.reason))
    };
    if !reported && memory.owed.is_empty() && !asked {
        return done(memory);
    }
    let mut status = telling::new_status(gateway, &findings, governance, memory);
    // A failure that may pass leaves Ready as it is, even if something else is written.
    if reported {
        let notes = Notes { insecure: findings.insecure.clone(), ..Notes::default() };
        report::set_verdict(&mut status, &**gateway, &verdict, &notes);
    }
    status.last_handled_reconcile_at = request.or(status.last_handled_reconcile_at);
    if status.pending.is_none() {
        memory.change = None;
    }
    let written = report::write(context, &**gateway, status).await;
    if matches!(written, Written::Written | Written::Unchanged) {
        telling::announce(
            context,
            gateway,
            &memory.owed,
            Some(&verdict).filter(|_| reported),
            governance,
            &findings,
        );
        memory.owed.clear();
        memory.pace.written();
    } else if written == Written::Failed {
        memory.pace.not_written();
        memory.owed.unanswered();
    }
    done(memory)
}

fn only_times_differ(before: Option<&Entry<X2Gateway>>, after: Option<&Entry<X2Gateway>>) -> bool {
    let (Some(before), Some(after)) = (before.and_then(Entry::valid), after.and_then(Entry::valid)) else {
        return false;
    };
    let timeless = |gateway: &X2Gateway| {
        let mut status = gateway.status.clone().unwrap_or_default();
        X2Gateway::times(&mut status).into_iter().flatten().for_each(|time| *time = None);
        status
    };
    before.spec == after.spec
        && before.metadata.labels == after.metadata.labels
        && timeless(before) == timeless(after)
}

/// The connection's faults that keep a gateway from being claimed are found when it is examined.
fn judged(context: &Context, gateway: &X2Gateway) -> Result<connection::Judged, Verdict> {
    connection::judge(&gateway.spec.connection, context.settings.restrictions)
}
