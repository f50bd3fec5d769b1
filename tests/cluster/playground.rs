//! The playground's program and manifests.

use std::process::Stdio;

use serde_json::{Value, json};
use tenure_kit::program;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::fixture::*;

/// The manifests as they are used here, where there are no Pods and no Services: the program listens on an address of loopback,
/// and each URL has the port that its Service leads to. Its host is still the name in the certificate.
pub struct Playground {
    manifests: Vec<Value>,
    namespace: String,
    /// One that nothing else listens on: the ports are always the same.
    address: &'static str,
}

impl Playground {
    /// Reads what `kubectl apply -k` would apply.
    pub async fn read(f: &Fixture, address: &'static str) -> Self {
        let folder = root().join("examples/playground");
        let yaml = f.kubectl(&["kustomize", folder.to_str().unwrap()]).await;
        let manifests = serde_saphyr::from_multiple(&yaml).unwrap();
        Self { manifests, namespace: f.ns.name().to_owned(), address }
    }

    fn find(&self, kind: &str, name: &str) -> &Value {
        let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.manifests.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    fn container(&self) -> &Value {
        &self.find("Deployment", "tenure-playground")["spec"]["template"]["spec"]["containers"][0]
    }

    /// Where the program serves what a Service leads to.
    fn origin(&self, host: &str) -> String {
        let service = self.find("Service", host.split('.').next().unwrap());
        let mut ports = self.container()["ports"].as_array().unwrap().iter();
        let port = ports.find(|port| port["name"] == service["spec"]["ports"][0]["targetPort"]).unwrap();
        format!("https://{}:{}", self.address, port["containerPort"])
    }

    /// The manifests in the namespace of the test.
    pub fn adapted(&self) -> Vec<Value> {
        let manifests = self.manifests.iter().filter(|object| object["kind"] != "Namespace");
        manifests.map(|object| self.adapt(object.clone())).collect()
    }

    fn adapt(&self, mut object: Value) -> Value {
        object["metadata"]["namespace"] = json!(self.namespace);
        let host = |url: &str| url.strip_prefix("https://").map(str::to_owned);
        if let Some(host) = object["spec"]["url"].as_str().and_then(host) {
            object["spec"]["url"] = json!(self.origin(&host));
            object["spec"]["tls"]["serverName"] = json!(host);
        }
        if let Some(list) = object["metadata"]["annotations"]["tenure.dev/allowed-origins"].as_str() {
            let entries = list.split(',').map(str::trim).map(|entry| match host(entry) {
                Some(host) => format!("{}, servername={host}", self.origin(&host)),
                None => entry.to_owned(),
            });
            let entries = entries.collect::<Vec<_>>().join(", ");
            object["metadata"]["annotations"]["tenure.dev/allowed-origins"] = json!(entries);
        }
        object
    }

    /// Starts the program with the arguments of its Pod, except that it resets appliances more often.
    pub fn start(&self) -> Child {
        let arguments = self.container()["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap());
        let arguments: Vec<String> =
            arguments.map(|argument| argument.replace("--reset-every=60", "--reset-every=15")).collect();
        assert!(arguments.contains(&"--reset-every=15".to_owned()), "{arguments:?}");
        let mut program = Command::new(program::playground());
        program.args(arguments).args(["--listen", self.address]).stdout(Stdio::piped()).kill_on_drop(true);
        program.spawn().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_becomes_in_sync_and_an_appliance_that_is_reset_is_corrected() {
    let mut f = Fixture::new("playground").await;
    let playground = Playground::read(&f, "127.77.0.1").await;
    let mut program = playground.start();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut log = String::new();
    while !log.contains("kona: listening") {
        log += &lines.next_line().await.unwrap().expect("it runs");
    }
    for object in playground.adapted() {
        f.apply(&object).await;
    }
    f.start_with(&["--require-allowed-origins"]).await;
    f.reason("TokenPolicy", "eight-hours", "InSync").await;
    f.wait("TokenPolicy", "eight-hours", |p| status(p)["gateways"]["summary"] == "4/4").await;
    f.reason("KonaServer", "kona", "InSync").await;
    f.wait("KonaServer", "kona", |k| status(k)["customers"]["summary"] == "2/2").await;

    let drift =
        f.ns.wait_for("X2Gateway", "berlin-core", 2 * SOON, |g| status(g)["history"][0]["cause"] == "Drift");
    let gateway = drift.await.unwrap();
    assert_eq!(
        (&status(&gateway)["history"][0]["from"], &status(&gateway)["history"][0]["to"]),
        (&json!(86400), &json!(28800))
    );
    assert_eq!(condition(&gateway, "Insecure"), &Value::Null);
    f.event("berlin-core", "DriftCorrected").await;

    let id = program.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    while let Some(line) = lines.next_line().await.unwrap() {
        log += &line;
    }
    assert!(program.wait().await.unwrap().success());
    for line in [
        "berlin-core: POST /api2/tokens: 200",
        "berlin-core: reset to factory settings, 28800s -> 86400s",
        "berlin-core: PUT /api2/token/timeout: 200",
        "kona: POST /api/customer/: 200",
        "shutting down",
    ] {
        assert!(log.contains(line), "the playground has not written {line}:\n{log}");
    }
    for secret in PLANTED {
        assert!(!log.contains(secret), "{secret} is in the log of the playground");
    }
    f.finish().await;
}
