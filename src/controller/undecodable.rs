//! Objects that the API server accepted under another schema and that this one does not understand.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::context::{Context, UNDISTURBED};
use super::events::reference_of;
use super::report::Written;
use super::restore;
use super::store::Key;
use super::workers::Reconciled;
use crate::clock;
use crate::crd::Condition;
use crate::engine::verdict::{self, Notes, Reason, Verdict};

/// Wait after the API server did not take the report: it refuses writes for a moment while it takes up another schema.
const AGAIN: Duration = Duration::from_secs(5);

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// Says so in the object's conditions, through its raw form, leaving the rest of its status alone. Nothing else is done
/// with it until it is corrected, or deleted.
pub async fn report<K: Reconciled>(
    context: &Arc<Context>,
    meta: &Arc<ObjectMeta>,
    reported: &mut Option<i64>,
) -> Instant {
    let next = tell::<K>(context, meta, reported).await;
    if !restore::is_leaving(meta) {
        return next;
    }
    // What is not understood cannot be restored, unless it is corrected while its deletion waits.
    let Some(why) = restore::let_go(context, meta).await else {
        return next.min(restore::next_look(meta));
    };
    match restore::release::<K>(context, meta).await {
        Written::Failed | Written::Forbidden => clock::instant() + AGAIN,
        Written::Gone | Written::Written | Written::Unchanged => {
            restore::skipped(context, reference_of::<K>(meta), why.as_str());
            clock::instant() + UNDISTURBED
        }
    }
}

async fn tell<K: Reconciled>(
    context: &Arc<Context>,
    meta: &Arc<ObjectMeta>,
    reported: &mut Option<i64>,
) -> Instant {
    // Whoever wakes this task, the same spec is reported once.
    if reported.is_some() && *reported == meta.generation {
        return clock::instant() + UNDISTURBED;
    }
    let writing = tokio::time::timeout(API_TIMEOUT, write::<K>(context.reporter.client(), meta));
    match context.fence.within(writing).await {
        Ok(Ok(Ok(()))) => {
            *reported = meta.generation;
            clock::instant() + UNDISTURBED
        }
        _ => clock::instant() + AGAIN,
    }
}

async fn write<K: Reconciled>(client: Client, meta: &ObjectMeta) -> kube::Result<()> {
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
