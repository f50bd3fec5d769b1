//! What was made for the systems asked most recently: bounded in number, so that a fleet of any size costs the same.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// How many are kept: systems with an idle connection each, and TLS settings. A connection takes some 37 kB; more of them
/// than exchanges that move at once save a handshake only to a fleet that is checked more often than every 90 seconds.
const KEPT: usize = 64;
/// How long what is not used is kept.
const UNUSED: Duration = Duration::from_hours(1);

/// The values used most recently, and when.
pub(super) struct Recent<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, V> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recent({})", self.values().len())
    }
}

impl<K, V> Recent<K, V> {
    fn values(&self) -> MutexGuard<'_, HashMap<K, (V, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what has not been used for a while.
    pub(super) fn purge(&self) {
        self.values().retain(|_, (_, used)| used.elapsed() < UNUSED);
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    /// The value of a key. A new one takes the place of the one that has not been used for the longest time.
    pub(super) fn get_or<E>(&self, key: &K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let mut values = self.values();
        if let Some((value, used)) = values.get_mut(key) {
            *used = clock::instant();
            return Ok(value.clone());
        }
        let value = make()?;
        if values.len() >= KEPT {
            let oldest = values.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| values.remove(&oldest));
        }
        values.insert(key.clone(), (value.clone(), clock::instant()));
        Ok(value)
    }
}
