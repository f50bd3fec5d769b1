//! One task an object: what concerns one object is done in order, objects do not wait for each other, and a panic ends
//! one look at one object and nothing else.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use kube::ResourceExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::context::{Context, UNDISTURBED};
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

/// All tasks.
#[derive(Debug, Default)]
pub struct Workers {
    tasks: Mutex<HashMap<(Kind, Key), Arc<Notify>>>,
    tracker: TaskTracker,
    started: Arc<AtomicBool>,
}

impl Workers {
    fn tasks(&self) -> MutexGuard<'_, HashMap<(Kind, Key), Arc<Notify>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every task has ended.
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
}

/// Begins the work, once all stores are filled.
pub fn start(context: &Arc<Context>) {
    context.workers.started.store(true, Ordering::Release);
    wake_all(context, None);
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

/// Something that concerns an object has happened: its task looks whether anything is to be done.
pub fn wake(context: &Arc<Context>, kind: Kind, key: Key) {
    let workers = &context.workers;
    if !workers.started() || *context.ending.borrow() {
        return;
    }
    let mut tasks = workers.tasks();
    if let Some(task) = tasks.get(&(kind, key.clone())) {
        task.notify_one();
        return;
    }
    let woken = Arc::new(Notify::new());
    tasks.insert((kind, key.clone()), Arc::clone(&woken));
    let context = Arc::clone(context);
    match kind {
        Kind::Gateway => workers.tracker.spawn(work::<X2Gateway>(context, key, woken)),
        Kind::Policy => workers.tracker.spawn(work::<TokenPolicy>(context, key, woken)),
        Kind::Server => workers.tracker.spawn(work::<KonaServer>(context, key, woken)),
        Kind::Customer => workers.tracker.spawn(work::<CustomerTokenTtl>(context, key, woken)),
    };
}

async fn work<K: Reconciled>(context: Arc<Context>, key: Key, woken: Arc<Notify>) {
    let mut memory: (String, K::Memory) = Default::default();
    let mut reported = None;
    let mut ending = context.ending.clone();
    loop {
        let next = match K::store(&context).get(&key) {
            None if retired::<K>(&context, &key) => return,
            None => continue,
            Some(entry) if context.namespaces.ends(&key.namespace) => {
                endings::let_go::<K>(&context, entry.meta()).await
            }
            Some(_) if context.namespaces.is_closed(&key.namespace) => clock::instant() + UNDISTURBED,
            // Boxed, so that a task that waits for its next look is small.
            Some(Entry::Undecodable(meta)) => {
                Box::pin(undecodable::report::<K>(&context, &meta, &mut reported)).await
            }
            Some(Entry::Valid(object)) => {
                let uid = object.uid().unwrap_or_default();
                if memory.0 != uid {
                    memory = (uid, K::Memory::default());
                }
                look(&context, &object, &mut memory.1).await
            }
        };
        tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => return,
            () = woken.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// Ends a task whose object is gone; not if it has come back meanwhile.
fn retired<K: Reconciled>(context: &Arc<Context>, key: &Key) -> bool {
    let mut tasks = context.workers.tasks();
    if K::store(context).get(key).is_some() {
        return false;
    }
    tasks.remove(&(K::KIND, key.clone()));
    drop(tasks);
    K::gone(context, key);
    true
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
