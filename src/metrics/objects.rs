//! What the resources show, counted per namespace. A change of one resource costs the same however many there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Labels;
use crate::crd::Kind;

/// What one resource shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The reason of its condition Ready, or that it is suspended.
    pub(crate) reason: &'static str,
    /// When its lifetime was last verified, in seconds since the epoch: of a gateway, by a login; of a customer, by a check
    /// that finds the verified values. None while no lifetime is required of it.
    pub(crate) proven: Option<i64>,
    /// The lifetime that was read last, in seconds.
    pub(crate) lifetime: Option<u32>,
}

/// The metrics that follow from what the resources show.
#[derive(Debug, Default)]
pub(super) struct Objects {
    resources: Family<Labels<3>, Gauge>,
    unmanaged: Family<Labels<1>, Gauge>,
    oldest_proof: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    longest_timeout: Family<Labels<1>, Gauge>,
    /// What is counted: a count and the series that shows it change together.
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    reasons: HashMap<Labels<3>, i64>,
    proofs: Values,
    lifetimes: Values,
}

impl Objects {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "resources",
            "Resources, by the reason of their Ready condition",
            self.resources.clone(),
        );
        let help = "Gateways that no policy governs";
        registry.register("unmanaged_gateways", help, self.unmanaged.clone());
        let help = "Time of the oldest of the last proofs of a required lifetime, in seconds since the epoch";
        registry.register("oldest_proof_timestamp_seconds", help, self.oldest_proof.clone());
        let help = "Longest token lifetime that was read of a gateway or a customer, in seconds";
        registry.register("longest_timeout_seconds", help, self.longest_timeout.clone());
    }

    /// Tracks one resource: what it showed before and shows now; `None` if it did not exist, or no longer does.
    pub(super) fn observe(&self, kind: Kind, namespace: &str, before: Option<Shown>, now: Option<Shown>) {
        if before == now {
            return;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        self.count_reasons(&mut counts.reasons, kind, namespace, [before, now].map(|s| s.map(|s| s.reason)));
        let label = || [("namespace", namespace.to_owned())];
        if counts.proofs.replace(namespace, before.and_then(|s| s.proven), now.and_then(|s| s.proven)) {
            match counts.proofs.smallest(namespace) {
                #[allow(clippy::cast_precision_loss, reason = "exact for the next 285 million years")]
                Some(oldest) => drop(self.oldest_proof.get_or_create(&label()).set(oldest as f64)),
                None => drop(self.oldest_proof.remove(&label())),
            }
        }
        let lifetime = |shown: Option<Shown>| shown.and_then(|s| s.lifetime).map(i64::from);
        if counts.lifetimes.replace(namespace, lifetime(before), lifetime(now)) {
            match counts.lifetimes.largest(namespace) {
                Some(longest) => drop(self.longest_timeout.get_or_create(&label()).set(longest)),
                None => drop(self.longest_timeout.remove(&label())),
            }
        }
    }

    fn count_reasons(
        &self,
        reasons: &mut HashMap<Labels<3>, i64>,
        kind: Kind,
        namespace: &str,
        [before, now]: [Option<&'static str>; 2],
    ) {
        for (reason, change) in [(before, -1), (now, 1)] {
            let Some(reason) = reason.filter(|_| before != now) else { continue };
            let labels = [
                ("kind", kind.as_str().to_owned()),
                ("namespace", namespace.to_owned()),
                ("reason", reason.to_owned()),
            ];
            let count = reasons.entry(labels.clone()).or_default();
            *count += change;
            let count = *count;
            set(&self.resources, &labels, count);
            if kind == Kind::Gateway && reason == UNMANAGED {
                set(&self.unmanaged, &[("namespace", namespace.to_owned())], count);
            }
            if count == 0 {
                reasons.remove(&labels);
            }
        }
    }
}

/// The reason of a gateway that no policy governs.
const UNMANAGED: &str = "Unmanaged";

/// Sets a count; a series of nothing goes.
fn set<const N: usize>(family: &Family<Labels<N>, Gauge>, labels: &Labels<N>, count: i64) {
    if count == 0 {
        family.remove(labels);
    } else {
        family.get_or_create(labels).set(count);
    }
}

/// Numbers per namespace, and how often each is there.
#[derive(Debug, Default)]
struct Values(BTreeMap<String, BTreeMap<i64, usize>>);

impl Values {
    /// Replaces one number by another. False if that changes nothing.
    fn replace(&mut self, namespace: &str, before: Option<i64>, now: Option<i64>) -> bool {
        if before == now {
            return false;
        }
        if let Some(now) = now {
            *self.0.entry(namespace.to_owned()).or_default().entry(now).or_default() += 1;
        }
        if let Some(values) = before.and_then(|_| self.0.get_mut(namespace)) {
            // A number is there as often as objects show it.
            if let Some(before) = before
                && let Some(count) = values.get_mut(&before)
            {
                *count -= 1;
                if *count == 0 {
                    values.remove(&before);
                }
            }
            if values.is_empty() {
                self.0.remove(namespace);
            }
        }
        true
    }

    fn smallest(&self, namespace: &str) -> Option<i64> {
        self.0.get(namespace)?.first_key_value().map(|(value, _)| *value)
    }

    fn largest(&self, namespace: &str) -> Option<i64> {
        self.0.get(namespace)?.last_key_value().map(|(value, _)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(
        reason: &'static str,
        proven: impl Into<Option<i64>>,
        lifetime: impl Into<Option<u32>>,
    ) -> Shown {
        Shown { reason, proven: proven.into(), lifetime: lifetime.into() }
    }

    /// The samples that there are.
    fn samples(objects: &Objects) -> Vec<String> {
        let (mut registry, mut text) = (Registry::default(), String::new());
        objects.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn extremes_follow_the_objects_of_their_namespace() {
        let objects = Objects::default();
        let [a, b, c] =
            [shown("InSync", 100, 3600), shown("InSync", 200, 7200), shown("Unmanaged", None, 86_400)];
        objects.observe(Kind::Gateway, "berlin", None, Some(a));
        objects.observe(Kind::Customer, "berlin", None, Some(b));
        objects.observe(Kind::Gateway, "berlin", None, Some(c));
        objects.observe(Kind::Gateway, "london", None, Some(b));
        let all = samples(&objects);
        for sample in [
            r#"oldest_proof_timestamp_seconds{namespace="berlin"} 100.0"#,
            r#"longest_timeout_seconds{namespace="berlin"} 86400"#,
            r#"unmanaged_gateways{namespace="berlin"} 1"#,
            r#"oldest_proof_timestamp_seconds{namespace="london"} 200.0"#,
            r#"longest_timeout_seconds{namespace="london"} 7200"#,
        ] {
            assert!(all.iter().any(|line| line == sample), "{sample}: {all:?}");
        }
        objects.observe(Kind::Gateway, "berlin", Some(a), Some(shown("InSync", 300, 3600)));
        objects.observe(Kind::Gateway, "berlin", Some(c), None);
        let all = samples(&objects);
        assert!(
            all.contains(&r#"oldest_proof_timestamp_seconds{namespace="berlin"} 200.0"#.to_owned()),
            "{all:?}"
        );
        assert!(all.contains(&r#"longest_timeout_seconds{namespace="berlin"} 7200"#.to_owned()), "{all:?}");
    }

    #[test]
    fn no_series_is_left_of_objects_that_are_gone() {
        let objects = Objects::default();
        let alike = [shown("Unmanaged", 100, 3600), shown("Unmanaged", 100, 3600)];
        for one in alike {
            objects.observe(Kind::Gateway, "berlin", None, Some(one));
        }
        assert_eq!(samples(&objects).len(), 4);
        objects.observe(Kind::Gateway, "berlin", Some(alike[0]), None);
        assert_eq!(samples(&objects).len(), 4);
        objects.observe(Kind::Gateway, "berlin", Some(alike[1]), None);
        assert_eq!(samples(&objects), Vec::<String>::new());
    }
}
