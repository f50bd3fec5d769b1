//! How long the deletion of an object waits for its remote value to be restored.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::ObjectMeta;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::events::{Happening, reference_of};
use super::finalizers;
use super::object::{Key, Reported};
use super::store::Store;
use super::workers::UNDISTURBED;
use super::writer::Written;
use crate::clock;
use crate::crd::SKIP_RESTORE;
use crate::engine::annotation;
use crate::engine::reason::EventReason;
use crate::engine::restoration::{self, SkipReason};

/// Time between two checks whether the deletion of an object still waits: nothing may report that its namespace is terminating.
const CHECK: Duration = Duration::from_secs(5);

/// Why a deletion does not wait for the remote value any longer, if so. Asks for the namespace, so it is for objects whose
/// deletion waits for us.
pub(crate) async fn skip_reason(cluster: &Cluster, meta: &ObjectMeta) -> Option<SkipReason> {
    let deleted = meta.deletion_timestamp.as_ref()?.0;
    let asked = annotation::value(meta, SKIP_RESTORE) == Some("true");
    let known = restoration::skip_reason(deleted, asked, false, cluster.deletions.time_of(meta, deleted));
    if known.is_some() {
        return known;
    }
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let ends = cluster.namespaces.ask_terminating(&cluster.writer.client(), namespace).await;
    restoration::skip_reason(deleted, asked, ends, cluster.deletions.time_of(meta, deleted))
}

/// Waits until a deletion does not wait for the remote value any longer, to be raced against work on it. None if the
/// object has gone meanwhile.
pub(crate) async fn until_skipped<K: Reported>(store: &Store<K>, meta: &ObjectMeta) -> Option<SkipReason> {
    let key = Key::of(meta);
    loop {
        let entry = store.get(&key).filter(|now| now.meta().uid == meta.uid)?;
        if let Some(why) = skip_reason(store.cluster(), entry.meta()).await {
            return Some(why);
        }
        tokio::time::sleep_until(next_check(entry.meta())).await;
    }
}

/// When an object whose deletion waits, or may come, is checked again, at the latest.
#[must_use]
pub(crate) fn next_check(meta: &ObjectMeta) -> Instant {
    let left = Some(time_left(meta)).filter(|left| !left.is_zero());
    clock::instant() + left.map_or(CHECK, |left| left.min(CHECK))
}

/// The time that is left for restoring; none if the object is not being deleted.
#[must_use]
pub(crate) fn time_left(meta: &ObjectMeta) -> Duration {
    let deleted = meta.deletion_timestamp.as_ref();
    deleted.map_or(Duration::ZERO, |deleted| restoration::time_left(deleted.0, clock::now().0))
}

/// Removes our finalizer from an object for which nothing else is done, once its deletion does not wait any longer. Returns
/// when to check it again.
pub(crate) async fn release_unrestored<K: Reported>(store: &Store<K>, meta: &ObjectMeta) -> Instant {
    if !finalizers::is_leaving(meta) {
        return clock::instant() + UNDISTURBED;
    }
    let Some(why) = skip_reason(store.cluster(), meta).await else { return next_check(meta) };
    match release(store, meta, Some(why.as_str())).await {
        Written::Failed | Written::Forbidden => next_check(meta),
        Written::Gone | Written::Done | Written::Unchanged => clock::instant() + UNDISTURBED,
    }
}

/// Removes our finalizer from an object. `why` is a clause that is reported then if the original value is not restored.
pub(crate) async fn release<K: Reported>(store: &Store<K>, meta: &ObjectMeta, why: Option<&str>) -> Written {
    let written = finalizers::release(store, meta).await;
    if let Some(why) = why.filter(|_| !matches!(written, Written::Failed | Written::Forbidden)) {
        report_skipped(store.cluster(), reference_of::<K>(meta), why);
    }
    written
}

/// Reports that an object went, or was changed, without its remote value being restored. `why` is a clause.
pub(crate) fn report_skipped(cluster: &Cluster, object: ObjectReference, why: &str) {
    let note = restoration::not_restored(why);
    cluster.events.publish(Happening { object, reason: EventReason::RestoreSkipped, note, policy: None });
}
