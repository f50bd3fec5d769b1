//! Answers that are asked for once: a caller that needs one waits for the question that is under way, and shares its answer
//! as long as that is fresh.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::clock;

/// An answer, and when the question was put and answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer<V> {
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
    value: V,
}

type Place<V> = Arc<tokio::sync::Mutex<Option<Answer<V>>>>;

/// The latest answer for each key.
#[derive(Debug)]
pub(crate) struct SingleFlight<K, V>(Mutex<HashMap<K, Place<V>>>);

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> SingleFlight<K, V> {
    fn places(&self) -> MutexGuard<'_, HashMap<K, Place<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer for a key: the last one if it `is_fresh` for a caller that came at the given moment, else a new one. No answer
    /// (`Err`) is not kept.
    pub(crate) async fn get<E>(
        &self,
        key: K,
        is_fresh: impl FnOnce(&Answer<V>, Instant) -> bool,
        ask: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        let place = Arc::clone(self.places().entry(key).or_default());
        let came = clock::instant();
        let mut last = place.lock().await;
        if let Some(answer) = last.as_ref().filter(|answer| is_fresh(answer, came)) {
            return Ok(answer.value.clone());
        }
        *last = None;
        let asked = clock::instant();
        let value = ask.await?;
        *last = Some(Answer { asked, answered: clock::instant(), value: value.clone() });
        Ok(value)
    }

    /// Drops the answers that nothing waits for and that are not to be kept.
    pub(crate) fn purge(&self, is_kept: impl Fn(&Answer<V>) -> bool) {
        let is_kept =
            |place: &Place<V>| place.try_lock().is_ok_and(|last| last.as_ref().is_some_and(&is_kept));
        self.places().retain(|_, place| Arc::strong_count(place) > 1 || is_kept(place));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    const FRESH: Duration = Duration::from_secs(3);

    async fn ask(cache: &SingleFlight<&'static str, u32>, count: &AtomicU32) -> u32 {
        let asking = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(count.fetch_add(1, Ordering::Relaxed))
        };
        cache.get("key", |answer, _| answer.answered.elapsed() < FRESH, asking).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_herd_puts_one_question_and_its_answer_serves_until_it_is_stale() {
        let (cache, count) = (SingleFlight::default(), AtomicU32::new(0));
        let herd = join_all((0..100).map(|_| ask(&cache, &count))).await;
        assert!(herd.iter().all(|answer| *answer == 0));
        tokio::time::advance(FRESH).await;
        assert_eq!(ask(&cache, &count).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_not_kept_and_what_is_not_to_be_kept_goes() {
        let cache = SingleFlight::default();
        let silent = cache.get("key", |_, _| true, async { Err::<u32, ()>(()) }).await;
        assert_eq!(silent, Err(()));
        assert_eq!(cache.get("key", |_, _| true, async { Ok::<_, ()>(1) }).await, Ok(1));
        cache.purge(|_| true);
        assert_eq!(cache.places().len(), 1);
        cache.purge(|_| false);
        assert_eq!(cache.places().len(), 0);
    }
}
