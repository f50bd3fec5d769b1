//! What the tests on the real API server have in common: a namespace, simulated systems, the operator as a process under
//! its own rights, and the search for leaked secrets at the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tenure_kit::access::{operator_rules, service_account_kubeconfig};
use tenure_kit::control_plane::{self, ControlPlane, Options};
use tenure_kit::kona::KonaServer;
use tenure_kit::namespace::{TestNamespace, install_crds};
use tenure_kit::operator::Operator;
pub use tenure_kit::program::{program, root};
use tenure_kit::relay::Relay;
use tenure_kit::x2::{Appliance, FleetOptions, X2Fleet};
use tokio::sync::OnceCell;

/// Longest wait for anything that takes no time by design. Longer than the minute after which a watch that stopped delivering is
/// begun again, and long enough for a machine that compiles something beside it.
pub const SOON: Duration = Duration::from_secs(100);
/// Passwords that must appear nowhere, and the beginning of every token (its header names the algorithm first).
pub const PLANTED: [&str; 6] = [
    "x2-admin-password",
    "x2-viewer-password",
    "kona-admin-password",
    "kona-user-password",
    "planted-wrong-password",
    "eyJhbGci",
];

/// A test's world.
pub struct Fixture {
    pub plane: Arc<ControlPlane>,
    pub ns: TestNamespace,
    pub operator: Option<Operator>,
    kubeconfig: PathBuf,
    logs: String,
}

pub async fn plane() -> Arc<ControlPlane> {
    static CRDS: OnceCell<()> = OnceCell::const_new();
    let plane = control_plane::shared().await.unwrap();
    CRDS.get_or_init(async || install_crds(&plane, &root().join("crds")).await.unwrap()).await;
    plane
}

impl Fixture {
    /// A namespace of its own; the operator is not started yet.
    pub async fn new(name: &str) -> Self {
        Self::with_rights(name, &operator_rules()).await
    }

    /// On an API server of its own, for what would disturb other tests.
    pub async fn alone(name: &str) -> Self {
        Self::alone_with(name, Options::default()).await
    }

    /// The same, where the API server is started with options.
    pub async fn alone_with(name: &str, options: Options) -> Self {
        let plane = ControlPlane::start(options).await.unwrap();
        install_crds(&plane, &root().join("crds")).await.unwrap();
        Self::on(Arc::new(plane), name, &operator_rules()).await
    }

    /// The same, where nobody has installed the CRDs yet.
    pub async fn bare(name: &str) -> Self {
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        Self::on(Arc::new(plane), name, &operator_rules()).await
    }

    /// As [`new`](Self::new), where the operator has other rights than its own.
    pub async fn with_rights(name: &str, rules: &[PolicyRule]) -> Self {
        Self::on(plane().await, name, rules).await
    }

    async fn on(plane: Arc<ControlPlane>, name: &str, rules: &[PolicyRule]) -> Self {
        let ns = TestNamespace::create(&plane, name).await.unwrap();
        let kubeconfig = service_account_kubeconfig(&plane, ns.name(), rules).await.unwrap();
        Self { plane, ns, operator: None, kubeconfig, logs: String::new() }
    }

    /// The kubeconfig that the operator is started with.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Puts a network that can be cut between the operator, which is not started yet, and the API server.
    pub async fn relay(&mut self) -> Relay {
        let (relay, kubeconfig) = Relay::before(&self.kubeconfig).await.unwrap();
        self.kubeconfig = kubeconfig;
        relay
    }

    /// Starts one replica of several, and does not wait for anything.
    pub fn replica(&self, kubeconfig: &Path) -> Operator {
        let ns = self.ns.name();
        let arguments =
            ["--leader-elect", "--lease-namespace", ns, "--namespaces", ns, "--allow-cidr", "127.0.0.0/8"];
        Operator::spawn(program(), kubeconfig, &arguments).unwrap()
    }

    /// What an operator that is not the fixture's own has logged is searched for secrets, too.
    pub fn retire(&mut self, operator: &Operator) {
        self.logs.push_str(&operator.log());
    }

    /// Starts the operator for this namespace.
    pub async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    /// Starts the operator for this namespace with more arguments.
    pub async fn start_with(&mut self, arguments: &[&str]) {
        let namespace = self.ns.name().to_owned();
        let mut all = vec!["--namespaces", &namespace, "--allow-cidr", "127.0.0.0/8", "--log-level", "trace"];
        if arguments.contains(&"--namespaces") || arguments.contains(&"--no-defaults") {
            all.clear();
        }
        all.extend(arguments.iter().filter(|argument| **argument != "--no-defaults"));
        self.operator = Some(Operator::start(program(), &self.kubeconfig, &all).await.unwrap());
    }

    /// Starts the operator for this namespace without waiting for anything, and leaves it to the caller.
    pub fn spawn(&self, arguments: &[&str]) -> Operator {
        let mut all = vec!["--namespaces", self.ns.name(), "--allow-cidr", "127.0.0.0/8"];
        all.extend(arguments);
        Operator::spawn(program(), &self.kubeconfig, &all).unwrap()
    }

    pub fn operator(&self) -> &Operator {
        self.operator.as_ref().unwrap()
    }

    /// Kills the operator.
    pub async fn kill(&mut self) {
        let mut operator = self.operator.take().unwrap();
        operator.kill().await.unwrap();
        self.logs.push_str(&operator.log());
    }

    /// The Secret with the fleet's admin password, and the ConfigMap with its CA.
    pub async fn credentials(&self, fleet: &X2Fleet) {
        self.ns
            .secret("x2-admin", &[("username", "admin"), ("password", "x2-admin-password")])
            .await
            .unwrap();
        if let Some(ca) = fleet.ca_pem() {
            self.config_map("x2-ca", &ca).await;
        }
    }

    pub async fn config_map(&self, name: &str, ca: &str) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": ca}});
        self.apply(&map).await;
    }

    /// The Secret of a Kona server's administrator, the ConfigMap with its CA, and the KonaServer `kona`.
    pub async fn kona(&self, kona: &KonaServer) {
        let login = [("username", "tenant@example.net"), ("password", "kona-admin-password")];
        self.ns.secret("kona-admin", &login).await.unwrap();
        if let Some(ca) = kona.ca_pem() {
            self.config_map("kona-ca", &ca).await;
        }
        self.apply(&kona_server("kona", &kona.url())).await;
    }

    pub async fn apply(&self, manifest: &Value) -> DynamicObject {
        self.ns.apply_yaml(&manifest.to_string()).await.unwrap().remove(0)
    }

    /// Why the API server refuses a manifest.
    pub async fn refusal(&self, manifest: &Value) -> String {
        let error = self.ns.dry_run_yaml(&manifest.to_string()).await.expect_err("it is refused");
        tenure_kit::namespace::refusal(&error).expect("by the API server").message.clone()
    }

    /// Merges something into an object, as `kubectl patch` does.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) -> DynamicObject {
        let api = self.ns.api(kind).await.unwrap();
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    /// Asks for a look now.
    pub async fn request(&self, kind: &str, name: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": value}}});
        self.patch(kind, name, patch).await;
    }

    /// Asks for a look now and waits until it has ended.
    pub async fn look(&self, kind: &str, name: &str, value: &str) -> DynamicObject {
        self.request(kind, name, value).await;
        self.wait(kind, name, |object| status(object)["lastHandledReconcileAt"] == value).await
    }

    pub async fn wait(
        &self,
        kind: &str,
        name: &str,
        wanted: impl FnMut(&DynamicObject) -> bool,
    ) -> DynamicObject {
        self.ns.wait_for(kind, name, SOON, wanted).await.unwrap()
    }

    /// Waits until the Ready condition has this reason, for the present spec.
    pub async fn reason(&self, kind: &str, name: &str, reason: &str) -> DynamicObject {
        self.wait(kind, name, |object| is_current(object) && ready(object)["reason"] == reason).await
    }

    pub async fn get(&self, kind: &str, name: &str) -> DynamicObject {
        self.ns.get(kind, name).await.unwrap()
    }

    /// What the real kubectl prints, as the administrator in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let program = tokio::task::spawn_blocking(control_plane::kubectl).await.unwrap().unwrap();
        let output = tokio::process::Command::new(program)
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig_path())
            .args(["--namespace", self.ns.name()])
            .args(arguments)
            .env("HOME", self.plane.folder())
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// All events about objects of this namespace, as `(object, reason, note)`.
    pub async fn events(&self) -> Vec<(String, String, String)> {
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.ns.client(), self.ns.name());
        let text = |text: Option<String>| text.unwrap_or_default();
        let events = api.list(&ListParams::default()).await.unwrap().items.into_iter();
        events.map(|e| (text(e.regarding.and_then(|r| r.name)), text(e.reason), text(e.note))).collect()
    }

    /// Waits until there is an event about an object.
    pub async fn event(&self, object: &str, reason: &str) -> String {
        self.event_saying(object, reason, "").await
    }

    /// Waits until there is an event about an object whose note holds a text.
    pub async fn event_saying(&self, object: &str, reason: &str, text: &str) -> String {
        use futures::TryStreamExt as _;
        use kube::runtime::{WatchStreamExt as _, watcher};
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.ns.client(), self.ns.name());
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
        let found = async {
            while let Some(event) = events.try_next().await.unwrap() {
                let about = event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(object);
                let note = event.note.unwrap_or_default();
                if about && event.reason.as_deref() == Some(reason) && note.contains(text) {
                    return note;
                }
            }
            panic!("the watch ended");
        };
        tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| {
            panic!("no event {reason} about {object} says {text}: {}", self.operator().log())
        })
    }

    /// Ends the operator properly, and searches everything it has left behind for planted secrets.
    pub async fn finish(mut self) {
        let mut everything = self.logs.clone();
        if let Some(mut operator) = self.operator.take() {
            everything.push_str(&operator.metrics().await.unwrap());
            let status = operator.terminate(Duration::from_secs(15)).await.unwrap();
            assert!(status.success(), "{status}: {}", operator.log());
            everything.push_str(&operator.log());
        }
        for kind in ["X2Gateway", "TokenPolicy", "KonaServer", "CustomerTokenTtl", "Event", "ConfigMap"] {
            let objects = self.ns.api(kind).await.unwrap().list(&ListParams::default()).await.unwrap();
            everything.push_str(&serde_json::to_string(&objects.items).unwrap());
        }
        assert!(!everything.contains("this is a bug"), "{everything}");
        for secret in PLANTED {
            if let Some(at) = everything.find(secret) {
                let start = everything.floor_char_boundary(at.saturating_sub(300));
                panic!("{secret} has leaked: {}", &everything[start..at]);
            }
        }
    }
}

/// An X2Gateway for an appliance of a fleet, in the fixture's credentials.
pub fn gateway(name: &str, appliance: &Appliance) -> Value {
    gateway_at(name, &appliance.url())
}

pub fn gateway_at(name: &str, url: &str) -> Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway",
        "metadata": {"name": name, "labels": {"site": "berlin"}},
        "spec": {
            "url": url,
            "credentialsSecretRef": {"name": "x2-admin"},
            "tls": {"caConfigMapRef": {"name": "x2-ca"}},
        },
    })
}

/// A policy for all gateways of the namespace.
pub fn policy(name: &str, spec: Value) -> Value {
    let mut all = json!({"gatewaySelector": {}, "interval": "30s"});
    merge(&mut all, spec);
    json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy", "metadata": {"name": name}, "spec": all})
}

pub fn kona_server(name: &str, url: &str) -> Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "KonaServer",
        "metadata": {"name": name},
        "spec": {
            "url": url,
            "credentialsSecretRef": {"name": "kona-admin"},
            "tls": {"caConfigMapRef": {"name": "kona-ca"}},
        },
    })
}

pub fn customer(name: &str, id: &str, access: u32, refresh: u32) -> Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "CustomerTokenTtl",
        "metadata": {"name": name},
        "spec": {
            "serverRef": {"name": "kona"}, "customerId": id, "interval": "30s",
            "accessTokenTtlSeconds": access, "refreshTokenTtlSeconds": refresh,
        },
    })
}

/// Merges as `kubectl patch` does: null removes.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert_with(|| json!({})), value);
                }
            }
        }
        (into, from) => *into = from,
    }
}

/// `base` with something merged into it.
pub fn with(mut base: Value, patch: Value) -> Value {
    merge(&mut base, patch);
    base
}

pub fn fleet(appliances: usize) -> X2Fleet {
    X2Fleet::start(FleetOptions { appliances, ..FleetOptions::default() }).unwrap()
}

pub fn status(object: &DynamicObject) -> &Value {
    &object.data["status"]
}

/// One condition; null where there is none.
pub fn condition<'a>(object: &'a DynamicObject, kind: &str) -> &'a Value {
    let conditions = status(object)["conditions"].as_array();
    conditions.and_then(|list| list.iter().find(|c| c["type"] == kind)).unwrap_or(&Value::Null)
}

pub fn ready(object: &DynamicObject) -> &Value {
    condition(object, "Ready")
}

/// Whether status and every condition speak of the present spec.
pub fn is_current(object: &DynamicObject) -> bool {
    let generation = json!(object.metadata.generation);
    let conditions = status(object)["conditions"].as_array().cloned().unwrap_or_default();
    status(object)["observedGeneration"] == generation
        && !conditions.is_empty()
        && conditions.iter().all(|c| c["observedGeneration"] == generation)
}

pub fn version(object: &DynamicObject) -> String {
    object.resource_version().unwrap()
}

/// The log lines that are meant, so far.
pub fn log_lines(operator: &Operator, is_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
    let log = operator.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.filter(is_meant).collect()
}

/// The same, once there are so many.
pub async fn logged(operator: &Operator, count: usize, is_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut grown = operator.lines();
    let enough = async {
        while log_lines(operator, &is_meant).len() < count {
            grown.changed().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, enough).await.unwrap_or_else(|_| panic!("{}", operator.log()));
    log_lines(operator, is_meant)
}
