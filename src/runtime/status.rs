//! Statuses: what every report sets, and writing one only if it has changed.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use serde_json::json;

use super::object::{Entry, Key, Reported};
use super::store::{Source, Store};
use super::writer::{Part, Written};
use crate::clock;
use crate::engine::verdict::{self, Notes, Verdict};

/// Wait after the API server did not take a status.
pub(crate) const AGAIN: Duration = Duration::from_secs(15);
/// Versions of an object that the write of a status is tried on, one after the other.
const VERSIONS: u32 = 4;
/// `lastCheckedTime` is refreshed after this time if nothing else was written.
const REFRESH: Duration = Duration::from_hours(1);

/// Sets what every report sets: conditions, each with the generation that they are about.
pub fn set_verdict<K: Reported>(status: &mut K::Status, object: &K, verdict: &Verdict, notes: &Notes) {
    let generation = object.meta().generation.unwrap_or_default();
    let (observed, conditions) = K::head(status);
    *conditions = verdict::conditions(
        conditions,
        &verdict.noting_ignored(object.meta()),
        notes,
        generation,
        &clock::now(),
    );
    *observed = Some(generation);
}

/// Sets what a paused object reports: `Ready` stays as it was.
pub fn set_suspended<K: Reported>(status: &mut K::Status, object: &K, message: &str) {
    let generation = object.meta().generation.unwrap_or_default();
    let (observed, conditions) = K::head(status);
    *conditions = verdict::suspended(conditions, message, generation, &clock::now());
    *observed = Some(generation);
}

/// Writes a status if it has changed, or if its time of the last check is an hour old.
pub(crate) async fn write<K: Reported>(store: &Store<K>, object: &K, status: K::Status) -> Written {
    match send(store, object, status).await {
        Ok(Some(_)) => Written::Done,
        Ok(None) => Written::Unchanged,
        Err(written) => written,
    }
}

/// The same for a reconcile's working copy, which is the object as written from then on.
pub(crate) async fn update<K: Reported>(store: &Store<K>, object: &mut Arc<K>, status: K::Status) -> Written {
    match send(store, &**object, status).await {
        Ok(None) => Written::Unchanged,
        Ok(Some(Entry::Valid(now))) => {
            *object = now;
            Written::Done
        }
        // It does not fit the schema anymore.
        Ok(Some(Entry::Undecodable(_))) => Written::Gone,
        Err(written) => written,
    }
}

/// The object as it was written; none if there is nothing new to write.
async fn send<K: Reported>(
    store: &Store<K>,
    object: &K,
    status: K::Status,
) -> Result<Option<Entry<K>>, Written> {
    let old = object.status().cloned().unwrap_or_default();
    if is_unchanged::<K>(&old, &status, object) {
        return Ok(None);
    }
    let value = serde_json::to_value(&status).map_err(|_| Written::Failed)?;
    let (key, writer) = (Key::of(object.meta()), &store.cluster().writer);
    // Others edit everything but the status: every version that has the one that this was made from is as good.
    let is_base = |now: &Arc<K>| now.uid() == object.uid() && now.status() == object.status();
    let known = store.valid(&key).filter(is_base);
    let mut version = known.map_or_else(|| object.resource_version(), |known| known.resource_version());
    for _ in 0..VERSIONS {
        // The whole status, unless there is a newer one: when this arrives, another replica may have the lease.
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": object.uid()},
            {"op": "add", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": value},
        ]);
        if let Some(entry) = writer.patch::<K>(object.meta(), Part::Status, operations).await? {
            store.put(&entry, Source::OwnWrite);
            return Ok(Some(entry));
        }
        let entry = writer.read::<K>(&key).await?;
        store.put(&entry, Source::OwnWrite);
        match entry.valid().filter(|now| now.uid() == object.uid()) {
            None => return Err(Written::Gone),
            // It is ours: an answer was lost.
            Some(now) if now.status() == Some(&status) => return Ok(Some(entry)),
            Some(now) if is_base(now) => version = now.resource_version(),
            Some(_) => break,
        }
    }
    let (kind, uid, Key { namespace, name }) = (K::KIND.as_str(), object.uid(), key);
    tracing::debug!(kind, namespace, name, uid, "the status has changed in the meantime");
    Err(Written::Failed)
}

fn is_unchanged<K: Reported>(old: &K::Status, new: &K::Status, object: &K) -> bool {
    let (mut old, mut new) = (old.clone(), new.clone());
    let checked =
        |status: &mut K::Status| K::times(status).into_iter().flatten().next().and_then(Option::take);
    let (before, now) = (checked(&mut old), checked(&mut new));
    for time in K::times(&mut old).into_iter().chain(K::times(&mut new)).flatten() {
        *time = None;
    }
    if old != new {
        return false;
    }
    match (before, now) {
        (Some(before), Some(now)) => now.0.duration_since(before.0).unsigned_abs() < spread(object),
        (None, Some(_)) => false,
        _ => true,
    }
}

/// An hour, and up to six minutes more, always the same for one object, so that a fleet's writes spread out.
fn spread(object: &impl ResourceExt) -> Duration {
    let sum = object
        .uid()
        .unwrap_or_default()
        .bytes()
        .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    REFRESH + Duration::from_secs(u64::from(sum % 360))
}
