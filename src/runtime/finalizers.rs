//! Our finalizer: it delays the deletion of an object until its original remote value is restored.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::Api;
use kube::core::ObjectMeta;
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::object::{Key, Reported};
use super::store::{Source, Store};
use super::workers::UNDISTURBED;
use super::writer::{Part, Written};
use crate::clock;
use crate::crd::RESTORE;
pub use crate::engine::restoration::{has_finalizer, is_leaving, is_released};
use crate::engine::schedule;

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// Wait after a finalizer could not be removed: the operator may keep its permissions for only a few more seconds.
const RETRY: Duration = Duration::from_secs(2);

/// Puts our finalizer on an object, so that it does not go before its remote value was restored. One that is being deleted,
/// or whose namespace is, takes no finalizer anymore: to us it is gone.
pub(crate) async fn hold<K: Reported>(store: &Arc<Store<K>>, meta: &ObjectMeta) -> Written {
    if has_finalizer(meta) {
        return Written::Unchanged;
    }
    if meta.deletion_timestamp.is_some()
        || store.cluster().namespaces.is_terminating(meta.namespace.as_deref().unwrap_or_default())
    {
        return Written::Gone;
    }
    let mut desired = finalizers(meta).to_vec();
    desired.push(RESTORE.to_owned());
    // A reconcile ends with its object, and must not leave a finalizer behind that nothing knows of.
    let (store, meta) = (Arc::clone(store), meta.clone());
    let held = async move {
        let written = write(&store, &meta, &desired).await;
        // The watch can be ahead: what has left the scope may have got our finalizer after that.
        if matches!(written, Written::Done | Written::Failed) && store.get(&Key::of(&meta)).is_none() {
            store.left(&meta);
        }
        written
    };
    tokio::spawn(held.in_current_span()).await.unwrap_or(Written::Failed)
}

/// The same for a reconcile's working copy, which has the finalizer from then on.
pub(crate) async fn hold_working<K: Reported>(store: &Arc<Store<K>>, object: &mut Arc<K>) -> Written {
    let written = hold(store, object.meta()).await;
    if written == Written::Done {
        let now = store.valid(&Key::of(object.meta()));
        let Some(now) = now.filter(|now| now.meta().uid == object.meta().uid) else { return Written::Gone };
        *object = now;
    }
    written
}

/// Removes our finalizer from an object. `Gone` if it was the last one of an object that is being deleted: from then on the
/// store holds it as one whose deletion does not wait for us, until the watch reports that it is gone.
pub(crate) async fn release<K: Reported>(store: &Store<K>, meta: &ObjectMeta) -> Written {
    if !has_finalizer(meta) {
        return Written::Unchanged;
    }
    let desired: Vec<String> = finalizers(meta).iter().filter(|f| *f != RESTORE).cloned().collect();
    write(store, meta, &desired).await
}

/// Removes our finalizer from an object whose namespace is being deleted. Returns when to try again.
pub(crate) async fn release_terminating<K: Reported>(store: &Store<K>, meta: &ObjectMeta) -> Instant {
    match release(store, meta).await {
        Written::Failed | Written::Forbidden => clock::instant() + RETRY,
        Written::Unchanged | Written::Done | Written::Gone => clock::instant() + UNDISTURBED,
    }
}

/// The same for all objects of a namespace: one may be in the middle of a reconcile.
pub(crate) async fn release_namespace<K: Reported>(store: &Store<K>, namespace: &str) {
    let objects = store.namespace(namespace);
    join_all(objects.iter().map(|entry| release_terminating(store, entry.meta()))).await;
}

fn finalizers(meta: &ObjectMeta) -> &[String] {
    meta.finalizers.as_deref().unwrap_or_default()
}

/// Replaces the finalizers, if they still are what we know of them: others have theirs, and none of them may be lost.
async fn write<K: Reported>(store: &Store<K>, meta: &ObjectMeta, desired: &[String]) -> Written {
    // A test for null holds where there is nothing.
    let present = Some(finalizers(meta)).filter(|present| !present.is_empty());
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": meta.uid}),
        json!({"op": "test", "path": "/metadata/finalizers", "value": present}),
        json!({"op": "add", "path": "/metadata/finalizers", "value": desired}),
    ];
    if desired.len() > finalizers(meta).len() {
        // A request that arrives late must not add ours to an object that has left the scope since, and lost it.
        let labels = meta.labels.as_ref().filter(|labels| !labels.is_empty());
        operations.insert(1, json!({"op": "test", "path": "/metadata/labels", "value": labels}));
    }
    match store.cluster().writer.patch::<K>(meta, Part::Finalizers, operations.into()).await {
        Ok(Some(entry)) => {
            // Its deletion may be news: the watch can be behind.
            store.put(&entry, Source::OwnWrite);
            let gone = entry.meta().deletion_timestamp.is_some() && finalizers(entry.meta()).is_empty();
            if gone { Written::Gone } else { Written::Done }
        }
        Ok(None) => Written::Failed,
        Err(written) => written,
    }
}

/// An object is not reconciled anymore: if it has only left, our finalizer is taken off it.
pub(crate) fn settle<K: Reported>(store: &Arc<Store<K>>, key: &Key) {
    let Some(meta) = store.out_of_scope().take(key) else { return };
    let store = Arc::clone(store);
    tokio::spawn(async move { release_departed(&store, &meta).await });
}

async fn release_departed<K: Reported>(store: &Store<K>, meta: &ObjectMeta) {
    for failures in 1.. {
        store.cluster().fence.opened().await;
        let permit = store.out_of_scope().at_once.acquire().await;
        let released = try_to_release(store, meta).await;
        drop(permit);
        if released {
            return;
        }
        tokio::time::sleep(schedule::backoff(failures, clock::random())).await;
    }
}

/// False if that is to be tried again.
async fn try_to_release<K: Reported>(store: &Store<K>, meta: &ObjectMeta) -> bool {
    let key = Key::of(meta);
    if store.get(&key).is_some() {
        // It has come back.
        return true;
    }
    let api = Api::<K>::namespaced(store.cluster().writer.client(), &key.namespace);
    let now = match tokio::time::timeout(API_TIMEOUT, api.get_metadata_opt(&key.name)).await {
        Ok(Ok(Some(now))) if now.metadata.uid == meta.uid => now.metadata,
        Ok(Ok(_)) => return true,
        _ => return false,
    };
    match release(store, &now).await {
        Written::Done => {
            let (kind, uid, Key { namespace, name }) = (K::KIND.as_str(), &meta.uid, key);
            tracing::info!(kind, namespace, name, uid, "removed the finalizer: the object is out of scope");
            true
        }
        Written::Unchanged | Written::Gone => true,
        Written::Failed | Written::Forbidden => false,
    }
}
