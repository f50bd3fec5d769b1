//! What was made for the systems asked most recently: bounded in number, so that a fleet of any size costs the same.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// How many are kept: systems with an idle connection each, which takes some 37 kB. More of them than exchanges that move at
/// once save a handshake only to a fleet that is checked more often than every 30 seconds.
pub(super) const KEPT: usize = 64;
/// How long what is not used is kept, and its idle connection with it. It is dropped twice a minute, so all of it is gone a
/// minute after its last use.
const UNUSED: Duration = Duration::from_secs(30);

/// The values used most recently, and when.
pub(super) struct Recent<K, V>(Mutex<HashMap<K, (V, Instant)>>);

/// Whose value it is that is kept under a key.
pub(super) trait Owned {
    /// The namespace.
    fn namespace(&self) -> &str;
}

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

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.values().len()
    }

    /// Drops what has not been used for a while.
    pub(super) fn purge(&self) {
        self.values().retain(|_, (_, used)| used.elapsed() < UNUSED);
    }
}

impl<K: Clone + Eq + Hash + Owned, V: Clone> Recent<K, V> {
    /// The value of a key. A new one is made while others are served, and takes the place of one that has not been used for
    /// the longest time: of the namespace that has most of them, so that none drives out those of another.
    pub(super) fn get_or<E>(&self, key: &K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let now = clock::instant();
        if let Some((value, used)) = self.values().get_mut(key) {
            *used = now;
            return Ok(value.clone());
        }
        let value = make()?;
        let mut values = self.values();
        if values.len() >= KEPT && !values.contains_key(key) {
            let oldest = oldest_of_most(&values);
            oldest.and_then(|oldest| values.remove(&oldest));
        }
        // Another exchange may have been faster.
        Ok(values.entry(key.clone()).or_insert((value, now)).0.clone())
    }
}

fn oldest_of_most<K: Clone + Owned, V>(values: &HashMap<K, (V, Instant)>) -> Option<K> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for key in values.keys() {
        *counts.entry(key.namespace()).or_default() += 1;
    }
    let most = counts.values().max().copied()?;
    let of_most = values.iter().filter(|(key, _)| counts.get(key.namespace()) == Some(&most));
    of_most.min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    impl Owned for (&str, u32) {
        fn namespace(&self) -> &str {
            self.0
        }
    }

    fn get(recent: &Recent<(&'static str, u32), u32>, key: (&'static str, u32), value: u32) -> u32 {
        recent.get_or(&key, || Ok::<_, Infallible>(value)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn no_namespace_drives_out_what_another_uses() {
        let recent = Recent::default();
        for number in 0..10 {
            get(&recent, ("a", number), 1);
        }
        for number in 0..5_000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            get(&recent, ("b", number), 1);
        }
        assert_eq!(recent.len(), KEPT);
        let kept = |key| get(&recent, key, 2) == 1;
        assert!((0..10).all(|number| kept(("a", number))));
        assert!(kept(("b", 4_999)) && !kept(("b", 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_is_gone_within_a_minute() {
        let recent = Recent::default();
        get(&recent, ("a", 1), 1);
        for (wait, kept) in [(29, 1), (30, 0)] {
            tokio::time::advance(Duration::from_secs(wait)).await;
            recent.purge();
            assert_eq!(recent.len(), kept);
        }
    }

    #[test]
    fn making_one_holds_up_no_other() {
        let recent = Recent::default();
        let made = recent.get_or(&("a", 1), || {
            get(&recent, ("b", 1), 3);
            Ok::<_, Infallible>(get(&recent, ("a", 1), 4))
        });
        assert_eq!((made, get(&recent, ("b", 1), 0)), (Ok(4), 3));
    }
}
