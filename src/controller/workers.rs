//! Who is reconciled when: what concerns one object is done in order, objects do not wait for each other, and a panic ends
//! one reconcile of one object and nothing else.
//!
//! An object that waits is a name in a queue and what is remembered of it; a task exists only while it is reconciled. Those are
//! `--concurrency`, and the bounded number of those that wait for something slow ([`queue`]).
//!
//! kube's `Controller` is not used, because
//! - the store has to know our own writes before the watch shows them: a reconcile that reads an older status than the one
//!   that it wrote would repeat a login or a change;
//! - [`Reconciled::changed`] needs an object as it was before and as it is now, and tells from both which others that
//!   concerns; the mappers of `Controller` see only one of them;
//! - what is remembered of an object (its back-off, a change that was begun) belongs to its reconcile alone and needs no lock:
//!   `Controller` shares one context among all;
//! - its concurrency counts every reconcile that has not ended, so that as many silent systems would stop all others, and
//!   it is not shared among namespaces;
//! - a standby keeps its stores filled and begins nothing; `Controller` begins with its first event.

mod queue;
mod state;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::ResourceExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use self::state::{Id, Object, Place, Pool, State};
use super::context::{Context, UNDISTURBED};
use super::departures;
use super::endings;
use super::report::Reported;
use super::store::{Entry, Key, Store};
use super::undecodable;
use crate::clock;
pub use crate::crd::Kind;
use crate::crd::{CustomerTokenTtl, KonaServer, TokenPolicy, X2Gateway};
use crate::engine::login::{self, Holder};
use crate::metrics::Outcome;
use crate::telemetry::traces;

/// Wait after a look that a panic broke off.
const AFTER_PANIC: Duration = Duration::from_mins(1);

/// How a look went.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// Nothing was due.
    NotDue(Instant),
    /// Done, with the time of the next one.
    Done {
        /// When to look again.
        next: Instant,
        /// Whether the object is ready.
        ready: bool,
    },
}

/// A kind that is worked on.
pub trait Reconciled: Reported {
    /// Which one.
    const KIND: Kind;
    /// What is kept in memory for each object.
    type Memory: Default + Send;
    /// Its store.
    fn store(context: &Context) -> &Store<Self>;
    /// Looks at an object, if that is due.
    fn look(
        context: &Arc<Context>,
        object: &Arc<Self>,
        memory: &mut Self::Memory,
    ) -> impl Future<Output = Look> + Send;
    /// What else to look at when an object has appeared, changed or gone.
    fn changed(context: &Arc<Context>, before: Option<&Entry<Self>>, after: Option<&Entry<Self>>);
    /// An object is gone.
    fn gone(context: &Context, key: &Key);
}

/// A reconcile that takes longer lends its place to another: it waits for something slow.
const PATIENCE: Duration = Duration::from_secs(1);
/// The next reconcile begins after this time at the earliest, whatever it was asked for.
const SHORTEST: Duration = Duration::from_millis(100);

/// All objects, and those under way.
pub struct Workers {
    state: Mutex<State>,
    /// Something is due sooner than what was.
    sooner: Notify,
    tracker: TaskTracker,
    started: Arc<AtomicBool>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workers")
    }
}

impl Workers {
    /// So many reconciles that ask a remote system move at once.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        let (state, tracker) = (Mutex::new(State::new(concurrency)), TaskTracker::new());
        Self { state, sooner: Notify::new(), tracker, started: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no reconcile is under way; to be called when none begins any more.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Becomes true when work begins.
    #[must_use]
    pub fn has_started(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.started)
    }

    /// Whether work has begun.
    #[must_use]
    pub fn started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    fn set_due(&self, id: &Id, at: Instant) {
        if self.state().set_due(id, Some(at)) {
            self.sooner.notify_one();
        }
    }
}

/// Begins the work, once all stores are filled.
pub fn start(context: &Arc<Context>) {
    context.workers.started.store(true, Ordering::Release);
    wake_all(context, None);
    context.departures.open().into_iter().for_each(|(kind, key)| wake(context, kind, key));
}

/// Something that concerns all objects of a namespace, or all there are, has happened.
pub fn wake_all(context: &Arc<Context>, namespace: Option<&str>) {
    let names = |key: &Key| namespace.is_none_or(|namespace| key.namespace == namespace);
    context.servers.keys().into_iter().filter(names).for_each(|key| wake(context, Kind::Server, key));
    context.policies.keys().into_iter().filter(names).for_each(|key| wake(context, Kind::Policy, key));
    context.gateways.keys().into_iter().filter(names).for_each(|key| wake(context, Kind::Gateway, key));
    context.customers.keys().into_iter().filter(names).for_each(|key| wake(context, Kind::Customer, key));
}

/// Wakes the objects that are called upon to log in again, since the next try of a password is left to them.
pub fn wake_called(context: &Arc<Context>) {
    for Holder { kind, namespace, name } in context.remotes.admission.take_untold() {
        let kind = match kind {
            login::Kind::Gateway => Kind::Gateway,
            login::Kind::Server => Kind::Server,
            login::Kind::Customer => Kind::Customer,
        };
        wake(context, kind, Key::new(namespace, name));
    }
}

/// Something that concerns an object has happened: it is reconciled if anything is to be done.
pub fn wake(context: &Arc<Context>, kind: Kind, key: Key) {
    let workers = &context.workers;
    if !workers.started() || *context.ending.borrow() {
        return;
    }
    let id = Arc::new((kind, key));
    let mut state = workers.state();
    state.objects.entry(Arc::clone(&id)).or_insert_with(|| Object {
        place: Place::Idle,
        due: None,
        work: Some(new_work(kind)),
    });
    state.enqueue(context, &id);
    drop(state);
    begin_more(context);
}

/// Wakes each object when it is due, for as long as the operator works.
pub async fn keep_time(context: Arc<Context>) {
    let workers = &context.workers;
    loop {
        let first = workers.state().times.first_key_value().map(|((at, _), _)| *at);
        let wait = async {
            match first {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = workers.sooner.notified() => continue,
            () = wait => {}
        }
        let now = clock::instant();
        let mut state = workers.state();
        while let Some(first) = state.times.first_entry().filter(|first| first.key().0 <= now) {
            let id = first.remove();
            if let Some(object) = state.objects.get_mut(&id) {
                object.due = None;
            }
            state.enqueue(&context, &id);
        }
        drop(state);
        begin_more(&context);
    }
}

/// Begins whatever may begin.
fn begin_more(context: &Arc<Context>) {
    if *context.ending.borrow() {
        return;
    }
    for pool in [Pool::Cluster, Pool::Remote] {
        loop {
            let begun = context.workers.state().begin(pool);
            let Some((id, work)) = begun else { break };
            context.workers.tracker.spawn(reconcile(Arc::clone(context), id, work, pool));
        }
    }
}

/// Reconciles one object once.
async fn reconcile(context: Arc<Context>, id: Id, mut work: Box<dyn Work>, pool: Pool) {
    let workers = &context.workers;
    let mut slow = false;
    let next = {
        let mut step = work.step(&context, &id.1);
        let quick = tokio::select! {
            biased;
            next = &mut step => Some(next),
            () = tokio::time::sleep(PATIENCE) => None,
        };
        match quick {
            Some(next) => next,
            None => {
                slow = true;
                workers.state().queue(pool).slow(&id.1.namespace);
                begin_more(&context);
                step.await
            }
        }
    };
    workers.state().queue(pool).ended(&id.1.namespace, slow);
    match next {
        Some(next) => rest(&context, &id, work, next),
        None => retire(&context, &id, work),
    }
    begin_more(&context);
}

/// An object was reconciled, and waits for the next time.
fn rest(context: &Arc<Context>, id: &Id, work: Box<dyn Work>, next: Instant) {
    let mut state = context.workers.state();
    let Some(object) = state.objects.get_mut(id) else { return };
    let again = object.place == Place::UnderWay { again: true };
    (object.place, object.work) = (Place::Idle, Some(work));
    if again {
        return state.enqueue(context, id);
    }
    drop(state);
    context.workers.set_due(id, next.max(clock::instant() + SHORTEST));
}

/// Forgets an object that is gone; not if it has come back meanwhile.
fn retire(context: &Arc<Context>, id: &Id, work: Box<dyn Work>) {
    let mut state = context.workers.state();
    if work.is_there(context, &id.1) {
        if let Some(object) = state.objects.get_mut(id) {
            (object.place, object.work) = (Place::Idle, Some(work));
        }
        return state.enqueue(context, id);
    }
    state.objects.remove(id);
    drop(state);
    work.gone(context, &id.1);
}

/// What is remembered of one object, and how it is reconciled.
trait Work: Send {
    /// Reconciles the object once. When to do so again; none where it is gone.
    fn step<'a>(&'a mut self, context: &'a Arc<Context>, key: &'a Key) -> BoxFuture<'a, Option<Instant>>;
    /// Whether there is such an object.
    fn is_there(&self, context: &Context, key: &Key) -> bool;
    /// It is gone.
    fn gone(&self, context: &Arc<Context>, key: &Key);
}

struct Remembered<K: Reconciled> {
    /// Of the object with this uid.
    uid: String,
    memory: K::Memory,
    /// The generation that was last reported as not understood.
    reported: Option<i64>,
}

fn remembered<K: Reconciled>() -> Box<dyn Work> {
    Box::new(Remembered::<K> { uid: String::new(), memory: K::Memory::default(), reported: None })
}

fn new_work(kind: Kind) -> Box<dyn Work> {
    match kind {
        Kind::Gateway => remembered::<X2Gateway>(),
        Kind::Policy => remembered::<TokenPolicy>(),
        Kind::Server => remembered::<KonaServer>(),
        Kind::Customer => remembered::<CustomerTokenTtl>(),
    }
}

impl<K: Reconciled> Work for Remembered<K> {
    fn step<'a>(&'a mut self, context: &'a Arc<Context>, key: &'a Key) -> BoxFuture<'a, Option<Instant>> {
        async move {
            let entry = K::store(context).get(key)?;
            let uid = entry.meta().uid.clone().unwrap_or_default();
            if self.uid != uid {
                context.departures.forget(&self.uid);
                (self.uid, self.memory, self.reported) = (uid, K::Memory::default(), None);
            }
            Some(match entry {
                entry if context.namespaces.ends(&key.namespace) => {
                    endings::let_go::<K>(context, entry.meta()).await
                }
                _ if context.namespaces.is_closed(&key.namespace) => clock::instant() + UNDISTURBED,
                Entry::Undecodable(meta) => {
                    undecodable::report::<K>(context, &meta, &mut self.reported).await
                }
                Entry::Valid(object) => look(context, &object, &mut self.memory).await,
            })
        }
        .boxed()
    }

    fn is_there(&self, context: &Context, key: &Key) -> bool {
        K::store(context).get(key).is_some()
    }

    fn gone(&self, context: &Arc<Context>, key: &Key) {
        K::gone(context, key);
        context.departures.forget(&self.uid);
        departures::settle::<K>(context, key);
    }
}

async fn look<K: Reconciled>(context: &Arc<Context>, object: &Arc<K>, memory: &mut K::Memory) -> Instant {
    let (kind, begun) = (K::KIND.as_str(), clock::instant());
    let span = traces::reconcile(kind, &object.namespace().unwrap_or_default(), &object.name_any());
    let look = Box::pin(K::look(context, object, memory)).instrument(span.clone());
    let result = AssertUnwindSafe(look).catch_unwind().await;
    match result {
        Ok(Look::NotDue(next)) => next,
        Ok(Look::Done { next, ready }) => {
            let outcome = if ready { Outcome::Success } else { Outcome::Failure };
            context.metrics.reconciled(kind, outcome, begun.elapsed());
            traces::reconciled(&span, outcome);
            if ready {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                context.metrics.succeeded(kind, &namespace, &name, Some(clock::now().0.as_second()));
            }
            next
        }
        Err(_) => {
            // What it says may quote a secret, so it is not repeated.
            tracing::error!(kind, object = %Key::of(object.meta()), "a reconcile panicked: this is a bug, please report it");
            context.metrics.reconciled(kind, Outcome::Panic, begun.elapsed());
            traces::reconciled(&span, Outcome::Panic);
            *memory = K::Memory::default();
            clock::instant() + AFTER_PANIC
        }
    }
}
