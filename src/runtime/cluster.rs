//! The API server's side of the operator, whatever its kinds are.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;

use super::deletions::Deletions;
use super::events::{Events, Happening, reference};
use super::namespaces::Namespaces;
use super::object::{Key, Reported};
use super::outages::Outages;
use super::workers::{Trigger, Workers};
use super::writer::Writer;
use crate::crd::Kind;
use crate::engine::reason::{EventReason, Reason};
use crate::engine::verdict::{Verdict, transition};
use crate::leader::fence::Fence;
use crate::metrics::Metrics;

/// What all kinds share.
#[derive(Debug)]
pub struct Cluster {
    /// Writes statuses and finalizers.
    pub(crate) writer: Writer,
    /// Writes events.
    pub(crate) events: Events,
    /// Which namespaces are being deleted.
    pub(crate) namespaces: Namespaces,
    /// When the deletion of objects was first seen.
    pub(crate) deletions: Deletions,
    /// What waits for the API server.
    pub(crate) outages: Outages,
    /// What is reconciled next.
    pub(crate) workers: Workers,
    /// Counts.
    pub(crate) metrics: Arc<Metrics>,
    /// Whether this replica may work.
    pub(crate) fence: Fence,
}

impl Cluster {
    /// Something that concerns an object has happened: it is reconciled if anything is to be done.
    pub(crate) fn wake(&self, kind: Kind, key: Key, trigger: Trigger) {
        self.workers.wake(kind, key, trigger);
    }

    /// Publishes that an object needs attention, or is ready again, unless it did so before. `warned` is the last reason to
    /// need it since the object was ready.
    pub(crate) fn report_transition(
        &self,
        object: ObjectReference,
        policy: impl FnOnce() -> Option<ObjectReference>,
        (before, warned): (Option<Reason>, Option<Reason>),
        now: &Verdict,
    ) {
        let Some((reason, note)) = transition(before, warned, now) else { return };
        self.events.publish(Happening { object, reason, note, policy: policy() });
    }

    /// Publishes what has happened to an object, and counts drift that was corrected. Its policy sums up if there is too much.
    pub fn publish<K: Reported>(
        &self,
        object: &K,
        reason: EventReason,
        note: String,
        policy: Option<ObjectReference>,
    ) {
        if reason == EventReason::DriftCorrected {
            self.metrics.drift_corrected(K::KIND.as_str());
        }
        self.events.publish(Happening { object: reference(object), reason, note, policy });
    }
}
