//! Traces: the requests of a reconcile to remote systems, sent to an OpenTelemetry collector if one is configured.
//!
//! Requests have the attributes of OpenTelemetry's semantic conventions for HTTP clients, except `url.full`. A span holds what a
//! metric's labels hold, the object's name, host and port of the system, and the path with placeholders; never a query, a
//! header, a body or a user name. Nothing waits for the collector: what it does not accept in time is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use opentelemetry::trace::{SpanKind, TraceContextExt as _, TraceId, TracerProvider as _};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Span, Subscriber, field};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::metrics::Outcome;

/// Path that traces are posted to, below the endpoint.
const TRACES: &str = "/v1/traces";
/// Longest wait for the collector when the operator ends: half of what a Pod usually has left by then.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// A reconcile of an object.
#[must_use]
pub(crate) fn reconcile(kind: &'static str, namespace: &str, name: &str) -> Span {
    let none = field::Empty;
    tracing::info_span!(
        parent: None,
        "reconcile",
        otel.name = %format_args!("reconcile {kind}"),
        otel.status_code = none,
        k8s.namespace.name = namespace,
        tenure.kind = kind,
        tenure.name = name,
        tenure.result = none,
        tenure.has_requests = none,
    )
}

/// The result of a reconcile. One at which nothing was due has no result, and is not sent.
pub(crate) fn reconciled(span: &Span, outcome: Outcome) {
    span.record("tenure.result", outcome.as_str());
    if outcome.is_failure() {
        span.record("otel.status_code", "ERROR");
    }
}

/// A request to a system at a host and port, as part of a reconcile.
#[must_use]
pub(crate) fn request(
    system: &'static str,
    operation: &'static str,
    method: &'static str,
    template: &'static str,
    (host, port): (&str, u16),
) -> Span {
    Span::current().record("tenure.has_requests", true);
    let none = field::Empty;
    tracing::info_span!(
        "request",
        otel.name = %format_args!("{method} {template}"),
        otel.kind = "client",
        otel.status_code = none,
        http.request.method = method,
        url.template = template,
        // Of an IPv6 address, a URL has brackets around it.
        server.address = host.trim_matches(['[', ']']),
        server.port = i64::from(port),
        http.response.status_code = none,
        "error.type" = none,
        tenure.system = system,
        tenure.operation = operation,
    )
}

/// The status of a response has arrived, in the span of its request.
pub(crate) fn responded(status: u16) {
    Span::current().record("http.response.status_code", i64::from(status));
}

/// A request has failed: `error` is the HTTP status, or a word in its place.
pub(crate) fn failed(span: &Span, error: &str) {
    span.record("error.type", error);
    span.record("otel.status_code", "ERROR");
}

/// The trace that the current span belongs to, if it is sent to a collector.
#[must_use]
pub(super) fn current() -> Option<TraceId> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        (span.is_valid() && span.is_sampled()).then(|| span.trace_id())
    })
}

/// Sends spans to a collector, in the background.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends to the collector at a base URL, by OTLP over HTTP. Everything else is set by the variables that OpenTelemetry
    /// has for it, such as `OTEL_EXPORTER_OTLP_HEADERS`.
    pub(crate) fn to(endpoint: &str) -> anyhow::Result<Self> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}{TRACES}", endpoint.trim_end_matches('/')))
            .build()
            // The library's words quote the URL, and that may hold a password.
            .map_err(|_| {
                anyhow!(
                    "--otlp-endpoint: traces cannot be sent there: it must be a URL such as http://otel:4318"
                )
            })?;
        let exporter = Delivery { exporter, failing: AtomicBool::new(false) };
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource());
        Ok(Self(provider.build()))
    }

    /// What turns our spans into those of OpenTelemetry.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        // Of ours only: what libraries write into theirs is not known. Log lines stay in the log.
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == module_path!());
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("tenure"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(ours)
    }

    /// Sends what is left, if the collector accepts it soon.
    pub(crate) fn flush(self) {
        // That the collector is unreachable has been logged before.
        let _ = self.0.shutdown_with_timeout(LAST_FLUSH);
    }
}

/// Who we are. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win.
fn resource() -> Resource {
    let service = Key::from_static_str("service.name");
    let found = Resource::builder().build();
    let named = found.get(&service).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    if named { resource.build() } else { resource.with_service_name("tenure").build() }
}

/// Omits reconciles at which nothing was due, and logs once that the collector is unreachable.
#[derive(Debug)]
struct Delivery {
    exporter: opentelemetry_otlp::SpanExporter,
    failing: AtomicBool,
}

impl SpanExporter for Delivery {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.retain(says_something);
        if batch.is_empty() {
            return Ok(());
        }
        let sent = self.exporter.export(batch).await;
        if self.failing.swap(sent.is_err(), Ordering::Relaxed) != sent.is_err() {
            match sent {
                // Why is not repeated: it may quote the collector's URL, and that a password.
                Err(_) => tracing::warn!("traces cannot be sent: check the collector and --otlp-endpoint"),
                Ok(()) => tracing::info!("traces are sent again"),
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn says_something(span: &SpanData) -> bool {
    let has = |key: &str| span.attributes.iter().any(|attribute| attribute.key.as_str() == key);
    span.span_kind == SpanKind::Client || has("tenure.result") || has("tenure.has_requests")
}
