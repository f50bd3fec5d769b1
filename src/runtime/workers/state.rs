//! Where each object is: waiting for a time, waiting in the queue, or being reconciled.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::queue::Queue;
use super::{Pool, Trigger, Work};
use crate::crd::Kind;
use crate::runtime::object::Key;

/// Reconciles under way at once that ask only the API server.
const CLUSTER: usize = 32;

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It waits for a time, or for a change.
    Idle,
    /// It waits in the queue, since the trigger.
    Queued(Pool, Trigger),
    /// It is being reconciled; `again`: something has changed meanwhile.
    UnderWay { again: Option<Trigger> },
}

impl Place {
    /// What its next reconcile is for, if that does not only wait for its time.
    pub(super) fn trigger(self) -> Option<Trigger> {
        match self {
            Self::Idle => None,
            Self::Queued(_, trigger) => Some(trigger),
            Self::UnderWay { again } => again,
        }
    }
}

/// An object's kind and key.
pub(super) type Id = Arc<(Kind, Key)>;
/// An object, how it is reconciled, and why.
pub(super) type Begun = (Id, Box<dyn Work>, Trigger);

pub(super) struct Object {
    pub(super) place: Place,
    /// Its entry among the times.
    pub(super) due: Option<(Instant, u64)>,
    /// What is remembered of it, while it is not being reconciled.
    pub(super) work: Option<Box<dyn Work>>,
}

pub(super) struct State {
    pub(super) objects: HashMap<Id, Object>,
    /// When what is reconciled again. The number keeps apart what is due at the same time.
    pub(super) times: BTreeMap<(Instant, u64), Id>,
    number: u64,
    remote: Queue<Id>,
    cluster: Queue<Id>,
}

impl State {
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            objects: HashMap::new(),
            times: BTreeMap::new(),
            number: 0,
            remote: Queue::new(concurrency),
            cluster: Queue::new(CLUSTER),
        }
    }

    pub(super) fn queue(&mut self, pool: Pool) -> &mut Queue<Id> {
        match pool {
            Pool::Remote => &mut self.remote,
            Pool::Cluster => &mut self.cluster,
        }
    }

    /// Sets when an object is due; returns whether nothing is due sooner.
    pub(super) fn set_due(&mut self, id: &Id, at: Option<Instant>) -> bool {
        let Some(object) = self.objects.get_mut(id) else { return false };
        if let Some(before) = object.due.take() {
            self.times.remove(&before);
        }
        let Some(at) = at else { return false };
        self.number += 1;
        let due = (at, self.number);
        object.due = Some(due);
        self.times.insert(due, Arc::clone(id));
        self.times.first_key_value().is_some_and(|(first, _)| *first == due)
    }

    /// Puts an object into the queue, unless it is there. Of several triggers the first counts.
    pub(super) fn enqueue(&mut self, id: &Id, trigger: Trigger) {
        let Some(object) = self.objects.get_mut(id) else { return };
        let trigger = object.place.trigger().unwrap_or(trigger);
        let Some(work) = &object.work else {
            object.place = Place::UnderWay { again: Some(trigger) };
            return;
        };
        let plan = work.plan(&id.1);
        let place = Place::Queued(plan.pool, trigger);
        if object.place != place {
            object.place = place;
            self.set_due(id, plan.too_late);
            self.queue(plan.pool).push(&id.1.namespace, Arc::clone(id), plan.urgent);
        }
    }

    /// The next object that may be reconciled.
    pub(super) fn begin(&mut self, pool: Pool) -> Option<Begun> {
        loop {
            let id = self.queue(pool).begin()?;
            if let Some(object) = self.objects.get_mut(&id)
                && let Place::Queued(queue, trigger) = object.place
                && queue == pool
                && let Some(work) = object.work.take()
            {
                object.place = Place::UnderWay { again: None };
                self.set_due(&id, None);
                return Some((id, work, trigger));
            }
            // It has been moved to the other queue.
            self.queue(pool).ended(&id.1.namespace, false);
        }
    }
}
