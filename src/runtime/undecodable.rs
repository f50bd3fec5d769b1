//! Objects that the API server accepted under another schema and that this one does not understand.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::object::{Key, Reported};
use super::restore;
use super::store::Store;
use super::workers::UNDISTURBED;
use crate::clock;
use crate::crd::Condition;
use crate::engine::schedule;
use crate::engine::spec::undecodable;
use crate::engine::verdict::{self, Notes};

/// The number of refusals in a row after which one is logged: writes are refused for a moment while the API server takes up
/// another schema.
const LOGGED: u32 = 3;

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// What is remembered of an object that is not understood.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The generation that the rest is about.
    generation: Option<i64>,
    /// Reports in a row that the API server did not accept.
    refused: u32,
    /// When the report is due.
    due: Option<Instant>,
}

/// Reports that in the object's conditions, through its raw form, leaving the rest of its status alone. Nothing else is done
/// with it until it is corrected, or deleted.
pub(crate) async fn report<K: Reported>(store: &Store<K>, meta: &ObjectMeta, memory: &mut Memory) -> Instant {
    let next = set_condition(store, meta, memory).await;
    // What is not understood cannot be restored, unless it is corrected while its deletion waits.
    next.min(restore::release_unrestored(store, meta).await)
}

async fn set_condition<K: Reported>(store: &Store<K>, meta: &ObjectMeta, memory: &mut Memory) -> Instant {
    if memory.generation != meta.generation {
        *memory = Memory { generation: meta.generation, ..Memory::default() };
    }
    let outages = &store.cluster().outages;
    if let Some(latest) = outages.recall(K::KIND, Key::of(meta)).filter(|_| memory.refused > 0) {
        memory.due = memory.due.map(|due| due.min(latest));
    }
    // Whatever wakes this object, the same spec is reported once, and a refused report is repeated ever more slowly.
    if let Some(due) = memory.due.filter(|due| *due > clock::instant()) {
        return due;
    }
    let writing = tokio::time::timeout(API_TIMEOUT, write::<K>(store.cluster().writer.client(), meta));
    let wait = if let Ok(Ok(Ok(()))) = store.cluster().fence.within(writing).await {
        memory.refused = 0;
        UNDISTURBED
    } else {
        outages.wait(K::KIND, Key::of(meta));
        memory.refused = memory.refused.saturating_add(1);
        if memory.refused == LOGGED {
            let (kind, ObjectMeta { namespace, name, uid, .. }) = (K::KIND.as_str(), meta);
            tracing::warn!(
                kind,
                namespace,
                name,
                uid,
                "the status could not be updated to report that the object does not match the schema: correct or delete the object"
            );
        }
        schedule::backoff(memory.refused, clock::random())
    };
    let due = clock::instant() + wait;
    memory.due = Some(due);
    due
}

async fn write<K: Reported>(client: Client, meta: &ObjectMeta) -> kube::Result<()> {
    let key = Key::of(meta);
    let api = Api::<DynamicObject>::namespaced_with(client, &key.namespace, &ApiResource::erase::<K>(&()));
    let object = api.get(&key.name).await?;
    let generation = object.metadata.generation.unwrap_or_default();
    let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
    let old: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
    let new = verdict::conditions(&old, &undecodable(K::KIND), &Notes::default(), generation, &clock::now());
    if new == old {
        return Ok(());
    }
    let report = json!({
        // Should it arrive late, it replaces nothing newer.
        "metadata": {"resourceVersion": object.metadata.resource_version},
        "status": {"observedGeneration": generation, "conditions": new},
    });
    api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(report)).await.map(drop)
}
