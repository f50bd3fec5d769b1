//! What is reconciled when: what concerns one object is done in order, objects do not wait for each other, and a panic ends
//! one reconcile of one object and nothing else.
//!
//! An object that waits is a name in a queue and what is remembered of it; a task exists only while it is reconciled. Those are
//! `--concurrency`, and the bounded number of those that wait for something slow ([`queue`]).
//!
//! kube's `Controller` is not used, because
//! - the store has to know our own writes before the watch shows them: a reconcile that reads an older status than the one
//!   that it wrote would repeat a login or a change;
//! - what is called at a change needs an object as it was before and as it is now, to find out which others that concerns; the mappers of `Controller` see only one of them;
//! - what is remembered of an object (its back-off, a change that was begun) belongs to its reconcile alone and needs no lock:
//!   `Controller` shares one context among all;
//! - its concurrency counts every reconcile that has not ended, so that as many silent systems would stop all others, and
//!   it is not shared among namespaces;
//! - a standby keeps its stores filled and begins nothing; `Controller` begins with its first event.

mod queue;
mod state;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use strum::IntoStaticStr;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::state::{Begun, Id, Object, Place, State};
use super::object::Key;
use crate::clock;
use crate::crd::Kind;

/// Time between two reconciles of something that only a change can concern.
pub(crate) const UNDISTURBED: Duration = Duration::from_hours(24);
/// A reconcile that takes longer lends its place to another: it waits for something slow.
const PATIENCE: Duration = Duration::from_secs(1);
/// The next reconcile begins after this time at the earliest, whatever it was asked for.
const SHORTEST: Duration = Duration::from_millis(100);

/// What a reconcile waits for. Those that ask no remote system do not queue behind those that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Remote systems.
    Remote,
    /// Only the API server.
    Cluster,
}

/// Why an object is reconciled, as log lines show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Trigger {
    /// The operator has begun to work.
    Start,
    /// The object has appeared, changed or gone.
    Change,
    /// An object that it depends on, or sums up, has changed.
    Related,
    /// Its namespace has changed, or the rights in it.
    Namespace,
    /// Its policy's rollout goes on.
    Rollout,
    /// It is to try a login that others wait for.
    Login,
    /// The API server answers again.
    ApiServer,
    /// It is due.
    Timer,
}

/// How an object is queued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What its reconcile waits for.
    pub(crate) pool: Pool,
    /// Whether it passes others of its namespace.
    pub(crate) urgent: bool,
    /// When its deletion does not wait for the remote system any longer.
    pub(crate) too_late: Option<Instant>,
}

/// What is remembered of one object, and how it is reconciled.
pub(crate) trait Work: Send {
    /// How the object is queued.
    fn plan(&self, key: &Key) -> Plan;
    /// Reconciles the object once. When to do so again; none if it is gone.
    fn step<'a>(&'a mut self, key: &'a Key, trigger: Trigger) -> BoxFuture<'a, Option<Instant>>;
    /// Whether there is such an object.
    fn is_there(&self, key: &Key) -> bool;
    /// It is gone.
    fn gone(&self, key: &Key);
}

/// What has to be known of the kinds.
pub(crate) trait Kinds: Send + Sync {
    /// What is to be remembered of an object that appears.
    fn new_work(&self, kind: Kind) -> Box<dyn Work>;
    /// All objects of a namespace, or all there are, in the order in which they are to be reconciled.
    fn objects(&self, namespace: Option<&str>) -> Vec<(Kind, Key)>;
}

/// All objects, and those under way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Inner>);

struct Inner {
    kinds: Box<dyn Kinds>,
    state: Mutex<State>,
    /// Something is due sooner than what was.
    sooner: Notify,
    tracker: TaskTracker,
    started: Arc<AtomicBool>,
    /// Becomes true when nothing new is to be begun.
    ending: watch::Receiver<bool>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workers")
    }
}

impl Workers {
    /// `concurrency` limits the concurrent reconciles that ask a remote system.
    #[must_use]
    pub(crate) fn new(kinds: Box<dyn Kinds>, concurrency: usize, ending: watch::Receiver<bool>) -> Self {
        let (state, sooner) = (Mutex::new(State::new(concurrency)), Notify::new());
        let (tracker, started) = (TaskTracker::new(), Arc::default());
        Self(Arc::new(Inner { kinds, state, sooner, tracker, started, ending }))
    }

    /// Waits until no reconcile is under way; to be called when none begins anymore.
    pub(crate) async fn finished(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    /// Becomes true when work begins.
    #[must_use]
    pub(crate) fn has_started(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.started)
    }

    /// Whether work has begun.
    #[must_use]
    pub(crate) fn are_started(&self) -> bool {
        self.0.started.load(Ordering::Acquire)
    }

    /// Begins the work, once all stores are filled.
    pub(crate) fn start(&self) {
        self.0.started.store(true, Ordering::Release);
        self.wake_all(None, Trigger::Start);
    }

    /// Something that concerns all objects of a namespace, or all there are, has happened.
    pub(crate) fn wake_all(&self, namespace: Option<&str>, trigger: Trigger) {
        self.0.kinds.objects(namespace).into_iter().for_each(|(kind, key)| self.wake(kind, key, trigger));
    }

    /// Something that concerns an object has happened: it is reconciled if anything is to be done.
    pub(crate) fn wake(&self, kind: Kind, key: Key, trigger: Trigger) {
        if !self.are_started() || *self.0.ending.borrow() {
            return;
        }
        let id = Arc::new((kind, key));
        let mut state = self.state();
        state.objects.entry(Arc::clone(&id)).or_insert_with(|| Object {
            place: Place::Idle,
            due: None,
            work: Some(self.0.kinds.new_work(kind)),
        });
        state.enqueue(&id, trigger);
        drop(state);
        self.begin_more();
    }

    /// Wakes each object when it is due, for as long as the operator works.
    pub(crate) async fn keep_time(self) {
        loop {
            let first = self.state().times.first_key_value().map(|((at, _), _)| *at);
            let wait = async {
                match first {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.0.sooner.notified() => continue,
                () = wait => {}
            }
            let now = clock::instant();
            let mut state = self.state();
            while let Some(first) = state.times.first_entry().filter(|first| first.key().0 <= now) {
                let id = first.remove();
                if let Some(object) = state.objects.get_mut(&id) {
                    object.due = None;
                }
                state.enqueue(&id, Trigger::Timer);
            }
            drop(state);
            self.begin_more();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins whatever may begin.
    fn begin_more(&self) {
        if *self.0.ending.borrow() {
            return;
        }
        for pool in [Pool::Cluster, Pool::Remote] {
            loop {
                let begun = self.state().begin(pool);
                let Some(begun) = begun else { break };
                self.0.tracker.spawn(self.clone().reconcile(begun, pool));
            }
        }
    }

    /// Reconciles one object once.
    async fn reconcile(self, (id, mut work, trigger): Begun, pool: Pool) {
        let mut slow = false;
        let next = {
            let mut step = work.step(&id.1, trigger);
            let quick = tokio::select! {
                biased;
                next = &mut step => Some(next),
                () = tokio::time::sleep(PATIENCE) => None,
            };
            match quick {
                Some(next) => next,
                None => {
                    slow = true;
                    self.state().queue(pool).slow(&id.1.namespace);
                    self.begin_more();
                    step.await
                }
            }
        };
        self.state().queue(pool).ended(&id.1.namespace, slow);
        match next {
            Some(next) => self.rest(&id, work, next),
            None => self.retire(&id, work),
        }
        self.begin_more();
    }

    /// An object was reconciled, and waits for the next time.
    fn rest(&self, id: &Id, work: Box<dyn Work>, next: Instant) {
        let mut state = self.state();
        let Some(object) = state.objects.get_mut(id) else { return };
        let again = object.place.trigger();
        (object.place, object.work) = (Place::Idle, Some(work));
        if let Some(trigger) = again {
            state.enqueue(id, trigger);
        } else if state.set_due(id, Some(next.max(clock::instant() + SHORTEST))) {
            self.0.sooner.notify_one();
        }
    }

    /// Forgets an object that is gone; not if it has come back meanwhile.
    fn retire(&self, id: &Id, work: Box<dyn Work>) {
        let mut state = self.state();
        if work.is_there(&id.1) {
            if let Some(object) = state.objects.get_mut(id) {
                (object.place, object.work) = (Place::Idle, Some(work));
            }
            return state.enqueue(id, Trigger::Change);
        }
        state.objects.remove(id);
        drop(state);
        work.gone(&id.1);
    }
}
