//! One list of cases, run against the in-memory API server and against the real one. It covers what the operator relies on.

mod deletions;
mod denials;
mod lists;
mod namespaces;
mod watches;
mod writes;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use axum::http::Request;
use futures::future::LocalBoxFuture;
use futures::{AsyncBufReadExt as _, FutureExt as _, Stream, StreamExt as _};
use jiff::Timestamp;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde_json::{Value, json};
use tenure_kit::control_plane;
use tenure_kit::namespace::{TestNamespace, install_crds};

use super::api::{Api, Kind};

/// Longest wait for what comes at once.
const SOON: Duration = Duration::from_secs(30);

type Case = fn(&Server) -> LocalBoxFuture<'_, ()>;

/// The cases. Each has a namespace of its own.
const CASES: &[(&str, Case)] = &[
    ("a new object is complete", writes::a_new_object_is_complete),
    ("what does not fit is refused", writes::what_does_not_fit_is_refused),
    ("a write bumps what it changes", writes::a_write_bumps_what_it_changes),
    ("a JSON patch is applied whole or not at all", writes::a_json_patch_is_applied_whole_or_not_at_all),
    ("a replace builds on a version", writes::a_replace_builds_on_a_version),
    ("a status builds on a version", writes::a_status_builds_on_a_version),
    ("a lease can be replaced after it was deleted", writes::a_lease_after_its_deletion),
    ("events have rules", writes::events_have_rules),
    ("managers are noted", writes::managers_are_noted),
    ("what has no finalizer is gone at once", deletions::without_finalizers),
    ("a deletion waits for finalizers", deletions::with_finalizers),
    ("what admission denies is not done", denials::are_answered),
    ("a list has pages", lists::pages),
    ("selectors select", lists::selectors),
    ("metadata can be had alone", lists::metadata_alone),
    ("a watch reports changes", watches::reports_changes),
    ("a watch with a selector reports what enters and leaves it", watches::with_a_selector),
    ("a watch ends in time, with a bookmark", watches::ends_in_time),
    ("a watch from too old a version expires", watches::from_too_old_a_version),
    ("a namespace ends", namespaces::ends),
];

/// The API server that a case runs against.
pub struct Server {
    client: Client,
    namespace: String,
    /// None: on the real API server.
    memory: Option<Api>,
}

#[tokio::test(start_paused = true)]
async fn in_memory() {
    let began = tokio::time::Instant::now();
    let start: Timestamp = "2026-11-01T08:00:00Z".parse().unwrap();
    let api = Api::new(1, move || start + jiff::SignedDuration::try_from(began.elapsed()).unwrap());
    let mut failed = Vec::new();
    for (number, (title, case)) in CASES.iter().enumerate() {
        let namespace = format!("case-{number}");
        api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
            .unwrap();
        let server = Server { client: api.client("conformance"), namespace, memory: Some(api.clone()) };
        let holds = passes(&server, *case).await;
        failed.extend(Some(*title).filter(|_| !holds));
    }
    assert_eq!(failed, Vec::<&str>::new());
}

#[tokio::test]
async fn on_the_real_api_server() {
    let plane = control_plane::shared().await.unwrap();
    install_crds(&plane, &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")).await.unwrap();
    let kubeconfig = plane.kubeconfig().unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // Refusals are what is looked at, as in the operator's own client.
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    let mut failed = Vec::new();
    for (title, case) in CASES {
        let namespace = TestNamespace::create(&plane, "case").await.unwrap();
        let name = namespace.name().to_owned();
        let server = Server { client: client.clone(), namespace: name, memory: None };
        let holds = passes(&server, *case).await;
        failed.extend(Some(*title).filter(|_| !holds));
    }
    assert_eq!(failed, Vec::<&str>::new());
}

/// Whether a case passes. The others run anyway, so that one run shows all differences.
async fn passes(server: &Server, case: Case) -> bool {
    AssertUnwindSafe(case(server)).catch_unwind().await.is_ok()
}

impl Server {
    /// The path of a kind in the case's namespace.
    pub fn path(&self, kind: Kind) -> String {
        path_in(kind, &self.namespace)
    }

    pub fn gateway(&self, name: &str) -> String {
        format!("{}/{name}", self.path(Kind::X2Gateway))
    }

    /// Sends a request; the answer's code and content.
    pub async fn ask(&self, method: &str, path: &str, content: &str, body: Vec<u8>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", content);
        let request = request.body(kube::client::Body::from(body)).unwrap();
        let answer = self.client.send(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect_bytes().await.unwrap();
        (code, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "application/json", Vec::new()).await
    }

    pub async fn create(&self, path: &str, object: &Value) -> (u16, Value) {
        self.ask("POST", path, "application/json", object.to_string().into_bytes()).await
    }

    pub async fn replace(&self, path: &str, object: &Value) -> (u16, Value) {
        self.ask("PUT", path, "application/json", object.to_string().into_bytes()).await
    }

    pub async fn merge(&self, path: &str, patch: Value) -> (u16, Value) {
        self.ask("PATCH", path, "application/merge-patch+json", patch.to_string().into_bytes()).await
    }

    pub async fn patch(&self, path: &str, operations: Value) -> (u16, Value) {
        self.ask("PATCH", path, "application/json-patch+json", operations.to_string().into_bytes()).await
    }

    pub async fn delete(&self, path: &str, options: Value) -> (u16, Value) {
        self.ask("DELETE", path, "application/json", options.to_string().into_bytes()).await
    }

    /// Creates a gateway, as it then is.
    pub async fn new_gateway(&self, name: &str, labels: Value) -> Value {
        let (code, object) = self.create(&self.path(Kind::X2Gateway), &gateway(name, labels)).await;
        assert_eq!(code, 201, "{object}");
        object
    }

    /// Begins a watch.
    pub async fn watch(&self, path: &str) -> Events {
        let request = Request::get(path).body(Vec::new()).unwrap();
        let lines = self.client.request_stream(request).await.unwrap().lines();
        Events(Box::pin(lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())))
    }
}

/// The events of a watch.
pub struct Events(Pin<Box<dyn Stream<Item = Value>>>);

impl Events {
    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(SOON, self.0.next()).await.expect("an event, or the end")
    }

    /// The next event's type, and its object.
    pub async fn event(&mut self) -> (String, Value) {
        let mut event = self.next().await.expect("the watch goes on");
        (event["type"].as_str().unwrap().to_owned(), event["object"].take())
    }
}

pub fn path_in(kind: Kind, namespace: &str) -> String {
    let (api, plural) = match kind {
        Kind::X2Gateway => ("apis/tenure.dev/v1alpha1", "x2gateways"),
        Kind::Secret => ("api/v1", "secrets"),
        Kind::ConfigMap => ("api/v1", "configmaps"),
        Kind::Event => ("apis/events.k8s.io/v1", "events"),
        Kind::Lease => ("apis/coordination.k8s.io/v1", "leases"),
        other => panic!("no case is about {other:?}"),
    };
    format!("/{api}/namespaces/{namespace}/{plural}")
}

pub fn gateway(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway",
        "metadata": {"name": name, "labels": labels},
        "spec": {"url": "https://10.20.0.11", "credentialsSecretRef": {"name": "x2-admin"}},
    })
}

/// A resource version as a number.
pub fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Code and reason of a refusal.
pub fn refusal((code, status): &(u16, Value)) -> (u16, &str) {
    assert_eq!(
        (&status["kind"], &status["status"], &status["code"]),
        (&json!("Status"), &json!("Failure"), &json!(code)),
        "{status}"
    );
    (*code, status["reason"].as_str().unwrap_or_default())
}
