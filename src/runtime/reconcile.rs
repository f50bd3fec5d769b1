//! One reconcile of one object, whatever its kind is.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::counts::count;
use super::object::{Entry, Key, Reported};
use super::store::Store;
use super::workers::{Plan, Pool, Trigger, Work};
use super::{finalizers, restore, undecodable};
use crate::clock;
use crate::engine::reason::Reason;
use crate::metrics::{Outcome, Whole};
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
        /// How it counts.
        outcome: Outcome,
    },
}

/// Reconciles the objects of one kind, with all that this takes.
pub(crate) trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Object: Reported;
    /// What is kept in memory for each object.
    type Memory: Default + Send;
    /// What its reconciles wait for.
    const POOL: Pool = Pool::Remote;
    /// Whether others of its namespace wait for it.
    const URGENT: bool = false;
    /// What its metrics count the parts of, if its objects sum up others.
    const WHOLE: Option<Whole> = None;
    /// The objects.
    fn store(&self) -> &Arc<Store<Self::Object>>;
    /// Reconciles an object, if that is due.
    fn reconcile(
        &self,
        object: &Arc<Self::Object>,
        memory: &mut Self::Memory,
    ) -> impl Future<Output = Reconcile> + Send;
    /// What else to reconcile when an object has appeared, changed or gone.
    fn changed(&self, before: Option<&Entry<Self::Object>>, after: Option<&Entry<Self::Object>>);
    /// Nothing is done with an object, since the rights in its namespace are partly missing.
    fn skipped(&self, _: &Self::Object) {}
    /// An object is gone.
    fn gone(&self, key: &Key);
}

impl From<Reason> for Outcome {
    fn from(reason: Reason) -> Self {
        match reason {
            reason if reason.is_ready() => Self::Success,
            reason if reason.awaits_permission() => Self::Waiting,
            _ => Self::Failure,
        }
    }
}

/// What is remembered of an object that appears. Its reconciler does not live on for its sake.
pub(crate) fn new_work<R: Reconciler>(reconciler: Weak<R>) -> Box<dyn Work> {
    Box::new(Remembered { reconciler, uid: String::new(), memory: R::Memory::default(), undecodable: None })
}

struct Remembered<R: Reconciler> {
    reconciler: Weak<R>,
    /// Of the object with this uid.
    uid: String,
    memory: R::Memory,
    undecodable: Option<Box<undecodable::Memory>>,
}

impl<R: Reconciler> Work for Remembered<R> {
    fn plan(&self, key: &Key) -> Plan {
        let normal = Plan { pool: R::POOL, urgent: R::URGENT, too_late: None };
        if R::POOL == Pool::Cluster {
            return normal;
        }
        let cluster = Plan { pool: Pool::Cluster, urgent: true, too_late: None };
        let Some(reconciler) = self.reconciler.upgrade() else { return cluster };
        let store = reconciler.store();
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

    fn step<'a>(&'a mut self, key: &'a Key, trigger: Trigger) -> BoxFuture<'a, Option<Instant>> {
        async move {
            let reconciler = self.reconciler.upgrade()?;
            let store = reconciler.store();
            let cluster = store.cluster();
            let entry = store.get(key)?;
            let uid = entry.meta().uid.clone().unwrap_or_default();
            if self.uid != uid {
                cluster.deletions.forget(&self.uid);
                (self.uid, self.memory, self.undecodable) = (uid, R::Memory::default(), None);
            }
            if entry.valid().is_none() {
                uncount(&*reconciler, key);
            }
            Some(match entry {
                entry if cluster.namespaces.is_terminating(&key.namespace) => {
                    finalizers::release_terminating(store, entry.meta()).await
                }
                entry if cluster.namespaces.is_unreadable(&key.namespace) => {
                    entry.valid().into_iter().for_each(|object| reconciler.skipped(object));
                    restore::release_unrestored(store, entry.meta()).await
                }
                Entry::Undecodable(meta) => {
                    undecodable::report(store, &meta, self.undecodable.get_or_insert_default()).await
                }
                Entry::Valid(object) => {
                    self.undecodable = None;
                    reconcile(&*reconciler, &object, &mut self.memory, trigger).await
                }
            })
        }
        .boxed()
    }

    fn is_there(&self, key: &Key) -> bool {
        self.reconciler.upgrade().is_some_and(|reconciler| reconciler.store().get(key).is_some())
    }

    fn gone(&self, key: &Key) {
        let Some(reconciler) = self.reconciler.upgrade() else { return };
        reconciler.gone(key);
        uncount(&*reconciler, key);
        let store = reconciler.store();
        let cluster = store.cluster();
        cluster.metrics.succeeded(R::Object::KIND.as_str(), &key.namespace, &key.name, None);
        cluster.deletions.forget(&self.uid);
        cluster.outages.forget(R::Object::KIND, key);
        finalizers::settle(store, key);
    }
}

/// What an object sums up is not known anymore: it is gone, or does not match the schema of this version.
fn uncount<R: Reconciler>(reconciler: &R, key: &Key) {
    if let Some(whole) = R::WHOLE {
        count(&reconciler.store().cluster().metrics, whole, key, None);
    }
}

async fn reconcile<R: Reconciler>(
    reconciler: &R,
    object: &Arc<R::Object>,
    memory: &mut R::Memory,
    trigger: Trigger,
) -> Instant {
    let metrics = &reconciler.store().cluster().metrics;
    let (kind, begun) = (R::Object::KIND.as_str(), clock::instant());
    let (namespace, name, uid) = (object.namespace().unwrap_or_default(), object.name_any(), object.uid());
    let span = traces::reconcile(kind, &namespace, &name);
    let reconcile = Box::pin(reconciler.reconcile(object, memory)).instrument(span.clone());
    let result = AssertUnwindSafe(reconcile).catch_unwind().await;
    let _entered = span.enter();
    match result {
        Ok(Reconcile::NotDue(next)) => next,
        Ok(Reconcile::Done { next, outcome }) => {
            let took = begun.elapsed();
            metrics.reconciled(kind, outcome, took);
            traces::reconciled(&span, outcome);
            let (generation, trigger) = (object.meta().generation, <&str>::from(trigger));
            let (result, next_in) = (outcome.as_str(), next.saturating_duration_since(clock::instant()));
            tracing::debug!(
                kind,
                namespace,
                name,
                uid,
                generation,
                trigger,
                result,
                ?took,
                ?next_in,
                "reconciled"
            );
            if outcome == Outcome::Success {
                metrics.succeeded(kind, &namespace, &name, Some(clock::now().0.as_second()));
            }
            next
        }
        Err(_) => {
            // Its message may quote a secret, so it is not repeated.
            tracing::error!(
                kind,
                namespace,
                name,
                uid,
                "a reconcile panicked: this is a bug, please report it"
            );
            metrics.reconciled(kind, Outcome::Panic, begun.elapsed());
            traces::reconciled(&span, Outcome::Panic);
            *memory = R::Memory::default();
            clock::instant() + AFTER_PANIC
        }
    }
}
