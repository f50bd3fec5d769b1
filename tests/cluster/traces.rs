//! Traces: a reconcile and its requests as one tree, sent to a collector if one is set, without any secret, and named in the log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tenure_kit::faults::Fault;
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::operator::Operator;
use tenure_kit::requests::Kind;
use tenure_kit::x2::Appliance;
use tokio::net::TcpListener;

use super::fixture::*;

/// Longest time that the operator takes to end: what it gives its work, and the collector.
const END: Duration = Duration::from_secs(20);

/// A collector: keeps what it is sent, as it came.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Bytes>>>);

impl Collector {
    /// A collector and its base URL.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let keep = async |State(Self(bodies)): State<Self>, body: Bytes| bodies.lock().unwrap().push(body);
        let router = Router::new().route("/v1/traces", post(keep)).with_state(collector.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (collector, url)
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let bodies = self.0.lock().unwrap();
        bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// Everything that was received, as text where it is text.
    fn text(&self) -> String {
        let bodies = self.0.lock().unwrap();
        bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }
}

fn attributes(list: &[KeyValue]) -> Map<String, Value> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(truth)) => json!(truth),
        Some(any_value::Value::IntValue(number)) => json!(number),
        other => panic!("{other:?}"),
    };
    list.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}

/// What a span says: its name, whether it has failed, and its attributes.
fn said(span: &Span) -> (&str, bool, Value) {
    let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    (span.name.as_str(), failed, Value::Object(attributes(&span.attributes)))
}

/// The same of a request that an appliance has answered.
fn answered<'a>(
    name: &'a str,
    appliance: &Appliance,
    operation: &str,
    status: u16,
) -> (&'a str, bool, Value) {
    let (method, template) = name.split_once(' ').unwrap();
    let port: u16 = appliance.url().rsplit_once(':').unwrap().1.parse().unwrap();
    let mut expected = json!({
        "http.request.method": method, "url.template": template, "http.response.status_code": status,
        "server.address": appliance.address(), "server.port": port,
        "tenure.system": "x2", "tenure.operation": operation,
    });
    if status >= 400 {
        merge(&mut expected, json!({"error.type": status.to_string()}));
    }
    (name, status >= 400, expected)
}

/// The names of a process's threads.
fn threads(operator: &Operator) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", operator.id().unwrap())).unwrap();
    tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok()).collect()
}

fn sends_traces(operator: &Operator) -> bool {
    threads(operator).iter().any(|name| name.starts_with("OpenTelemetry"))
}

/// The reconciles of an object.
fn reconciles<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    let is_it = |span: &&Span| attributes(&span.attributes).get("tenure.name").is_some_and(|of| of == name);
    spans.iter().filter(is_it).collect()
}

/// The requests that belong to a span, in the order of their beginning.
fn children<'a>(spans: &'a [Span], parent: &Span) -> Vec<(&'a str, bool, Value)> {
    let mut children: Vec<&Span> =
        spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect();
    assert!(children.iter().all(|span| span.trace_id == parent.trace_id));
    assert!(children.iter().all(|span| span.kind() == SpanKind::Client));
    children.sort_by_key(|span| span.start_time_unix_nano);
    children.into_iter().map(said).collect()
}

/// Ends an operator, which sends what was still to be sent, and returns its log.
async fn log_at_the_end(operator: &mut Operator) -> String {
    assert!(operator.terminate(END).await.unwrap().success(), "{}", operator.log());
    operator.log()
}

/// The log lines about an object.
fn lines_about(log: &str, name: &str) -> Vec<Map<String, Value>> {
    let lines = log.lines().map(|line| serde_json::from_str::<Map<String, Value>>(line).unwrap());
    lines.filter(|line| line.get("name").is_some_and(|of| of == name)).collect()
}

/// Starts the operator with these variables, and no arguments.
fn spawn(f: &Fixture, variables: &[(&str, &str)]) -> Operator {
    let usual = [
        ("TENURE_LISTEN", "127.0.0.1:0"),
        ("TENURE_NAMESPACES", f.ns.name()),
        ("TENURE_ALLOW_CIDR", "127.0.0.0/8"),
        ("TENURE_ALLOW_PORTS", "1-65535"),
    ];
    let all = usual.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let all: Vec<_> = all.collect();
    Operator::spawn_exactly(program(), f.kubeconfig(), &["run".to_owned()], &all).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_and_its_requests_are_one_tree() {
    let (collector, endpoint) = Collector::start().await;
    let fleet = fleet(2);
    let mut f = Fixture::new("traces").await;
    f.credentials(&fleet).await;
    f.ns.secret("wrong", &[("username", "admin"), ("password", "planted-wrong-password")]).await.unwrap();
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    let wrong = json!({"spec": {"credentialsSecretRef": {"name": "wrong"}}});
    f.apply(&with(gateway("x2-2", &fleet.appliance(1)), wrong)).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start_with(&["--otlp-endpoint", &format!("{endpoint}/")]).await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    f.reason("X2Gateway", "x2-2", "AuthenticationFailed").await;
    assert!(sends_traces(f.operator()), "{:?}", threads(f.operator()));
    let mut operator = f.operator.take().unwrap();
    log_at_the_end(&mut operator).await;
    f.retire(&operator);
    let spans = collector.spans();
    let good = reconciles(&spans, "x2-1")[0];
    let about = |name: &str, result: &str| {
        json!({
            "k8s.namespace.name": f.ns.name(), "tenure.kind": "X2Gateway", "tenure.name": name,
            "tenure.result": result, "tenure.has_requests": true,
        })
    };
    assert_eq!(said(good), ("reconcile X2Gateway", false, about("x2-1", "success")));
    assert!(good.parent_span_id.is_empty());
    let (tokens, timeout) = ("POST /api2/tokens", "GET /api2/token/timeout");
    let appliance = fleet.appliance(0);
    let expected = [
        answered(tokens, &appliance, "login", 200),
        answered(timeout, &appliance, "get_timeout", 200),
        answered("PUT /api2/token/timeout", &appliance, "set_timeout", 200),
        answered(tokens, &appliance, "login", 200),
    ];
    assert_eq!(children(&spans, good), expected);
    let bad = reconciles(&spans, "x2-2")[0];
    assert_eq!(said(bad), ("reconcile X2Gateway", true, about("x2-2", "failure")));
    assert_eq!(children(&spans, bad), [answered(tokens, &fleet.appliance(1), "login", 401)]);
    assert!(!reconciles(&spans, "short").is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_a_failed_request_shows_the_error() {
    let (collector, endpoint) = Collector::start().await;
    let fleet = fleet(2);
    fleet.appliance(0).fault(Fault::status(200, r#"{"statusCode": 503}"#).on(Kind::Get));
    fleet.appliance(1).fault(Fault::hang().on(Kind::Get));
    let mut f = Fixture::new("traces-errors").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("broken", &fleet.appliance(0))).await;
    let patient = json!({"spec": {"requestTimeout": "1s"}});
    f.apply(&with(gateway("hangs", &fleet.appliance(1)), patient)).await;
    f.apply(&gateway_at("absent", "https://127.0.0.1:1")).await;
    f.start_with(&["--otlp-endpoint", &endpoint]).await;
    f.reason("X2Gateway", "broken", "UnexpectedAnswer").await;
    f.reason("X2Gateway", "hangs", "TimedOut").await;
    f.reason("X2Gateway", "absent", "Unreachable").await;
    let mut operator = f.operator.take().unwrap();
    log_at_the_end(&mut operator).await;
    let spans = collector.spans();
    for (name, status, error) in
        [("broken", json!(200), "503"), ("hangs", Value::Null, "timeout"), ("absent", Value::Null, "connect")]
    {
        let requests = reconciles(&spans, name).into_iter().flat_map(|span| children(&spans, span));
        let failed: Vec<_> = requests.filter(|(_, failed, _)| *failed).collect();
        assert!(!failed.is_empty(), "{name}");
        for (_, _, attributes) in failed {
            assert_eq!(attributes["error.type"], error, "{attributes}");
            assert_eq!(attributes["http.response.status_code"], status, "{attributes}");
        }
    }
    f.retire(&operator);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_hold_neither_secrets_nor_ids_and_log_lines_name_their_trace() {
    let (collector, endpoint) = Collector::start().await;
    let (fleet, kona) = (fleet(1), KonaServer::start(KonaOptions::default()).unwrap());
    let id = "1d2b7a10-5c1e-4f2a-9b3d-000000000001";
    kona.add_customer(id, "Acme");
    let mut f = Fixture::new("traces-secrets").await;
    f.credentials(&fleet).await;
    f.kona(&kona).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.apply(&customer("acme", id, 3600, 86400)).await;
    f.start_with(&["--otlp-endpoint", &endpoint]).await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    f.reason("CustomerTokenTtl", "acme", "InSync").await;
    let mut operator = f.operator.take().unwrap();
    let log = log_at_the_end(&mut operator).await;
    let (spans, text) = (collector.spans(), collector.text());
    for name in ["x2-1", "acme"] {
        let id = |span: &Span| u128::from_be_bytes(span.trace_id.as_slice().try_into().unwrap());
        let traces = reconciles(&spans, name).into_iter().map(|span| format!("{:032x}", id(span)));
        let traces: BTreeSet<String> = traces.collect();
        let is_sent = |id: &Value| id.as_str().is_some_and(|id| traces.contains(id));
        let lines = lines_about(&log, name);
        assert!(lines.iter().any(|line| line.contains_key("audit")), "{log}");
        assert!(lines.iter().all(|line| line.get("trace_id").is_some_and(is_sent)), "{traces:?}: {log}");
    }
    let at_work = log.lines().find(|line| line.contains("\"at work\"")).unwrap();
    assert!(!at_work.contains("trace_id"), "{at_work}");
    // A reconcile at which nothing was due is not sent.
    for span in spans.iter().filter(|span| span.kind() != SpanKind::Client) {
        let (_, _, says) = said(span);
        assert!(says.get("tenure.result").or(says.get("tenure.has_requests")).is_some(), "{says}");
    }
    let resources = collector.requests().into_iter().flat_map(|request| request.resource_spans);
    for resource in resources.filter_map(|spans| spans.resource) {
        assert_eq!(attributes(&resource.attributes)["service.name"], "tenure");
    }
    for word in ["get_timeout", "PUT /api2/token/timeout", "POST /api/customer"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let urls = [fleet.appliance(0).url(), kona.url()];
    let words = [id, "admin", "tenant@example.net", "timeout_seconds", "Bearer", &urls[0], &urls[1]];
    for word in PLANTED.into_iter().chain(words) {
        assert!(!text.contains(word), "{word}");
    }
    f.retire(&operator);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_not_sampled_is_not_in_the_log() {
    let (collector, endpoint) = Collector::start().await;
    let fleet = fleet(1);
    let f = Fixture::new("traces-unsampled").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    let unsampled = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_TRACES_SAMPLER", "always_off")];
    let mut operator = spawn(&f, &unsampled);
    f.reason("X2Gateway", "x2-1", "InSync").await;
    let log = log_at_the_end(&mut operator).await;
    assert!(!lines_about(&log, "x2-1").is_empty(), "{log}");
    assert!(!log.contains("trace_id"), "{log}");
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_where_no_collector_is_named() {
    let fleet = fleet(1);
    let mut f = Fixture::new("no-traces").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "Unmanaged").await;
    // An operator that sends traces has a thread for it.
    assert!(!sends_traces(f.operator()), "{:?}", threads(f.operator()));
    assert!(!f.operator().log().contains("trace_id"), "{}", f.operator().log());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_disturbs_nothing() {
    let fleet = fleet(1);
    let f = Fixture::new("no-collector").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    for (endpoint, seconds) in [("http://127.0.0.1:1", 7200), (&*silent_url, 3600)] {
        f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": seconds}})).await;
        let text = [("TENURE_OTLP_ENDPOINT", endpoint), ("TENURE_LOG_FORMAT", "text")];
        let mut operator = spawn(&f, &text);
        f.wait("X2Gateway", "x2-1", |g| status(g)["provenTimeoutSeconds"] == seconds).await;
        assert_eq!(fleet.appliance(0).timeout(), seconds);
        let log = log_at_the_end(&mut operator).await;
        let traces: Vec<_> = log.lines().filter(|line| line.contains("name=\"x2-1\"")).collect();
        let ids = traces.iter().filter_map(|line| line.split_once(" trace_id=")).map(|(_, id)| id);
        assert!(ids.clone().all(|id| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit())), "{log}");
        assert!(ids.count() == traces.len() && !traces.is_empty(), "{log}");
        if endpoint != silent_url {
            assert_eq!(operator.log().matches("traces cannot be sent").count(), 1, "{}", operator.log());
        }
    }
    f.finish().await;
}
