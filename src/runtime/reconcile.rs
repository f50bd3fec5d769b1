//! One reconcile of one object, whatever its kind is.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::ResourceExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::object::{Entry, Key, Reported};
use super::store::Store;
use super::workers::{Plan, Pool, UNDISTURBED, Work};
use super::{finalizers, restore, undecodable};
use crate::clock;
use crate::metrics::Outcome;
use crate::telemetry::traces;

/// Wait after a reconcile that a panic broke off.
const AFTER_PANIC: Duration = Duration::from_mins(1);

/// How a reconcile went.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reconcile {
    /// Nothing was due.
    NotDue(Instant),
    /// Done, with the time of the next one.
    Done {
        /// When to reconcile again.
        next: Instant,
        /// Whether the object is ready.
        ready: bool,
    },
}

/// A kind that is reconciled.
pub(crate) trait Reconciled: Reported {
    /// What its reconciles need.
    type Context: Send + Sync + 'static;
    /// What is kept in memory for each object.
    type Memory: Default + Send;
    /// What its reconciles wait for.
    const POOL: Pool = Pool::Remote;
    /// Whether others of its namespace wait for it.
    const URGENT: bool = false;
    /// Its store.
    fn store(context: &Self::Context) -> &Arc<Store<Self>>;
    /// Reconciles an object, if that is due.
    fn reconcile(
        context: &Arc<Self::Context>,
        object: &Arc<Self>,
        memory: &mut Self::Memory,
    ) -> impl Future<Output = Reconcile> + Send;
    /// What else to reconcile when an object has appeared, changed or gone.
    fn changed(context: &Arc<Self::Context>, before: Option<&Entry<Self>>, after: Option<&Entry<Self>>);
    /// Nothing is done with an object, since the rights in its namespace are partly missing.
    fn set_aside(_: &Self::Context, _: &Self) {}
    /// An object is gone.
    fn gone(context: &Self::Context, key: &Key);
}

/// What is remembered of an object that appears. What its reconciles need does not live on for its sake.
pub(crate) fn new_work<K: Reconciled>(context: Weak<K::Context>) -> Box<dyn Work> {
    Box::new(Remembered::<K> { context, uid: String::new(), memory: K::Memory::default(), reported: None })
}

struct Remembered<K: Reconciled> {
    context: Weak<K::Context>,
    /// Of the object with this uid.
    uid: String,
    memory: K::Memory,
    /// The generation that was last reported as not understood.
    reported: Option<i64>,
}

impl<K: Reconciled> Work for Remembered<K> {
    fn plan(&self, key: &Key) -> Plan {
        let normal = Plan { pool: K::POOL, urgent: K::URGENT, too_late: None };
        if K::POOL == Pool::Cluster {
            return normal;
        }
        let cluster = Plan { pool: Pool::Cluster, urgent: true, too_late: None };
        let Some(context) = self.context.upgrade() else { return cluster };
        let store = K::store(&context);
        let Some(object) = store.valid(key) else { return cluster };
        if store.cluster().namespaces.is_terminating(&key.namespace) {
            return cluster;
        }
        if !finalizers::is_leaving(object.meta()) {
            return normal;
        }
        let left = restore::time_left(object.meta());
        if left.is_zero() {
            return cluster;
        }
        Plan { pool: Pool::Remote, urgent: true, too_late: Some(clock::instant() + left) }
    }

    fn step<'a>(&'a mut self, key: &'a Key) -> BoxFuture<'a, Option<Instant>> {
        async move {
            let context = self.context.upgrade()?;
            let store = K::store(&context);
            let cluster = store.cluster();
            let entry = store.get(key)?;
            let uid = entry.meta().uid.clone().unwrap_or_default();
            if self.uid != uid {
                cluster.deletions.forget(&self.uid);
                (self.uid, self.memory, self.reported) = (uid, K::Memory::default(), None);
            }
            Some(match entry {
                entry if cluster.namespaces.is_terminating(&key.namespace) => {
                    finalizers::release_terminating(store, entry.meta()).await
                }
                entry if cluster.namespaces.is_unreadable(&key.namespace) => {
                    entry.valid().into_iter().for_each(|object| K::set_aside(&context, object));
                    clock::instant() + UNDISTURBED
                }
                Entry::Undecodable(meta) => undecodable::report(store, &meta, &mut self.reported).await,
                Entry::Valid(object) => {
                    self.reported = None;
                    reconcile(&context, &object, &mut self.memory).await
                }
            })
        }
        .boxed()
    }

    fn is_there(&self, key: &Key) -> bool {
        self.context.upgrade().is_some_and(|context| K::store(&context).get(key).is_some())
    }

    fn gone(&self, key: &Key) {
        let Some(context) = self.context.upgrade() else { return };
        K::gone(&context, key);
        let store = K::store(&context);
        let cluster = store.cluster();
        cluster.metrics.succeeded(K::KIND.as_str(), &key.namespace, &key.name, None);
        cluster.deletions.forget(&self.uid);
        finalizers::settle(store, key);
    }
}

async fn reconcile<K: Reconciled>(
    context: &Arc<K::Context>,
    object: &Arc<K>,
    memory: &mut K::Memory,
) -> Instant {
    let metrics = &K::store(context).cluster().metrics;
    let (kind, begun) = (K::KIND.as_str(), clock::instant());
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let span = traces::reconcile(kind, &namespace, &name);
    let reconcile = Box::pin(K::reconcile(context, object, memory)).instrument(span.clone());
    let result = AssertUnwindSafe(reconcile).catch_unwind().await;
    match result {
        Ok(Reconcile::NotDue(next)) => next,
        Ok(Reconcile::Done { next, ready }) => {
            let outcome = if ready { Outcome::Success } else { Outcome::Failure };
            metrics.reconciled(kind, outcome, begun.elapsed());
            traces::reconciled(&span, outcome);
            if ready {
                metrics.succeeded(kind, &namespace, &name, Some(clock::now().0.as_second()));
            }
            next
        }
        Err(_) => {
            // Its message may quote a secret, so it is not repeated.
            tracing::error!(kind, object = %Key::of(object.meta()), "a reconcile panicked: this is a bug, please report it");
            metrics.reconciled(kind, Outcome::Panic, begun.elapsed());
            traces::reconciled(&span, Outcome::Panic);
            *memory = K::Memory::default();
            clock::instant() + AFTER_PANIC
        }
    }
}
