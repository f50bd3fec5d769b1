//! Objects that leave what this operator sees: a changed label, or a namespace that it may not read any more. Nothing of ours
//! may keep them from being deleted later, so our finalizer is taken off them. The watch calls this a deletion.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::core::ObjectMeta;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::context::Context;
use super::report::Written;
use super::restore;
use super::store::Key;
use super::workers::Reconciled;
use crate::clock;
use crate::crd::Kind;
use crate::engine::schedule;

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// Objects that are asked for at once.
const AT_ONCE: usize = 8;

/// What is known of objects that are leaving, or have left.
#[derive(Debug)]
pub struct Departures {
    /// Objects that carried our finalizer when they were last seen.
    left: Mutex<BTreeMap<(Kind, Key), ObjectMeta>>,
    /// Since when objects, by their uid, are known to be under deletion.
    leaving: Mutex<HashMap<String, Instant>>,
    at_once: Semaphore,
}

impl Default for Departures {
    fn default() -> Self {
        Self { left: Mutex::default(), leaving: Mutex::default(), at_once: Semaphore::new(AT_ONCE) }
    }
}

impl Departures {
    /// An object is not to be seen any more.
    pub fn record<K: Reconciled>(&self, meta: &ObjectMeta) {
        if restore::is_held(meta) {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.insert((K::KIND, Key::of(meta)), meta.clone());
        }
    }

    /// Objects that have left and are not settled yet.
    #[must_use]
    pub fn open(&self) -> Vec<(Kind, Key)> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The time by which a deletion is judged: the wall clock's, or a later one if that was set back since the deletion was
    /// first seen.
    pub fn time_of(&self, meta: &ObjectMeta, deleted: Timestamp) -> Timestamp {
        let (now, instant) = (clock::now().0, clock::instant());
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *leaving.entry(meta.uid.clone().unwrap_or_default()).or_insert(instant);
        let passed = SignedDuration::try_from(instant - since).unwrap_or(SignedDuration::MAX);
        now.max(deleted.saturating_add(passed).unwrap_or(now))
    }

    /// An object is gone.
    pub fn forget(&self, uid: &str) {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// An object is not reconciled any more: if it has only left, our finalizer is taken off it.
pub fn settle<K: Reconciled>(context: &Arc<Context>, key: &Key) {
    let mut left = context.departures.left.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(meta) = left.remove(&(K::KIND, key.clone())) else { return };
    drop(left);
    let context = Arc::clone(context);
    tokio::spawn(async move { release::<K>(&context, &meta).await });
}

async fn release<K: Reconciled>(context: &Arc<Context>, meta: &ObjectMeta) {
    for failures in 1.. {
        context.fence.opened().await;
        let turn = context.departures.at_once.acquire().await;
        let released = try_to_release::<K>(context, meta).await;
        drop(turn);
        if released {
            return;
        }
        tokio::time::sleep(schedule::backoff(failures, clock::random())).await;
    }
}

/// False where that is to be tried again.
async fn try_to_release<K: Reconciled>(context: &Arc<Context>, meta: &ObjectMeta) -> bool {
    let key = Key::of(meta);
    if K::store(context).get(&key).is_some() {
        // It has come back.
        return true;
    }
    let api = Api::<K>::namespaced(context.reporter.client(), &key.namespace);
    let now = match tokio::time::timeout(API_TIMEOUT, api.get_metadata_opt(&key.name)).await {
        Ok(Ok(Some(now))) if now.metadata.uid == meta.uid => now.metadata,
        Ok(Ok(_)) => return true,
        _ => return false,
    };
    match restore::release::<K>(context, &now).await {
        Written::Written => {
            tracing::info!(kind = K::KIND.as_str(), object = %key, "out of scope: the finalizer is released");
            true
        }
        Written::Unchanged | Written::Gone => true,
        Written::Failed | Written::Forbidden => false,
    }
}
