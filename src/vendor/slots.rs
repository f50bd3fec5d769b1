//! How many exchanges move at once, shared fairly among namespaces.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::metrics::Metrics;

/// The operator's slots. Each namespace queues for itself; a slot that becomes free goes to the namespaces in turn.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    count: i64,
    /// How many are not free: the metric is the count.
    in_use: Gauge,
    queues: HashMap<String, Queue>,
    turns: VecDeque<String>,
}

/// The exchanges of one namespace that wait for a slot.
#[derive(Debug, Default)]
struct Queue {
    /// Those that go first.
    urgent: VecDeque<oneshot::Sender<Slot>>,
    others: VecDeque<oneshot::Sender<Slot>>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.others.is_empty()
    }

    fn next(&mut self) -> Option<oneshot::Sender<Slot>> {
        self.urgent.pop_front().or_else(|| self.others.pop_front())
    }
}

/// One slot, released when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Option<Slots>);

impl Slots {
    /// As many slots as `--concurrency` sets. `metrics` shows how many are taken.
    #[must_use]
    pub fn new(count: usize, metrics: &Metrics) -> Self {
        Self(Arc::new(Mutex::new(State {
            count: i64::try_from(count.max(1)).unwrap_or(i64::MAX),
            in_use: metrics.slots_in_use(),
            queues: HashMap::new(),
            turns: VecDeque::new(),
        })))
    }

    /// Waits for a slot. An `urgent` exchange goes before the others of its namespace.
    pub(crate) async fn acquire(&self, namespace: &str, urgent: bool) -> Slot {
        let waiting = {
            let mut state = self.state();
            if state.in_use.get() < state.count {
                state.in_use.inc();
                return Slot(Some(self.clone()));
            }
            let (sender, receiver) = oneshot::channel();
            let queue = state.queues.entry(namespace.to_owned()).or_default();
            let is_first = queue.is_empty();
            if urgent { &mut queue.urgent } else { &mut queue.others }.push_back(sender);
            if is_first {
                state.turns.push_back(namespace.to_owned());
            }
            receiver
        };
        // A sender is dropped only together with the whole queue, which lives as long as `self`.
        waiting.await.unwrap_or(Slot(None))
    }

    /// Passes a slot on to the exchange that is next.
    fn give_back(&self) {
        let mut state = self.state();
        while let Some(namespace) = state.turns.pop_front() {
            let Some(queue) = state.queues.get_mut(&namespace) else { continue };
            let next = queue.next();
            if queue.is_empty() {
                state.queues.remove(&namespace);
            } else {
                state.turns.push_back(namespace);
            }
            match next.map(|waiting| waiting.send(Slot(Some(self.clone())))) {
                Some(Ok(())) => return,
                // It has stopped waiting: the slot that came back must not give itself back while we hold the lock.
                Some(Err(mut slot)) => slot.0 = None,
                None => {}
            }
        }
        state.in_use.dec();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.0.take() {
            slots.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn namespaces_take_turns() {
        let slots = Slots::new(1, &Metrics::new(false));
        let first = slots.acquire("a", false).await;
        let mut waiting: Vec<_> = ["a", "a", "a", "b", "c"]
            .map(|ns| (ns, Box::pin(slots.acquire(ns, false))))
            .into_iter()
            .collect();
        for (_, future) in &mut waiting {
            assert!(poll!(future).is_pending());
        }
        drop(first);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            for index in 0..waiting.len() {
                if let Poll::Ready(slot) = poll!(&mut waiting[index].1) {
                    order.push(waiting.remove(index).0);
                    drop(slot);
                    break;
                }
            }
        }
        assert_eq!(order, ["a", "b", "c", "a", "a"]);
    }

    #[tokio::test]
    async fn those_in_use_are_shown() {
        let metrics = Metrics::new(false);
        let slots = Slots::new(8, &metrics);
        let both = (slots.acquire("a", false).await, slots.acquire("b", true).await);
        assert!(metrics.text().contains("tenure_slots_in_use 2\n"), "{}", metrics.text());
        drop(both);
        assert!(metrics.text().contains("tenure_slots_in_use 0\n"));
    }

    #[tokio::test]
    async fn an_urgent_exchange_passes_its_own_namespace_only() {
        let slots = Slots::new(1, &Metrics::new(false));
        let first = slots.acquire("a", false).await;
        let mut waiting: Vec<_> =
            [("a", false), ("a", false), ("b", false), ("a", true), ("b", true), ("a", true)]
                .map(|(ns, urgent)| ((ns, urgent), Box::pin(slots.acquire(ns, urgent))))
                .into_iter()
                .collect();
        for (_, future) in &mut waiting {
            assert!(poll!(future).is_pending());
        }
        drop(first);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            for index in 0..waiting.len() {
                if let Poll::Ready(slot) = poll!(&mut waiting[index].1) {
                    order.push(waiting.remove(index).0);
                    drop(slot);
                    break;
                }
            }
        }
        let expected = [("a", true), ("b", true), ("a", true), ("b", false), ("a", false), ("a", false)];
        assert_eq!(order, expected);
    }

    #[tokio::test]
    async fn who_stops_waiting_takes_no_slot() {
        let slots = Slots::new(1, &Metrics::new(false));
        let first = slots.acquire("a", false).await;
        let mut gives_up = Box::pin(slots.acquire("a", false));
        assert!(poll!(&mut gives_up).is_pending());
        drop(gives_up);
        drop(first);
        let again = slots.acquire("b", false).await;
        drop(again);
        assert_eq!(slots.state().in_use.get(), 0);
    }
}
