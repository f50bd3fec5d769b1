//! The real API server, one test at a time, and what lives in it: releases, and the processes that their Pods would run.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions::is_deleted};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tenure_kit::access::token_kubeconfig;
use tenure_kit::control_plane::{self, ControlPlane};
use tenure_kit::namespace::{TestNamespace, install_crds, until_served};
use tenure_kit::operator::Operator;
use tenure_kit::tools;
use tenure_kit::x2::{FleetOptions, X2Fleet};
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard};

use super::helm::{Helm, image, path, program, root, temporary, text};

/// Longest wait for anything that takes no time by design. Long enough for a machine that compiles something beside it.
pub const SOON: Duration = Duration::from_mins(5);
pub const KINDS: [&str; 4] = ["X2Gateway", "TokenPolicy", "KonaServer", "CustomerTokenTtl"];
pub const FINALIZER: &str = "tenure.dev/restore";

/// The CRDs are the whole cluster's, and so are those who own them: one test has it at a time, and finds it without ours.
pub struct Cluster {
    pub plane: Arc<ControlPlane>,
    pub client: Client,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    pub async fn alone() -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let plane = control_plane::shared().await.unwrap();
        let cluster = Self { client: plane.client().await.unwrap(), plane, _alone: alone };
        cluster.remove_crds().await;
        cluster
    }

    /// What a test that failed may have left as well, finalizers and all.
    pub async fn remove_crds(&self) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in self.crds().await {
            let resource = resource(&crd.spec.names.kind);
            let everywhere: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            for object in everywhere.list(&ListParams::default()).await.unwrap() {
                let namespace = object.namespace().unwrap();
                let api: Api<DynamicObject> =
                    Api::namespaced_with(self.client.clone(), &namespace, &resource);
                let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                api.patch(&object.name_any(), &PatchParams::default(), &free).await.unwrap();
            }
            api.delete(&crd.name_any(), &DeleteParams::default()).await.unwrap();
        }
        self.until_crds_are_gone().await;
    }

    /// Waits until none of ours is there.
    pub async fn until_crds_are_gone(&self) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in self.crds().await {
            let (name, uid) = (crd.name_any(), crd.uid().unwrap());
            let gone = await_condition(api.clone(), &name, is_deleted(&uid));
            tokio::time::timeout(SOON, gone).await.expect("nothing holds a CRD").unwrap();
        }
    }

    /// Ours that are there.
    pub async fn crds(&self) -> Vec<CustomResourceDefinition> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let mut crds = api.list(&ListParams::default()).await.unwrap().items;
        crds.retain(|crd| crd.spec.group == "tenure.dev");
        crds
    }

    /// Ours and those of the Prometheus operator that the chart uses, without Helm.
    pub async fn install_crds(&self) {
        install_crds(&self.plane, &root().join("crds")).await.unwrap();
        let theirs = tokio::task::spawn_blocking(tools::prometheus_operator_crds).await.unwrap().unwrap();
        let folder = temporary("prometheus-operator");
        for kind in ["servicemonitors", "podmonitors", "prometheusrules"] {
            let name = format!("monitoring.coreos.com_{kind}.yaml");
            std::fs::write(folder.join(&name), std::fs::read(theirs.join(&name)).unwrap()).unwrap();
        }
        install_crds(&self.plane, &folder).await.unwrap();
    }

    /// Runs a script with kubectl in a folder, by default in this namespace. What it prints; it has to end well.
    pub async fn shell(&self, namespace: &str, folder: &Path, script: &str) -> String {
        let kubectl = tokio::task::spawn_blocking(control_plane::kubectl).await.unwrap().unwrap();
        let mut kubeconfig = self.plane.kubeconfig().unwrap();
        for context in &mut kubeconfig.contexts {
            context.context.as_mut().unwrap().namespace = Some(namespace.to_owned());
        }
        let config = folder.join("kubeconfig");
        std::fs::write(&config, serde_json::to_vec(&kubeconfig).unwrap()).unwrap();
        let typed = format!("PATH='{}':$PATH\n{script}", path(kubectl.parent().unwrap()));
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &typed]).current_dir(folder).stdin(Stdio::null());
        let output = bash.env("HOME", folder).env("KUBECONFIG", config).output();
        let output = output.await.unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{script}\n{}", said(&output.stderr));
        said(&output.stdout)
    }

    pub async fn namespace(&self, prefix: &str) -> TestNamespace {
        TestNamespace::create(&self.plane, prefix).await.unwrap()
    }

    /// A namespace where only Pods run that hold to the strictest level.
    pub async fn restricted(&self, prefix: &str) -> TestNamespace {
        let namespace = self.namespace(prefix).await;
        let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let api = namespace.api("Namespace").await.unwrap();
        api.patch(namespace.name(), &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
        namespace
    }
}

/// One of our kinds.
pub fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("tenure.dev", "v1alpha1", kind))
}

/// A release, and who installs it.
pub struct Release<'a> {
    pub cluster: &'a Cluster,
    pub helm: Helm,
    pub name: &'static str,
    pub namespace: &'a TestNamespace,
}

impl Release<'_> {
    /// Installs or upgrades it, and waits until its kinds are served, for which Helm does not wait.
    pub async fn apply(
        &self,
        verb: &str,
        chart: &Path,
        more: &[&str],
        values: &Value,
    ) -> Result<String, String> {
        let image = image();
        let all = [verb, self.name, path(chart), "--values", path(&image), "--values", "-"];
        let arguments = [&all, more].concat();
        let printed = self.run(&arguments, values).await?;
        if !self.cluster.crds().await.is_empty() {
            until_served(&self.cluster.plane, &KINDS).await.unwrap();
        }
        Ok(printed)
    }

    /// Runs Helm in its namespace.
    pub async fn run(&self, arguments: &[&str], values: &Value) -> Result<String, String> {
        let mut all: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let kubeconfig = path(self.cluster.plane.kubeconfig_path());
        all.extend(["--namespace", self.namespace.name(), "--kubeconfig", kubeconfig].map(str::to_owned));
        let (helm, values) = (self.helm, values.clone());
        let run = move || {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            helm.run(&all, &values)
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    /// Its Deployment, as the API server has it.
    pub async fn deployment(&self) -> DynamicObject {
        let api = self.namespace.api("Deployment").await.unwrap();
        let instance = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", self.name));
        let mut found = api.list(&instance).await.unwrap().items;
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// The process that one of its Pods would run, at work.
    pub async fn operator(&self) -> Operator {
        let deployment = self.deployment().await;
        let pod = &deployment.data["spec"]["template"]["spec"];
        let account = text(&pod["serviceAccountName"]);
        let kubeconfig = token_kubeconfig(&self.cluster.plane, self.namespace.name(), account).await.unwrap();
        let (arguments, environment) = process(&pod["containers"][0]);
        let operator = Operator::spawn_exactly(program(), &kubeconfig, &arguments, &environment).unwrap();
        operator.wait_for_log("\"at work\"", SOON).await.unwrap();
        operator
    }
}

/// Arguments and environment of a container.
pub fn process(container: &Value) -> (Vec<String>, Vec<(String, String)>) {
    let list = |field: &str| container[field].as_array().cloned().unwrap_or_default();
    let arguments = list("args").iter().map(|argument| text(argument).to_owned()).collect();
    let pair = |entry: &Value| (text(&entry["name"]).to_owned(), text(&entry["value"]).to_owned());
    (arguments, list("env").iter().map(pair).collect())
}

/// Values by which the process works here: at a port that is free, against appliances on loopback.
pub fn runnable(mut values: Value) -> Value {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    values["listen"] = json!({"address": "127.0.0.1", "port": port});
    values["operator"]["allowCidr"] = json!(["127.0.0.0/8"]);
    values
}

/// A gateway for the first appliance of a fleet, with its credentials, and a policy.
pub async fn equip(namespace: &TestNamespace, fleet: &X2Fleet, policy: Value) {
    // The chart requires it.
    let origins = format!("https://127.0.0.0/8:{}, tls=configmap/x2-ca", fleet.appliance(0).port());
    let ca = json!({"ca.crt": fleet.ca_pem().unwrap()});
    let mut spec = json!({"gatewaySelector": {}, "interval": "30s"});
    spec.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
    let objects = [
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "x2-admin", "annotations": {"tenure.dev/allowed-origins": origins}},
            "stringData": {"username": "admin", "password": "x2-admin-password"},
        }),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x2-ca"}, "data": ca}),
        json!({
            "apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway", "metadata": {"name": "x2"},
            "spec": {
                "url": fleet.appliance(0).url(),
                "credentialsSecretRef": {"name": "x2-admin"},
                "tls": {"caConfigMapRef": {"name": "x2-ca"}},
            },
        }),
        json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy", "metadata": {"name": "short"}, "spec": spec}),
    ];
    for object in objects {
        namespace.apply_yaml(&object.to_string()).await.unwrap();
    }
}

/// Waits until the policy holds.
pub async fn in_sync(namespace: &TestNamespace) -> DynamicObject {
    let ready = |policy: &DynamicObject| {
        let conditions = policy.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let generation = json!(policy.metadata.generation);
        conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["reason"] == "InSync" && c["observedGeneration"] == generation)
    };
    namespace.wait_for("TokenPolicy", "short", SOON, ready).await.unwrap()
}

pub fn fleet() -> X2Fleet {
    X2Fleet::start(FleetOptions::default()).unwrap()
}
