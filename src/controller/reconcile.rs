//! How an object with a remote system is reconciled, whatever its kind: is it due, what is found and done, what is reported,
//! and when is it reconciled again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::context::{AGAIN, Context, Request, UNDISTURBED};
use super::logins::Barred;
use super::report::{self, Owed, Reported, Written};
use super::store::Key;
use super::workers::{Look, Reconciled};
use super::{request, restore};
use crate::clock;
use crate::engine::backoff::{Attempt, Backoff, Nothing};
use crate::engine::contest::Contest;
use crate::engine::login::News;
use crate::engine::ownership::Standing;
use crate::engine::verdict::{self, Notes, Reason, Verdict};

/// A kind whose objects stand for something in a remote system: what it supplies to [`reconcile`].
pub trait Managed: Reconciled<Memory = Memory<Self>> {
    /// What is gathered from the cluster: who governs the object.
    type Parents: Send + Sync;
    /// What, when it changes, is a reason to reconcile at once.
    type Inputs: Clone + std::fmt::Debug + PartialEq + Send + Sync;
    /// A change of the remote value that was begun and is not seen to its end.
    type Change: std::fmt::Debug + Send + Sync;
    /// A change that was made, as the history has it.
    type Record: Clone + std::fmt::Debug + Send + Sync;
    /// What a reconcile has found beyond what all kinds have in common.
    type Found: std::fmt::Debug + Default + Send + Sync;
    /// What is kept in memory beyond that.
    type Extra: std::fmt::Debug + Default + Send;

    /// Gathers what the cluster has to say about an object.
    fn gather(context: &Arc<Context>, object: &Self) -> Given<Self>;
    /// Puts on or takes off our finalizer, and finishes deletions. Some if there is nothing else to do.
    fn finalize(
        context: &Arc<Context>,
        object: &Arc<Self>,
        given: &Given<Self>,
        memory: &mut Memory<Self>,
    ) -> impl Future<Output = Option<Look>> + Send;
    /// Whether something calls for a reconcile now although the inputs are the same. May bring the next one forward.
    fn is_called(
        context: &Arc<Context>,
        object: &Self,
        given: &Given<Self>,
        memory: &mut Memory<Self>,
    ) -> bool;
    /// Reads the remote system, decides and acts, until nothing is left to do. `object` is the working copy.
    fn examine(
        context: &Arc<Context>,
        object: &mut Arc<Self>,
        given: &Given<Self>,
        memory: &mut Memory<Self>,
        asked: bool,
    ) -> impl Future<Output = Result<Findings<Self>, Nothing>> + Send;
    /// Finishes a deletion that waited for what was found. Some if there is nothing to report.
    fn conclude(
        context: &Arc<Context>,
        object: &Arc<Self>,
        memory: &mut Memory<Self>,
        findings: &mut Findings<Self>,
    ) -> impl Future<Output = Option<Look>> + Send {
        let _ = (context, object, memory, findings);
        std::future::ready(None)
    }
    /// The status after that, but for its conditions.
    fn new_status(report: &Report<'_, Self>, memory: &mut Memory<Self>) -> Self::Status;
    /// Publishes what was done and found, once the status is written.
    fn announce(context: &Context, report: &Report<'_, Self>, memory: &Memory<Self>);
    /// A request was carried out: those that wait for it are woken.
    fn carried_out(context: &Arc<Context>, object: &Self);
    /// A reconcile begins (none), or has ended with this reason. One that came to nothing does not end.
    fn progress(given: &Given<Self>, ended: Option<Reason>) {
        let _ = (given, ended);
    }
    /// Drops from the status of an object that is paused what only counts while it is not.
    fn pausing(status: &mut Self::Status) {
        let _ = status;
    }
    /// Takes over from `now` what is no reason to reconcile.
    fn overlook(before: &mut Self::Inputs, now: &Self::Inputs, reason: Option<Reason>) {
        let _ = (before, now, reason);
    }
}

/// What the cluster has to say about an object.
pub struct Given<K: Managed> {
    /// Who governs it.
    pub parents: K::Parents,
    /// What is a reason to reconcile at once.
    pub inputs: K::Inputs,
    /// Its standing among the objects that declare the same remote object.
    pub standing: Standing,
    /// Requests to reconcile now: its own, and those of its parents.
    pub requests: HashSet<Request>,
    /// Why nothing is done for now.
    pub paused: Option<String>,
    /// Time between two checks.
    pub interval: Duration,
    /// What is left for restoring if a deletion waits for it.
    pub time_left: Option<Duration>,
    /// Whether a deletion may come to wait for this reconcile.
    pub holds: bool,
    /// The last correction, if the status shows that what is still desired is contested.
    pub contested: Option<Timestamp>,
}

/// What is kept in memory of an object between reconciles.
#[derive(Debug)]
pub struct Memory<K: Managed> {
    /// What the last reconcile that came to something began with.
    pub inputs: Option<(K::Inputs, Standing)>,
    /// What the last one began with, if it came to nothing.
    nothing: Option<(K::Inputs, Standing)>,
    /// When the next one is due.
    pub backoff: Backoff<Instant>,
    /// Whether something else keeps overwriting the value.
    pub contest: Contest,
    /// Requests that were carried out.
    pub handled: HashSet<Request>,
    /// The URL that the change and what is owed are about.
    pub url: Option<String>,
    /// The change that was begun and is not seen to its end.
    pub change: Option<K::Change>,
    /// Changes made but not yet reported.
    pub owed: Owed<K::Record>,
    /// Whether a Secret or `ConfigMap` may bring the change.
    pub polled: bool,
    /// A refusal that another user may end.
    pub barred: Option<Barred>,
    /// The standing that the last reconcile has acted on.
    pub judged: Option<Standing>,
    /// Our finalizer was removed from the deleted object; the watch has not shown it yet.
    pub has_gone: bool,
    /// What else the kind keeps.
    pub extra: K::Extra,
}

impl<K: Managed> Default for Memory<K> {
    fn default() -> Self {
        Self {
            inputs: None,
            nothing: None,
            backoff: Backoff::default(),
            contest: Contest::default(),
            handled: HashSet::new(),
            url: None,
            change: None,
            owed: Owed::default(),
            polled: false,
            barred: None,
            judged: None,
            has_gone: false,
            extra: K::Extra::default(),
        }
    }
}

impl<K: Managed> Memory<K> {
    /// Whether something that counts has changed since the last reconcile that came to something.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.inputs.is_none() || self.nothing.is_some() || self.backoff.due().is_none()
    }
}

/// What a reconcile has found and done.
#[derive(Debug)]
pub struct Findings<K: Managed> {
    /// What is reported.
    pub verdict: Verdict,
    /// What is unprotected or risky.
    pub notes: Notes,
    /// Where it was found.
    pub effective_url: Option<String>,
    /// What is new about the login.
    pub news: Option<News>,
    /// How long the remote system wants to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether a Secret or `ConfigMap` may bring the change.
    pub polls: bool,
    /// When the change window opens that a change waits for.
    pub opens: Option<Timestamp>,
    /// A change that was made.
    pub change: Option<K::Record>,
    /// What else the kind has found.
    pub found: K::Found,
}

impl<K: Managed> From<Verdict> for Findings<K> {
    fn from(verdict: Verdict) -> Self {
        Self {
            polls: verdict.reason.awaits_reference(),
            verdict,
            notes: Notes::default(),
            effective_url: None,
            news: None,
            retry_after: None,
            opens: None,
            change: None,
            found: K::Found::default(),
        }
    }
}

/// What is about to be reported.
pub struct Report<'a, K: Managed> {
    /// The working copy.
    pub object: &'a Arc<K>,
    /// What the reconcile began with.
    pub given: &'a Given<K>,
    /// What it came to.
    pub findings: &'a Findings<K>,
    /// The reason that the object showed when the reconcile began.
    pub before: Option<Reason>,
    /// Whether the verdict is shown: a failure that may pass leaves Ready as it is, even if something else is written.
    pub shown: bool,
}

/// Reconciles an object, if that is due.
pub async fn reconcile<K: Managed>(context: &Arc<Context>, object: &Arc<K>, memory: &mut Memory<K>) -> Look {
    let given = K::gather(context, object);
    let asked = !given.requests.is_subset(&memory.handled);
    if let Some(look) = K::finalize(context, object, &given, memory).await {
        if matches!(look, Look::Done { .. }) {
            carried_out(context, object, memory, &given, asked);
        }
        return look;
    }
    if let Some(next) = not_due(context, object, &given, memory, asked) {
        return in_time(object, Look::NotDue(next));
    }
    K::progress(&given, None);
    let look = match &given.paused {
        Some(message) => pause(context, object, memory, message).await,
        None => match attempt(context, object, &given, memory, asked).await {
            Ok((look, reason)) => {
                K::progress(&given, Some(reason));
                look
            }
            Err(why) => return in_time(object, nothing(context, object, &given, memory, why).await),
        },
    };
    // A standing that this reconcile itself has changed is no reason for another; one that a rival has changed meanwhile is.
    let standing = memory.judged.take().unwrap_or(given.standing);
    memory.inputs = Some((given.inputs.clone(), standing));
    memory.nothing = None;
    // A request is carried out when the object is resumed.
    if given.paused.is_none() {
        carried_out(context, object, memory, &given, asked);
    }
    in_time(object, look)
}

/// A reconcile that was asked for has ended.
fn carried_out<K: Managed>(
    context: &Arc<Context>,
    object: &Arc<K>,
    memory: &mut Memory<K>,
    given: &Given<K>,
    asked: bool,
) {
    memory.handled.clone_from(&given.requests);
    context.handled.set(K::KIND, Key::of(object.meta()), given.requests.clone());
    if asked {
        K::carried_out(context, object);
    }
}

/// The time of the next reconcile, if nothing that counts has changed since the last one and it is not due yet.
fn not_due<K: Managed>(
    context: &Arc<Context>,
    object: &Arc<K>,
    given: &Given<K>,
    memory: &mut Memory<K>,
    asked: bool,
) -> Option<Instant> {
    let (now, reason) = (clock::instant(), current_reason(&**object));
    let inputs = (given.inputs.clone(), given.standing);
    let is_called = K::is_called(context, object, given, memory);
    if let Some(before) = &memory.nothing {
        // An API server that refuses or does not answer would be asked without end.
        if *before == inputs && !asked {
            return memory.backoff.due().filter(|due| *due > now);
        }
        memory.nothing = None;
        memory.backoff.reset();
    }
    match &mut memory.inputs {
        None => {
            memory.contest = given.contested.map(resumed).unwrap_or_default();
            if reason.is_some_and(Reason::is_remote) && !asked {
                memory.backoff.postpone(now, clock::random());
                if let Some(left) = given.time_left {
                    // No longer than what is left for restoring.
                    memory.backoff.not_later_than(now + left.mul_f64(clock::random()));
                }
                memory.inputs = Some(inputs);
            }
        }
        Some(before) => {
            K::overlook(&mut before.0, &given.inputs, reason);
            if *before != inputs || asked || is_called {
                memory.backoff.reset();
            }
        }
    }
    if asked {
        memory.contest = Contest::default();
    }
    memory.backoff.due().filter(|due| *due > now)
}

/// The fight that a status shows.
fn resumed(last: Timestamp) -> Contest {
    let ago = Duration::try_from(clock::now().0.duration_since(last)).unwrap_or_default();
    Contest::resumed(clock::elapsed(), ago)
}

/// Reason of the Ready condition, if it speaks of the present spec.
#[must_use]
pub fn current_reason<K: Reported>(object: &K) -> Option<Reason> {
    let mut status = object.status().cloned()?;
    let (observed, conditions) = K::head(&mut status);
    verdict::ready_reason(conditions).filter(|_| *observed == object.meta().generation)
}

/// Reason of the Ready condition, whatever spec it speaks of.
fn reported_reason<K: Reported>(object: &K) -> Option<Reason> {
    verdict::ready_reason(K::conditions(object.status()?))
}

async fn pause<K: Managed>(
    context: &Arc<Context>,
    object: &Arc<K>,
    memory: &mut Memory<K>,
    message: &str,
) -> Look {
    let mut status = object.status().cloned().unwrap_or_default();
    report::set_suspended(&mut status, &**object, message);
    K::pausing(&mut status);
    let written = report::write(context, &**object, status).await;
    memory.backoff.reset();
    let wait = if written == Written::Failed { AGAIN } else { UNDISTURBED };
    Look::Done { next: clock::instant() + wait, ready: true }
}

/// Examines the remote system and reports what that came to, for as long as a deletion waits for it.
async fn attempt<K: Managed>(
    context: &Arc<Context>,
    object: &Arc<K>,
    given: &Given<K>,
    memory: &mut Memory<K>,
    asked: bool,
) -> Result<(Look, Reason), Nothing> {
    let work = Box::pin(examine_and_report(context, object, given, memory, asked));
    if !given.holds {
        return work.await;
    }
    tokio::select! {
        biased;
        done = work => done,
        _ = restore::given_up::<K>(context, object.meta()) => Err(Nothing::Outdated),
    }
}

async fn examine_and_report<K: Managed>(
    context: &Arc<Context>,
    object: &Arc<K>,
    given: &Given<K>,
    memory: &mut Memory<K>,
    asked: bool,
) -> Result<(Look, Reason), Nothing> {
    let mut working = Arc::clone(object);
    let request = request::of(&**object).map(str::to_owned);
    let mut findings = K::examine(context, &mut working, given, memory, asked).await?;
    if let Some(look) = K::conclude(context, &working, memory, &mut findings).await {
        return Ok((look, findings.verdict.reason));
    }
    memory.owed.add(findings.change.clone());
    // What was found must not be reported of another spec.
    let now = K::store(context).valid(&Key::of(object.meta()));
    now.filter(|now| now.uid() == object.uid() && now.meta().generation == object.meta().generation)
        .ok_or(Nothing::Outdated)?;
    let reason = findings.verdict.reason;
    let attempt = Attempt {
        reason,
        retry_after: findings.retry_after,
        interval: given.interval,
        was_ready: current_reason(&*working).is_some_and(Reason::is_ready),
        polls: findings.polls,
    };
    memory.polled = findings.polls;
    let shown = memory.backoff.attempted(clock::instant(), clock::random(), attempt);
    if let Some(opens) = findings.opens {
        memory.backoff.not_later_than(clock::instant_of(opens));
    }
    if shown || asked || !memory.owed.is_empty() || memory.change.is_some() {
        let before = reported_reason(&**object);
        let report = Report { object: &working, given, findings: &findings, before, shown };
        write(context, &report, memory, request).await;
    }
    let next = memory.backoff.due().unwrap_or_else(|| clock::instant() + UNDISTURBED);
    Ok((Look::Done { next, ready: reason.is_ready() }, reason))
}

/// Writes a report, and publishes what is new once it is written.
async fn write<K: Managed>(
    context: &Arc<Context>,
    report: &Report<'_, K>,
    memory: &mut Memory<K>,
    request: Option<String>,
) {
    let (object, findings) = (report.object, report.findings);
    let mut status = K::new_status(report, memory);
    if report.shown {
        report::set_verdict(&mut status, &**object, &findings.verdict, &findings.notes);
    }
    if request.is_some() {
        *K::handled(&mut status) = request;
    }
    match report::write(context, &**object, status).await {
        Written::Written | Written::Unchanged => {
            K::announce(context, report, memory);
            memory.owed.clear();
            memory.backoff.written();
        }
        Written::Failed => {
            memory.backoff.not_written(clock::instant(), clock::random());
            memory.owed.unanswered();
        }
        Written::Gone | Written::Forbidden => {}
    }
}

/// A reconcile came to nothing: it is still to be done, ever more slowly, and shows if that goes on.
async fn nothing<K: Managed>(
    context: &Arc<Context>,
    object: &Arc<K>,
    given: &Given<K>,
    memory: &mut Memory<K>,
    why: Nothing,
) -> Look {
    memory.judged = None;
    if why == Nothing::Asked {
        return Look::NotDue(clock::instant() + AGAIN);
    }
    memory.nothing = Some((given.inputs.clone(), given.standing));
    if memory.backoff.nothing(clock::instant(), clock::random())
        && let Some(now) = K::store(context).valid(&Key::of(object.meta()))
        && now.uid() == object.uid()
    {
        let mut status = now.status().cloned().unwrap_or_default();
        report::set_verdict(&mut status, &*now, &why.verdict(), &Notes::default());
        report::write(context, &*now, status).await;
    }
    Look::NotDue(memory.backoff.due().unwrap_or_else(|| clock::instant() + AGAIN))
}

/// While a deletion waits, its end is looked for often; remote systems are asked no more often than otherwise.
fn in_time<K: Managed>(object: &Arc<K>, look: Look) -> Look {
    if !restore::is_leaving(object.meta()) {
        return look;
    }
    let latest = restore::next_look(object.meta());
    match look {
        Look::NotDue(next) => Look::NotDue(next.min(latest)),
        Look::Done { next, ready } => Look::Done { next: next.min(latest), ready },
    }
}

/// Takes note of the URL that an object leads to now. Returns the status without what it holds of another remote system, if
/// it has to be written before the first request.
pub fn moved_to<K: Managed>(
    object: &K,
    memory: &mut Memory<K>,
    (url, known): (&str, Option<&str>),
    message: &str,
) -> Option<K::Status> {
    let is_elsewhere = known.is_some_and(|before| before != url);
    // The status may not name the previous URL yet, if the URL has changed twice.
    if memory.url.replace(url.to_owned()).is_some_and(|before| before != url) || is_elsewhere {
        (memory.change, memory.contest) = (None, Contest::default());
        memory.owed.clear();
    }
    is_elsewhere.then(|| {
        let mut old = object.status().cloned().unwrap_or_default();
        let mut fresh = K::Status::default();
        *K::handled(&mut fresh) = K::handled(&mut old).take();
        *K::head(&mut fresh).1 = std::mem::take(K::head(&mut old).1);
        report::set_verdict(
            &mut fresh,
            object,
            &Verdict::new(Reason::Progressing, message),
            &Notes::default(),
        );
        fresh
    })
}
