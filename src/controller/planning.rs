//! The processor time of planning, shared by namespaces: a plan reads a whole fleet.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The plans of a namespace take at most one part in this many of the time.
const SHARE: u32 = 10;

/// When the policies of each namespace are planned.
#[derive(Debug, Default)]
pub(crate) struct Planning(Mutex<HashMap<String, Queue>>);

#[derive(Debug)]
struct Queue {
    /// When the next turn begins, at the earliest.
    free: Instant,
    /// The time of the last plan, with the pause after it: what a plan takes, as a rule.
    spacing: Duration,
}

impl Planning {
    /// When the next plan of a namespace may be made; what was asked for later comes later.
    pub fn next(&self, namespace: &str, now: Instant) -> Instant {
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(namespace) else { return now };
        let turn = queue.free.max(now);
        queue.free = turn + queue.spacing;
        turn
    }

    /// A plan has taken this long, after what has to be found out once for all policies.
    pub fn took(&self, namespace: &str, finding_out: Duration, planning: Duration, now: Instant) {
        let mut queues = self.queues();
        queues.retain(|_, queue| queue.free > now);
        let (pause, spacing) = ((finding_out + planning) * SHARE, planning * SHARE);
        if !pause.is_zero() {
            let queue = queues.entry(namespace.to_owned()).or_insert(Queue { free: now, spacing });
            (queue.free, queue.spacing) = (queue.free.max(now + pause), spacing);
        }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_of_a_namespace_take_a_tenth_of_the_time_whatever_the_number_of_policies() {
        let (planning, start) = (Planning::default(), crate::clock::instant());
        let millisecond = Duration::from_millis(1);
        assert_eq!(planning.next("berlin", start), start);
        planning.took("berlin", Duration::ZERO, millisecond, start);
        let waits: Vec<Duration> = (0..3).map(|_| planning.next("berlin", start) - start).collect();
        assert_eq!(waits, [10 * millisecond, 20 * millisecond, 30 * millisecond], "in the order of asking");
        assert_eq!(planning.next("bonn", start), start, "another namespace does not wait");
    }

    #[test]
    fn a_namespace_that_rested_does_not_wait_and_nothing_is_kept_of_it() {
        let (planning, start) = (Planning::default(), crate::clock::instant());
        planning.took("berlin", Duration::ZERO, Duration::from_millis(1), start);
        let later = start + Duration::from_secs(1);
        assert_eq!(planning.next("berlin", later), later);
        let later = later + Duration::from_secs(1);
        planning.took("bonn", Duration::from_millis(1), Duration::ZERO, later);
        assert_eq!(planning.queues().len(), 1);
    }
}
