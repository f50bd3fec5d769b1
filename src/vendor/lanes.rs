//! How hard one remote system is asked: requests under way at once, and requests begun per second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::clock;

/// Bounds of one remote system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests under way at once.
    pub in_flight: u32,
    /// Requests begun per second; none for no bound.
    pub per_second: Option<u32>,
}

impl Bounds {
    /// One request at a time, as fast as they are answered.
    pub const ONE_AT_A_TIME: Self = Self { in_flight: 1, per_second: None };
}

/// The way to one remote system, shared by all that ask it.
#[derive(Debug)]
pub struct Lane {
    bounds: Bounds,
    in_flight: Arc<Semaphore>,
    /// Where those wait who are not in a hurry, so that the others find a short queue.
    door: Semaphore,
    next_start: Mutex<Option<Instant>>,
}

impl Lane {
    fn new(bounds: Bounds) -> Self {
        let in_flight = Arc::new(Semaphore::new(bounds.in_flight.max(1) as usize));
        Self { bounds, in_flight, door: Semaphore::new(1), next_start: Mutex::new(None) }
    }

    /// Waits until one more request may begin. Dropping the permit ends the request. The rest of a change that was begun
    /// is `urgent`: it passes all who only begin, so that nothing old is written.
    pub async fn enter(&self, urgent: bool) -> Option<OwnedSemaphorePermit> {
        let door = if urgent { None } else { self.door.acquire().await.ok() };
        let permit = Arc::clone(&self.in_flight).acquire_owned().await.ok();
        drop(door);
        if let Some(per_second) = self.bounds.per_second {
            let start = self.reserve(Duration::from_secs(1) / per_second.max(1));
            tokio::time::sleep_until(start).await;
        }
        permit
    }

    fn reserve(&self, spacing: Duration) -> Instant {
        let now = clock::instant();
        let mut next = self.next_start.lock().unwrap_or_else(PoisonError::into_inner);
        let start = next.map_or(now, |at| at.max(now));
        *next = Some(start + spacing);
        start
    }
}

/// The lanes by effective URL.
#[derive(Debug, Default)]
pub struct Lanes(Mutex<HashMap<String, Arc<Lane>>>);

impl Lanes {
    /// The lane to a URL; a new one where its bounds have changed.
    pub fn lane(&self, url: &str, bounds: Bounds) -> Arc<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match lanes.get(url) {
            Some(lane) if lane.bounds == bounds => Arc::clone(lane),
            _ => {
                // Unused ones go, now and then: looking at all of them at each new one would be quadratic.
                if lanes.len().is_power_of_two() {
                    lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
                }
                let lane = Arc::new(Lane::new(bounds));
                lanes.insert(url.to_owned(), Arc::clone(&lane));
                lane
            }
        }
    }
}
