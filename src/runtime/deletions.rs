//! When the deletion of objects was first seen.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::core::ObjectMeta;
use tokio::time::Instant;

use crate::clock;

/// When the deletion of objects, by their uid, was first seen.
#[derive(Debug, Default)]
pub(crate) struct Deletions(Mutex<HashMap<String, Instant>>);

impl Deletions {
    /// The time by which a deletion is judged: the wall clock's, or a later one if that was set back since the deletion was
    /// first seen.
    pub(crate) fn time_of(&self, meta: &ObjectMeta, deleted: Timestamp) -> Timestamp {
        let (now, instant) = (clock::now().0, clock::instant());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *seen.entry(meta.uid.clone().unwrap_or_default()).or_insert(instant);
        let passed = SignedDuration::try_from(instant - since).unwrap_or(SignedDuration::MAX);
        now.max(deleted.saturating_add(passed).unwrap_or(now))
    }

    /// An object is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Source, install};

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_prolongs_no_deletion() {
        let begun = Timestamp::from_second(1_800_000_000).expect("a time");
        let at = |wall| install(Source { wall, uptime: Duration::ZERO, seed: 1 });
        let (deletions, meta) = (Deletions::default(), ObjectMeta::default());
        let first = at(begun);
        assert_eq!(deletions.time_of(&meta, begun), begun);
        drop(first);
        tokio::time::advance(Duration::from_mins(10)).await;
        let _set_back = at(begun - Duration::from_hours(24));
        assert_eq!(deletions.time_of(&meta, begun), begun + Duration::from_mins(10));
    }
}
