//! Events that wait: counted, bounded and served by namespace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Happening;
use crate::engine::reason::EventReason;
use crate::metrics::Metrics;

/// Events of a namespace beyond the rate that are kept, one for each object and reason.
const SURPLUS: usize = 512;
/// Events of all namespaces that wait, and events beyond the rate that are kept.
const TOTAL: usize = 32_768;

/// How many events there are of each namespace that has any. One namespace may have as many as there is room left for, so
/// that others always find some.
#[derive(Debug, Default)]
pub(super) struct Counts {
    namespaces: BTreeMap<String, usize>,
    pub(super) total: usize,
}

impl Counts {
    /// Counts one more, if there is room for it. `most` is what one namespace may have at most.
    pub(super) fn add(&mut self, namespace: &str, most: usize) -> bool {
        let count = self.namespaces.get(namespace).copied().unwrap_or_default();
        let has_room = count < most.min(TOTAL - self.total);
        if has_room {
            self.namespaces.insert(namespace.to_owned(), count + 1);
            self.total += 1;
        }
        has_room
    }

    pub(super) fn remove(&mut self, namespace: &str) {
        let Some(count) = self.namespaces.get_mut(namespace) else { return };
        *count -= 1;
        self.total -= 1;
        if *count == 0 {
            self.namespaces.remove(namespace);
        }
    }
}

/// Kind and name of what an event is about, and its reason.
type About = (String, String, EventReason);

/// Events beyond the rate: summed up, and served by namespaces in turn, so that one of them does not silence the others.
pub(super) struct Surplus {
    namespaces: BTreeMap<String, BTreeMap<About, (Happening, usize)>>,
    order: VecDeque<String>,
    counts: Counts,
    metrics: Arc<Metrics>,
}

impl Surplus {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { namespaces: BTreeMap::new(), order: VecDeque::new(), counts: Counts::default(), metrics }
    }

    pub(super) fn add(&mut self, happening: Happening) {
        let about = happening.policy.as_ref().unwrap_or(&happening.object);
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (namespace, key) =
            (text(&about.namespace), (text(&about.kind), text(&about.name), happening.reason));
        let is_known = self.namespaces.get(&namespace).is_some_and(|waiting| waiting.contains_key(&key));
        if !is_known && !self.counts.add(&namespace, SURPLUS) {
            return self.metrics.event_dropped();
        }
        let waiting = self.namespaces.entry(namespace.clone()).or_default();
        if waiting.is_empty() {
            self.order.push_back(namespace);
        }
        waiting.entry(key).or_insert((happening, 0)).1 += 1;
    }

    pub(super) fn next(&mut self) -> Option<Happening> {
        let namespace = self.order.pop_front()?;
        let waiting = self.namespaces.get_mut(&namespace)?;
        let (_, (one, count)) = waiting.pop_first()?;
        self.counts.remove(&namespace);
        if waiting.is_empty() {
            self.namespaces.remove(&namespace);
        } else {
            self.order.push_back(namespace);
        }
        Some(summed_up(one, count))
    }
}

fn summed_up(one: Happening, count: usize) -> Happening {
    match one.policy.clone() {
        Some(policy) if count > 1 => {
            Happening { object: policy, note: format!("{count} gateways: {}", one.note), ..one }
        }
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use super::super::WAITING;
    use super::super::tests::happening;
    use super::*;

    fn names(surplus: &mut Surplus) -> Vec<String> {
        std::iter::from_fn(|| surplus.next()).filter_map(|one| one.object.name).collect()
    }

    #[test]
    fn namespaces_take_turns() {
        let mut surplus = Surplus::new(Arc::new(Metrics::new(false)));
        for (namespace, name) in [("aaa", "1"), ("aaa", "2"), ("aaa", "3"), ("zzz", "4")] {
            surplus.add(happening("X2Gateway", namespace, name));
        }
        assert_eq!(names(&mut surplus), ["1", "4", "2", "3"]);
        assert!(surplus.namespaces.is_empty() && surplus.order.is_empty() && surplus.counts.total == 0);
    }

    #[test]
    fn the_policy_sums_up_what_happened_to_its_gateways() {
        let mut surplus = Surplus::new(Arc::new(Metrics::new(false)));
        let policy = happening("TokenPolicy", "berlin", "short").object;
        for name in ["x2-1", "x2-2", "x2-3"] {
            let changed = happening("X2Gateway", "berlin", name);
            surplus.add(Happening { note: format!("Of {name}."), policy: Some(policy.clone()), ..changed });
        }
        let alone = happening("X2Gateway", "berlin", "x2-4");
        let other = happening("TokenPolicy", "berlin", "other").object;
        surplus.add(Happening { note: "Of x2-4.".to_owned(), policy: Some(other), ..alone });
        let next = |surplus: &mut Surplus| surplus.next().map(|one| (one.object.name.unwrap(), one.note));
        assert_eq!(next(&mut surplus), Some(("x2-4".to_owned(), "Of x2-4.".to_owned())));
        assert_eq!(next(&mut surplus), Some(("short".to_owned(), "3 gateways: Of x2-1.".to_owned())));
        assert_eq!(next(&mut surplus), None);
    }

    #[test]
    fn many_namespaces_share_what_is_kept_in_all() {
        let mut counts = Counts::default();
        let mut fill = |namespace: usize| {
            let name = namespace.to_string();
            (0..=WAITING).filter(|_| counts.add(&name, WAITING)).count()
        };
        let kept: Vec<usize> = (0..12).map(&mut fill).collect();
        assert_eq!(kept[..7], [WAITING; 7]);
        assert!(kept[7..].array_windows().all(|[one, next]| one >= next && *next > 0), "{kept:?}");
        assert!(kept.iter().sum::<usize>() <= TOTAL);
        counts.remove("0");
        assert!(counts.add("new", WAITING), "there is always room for one more");
    }

    #[test]
    fn two_kinds_of_one_name_have_events_of_their_own() {
        let mut surplus = Surplus::new(Arc::new(Metrics::new(false)));
        for kind in ["X2Gateway", "TokenPolicy", "X2Gateway"] {
            surplus.add(happening(kind, "berlin", "same"));
        }
        assert_eq!(names(&mut surplus), ["same", "same"]);
    }

    #[test]
    fn what_one_namespace_keeps_is_bounded() {
        let mut surplus = Surplus::new(Arc::new(Metrics::new(false)));
        for number in 0..2 * SURPLUS {
            surplus.add(happening("X2Gateway", "berlin", &number.to_string()));
        }
        // Once more what is there already takes no room.
        surplus.add(happening("X2Gateway", "berlin", "0"));
        surplus.add(happening("X2Gateway", "hamburg", "0"));
        assert_eq!(names(&mut surplus).len(), SURPLUS + 1);
        let text = surplus.metrics.text();
        assert!(text.contains(&format!("tenure_events_dropped_total {SURPLUS}\n")), "{text}");
    }
}
