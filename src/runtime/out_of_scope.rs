//! Objects that leave what this operator sees: a changed label, or a namespace that it may not read anymore. Nothing of ours
//! may keep them from being deleted later, so our finalizer is taken off them. The watch calls this a deletion.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::core::ObjectMeta;
use tokio::sync::Semaphore;

use super::object::Key;

/// Concurrent requests for objects of one kind.
const AT_ONCE: usize = 8;

/// Objects of one kind that have left with our finalizer.
#[derive(Debug)]
pub(crate) struct OutOfScope {
    left: Mutex<BTreeMap<Key, ObjectMeta>>,
    pub(crate) at_once: Semaphore,
}

impl Default for OutOfScope {
    fn default() -> Self {
        Self { left: Mutex::default(), at_once: Semaphore::new(AT_ONCE) }
    }
}

impl OutOfScope {
    fn left(&self) -> MutexGuard<'_, BTreeMap<Key, ObjectMeta>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object with our finalizer is out of scope.
    pub(crate) fn record(&self, meta: &ObjectMeta) {
        self.left().insert(Key::of(meta), meta.clone());
    }

    /// Objects that have left and are not settled yet.
    #[must_use]
    pub(crate) fn open(&self) -> Vec<Key> {
        self.left().keys().cloned().collect()
    }

    /// The metadata of one that has left, once.
    pub(crate) fn take(&self, key: &Key) -> Option<ObjectMeta> {
        self.left().remove(key)
    }
}
