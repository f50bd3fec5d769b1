//! Objects that the API server accepted under another schema and that this one does not understand.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::events::reference_of;
use super::object::{Key, Reported};
use super::store::Store;
use super::workers::UNDISTURBED;
use super::writer::Written;
use super::{finalizers, restore};
use crate::clock;
use crate::crd::Condition;
use crate::engine::verdict::{self, Notes, Reason, Verdict};

/// Wait after the API server did not take the report: it refuses writes for a moment while it takes up another schema.
const AGAIN: Duration = Duration::from_secs(5);

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// Reports that in the object's conditions, through its raw form, leaving the rest of its status alone. Nothing else is done
/// with it until it is corrected, or deleted.
pub(crate) async fn report<K: Reported>(
    store: &Store<K>,
    meta: &ObjectMeta,
    reported: &mut Option<i64>,
) -> Instant {
    let next = set_condition(store, meta, reported).await;
    if !finalizers::is_leaving(meta) {
        return next;
    }
    // What is not understood cannot be restored, unless it is corrected while its deletion waits.
    let Some(why) = restore::skip_reason(store.cluster(), meta).await else {
        return next.min(restore::next_check(meta));
    };
    match finalizers::release(store, meta).await {
        Written::Failed | Written::Forbidden => clock::instant() + AGAIN,
        Written::Gone | Written::Done | Written::Unchanged => {
            restore::report_skipped(store.cluster(), reference_of::<K>(meta), why.as_str());
            clock::instant() + UNDISTURBED
        }
    }
}

async fn set_condition<K: Reported>(
    store: &Store<K>,
    meta: &ObjectMeta,
    reported: &mut Option<i64>,
) -> Instant {
    // Whatever wakes this object, the same spec is reported once.
    if reported.is_some() && *reported == meta.generation {
        return clock::instant() + UNDISTURBED;
    }
    let writing = tokio::time::timeout(API_TIMEOUT, write::<K>(store.cluster().writer.client(), meta));
    match store.cluster().fence.within(writing).await {
        Ok(Ok(Ok(()))) => {
            *reported = meta.generation;
            clock::instant() + UNDISTURBED
        }
        _ => clock::instant() + AGAIN,
    }
}

async fn write<K: Reported>(client: Client, meta: &ObjectMeta) -> kube::Result<()> {
    let key = Key::of(meta);
    let api = Api::<DynamicObject>::namespaced_with(client, &key.namespace, &ApiResource::erase::<K>(&()));
    let object = api.get(&key.name).await?;
    let generation = object.metadata.generation.unwrap_or_default();
    let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
    let old: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
    let message = format!(
        "The spec does not match this version of {}. Compare it with kubectl explain, and correct or delete the resource.",
        K::KIND.as_str()
    );
    let verdict = Verdict::new(Reason::InvalidSpec, message);
    let new = verdict::conditions(&old, &verdict, &Notes::default(), generation, &clock::now());
    if new == old {
        return Ok(());
    }
    let status = json!({"status": {"observedGeneration": generation, "conditions": new}});
    api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(status)).await.map(drop)
}
