//! The operator's metrics.

mod format;
mod objects;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub(crate) use self::format::Format;
use self::objects::Objects;
pub(crate) use self::objects::Shown;
use crate::crd::Kind;

type Labels<const N: usize> = [(&'static str, String); N];
type Seconds = Family<Labels<1>, Histogram, fn() -> Histogram>;
type RequestSeconds = Family<Labels<2>, Histogram, fn() -> Histogram>;
type Timestamps = Family<Object, Gauge<f64, AtomicU64>>;

/// Labels that name one object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Object {
    kind: &'static str,
    namespace: String,
    name: String,
}

/// All metrics, and their text format.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Labels<2>, Counter>,
    reconcile_duration: Seconds,
    remote_requests: Family<Labels<3>, Counter>,
    remote_request_duration: RequestSeconds,
    drift_corrections: Family<Labels<1>, Counter>,
    gateways: Family<Labels<3>, Gauge>,
    customers: Family<Labels<3>, Gauge>,
    objects: Objects,
    in_backoff: Family<Labels<1>, Gauge>,
    slots_in_use: Gauge,
    secrets_without_origins: Family<Labels<1>, Gauge>,
    last_success: Option<Timestamps>,
    watches: Family<Labels<2>, Gauge<f64, AtomicU64>>,
    leader: Gauge,
    panics: Counter,
    events_dropped: Counter,
}

/// Something that a gauge counts, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The result of a reconcile, as counted by `reconciles_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Ready.
    Success,
    /// A change waits for its window or for the rollout, or the object is suspended.
    Waiting,
    /// Not ready.
    Failure,
    /// Nothing can be said of the object.
    Nothing,
    /// It panicked.
    Panic,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Success, Self::Waiting, Self::Failure, Self::Nothing, Self::Panic];

    /// Whether the reconcile failed, so that it is repeated soon.
    #[must_use]
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::Nothing | Self::Panic)
    }

    /// The word used in metrics and traces.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Waiting => "waiting",
            Self::Nothing => "nothing",
            Self::Failure => "failure",
            Self::Panic => "panic",
        }
    }
}

/// The two gauges that count members by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// The gateways of a policy.
    Policy,
    /// The customers of a server.
    Server,
}

fn seconds() -> Histogram {
    // 5 ms to 20 s: an appliance answers in some 50 ms, requestTimeout is 10 s.
    Histogram::new(exponential_buckets(0.005, 2.0, 13))
}

impl Metrics {
    /// Registers everything. `per_object` adds one series per object.
    #[must_use]
    pub fn new(per_object: bool) -> Self {
        let mut registry = Registry::with_prefix("tenure");
        let reconcile_duration = Seconds::new_with_constructor(seconds);
        let remote_request_duration = RequestSeconds::new_with_constructor(seconds);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the operator", build);
        let mut metrics = Self {
            reconciles: Family::default(),
            reconcile_duration: reconcile_duration.clone(),
            remote_requests: Family::default(),
            remote_request_duration: remote_request_duration.clone(),
            drift_corrections: Family::default(),
            gateways: Family::default(),
            customers: Family::default(),
            objects: Objects::default(),
            in_backoff: Family::default(),
            slots_in_use: Gauge::default(),
            secrets_without_origins: Family::default(),
            last_success: per_object.then(Family::default),
            watches: Family::default(),
            leader: Gauge::default(),
            panics: Counter::default(),
            events_dropped: Counter::default(),
            registry,
        };
        metrics.register();
        metrics.begin();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("reconciles", "Reconciliations, by result", self.reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "Duration of reconciliations",
            self.reconcile_duration.clone(),
        );
        registry.register(
            "remote_requests",
            "Requests to remote systems, by response code",
            self.remote_requests.clone(),
        );
        registry.register(
            "remote_request_duration_seconds",
            "Duration of requests to remote systems",
            self.remote_request_duration.clone(),
        );
        registry.register(
            "drift_corrections",
            "Remote values corrected after something else changed them",
            self.drift_corrections.clone(),
        );
        registry.register("gateways", "Gateways of a policy, by state", self.gateways.clone());
        registry.register("customers", "Customers of a server, by state", self.customers.clone());
        self.objects.register(registry);
        let help = "Resources whose last reconcile failed, and that are tried again more and more slowly";
        registry.register("objects_in_backoff", help, self.in_backoff.clone());
        let help = "Exchanges with remote systems that are under way, of those that --concurrency allows";
        registry.register("slots_in_use", help, self.slots_in_use.clone());
        registry.register(
            "secrets_without_origins",
            "Secrets in use that do not list where they may be sent",
            self.secrets_without_origins.clone(),
        );
        if let Some(last_success) = &self.last_success {
            let help = "Time when an object was last ready, in seconds since the epoch";
            registry.register("last_success_timestamp_seconds", help, last_success.clone());
        }
        let help = "Time when a watch was last answered, in seconds since the epoch";
        registry.register("watch_last_answer_timestamp_seconds", help, self.watches.clone());
        registry.register("leader", "1 if this process is the leader", self.leader.clone());
        registry.register("panics", "Reconciliations that panicked", self.panics.clone());
        let dropped = "Events that were dropped because too many were queued";
        registry.register("events_dropped", dropped, self.events_dropped.clone());
    }

    /// Initialises counters to zero: a rate does not see the first count of a series that starts with it.
    fn begin(&self) {
        for kind in Kind::ALL {
            for outcome in Outcome::ALL {
                let labels = [("kind", kind.as_str().to_owned()), ("result", outcome.as_str().to_owned())];
                let _ = self.reconciles.get_or_create(&labels);
            }
        }
        for kind in Kind::ALL {
            let _ = self.in_backoff.get_or_create(&[("kind", kind.as_str().to_owned())]);
        }
        for kind in [Kind::Gateway, Kind::Customer] {
            let _ = self.drift_corrections.get_or_create(&[("kind", kind.as_str().to_owned())]);
        }
    }

    /// Counts a reconcile.
    pub(crate) fn reconciled(&self, kind: &'static str, outcome: Outcome, took: Duration) {
        let labels = [("kind", kind.to_owned()), ("result", outcome.as_str().to_owned())];
        self.reconciles.get_or_create(&labels).inc();
        self.reconcile_duration.get_or_create(&[("kind", kind.to_owned())]).observe(took.as_secs_f64());
        if outcome == Outcome::Panic {
            self.panics.inc();
        }
    }

    /// Counts a request to a remote system; `code` is its HTTP status or one of four words.
    pub(crate) fn requested(
        &self,
        system: &'static str,
        operation: &'static str,
        code: String,
        took: Duration,
    ) {
        let [system, operation] = [("system", system.to_owned()), ("operation", operation.to_owned())];
        self.remote_requests.get_or_create(&[system.clone(), operation.clone(), ("code", code)]).inc();
        self.remote_request_duration.get_or_create(&[system, operation]).observe(took.as_secs_f64());
    }

    /// Counts an event that is not written.
    pub(crate) fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Counts a corrected value.
    pub(crate) fn drift_corrected(&self, kind: &'static str) {
        self.drift_corrections.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// Sets the number of members in a state; `None` removes the series.
    pub(crate) fn counted(
        &self,
        whole: Whole,
        name: &str,
        namespace: &str,
        state: &'static str,
        count: Option<i64>,
    ) {
        let (family, label) = match whole {
            Whole::Policy => (&self.gateways, "policy"),
            Whole::Server => (&self.customers, "server"),
        };
        let labels =
            [(label, name.to_owned()), ("namespace", namespace.to_owned()), ("state", state.to_owned())];
        match count {
            Some(count) => {
                family.get_or_create(&labels).set(count);
            }
            None => {
                family.remove(&labels);
            }
        }
    }

    /// Tracks what one resource shows: before and now; `None` if it did not exist, or no longer does.
    pub(crate) fn observe(&self, kind: Kind, namespace: &str, before: Option<Shown>, now: Option<Shown>) {
        self.objects.observe(kind, namespace, before, now);
    }

    /// Counts an object as one that is tried again after a failure, until the result is dropped.
    pub(crate) fn in_backoff(&self, kind: Kind) -> Counted {
        Counted::new(self.in_backoff.get_or_create(&[("kind", kind.as_str().to_owned())]).clone())
    }

    /// The number of exchanges under way.
    pub(crate) fn slots_in_use(&self) -> Gauge {
        self.slots_in_use.clone()
    }

    /// Counts Secrets in use without a list of origins up or down. One caller at a time.
    pub(crate) fn count_unbound(&self, namespace: &str, change: i64) {
        let labels = [("namespace", namespace.to_owned())];
        let count = self.secrets_without_origins.get_or_create(&labels).inc_by(change) + change;
        if count == 0 {
            self.secrets_without_origins.remove(&labels);
        }
    }

    /// Sets when the API server last answered a watch of a kind, in a namespace or (`*`) in all.
    #[allow(clippy::cast_precision_loss, reason = "exact for the next 285 million years")]
    pub(crate) fn watched(&self, kind: &'static str, scope: &str, at: i64) {
        let labels = [("kind", kind.to_owned()), ("scope", scope.to_owned())];
        self.watches.get_or_create(&labels).set(at as f64);
    }

    /// Sets when an object was last ready; `None` removes the series.
    pub(crate) fn succeeded(&self, kind: &'static str, namespace: &str, name: &str, at: Option<i64>) {
        let Some(family) = &self.last_success else { return };
        let labels = Object { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        match at {
            #[allow(clippy::cast_precision_loss, reason = "exact for the next 285 million years")]
            Some(at) => {
                family.get_or_create(&labels).set(at as f64);
            }
            None => {
                family.remove(&labels);
            }
        }
    }

    /// Sets whether this process is the leader.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Everything in a text format of Prometheus.
    #[must_use]
    pub(crate) fn text_in(&self, format: Format) -> String {
        match format {
            Format::OpenMetrics => self.text(),
            Format::Prometheus => format::prometheus(&self.text()),
        }
    }

    /// Everything as `OpenMetrics`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
