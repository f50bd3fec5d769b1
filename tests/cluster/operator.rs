//! The operator as a process: its pages, its end, its rights, its bounds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::requests::{Counts, Kind};

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn shows_its_metrics_and_its_health() {
    const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";
    let fleet = fleet(1);
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    kona.add_customer(ID, "Acme");
    let mut f = Fixture::new("metrics").await;
    f.credentials(&fleet).await;
    f.kona(&kona).await;
    f.apply(&customer("acme", ID, 3600, 86_400)).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    let namespace = f.ns.name().to_owned();
    f.start_with(&["--metrics-per-object", "--namespaces", &namespace, "--allow-cidr", "127.0.0.0/8"]).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    // It sums up its customers once a second.
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "1/1").await;
    assert_eq!(f.operator().get("/healthz").await.unwrap().0, 200);
    assert_eq!(f.operator().get("/readyz").await.unwrap().0, 200);
    assert_eq!(f.operator().get("/nothing").await.unwrap().0, 404);
    let metrics = f.operator().metrics().await.unwrap();
    for line in [
        r#"tenure_reconciles_total{kind="X2Gateway",result="success"} 1"#,
        r#"tenure_reconcile_duration_seconds_count{kind="X2Gateway"} 1"#,
        r#"tenure_remote_requests_total{system="x2",operation="login",code="200"} 2"#,
        r#"tenure_remote_requests_total{system="x2",operation="get_timeout",code="200"} 1"#,
        r#"tenure_remote_requests_total{system="x2",operation="set_timeout",code="200"} 1"#,
        r#"tenure_remote_request_duration_seconds_count{system="x2",operation="login"} 2"#,
        &format!(r#"tenure_gateways{{policy="short",namespace="{namespace}",state="inSync"}} 1"#),
        &format!(r#"tenure_gateways{{policy="short",namespace="{namespace}",state="failed"}} 0"#),
        &format!(
            r#"tenure_last_success_timestamp_seconds{{kind="X2Gateway",namespace="{namespace}",name="x2-1"}} "#
        ),
        &format!(r#"tenure_customers{{server="kona",namespace="{namespace}",state="inSync"}} 1"#),
        &format!(r#"tenure_resources{{kind="X2Gateway",namespace="{namespace}",reason="InSync"}} 1"#),
        &format!(r#"tenure_longest_timeout_seconds{{namespace="{namespace}"}} 86400"#),
        &format!(r#"tenure_oldest_proof_timestamp_seconds{{namespace="{namespace}"}} "#),
        r#"tenure_objects_in_backoff{kind="X2Gateway"} 0"#,
        "tenure_slots_in_use 0",
        "tenure_leader 1",
        "tenure_events_dropped_total 0",
        "tenure_panics_total 0",
        "tenure_build_info{version=",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
    // A series goes with its object.
    f.ns.delete_object("TokenPolicy", "short").await.unwrap();
    f.reason("X2Gateway", "x2-1", "Unmanaged").await;
    let metrics = f.operator().metrics().await.unwrap();
    assert!(!metrics.contains("tenure_gateways{"), "{metrics}");
    let unmanaged = format!(r#"tenure_unmanaged_gateways{{namespace="{namespace}"}} 1"#);
    assert!(metrics.contains(&unmanaged), "{metrics}");
    for (kind, name) in [("X2Gateway", "x2-1"), ("CustomerTokenTtl", "acme"), ("KonaServer", "kona")] {
        f.ns.delete_object(kind, name).await.unwrap();
    }
    let all_gone = async {
        let tells = |line: &str| !line.starts_with("tenure_watch_") && line.contains(f.ns.name());
        while f.operator().metrics().await.unwrap().lines().any(tells) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, all_gone).await.expect("no series tells of what is gone");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_what_it_tries_again_after_a_failure() {
    let fleet = fleet(1);
    let mut f = Fixture::new("backoff").await;
    f.credentials(&fleet).await;
    let missing = json!({"spec": {"credentialsSecretRef": {"name": "missing"}}});
    f.apply(&with(gateway("x2-1", &fleet.appliance(0)), missing)).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "SecretNotFound").await;
    let counted = async |count: u32| {
        let line = format!("tenure_objects_in_backoff{{kind=\"X2Gateway\"}} {count}\n");
        let shown = async {
            while !f.operator().metrics().await.unwrap().contains(&line) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SOON, shown).await.expect(&line);
    };
    counted(1).await;
    f.ns.delete_object("X2Gateway", "x2-1").await.unwrap();
    counted(0).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_of_a_suspended_policy_counts_as_waiting_and_not_as_a_success() {
    let fleet = fleet(1);
    let mut f = Fixture::new("suspended-policy").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("long", json!({"maxTimeoutSeconds": 2_592_000, "suspend": true}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    f.look("TokenPolicy", "long", "1").await;
    f.wait("TokenPolicy", "long", |policy| status(policy)["gateways"]["summary"] == "1/1").await;
    let metrics = f.operator().metrics().await.unwrap();
    let none = r#"tenure_reconciles_total{kind="TokenPolicy",result="success"} 0"#;
    assert!(metrics.contains(none), "{metrics}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_log_follows_each_reconcile_from_its_trigger_to_the_next() {
    let fleet = fleet(1);
    let mut f = Fixture::new("followed").await;
    f.credentials(&fleet).await;
    fleet.appliance(0).fault(Fault::status(500, "{}").on(Kind::Get).times(1));
    let gateway = f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    f.look("X2Gateway", "x2-1", "now").await;
    let is_about = |line: &Value, message: &str| line["name"] == "x2-1" && line["message"] == message;
    let lines = logged(f.operator(), 3, |line| is_about(line, "reconciled")).await;
    let of = |field: &str| lines.iter().map(|line| line[field].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(of("trigger"), ["start", "timer", "change"]);
    assert_eq!(of("result"), ["failure", "success", "success"]);
    assert_eq!(of("uid"), [gateway.metadata.uid.as_deref().unwrap(); 3]);
    assert_eq!(of("namespace"), [f.ns.name(); 3]);
    assert_eq!(of("next_in").len(), 3);
    let requests = logged(f.operator(), 6, |line| is_about(line, "request")).await;
    assert_eq!(requests[0]["operation"], "login");
    for line in requests {
        assert_eq!((&line["kind"], &line["namespace"]), (&json!("X2Gateway"), &json!(f.ns.name())));
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finishes_a_write_under_way_when_it_is_told_to_end() {
    let fleet = fleet(2);
    let mut f = Fixture::new("ending").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("writing", &fleet.appliance(0))).await;
    f.apply(&gateway("reading", &fleet.appliance(1))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    let (writing, reading) = (Gate::new(), Gate::new());
    fleet.appliance(0).fault(Fault::gate(&writing).on(Kind::Write));
    fleet.appliance(1).fault(Fault::gate(&reading).on(Kind::Get));
    f.start().await;
    fleet.appliance(0).requests().wait_arrived(Kind::Write, 1).await;
    fleet.appliance(1).requests().wait_arrived(Kind::Get, 1).await;
    let mut operator = f.operator.take().unwrap();
    let ending = tokio::spawn(async move {
        let status = operator.terminate(Duration::from_secs(12)).await.unwrap();
        (status, operator.log())
    });
    let told = f.wait("X2Gateway", "writing", |_| true);
    drop(told);
    writing.open();
    // The change is proven and recorded before the end.
    f.reason("X2Gateway", "writing", "InSync").await;
    reading.open();
    let (status, log) = ending.await.unwrap();
    assert!(status.success(), "{log}");
    // What it had to publish is published.
    let events = f.events().await;
    assert!(
        events.iter().any(|(object, reason, _)| object == "writing" && reason == "TimeoutChanged"),
        "{events:?}"
    );
    assert_eq!(fleet.appliance(0).counts(), Counts { login: 2, get: 1, write: 1, ..Counts::default() });
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_appliances_lend_their_slots() {
    let fleet = fleet(9);
    let mut f = Fixture::new("slots").await;
    f.credentials(&fleet).await;
    // One appliance's answer makes the password a good one, so that the others are asked at the same time.
    f.apply(&gateway("first", &fleet.appliance(8))).await;
    f.start_with(&[
        "--concurrency",
        "2",
        "--namespaces",
        f.ns.name().to_owned().as_str(),
        "--allow-cidr",
        "127.0.0.0/8",
    ])
    .await;
    f.reason("X2Gateway", "first", "Unmanaged").await;
    for index in 0..7 {
        fleet.appliance(index).fault(Fault::hang());
        let patient = json!({"spec": {"requestTimeout": "5m"}});
        f.apply(&with(gateway(&format!("hangs-{index}"), &fleet.appliance(index)), patient)).await;
    }
    for index in 0..7 {
        fleet.appliance(index).requests().wait_arrived(Kind::Login, 1).await;
    }
    f.apply(&gateway("lively", &fleet.appliance(7))).await;
    f.reason("X2Gateway", "lively", "Unmanaged").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_reported_with_its_remedy() {
    let fleet = fleet(1);
    fleet.appliance(0).fault(Fault::hang());
    let mut f = Fixture::new("timeout").await;
    f.credentials(&fleet).await;
    f.apply(&with(gateway("x2-1", &fleet.appliance(0)), json!({"spec": {"requestTimeout": "1s"}}))).await;
    f.start().await;
    let gateway = f.reason("X2Gateway", "x2-1", "TimedOut").await;
    assert!(ready(&gateway)["message"].as_str().unwrap().contains("requestTimeout"));
    assert_eq!(condition(&gateway, "Reconciling")["status"], "True");
    fleet.appliance(0).clear_faults();
    f.request("X2Gateway", "x2-1", "now").await;
    f.reason("X2Gateway", "x2-1", "Unmanaged").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_can_be_deleted_under_its_hands() {
    let fleet = fleet(1);
    let mut f = Fixture::new("deleted").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    fleet.stop_listening().await;
    let mut operator = f.operator.take().unwrap();
    let begun = Instant::now();
    f.ns.delete(Duration::from_secs(60)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(operator.terminate(Duration::from_secs(15)).await.unwrap().success(), "{}", operator.log());
    assert!(!operator.log().contains("this is a bug"), "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_says_what_is_wrong() {
    let run = async |verb: &str, arguments: &[&str]| {
        let mut command = tokio::process::Command::new(program());
        command.arg(verb).args(arguments).env_remove("KUBECONFIG").env("HOME", "/nonexistent");
        let output = command.output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (arguments, says) in [
        (vec!["--allow-cidr", "10.0.0.0"], "must be a block of addresses"),
        (vec!["--retry-refused-logins-after", "soon"], "must be a duration"),
        (vec!["--min-timeout", "7200", "--max-timeout", "3600"], "--min-timeout must not be greater"),
        (vec!["--lease-duration", "14s"], "--lease-duration must be at least 5s longer"),
        (vec!["--lease-retry-period", "10s"], "--lease-renew-deadline must be longer"),
        (vec!["--otlp-endpoint", "http://user:planted@[bad"], "must be a URL"),
        (vec![], "set KUBECONFIG"),
    ] {
        let (code, complaint) = run("run", &arguments).await;
        assert_eq!(code, Some(1));
        assert!(complaint.contains(says) && !complaint.contains("planted"), "{complaint}");
    }
    // What is empty is a script's unset variable, and does not mean everything.
    for verb in ["run", "release-finalizers"] {
        for (arguments, says) in [
            (["--namespaces", ""], "must be namespace names"),
            (["--namespaces", "a,,b"], "must be namespace names"),
            (["--namespaces", "Site"], "must be namespace names"),
            (["--selector", ""], "a value is required for '--selector"),
            (["--namespaces", "a, b"], "set KUBECONFIG"),
        ] {
            let (code, complaint) = run(verb, &arguments).await;
            assert!(code == Some(1) && complaint.contains(says), "{verb} {arguments:?}: {complaint}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_the_death_of_the_api_server() {
    use tenure_kit::control_plane::{ControlPlane, Options};
    use tenure_kit::namespace::{TestNamespace, install_crds};
    use tenure_kit::operator::Operator;
    let fleet = fleet(1);
    let mut plane = ControlPlane::start(Options::default()).await.unwrap();
    install_crds(&plane, &root().join("crds")).await.unwrap();
    let ns = TestNamespace::create(&plane, "outage").await.unwrap();
    ns.secret("x2-admin", &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
    let ca = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x2-ca"}, "data": {"ca.crt": fleet.ca_pem()}});
    for manifest in
        [ca, gateway("x2-1", &fleet.appliance(0)), policy("short", json!({"timeoutSeconds": 28800}))]
    {
        ns.apply_yaml(&manifest.to_string()).await.unwrap();
    }
    let arguments = ["--allow-cidr", "127.0.0.0/8"];
    let mut operator = Operator::start(program(), plane.kubeconfig_path(), &arguments).await.unwrap();
    let in_sync = |g: &kube::api::DynamicObject| ready(g)["reason"] == "InSync";
    ns.wait_for("X2Gateway", "x2-1", SOON, in_sync).await.unwrap();
    plane.kill().unwrap();
    // What could neither be decided by a present spec nor recorded is not changed meanwhile; reading goes on.
    let before = fleet.appliance(0).counts();
    fleet.appliance(0).factory_reset();
    fleet.appliance(0).requests().wait_for(Kind::Get, before.get + 1).await;
    plane.restart().await.unwrap();
    let history = |g: &kube::api::DynamicObject| status(g)["history"][0]["cause"] == "Drift" && in_sync(g);
    let gateway = ns.wait_for("X2Gateway", "x2-1", 3 * SOON, history).await.unwrap();
    assert_eq!(status(&gateway)["history"].as_array().unwrap().len(), 2);
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    let spent = fleet.appliance(0).counts() - before;
    assert_eq!((spent.write, spent.login), (1, 1));
    // It hears of changes again.
    ns.apply_yaml(&policy("short", json!({"timeoutSeconds": 7200})).to_string()).await.unwrap();
    let followed = |g: &kube::api::DynamicObject| status(g)["provenTimeoutSeconds"] == 7200;
    ns.wait_for("X2Gateway", "x2-1", 3 * SOON, followed).await.unwrap();
    assert!(operator.terminate(Duration::from_secs(15)).await.unwrap().success(), "{}", operator.log());
    assert!(!operator.log().contains("this is a bug"), "{}", operator.log());
}
