//! What stood there before comes back when a policy or a gateway goes, and deletion waits for it no longer than promised.

mod alone;
mod endings;
mod finalizers;
mod interrupted;
mod patience;

use kube::api::DynamicObject;
use serde_json::{Value, json};
use tenure_kit::requests::Counts;
use tenure_kit::x2::X2Fleet;

use super::fixture::*;

const FINALIZER: &str = "tenure.dev/restore";

/// A policy that gives back what it found, for looks that only tests ask for.
fn restoring(name: &str, spec: Value) -> Value {
    policy(name, with(json!({"interval": "24h", "deletionPolicy": "Restore"}), spec))
}

/// A namespace with gateways `x2-0`, `x2-1`, … for all appliances.
async fn world(name: &str, fleet: &X2Fleet) -> Fixture {
    let f = Fixture::new(name).await;
    f.credentials(fleet).await;
    for index in 0..fleet.len() {
        // Some answers are held back until the operator is killed: on a busy machine, too.
        let patient = json!({"spec": {"requestTimeout": "30s"}});
        f.apply(&with(gateway(&format!("x2-{index}"), &fleet.appliance(index)), patient)).await;
    }
    f
}

/// As [`world`], where a policy `short` that restores has set 28800 s.
async fn changed_world(name: &str, fleet: &X2Fleet) -> Fixture {
    let mut f = world(name, fleet).await;
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    f
}

async fn delete(f: &Fixture, kind: &str, name: &str) {
    f.ns.delete_object(kind, name).await.unwrap();
}

async fn gone(f: &Fixture, kind: &str, name: &str) {
    f.ns.wait_until_gone(kind, name, SOON).await.unwrap();
}

async fn delete_and_wait(f: &Fixture, kind: &str, name: &str) {
    delete(f, kind, name).await;
    gone(f, kind, name).await;
}

fn finalizers(object: &DynamicObject) -> &[String] {
    object.metadata.finalizers.as_deref().unwrap_or_default()
}

/// Waits until a gateway is nobody's any more, and is not held.
async fn left(f: &Fixture, name: &str) -> DynamicObject {
    f.wait("X2Gateway", name, |g| {
        ready(g)["reason"] == "Unmanaged" && status(g)["policy"].is_null() && finalizers(g).is_empty()
    })
    .await
}

fn last_change(gateway: &DynamicObject) -> (&Value, &Value, &Value) {
    let last = &status(gateway)["history"][0];
    (&last["from"], &last["to"], &last["cause"])
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_policy_gives_every_gateway_back_what_it_had() {
    let fleet = fleet(2);
    fleet.appliance(1).set_timeout(43200);
    let mut f = world("leave", &fleet).await;
    let first = restoring("short", json!({"timeoutSeconds": 28800}));
    f.apply(&first).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    // Later values and drift do not touch what was found first.
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200}})).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    fleet.appliance(1).set_timeout(600);
    f.look("TokenPolicy", "short", "now").await;
    let policy = f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(finalizers(&policy), [FINALIZER]);
    for (index, original) in [86400, 43200].into_iter().enumerate() {
        let gateway = f.get("X2Gateway", &format!("x2-{index}")).await;
        assert_eq!(status(&gateway)["originalTimeoutSeconds"], original);
        assert_eq!(finalizers(&gateway), [FINALIZER]);
    }
    let before = fleet.counts_by_appliance();
    delete_and_wait(&f, "TokenPolicy", "short").await;
    for (index, original) in [86400_u64, 43200].into_iter().enumerate() {
        let name = format!("x2-{index}");
        let gateway = left(&f, &name).await;
        assert_eq!(fleet.appliance(index).timeout(), original);
        assert_eq!(last_change(&gateway), (&json!(7200), &json!(original), &json!("Restore")));
        assert_eq!(status(&gateway)["provenTimeoutSeconds"], original);
        assert!(
            status(&gateway)["pending"].is_null() && status(&gateway)["originalTimeoutSeconds"].is_null()
        );
        // A change as any other: GET, PUT, fresh login. Being nobody's is a reason for another look.
        let spent = fleet.appliance(index).counts() - before[index];
        assert_eq!(spent, Counts { login: 1, write: 1, get: spent.get, ..Counts::default() });
        assert!(f.event_saying(&name, "TimeoutChanged", "restored").await.contains("TokenPolicy short"));
    }
    // Nothing is left of it: the next policy finds an original of its own.
    fleet.appliance(0).set_timeout(50000);
    f.apply(&first).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    assert_eq!([0, 1].map(|index| fleet.appliance(index).timeout()), [50000, 43200]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_gateway_gives_it_back_what_it_had_and_no_other() {
    let fleet = fleet(2);
    let f = changed_world("goes", &fleet).await;
    delete_and_wait(&f, "X2Gateway", "x2-0").await;
    assert_eq!([0, 1].map(|index| fleet.appliance(index).timeout()), [86400, 28800]);
    f.event_saying("x2-0", "TimeoutChanged", "restored").await;
    let policy = f.wait("TokenPolicy", "short", |p| status(p)["gateways"]["matched"] == 1).await;
    assert_eq!(ready(&policy)["reason"], "InSync");
    assert_eq!(fleet.appliance(1).counts().write, 1);
    // Policy and gateway at once: restored once, and nobody waits for the other.
    delete(&f, "X2Gateway", "x2-1").await;
    delete(&f, "TokenPolicy", "short").await;
    gone(&f, "X2Gateway", "x2-1").await;
    gone(&f, "TokenPolicy", "short").await;
    assert_eq!(fleet.appliance(1).timeout(), 86400);
    assert_eq!(fleet.appliance(1).counts().write, 2);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_leaves_gets_the_next_policys_value_or_else_what_it_had() {
    let fleet = fleet(1);
    let mut f = world("moves", &fleet).await;
    let site = |site: &str, seconds: u32| json!({"gatewaySelector": {"matchLabels": {"site": site}}, "timeoutSeconds": seconds});
    f.apply(&restoring("berlin", site("berlin", 28800))).await;
    f.apply(&restoring("paris", site("paris", 7200))).await;
    f.start().await;
    f.reason("TokenPolicy", "berlin", "InSync").await;
    let relabel = async |site: Value| {
        f.patch("X2Gateway", "x2-0", json!({"metadata": {"labels": {"site": site}}})).await
    };
    relabel(json!("paris")).await;
    let moved = f
        .wait("X2Gateway", "x2-0", |g| status(g)["policy"] == "paris" && ready(g)["reason"] == "InSync")
        .await;
    assert_eq!(last_change(&moved), (&json!(28800), &json!(7200), &json!("Policy")));
    assert_eq!(status(&moved)["originalTimeoutSeconds"], 86400);
    // The policy that was left waits for nobody.
    delete_and_wait(&f, "TokenPolicy", "berlin").await;
    assert_eq!(fleet.appliance(0).timeout(), 7200);
    relabel(json!("nowhere")).await;
    let free = left(&f, "x2-0").await;
    assert_eq!(last_change(&free), (&json!(7200), &json!(86400), &json!("Restore")));
    let written = [28800, 7200, 86400].map(|seconds| format!(r#"{{"timeout_seconds":{seconds}}}"#));
    assert_eq!(fleet.requests().written(), written);
    delete_and_wait(&f, "TokenPolicy", "paris").await;
    assert_eq!(fleet.counts().write, 3);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_takes_over_is_what_comes_next() {
    let fleet = fleet(1);
    let mut f = world("heir", &fleet).await;
    f.apply(&policy("lower", json!({"timeoutSeconds": 7200, "priority": -1, "interval": "24h"}))).await;
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    f.reason("TokenPolicy", "lower", "Overridden").await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    let heir = f.reason("TokenPolicy", "lower", "InSync").await;
    assert_eq!(finalizers(&heir), [""; 0]);
    // The heir retains: nothing is held for it, and nothing comes back after it.
    let gateway = f.wait("X2Gateway", "x2-0", |g| finalizers(g).is_empty()).await;
    assert_eq!(status(&gateway)["originalTimeoutSeconds"], 86400);
    delete_and_wait(&f, "TokenPolicy", "lower").await;
    left_as(&f, &fleet, 7200, 2).await;
    f.finish().await;
}

/// Waits until `x2-0` is nobody's: with this value, after so many writes.
async fn left_as(f: &Fixture, fleet: &X2Fleet, seconds: u64, writes: u64) {
    f.wait("X2Gateway", "x2-0", |g| ready(g)["reason"] == "Unmanaged").await;
    assert_eq!(fleet.appliance(0).timeout(), seconds);
    assert_eq!(fleet.appliance(0).counts().write, writes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_known_under_retain_too() {
    let fleet = fleet(1);
    let mut f = world("later", &fleet).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(status(&f.get("X2Gateway", "x2-0").await)["originalTimeoutSeconds"], 86400);
    f.patch("TokenPolicy", "short", json!({"spec": {"deletionPolicy": "Restore"}})).await;
    f.wait("X2Gateway", "x2-0", |g| finalizers(g) == [FINALIZER]).await;
    f.wait("TokenPolicy", "short", |p| finalizers(p) == [FINALIZER]).await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    left_as(&f, &fleet, 86400, 2).await;
    f.finish().await;
}
