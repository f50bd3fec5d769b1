//! The series that kube-state-metrics exports with `examples/monitoring/kube-state-metrics.yaml`, under no more rights than that
//! file and its chart grant.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};
use tenure_kit::access::service_account_kubeconfig;
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::operator::Operator as Process;
use tenure_kit::tools;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fixture::*;

const CUSTOMER: &str = "1d2b7a10-4f1e-11ee-be56-0242ac120002";

/// The values of the chart kube-state-metrics.
fn values() -> Value {
    let file = root().join("examples/monitoring/kube-state-metrics.yaml");
    let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    values["kube-state-metrics"].clone()
}

/// A kubeconfig with the rights of the file, and the one that the chart adds for custom resources.
async fn account(f: &Fixture) -> PathBuf {
    let mut rules: Vec<PolicyRule> = serde_json::from_value(values()["rbac"]["extraRules"].clone()).unwrap();
    let crds = json!({"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list", "watch"]});
    rules.push(serde_json::from_value(crds).unwrap());
    service_account_kubeconfig(&f.plane, f.ns.name(), &rules).await.unwrap()
}

/// A running kube-state-metrics for a namespace.
struct Exporter {
    process: Process,
    address: String,
    namespace: String,
}

impl Exporter {
    async fn start(f: &Fixture) -> Self {
        let program = tokio::task::spawn_blocking(tools::kube_state_metrics).await.unwrap().unwrap();
        let kubeconfig = account(f).await;
        let config = kubeconfig.with_extension("kube-state-metrics.yaml");
        std::fs::write(&config, values()["customResourceState"]["config"].to_string()).unwrap();
        // Its log has the ports that it gets; the address shows of which server.
        let arguments = [
            "--custom-resource-state-only",
            &format!("--custom-resource-state-config-file={}", config.display()),
            &format!("--kubeconfig={}", kubeconfig.display()),
            &format!("--namespaces={}", f.ns.name()),
            "--host=127.0.0.1",
            "--port=0",
            "--telemetry-host=127.0.0.2",
            "--telemetry-port=0",
        ];
        let process =
            Process::spawn_exactly(&program, &kubeconfig, &arguments.map(str::to_owned), &[]).unwrap();
        let listens = r#""Listening on" address="127.0.0.1:"#;
        process.wait_for_log(listens, SOON).await.unwrap();
        let log = process.log();
        let port = log.split(listens).nth(1).unwrap().split('"').next().unwrap();
        Self { process, address: format!("127.0.0.1:{port}"), namespace: f.ns.name().to_owned() }
    }

    async fn series(&self) -> BTreeSet<String> {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().filter(|line| line.starts_with("tenure_")).map(str::to_owned).collect()
    }

    /// Waits until exactly these resources are exported, each with these labels.
    async fn exports(&self, expected: &[(&str, &str, &str)]) {
        let namespace = &self.namespace;
        let expected = expected.iter().map(|(kind, name, labels)| {
            format!(
                r#"tenure_resource_info{{customresource_group="tenure.dev",customresource_kind="{kind}",customresource_version="v1alpha1",kind="{kind}",name="{name}",namespace="{namespace}"{labels}}} 1"#
            )
        });
        let (expected, mut found) = (expected.collect(), BTreeSet::new());
        let as_expected = async {
            while found != expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
                found = self.series().await;
            }
        };
        let _ = tokio::time::timeout(SOON, as_expected).await;
        assert_eq!(found, expected, "{}", self.process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_resource_is_exported_with_its_reason_and_its_policy() {
    let (fleet, kona) = (fleet(3), KonaServer::start(KonaOptions::default()).unwrap());
    kona.add_customer(CUSTOMER, "Acme");
    let mut f = Fixture::new("exported").await;
    let exporter = Exporter::start(&f).await;
    f.credentials(&fleet).await;
    let elsewhere = json!({"metadata": {"labels": {"site": "rome"}}});
    f.apply(&gateway("x2-0", &fleet.appliance(0))).await;
    f.apply(&with(gateway("x2-1", &fleet.appliance(1)), secret("wrong"))).await;
    f.apply(&with(gateway("x2-2", &fleet.appliance(2)), elsewhere)).await;
    // Nothing has reconciled them.
    exporter.exports(&["x2-0", "x2-1", "x2-2"].map(|name| ("X2Gateway", name, ""))).await;

    f.ns.secret("wrong", &[("username", "admin"), ("password", "planted-wrong-password")]).await.unwrap();
    f.kona(&kona).await;
    f.patch("KonaServer", "kona", secret("wrong")).await;
    f.apply(&customer("acme", CUSTOMER, 3600, 86400)).await;
    let selector = json!({"matchLabels": {"site": "berlin"}});
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "gatewaySelector": selector}))).await;
    f.start().await;
    exporter
        .exports(&[
            ("X2Gateway", "x2-0", r#",policy="short",ready="True",reason="InSync""#),
            ("X2Gateway", "x2-1", r#",policy="short",ready="False",reason="AuthenticationFailed""#),
            ("X2Gateway", "x2-2", r#",ready="True",reason="Unmanaged""#),
            ("TokenPolicy", "short", r#",ready="False",reason="AuthenticationFailed""#),
            ("KonaServer", "kona", r#",ready="False",reason="AuthenticationFailed""#),
            ("CustomerTokenTtl", "acme", r#",ready="False",reason="ServerNotReady""#),
        ])
        .await;

    f.patch("X2Gateway", "x2-1", secret("x2-admin")).await;
    f.patch("X2Gateway", "x2-2", json!({"metadata": {"labels": {"site": "berlin"}}})).await;
    f.patch("KonaServer", "kona", secret("kona-admin")).await;
    exporter
        .exports(&[
            ("X2Gateway", "x2-0", r#",policy="short",ready="True",reason="InSync""#),
            ("X2Gateway", "x2-1", r#",policy="short",ready="True",reason="InSync""#),
            ("X2Gateway", "x2-2", r#",policy="short",ready="True",reason="InSync""#),
            ("TokenPolicy", "short", r#",ready="True",reason="InSync""#),
            ("KonaServer", "kona", r#",ready="True",reason="InSync""#),
            ("CustomerTokenTtl", "acme", r#",ready="True",reason="InSync""#),
        ])
        .await;
    let log = exporter.process.log();
    let is_error = |line: &str| line.starts_with(['E', 'F']);
    assert!(!log.lines().any(is_error), "{log}");
    f.finish().await;
}

/// The name of the Secret in a spec.
fn secret(name: &str) -> Value {
    json!({"spec": {"credentialsSecretRef": {"name": name}}})
}
