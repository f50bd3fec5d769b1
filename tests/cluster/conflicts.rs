//! One appliance declared twice: one owner, also across namespaces.

use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::namespace::TestNamespace;
use tenure_kit::proxy::{Onward, Proxy};
use tenure_kit::requests::Kind;

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_older_gateway_owns_the_appliance() {
    let fleet = fleet(1);
    let mut f = Fixture::new("conflict").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("first", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("X2Gateway", "first", "InSync").await;
    let url = fleet.appliance(0).url() + "/";
    f.apply(&gateway_at("second", &url)).await;
    let loser = f.reason("X2Gateway", "second", "Conflict").await;
    assert_eq!(condition(&loser, "Stalled")["status"], "True");
    assert!(f.event("second", "Conflict").await.contains("Delete one of the two"));
    assert_eq!(fleet.appliance(0).counts().write, 1);
    f.reason("X2Gateway", "first", "InSync").await;
    let gets = fleet.appliance(0).counts().get;
    f.look("X2Gateway", "second", "now").await;
    assert_eq!(fleet.appliance(0).counts().get, gets);

    // Suspension passes ownership on, resuming takes it back.
    f.patch("X2Gateway", "first", json!({"spec": {"suspend": true}})).await;
    f.reason("X2Gateway", "second", "InSync").await;
    f.patch("X2Gateway", "first", json!({"spec": {"suspend": false}})).await;
    f.reason("X2Gateway", "second", "Conflict").await;
    f.reason("X2Gateway", "first", "InSync").await;
    f.ns.delete_object("X2Gateway", "first").await.unwrap();
    f.reason("X2Gateway", "second", "InSync").await;
    assert_eq!(fleet.appliance(0).counts().write, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_log_in_owns_nothing_and_no_message_crosses_namespaces() {
    let fleet = fleet(1);
    let mut f = Fixture::new("thief").await;
    let other = TestNamespace::create(&f.plane, "rightful").await.unwrap();
    // The older claimant has no valid credential: it must not keep the rightful one from its appliance.
    f.credentials(&fleet).await;
    f.ns.secret("x2-admin", &[("username", "admin"), ("password", "planted-wrong-password")]).await.unwrap();
    f.apply(&gateway("thief", &fleet.appliance(0))).await;
    f.apply(&policy("wrong", json!({"timeoutSeconds": 600}))).await;
    other.secret("x2-admin", &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
    let ca = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x2-ca"}, "data": {"ca.crt": fleet.ca_pem()}});
    other.apply_yaml(&ca.to_string()).await.unwrap();
    // The thief is the older one, also where times are whole seconds.
    let thief = f.get("X2Gateway", "thief").await.metadata.creation_timestamp;
    loop {
        let made =
            other.apply_yaml(&gateway("rightful", &fleet.appliance(0)).to_string()).await.unwrap().remove(0);
        if made.metadata.creation_timestamp > thief {
            break;
        }
        other.delete_object("X2Gateway", "rightful").await.unwrap();
    }
    other.apply_yaml(&policy("right", json!({"timeoutSeconds": 28800})).to_string()).await.unwrap();
    let both = format!("{},{}", f.ns.name(), other.name());
    f.start_with(&["--namespaces", &both, "--allow-cidr", "127.0.0.0/8", "--log-level", "trace"]).await;
    let rightful =
        other.wait_for("X2Gateway", "rightful", SOON, |g| ready(g)["reason"] == "InSync").await.unwrap();
    assert_eq!(status(&rightful)["timeoutSeconds"], 28800);
    let thief = f.reason("X2Gateway", "thief", "AuthenticationFailed").await;
    assert!(!serde_json::to_string(&thief).unwrap().contains(other.name()));
    assert_eq!(fleet.appliance(0).requests().written(), [r#"{"timeout_seconds":28800}"#]);
    // Corrected, it is the oldest that got in.
    f.ns.secret("x2-admin", &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
    f.request("X2Gateway", "thief", "now").await;
    f.reason("X2Gateway", "thief", "InSync").await;
    let loser =
        other.wait_for("X2Gateway", "rightful", SOON, |g| ready(g)["reason"] == "Conflict").await.unwrap();
    assert!(!serde_json::to_string(&loser).unwrap().contains(f.ns.name()));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_undecided_nobody_writes() {
    let fleet = fleet(1);
    let mut f = Fixture::new("undecided").await;
    f.credentials(&fleet).await;
    f.ns.secret("slow", &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
    f.apply(&with(
        gateway("a-first", &fleet.appliance(0)),
        json!({"spec": {"credentialsSecretRef": {"name": "slow"}}}),
    ))
    .await;
    f.apply(&gateway("b-second", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    let gate = tenure_kit::faults::Gate::new();
    fleet.appliance(0).fault(tenure_kit::faults::Fault::gate(&gate).on(Kind::Login).times(1));
    f.start().await;
    fleet.appliance(0).requests().wait_arrived(Kind::Login, 1).await;
    assert_eq!(fleet.appliance(0).counts().write, 0);
    gate.open();
    f.reason("X2Gateway", "a-first", "InSync").await;
    f.reason("X2Gateway", "b-second", "Conflict").await;
    let counts = fleet.appliance(0).counts();
    assert_eq!((counts.write, counts.get), (1, 1));
    assert_eq!(counts.login, 3, "one try each, and the proof");
    assert_eq!(fleet.appliance(0).requests().peak_in_flight(), 1);
    f.finish().await;
}

/// The older one is let in by a stand-in, behind a proxy and under a CA of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_behind_a_proxy_neither_owns_nor_holds_up_the_appliance() {
    let (fleet, strangers) = (fleet(1), fleet(1));
    let stand_in = strangers.appliance(0);
    let target = format!("{}:{}", stand_in.address(), stand_in.port());
    let own = Proxy::start(Onward::To(target)).await.unwrap();
    let mut f = Fixture::new("a-squatter").await;
    let rightful = Fixture::new("rightful").await;
    f.credentials(&strangers).await;
    rightful.credentials(&fleet).await;
    let through = |proxy: &Proxy| json!({"spec": {"proxyUrl": proxy.url(), "requestTimeout": "5m"}});
    f.apply(&with(gateway("squatter", &fleet.appliance(0)), through(&own))).await;
    let both = format!("{},{}", f.ns.name(), rightful.ns.name());
    f.start_with(&["--namespaces", &both, "--allow-cidr", "127.0.0.0/8", "--log-level", "trace"]).await;
    f.reason("X2Gateway", "squatter", "Unmanaged").await;
    rightful.apply(&gateway("rightful", &fleet.appliance(0))).await;
    rightful.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    rightful.reason("X2Gateway", "rightful", "InSync").await;
    f.reason("X2Gateway", "squatter", "Unmanaged").await;

    // It takes its requests and does not answer.
    let gate = Gate::new();
    stand_in.fault(Fault::gate(&gate).on(Kind::Get));
    f.request("X2Gateway", "squatter", "now").await;
    stand_in.requests().wait_arrived(Kind::Get, 2).await;
    let gets = fleet.appliance(0).counts().get;
    rightful.look("X2Gateway", "rightful", "now").await;
    assert!(fleet.appliance(0).counts().get > gets);
    assert_eq!(stand_in.requests().in_flight(), 1, "it still holds its request");

    // By another way to the appliance itself it is declared twice.
    let honest = Proxy::start(Onward::Asked).await.unwrap();
    rightful.apply(&with(gateway("twice", &fleet.appliance(0)), through(&honest))).await;
    rightful.reason("X2Gateway", "twice", "Conflict").await;
    rightful.reason("X2Gateway", "rightful", "InSync").await;
    assert_eq!(fleet.appliance(0).requests().written(), [r#"{"timeout_seconds":28800}"#]);
    gate.open();
    rightful.finish().await;
    f.finish().await;
}
