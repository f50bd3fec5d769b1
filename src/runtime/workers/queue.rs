//! What is reconciled next: a queue for each namespace, served in turn, and bounds for what is under way.
//!
//! A reconcile that waits for something slow lends its place, so that silent systems hold up nothing else. How many may do so
//! is bounded, for a namespace and in all: what waits beyond that is a name in a queue and costs no more.

use std::collections::{BTreeMap, VecDeque};

/// Reconciles of one namespace that have lent their place.
const LENT_EACH: usize = 64;
/// Reconciles that have lent their place, in all.
const LENT_ALL: usize = 1024;

/// Names that wait, by namespace, and counts of those under way.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// Reconciles that move at once.
    limit: usize,
    namespaces: BTreeMap<String, Waiting<T>>,
    /// Namespaces that wait for a place.
    turns: VecDeque<String>,
    active: usize,
    lent: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    urgent: VecDeque<T>,
    others: VecDeque<T>,
    active: usize,
    slow: usize,
    /// Whether it is among the turns.
    listed: bool,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { urgent: VecDeque::new(), others: VecDeque::new(), active: 0, slow: 0, listed: false }
    }
}

impl<T> Waiting<T> {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.others.is_empty()
    }

    fn lent(&self) -> usize {
        self.slow.min(LENT_EACH)
    }
}

impl<T> Queue<T> {
    /// A queue with at most `limit` concurrent reconciles.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        Self { limit, namespaces: BTreeMap::new(), turns: VecDeque::new(), active: 0, lent: 0 }
    }

    /// One more waits. What is urgent passes the others of its namespace.
    pub(super) fn push(&mut self, namespace: &str, item: T, urgent: bool) {
        let waiting = self.namespaces.entry(namespace.to_owned()).or_default();
        if urgent {
            waiting.urgent.push_back(item);
        } else {
            waiting.others.push_back(item);
        }
        self.list(namespace);
    }

    /// The next one that may begin; [`Queue::ended`] is to be called at its end.
    pub(super) fn begin(&mut self) -> Option<T> {
        while self.active - self.lent.min(LENT_ALL) < self.limit {
            let namespace = self.turns.pop_front()?;
            let Some(waiting) = self.namespaces.get_mut(&namespace) else { continue };
            waiting.listed = false;
            let next = waiting.urgent.pop_front().or_else(|| waiting.others.pop_front());
            if next.is_some() {
                waiting.active += 1;
                self.active += 1;
            }
            self.list(&namespace);
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// One that has begun waits for something slow: it lends its place, as far as that is allowed.
    pub(super) fn slow(&mut self, namespace: &str) {
        if let Some(waiting) = self.namespaces.get_mut(namespace) {
            self.lent -= waiting.lent();
            waiting.slow += 1;
            self.lent += waiting.lent();
        }
    }

    /// One that has begun has ended.
    pub(super) fn ended(&mut self, namespace: &str, was_slow: bool) {
        let Some(waiting) = self.namespaces.get_mut(namespace) else { return };
        self.lent -= waiting.lent();
        waiting.slow = waiting.slow.saturating_sub(usize::from(was_slow));
        self.lent += waiting.lent();
        waiting.active = waiting.active.saturating_sub(1);
        self.active = self.active.saturating_sub(1);
        if waiting.active == 0 && waiting.is_empty() {
            self.namespaces.remove(namespace);
        } else {
            self.list(namespace);
        }
    }

    /// Gives a namespace a turn, if something waits in it and it may begin one more. Whatever it has under way could be slow:
    /// no more begins than could lend its place, so that one namespace cannot keep all places.
    fn list(&mut self, namespace: &str) {
        let most = self.limit.max(LENT_EACH);
        if let Some(waiting) = self.namespaces.get_mut(namespace)
            && !waiting.listed
            && !waiting.is_empty()
            && waiting.active < most
        {
            waiting.listed = true;
            self.turns.push_back(namespace.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.begin()).collect()
    }

    #[test]
    fn namespaces_take_turns_and_urgent_ones_pass_the_others() {
        let mut queue = Queue::new(10);
        for (namespace, item, urgent) in
            [("a", "a1", false), ("a", "a2", false), ("b", "b1", false), ("a", "a3", true)]
        {
            queue.push(namespace, item, urgent);
        }
        assert_eq!(begun(&mut queue), ["a3", "b1", "a1", "a2"]);
    }

    #[test]
    fn no_more_move_than_allowed() {
        let mut queue = Queue::new(2);
        ["1", "2", "3", "4"].into_iter().for_each(|item| queue.push("a", item, false));
        assert_eq!(begun(&mut queue), ["1", "2"]);
        queue.ended("a", false);
        assert_eq!(begun(&mut queue), ["3"]);
        // One that waits for something slow makes room for another, and takes none away when it ends.
        queue.slow("a");
        assert_eq!(begun(&mut queue), ["4"]);
        queue.push("a", "5", false);
        queue.ended("a", true);
        assert!(begun(&mut queue).is_empty());
    }

    #[test]
    fn what_one_namespace_may_have_under_way_is_bounded() {
        let mut queue = Queue::new(LENT_EACH);
        for _ in 0..3 * LENT_EACH {
            queue.push("silent", "silent", false);
        }
        assert_eq!(begun(&mut queue).len(), LENT_EACH);
        for _ in 0..LENT_EACH {
            queue.slow("silent");
        }
        assert!(begun(&mut queue).is_empty(), "all it may lend is lent");
        queue.push("other", "other", false);
        assert_eq!(begun(&mut queue), ["other"]);
        queue.ended("silent", true);
        assert_eq!(begun(&mut queue), ["silent"]);
    }

    #[test]
    fn what_all_may_lend_is_bounded_too() {
        let (mut queue, namespaces) = (Queue::new(LENT_EACH), 2 * LENT_ALL / LENT_EACH);
        for number in 0..namespaces {
            for _ in 0..LENT_EACH {
                queue.push(&format!("{number}"), (), false);
            }
        }
        let mut under_way = 0;
        for _ in 0..namespaces {
            under_way += std::iter::from_fn(|| queue.begin()).count();
            for number in 0..namespaces {
                let waiting = queue.namespaces.get(&number.to_string()).unwrap();
                for _ in waiting.slow..waiting.active {
                    queue.slow(&number.to_string());
                }
            }
        }
        assert_eq!(under_way, LENT_ALL + LENT_EACH);
    }

    #[test]
    fn nothing_is_kept_of_a_namespace_in_which_nothing_waits() {
        let mut queue = Queue::new(1);
        queue.push("a", "1", false);
        assert_eq!(begun(&mut queue), ["1"]);
        queue.slow("a");
        queue.ended("a", true);
        assert!(queue.namespaces.is_empty() && queue.turns.is_empty());
        assert_eq!((queue.active, queue.lent), (0, 0));
    }
}
