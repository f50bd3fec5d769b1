//! Traces: a look and its requests as one tree, sent to a collector where one is named, and without any secret.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;
use tenure_kit::operator::Operator;
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

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        other => panic!("{other:?}"),
    };
    list.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

/// What a span says, in one line.
fn line(span: &Span) -> String {
    let mut line = span.name.clone();
    for (key, value) in attributes(&span.attributes) {
        write!(line, " {key}={value}").unwrap();
    }
    line
}

/// The names of a process's threads.
fn threads(operator: &Operator) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", operator.id().unwrap())).unwrap();
    tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok()).collect()
}

fn sends_traces(operator: &Operator) -> bool {
    threads(operator).iter().any(|name| name.starts_with("OpenTelemetry"))
}

/// Lines of the requests that belong to a span, in the order of their beginning.
fn children(spans: &[Span], parent: &Span) -> Vec<String> {
    let mut children: Vec<&Span> =
        spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect();
    assert!(children.iter().all(|span| span.trace_id == parent.trace_id));
    children.sort_by_key(|span| span.start_time_unix_nano);
    children.into_iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_and_its_requests_are_one_tree() {
    let (collector, endpoint) = Collector::start().await;
    let fleet = fleet(2);
    let mut f = Fixture::new("traces").await;
    f.credentials(&fleet).await;
    f.ns.secret("wrong", &[("username", "admin"), ("password", "planted-wrong-password")]).await.unwrap();
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    let wrong = json!({"spec": {"credentialsSecretRef": {"name": "wrong"}}});
    f.apply(&with(gateway("x2-2", &fleet.appliance(1)), wrong)).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    let namespace = f.ns.name().to_owned();
    let limits = ["--namespaces", &namespace, "--allow-cidr", "127.0.0.0/8", "--log-level", "trace"];
    f.start_with(&[&limits[..], &["--otlp-endpoint", &format!("{endpoint}/")]].concat()).await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    f.reason("X2Gateway", "x2-2", "AuthenticationFailed").await;
    assert!(sends_traces(f.operator()), "{:?}", threads(f.operator()));
    let mut operator = f.operator.take().unwrap();
    assert!(operator.terminate(END).await.unwrap().success(), "{}", operator.log());
    // What was still to be sent was sent at the end.
    let spans = collector.spans();
    let looks = |name: &str| -> Vec<&Span> {
        let is_it = |span: &&Span| span.name == "reconcile" && attributes(&span.attributes)["name"] == name;
        spans.iter().filter(is_it).collect()
    };
    let good = looks("x2-1")[0];
    let head = format!("reconcile asked=true kind=X2Gateway name=x2-1 namespace={namespace} result=success");
    assert_eq!(line(good), head);
    assert!(good.parent_span_id.is_empty());
    let asked = |method: &str, operation: &str, path: &str, status: &str| {
        format!("request method={method} operation={operation} path={path} status={status} system=x2")
    };
    let (tokens, timeout) = ("/api2/tokens", "/api2/token/timeout");
    let expected = [
        asked("POST", "login", tokens, "200"),
        asked("GET", "get_timeout", timeout, "200"),
        asked("PUT", "set_timeout", timeout, "200"),
        asked("POST", "login", tokens, "200"),
    ];
    assert_eq!(children(&spans, good), expected);
    let bad = looks("x2-2")[0];
    assert!(line(bad).ends_with("result=failure"), "{}", line(bad));
    assert_eq!(children(&spans, bad), [asked("POST", "login", tokens, "401")]);
    assert!(!looks("short").is_empty());
    // A look at which nothing was due is none.
    for span in spans.iter().filter(|span| span.name == "reconcile") {
        let says = attributes(&span.attributes);
        assert!(says.contains_key("result") || says.contains_key("asked"), "{}", line(span));
    }
    let resources = collector.requests().into_iter().flat_map(|request| request.resource_spans);
    for resource in resources.filter_map(|spans| spans.resource) {
        assert_eq!(attributes(&resource.attributes)["service.name"], "tenure");
    }
    // Neither a secret nor an address nor a body.
    let text = collector.text();
    assert!(text.contains("get_timeout"));
    let url = fleet.appliance(0).url();
    for word in PLANTED.into_iter().chain([&*url, "timeout_seconds", "Bearer"]) {
        assert!(!text.contains(word), "{word}");
    }
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
    // Who sends traces has a thread for it.
    assert!(!sends_traces(f.operator()), "{:?}", threads(f.operator()));
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
        let mut operator = f.spawn(&["--otlp-endpoint", endpoint]);
        f.wait("X2Gateway", "x2-1", |g| status(g)["provenTimeoutSeconds"] == seconds).await;
        assert_eq!(fleet.appliance(0).timeout(), seconds);
        assert!(operator.terminate(END).await.unwrap().success(), "{endpoint}: {}", operator.log());
        if endpoint != silent_url {
            assert_eq!(operator.log().matches("traces cannot be sent").count(), 1, "{}", operator.log());
        }
    }
    f.finish().await;
}
