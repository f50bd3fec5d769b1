//! Who governs a gateway, and what a policy reports.

use serde_json::json;
use tenure_kit::requests::Counts;

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_range_moves_what_is_outside_to_the_nearest_bound() {
    let fleet = fleet(3);
    for (index, seconds) in [700, 3600, 86400].into_iter().enumerate() {
        fleet.appliance(index).set_timeout(seconds);
    }
    let mut f = Fixture::new("range").await;
    f.credentials(&fleet).await;
    for index in 0..3 {
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    f.apply(&policy("range", json!({"minTimeoutSeconds": 1800, "maxTimeoutSeconds": 43200}))).await;
    f.start().await;
    let policy = f.reason("TokenPolicy", "range", "InSync").await;
    assert_eq!(status(&policy)["target"], "1800-43200");
    assert_eq!(status(&policy)["gateways"]["summary"], "3/3");
    assert_eq!([0, 1, 2].map(|index| fleet.appliance(index).timeout()), [1800, 3600, 43200]);
    assert_eq!(fleet.appliance(1).counts(), Counts { login: 1, get: 1, ..Counts::default() });
    let inside = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert!(status(&inside)["desiredTimeoutSeconds"].is_null());
    assert_eq!(status(&inside)["policy"], "range");

    // One bound alone is a range, too.
    f.patch("TokenPolicy", "range", json!({"spec": {"minTimeoutSeconds": null, "maxTimeoutSeconds": 3000}}))
        .await;
    f.wait("TokenPolicy", "range", |p| is_current(p) && ready(p)["reason"] == "InSync").await;
    assert_eq!([0, 1, 2].map(|index| fleet.appliance(index).timeout()), [1800, 3000, 3000]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_priority_wins_then_the_name() {
    let fleet = fleet(1);
    let mut f = Fixture::new("precedence").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("b", json!({"timeoutSeconds": 7200}))).await;
    f.apply(&policy("a", json!({"timeoutSeconds": 3600}))).await;
    f.start().await;
    let at = async |seconds: u32, policy: &str| {
        f.wait("X2Gateway", "x2-1", |g| {
            status(g)["provenTimeoutSeconds"] == seconds
                && status(g)["policy"] == policy
                && ready(g)["reason"] == "InSync"
        })
        .await
    };
    at(3600, "a").await;
    let loser = f.reason("TokenPolicy", "b", "Overridden").await;
    assert_eq!(
        (&ready(&loser)["status"], &status(&loser)["gateways"]["overridden"]),
        (&json!("True"), &json!(1))
    );
    assert_eq!(status(&loser)["gateways"]["summary"], "0/0");
    f.patch("TokenPolicy", "b", json!({"spec": {"priority": 1}})).await;
    at(7200, "b").await;
    f.reason("TokenPolicy", "a", "Overridden").await;
    f.reason("TokenPolicy", "b", "InSync").await;

    // A suspended winner keeps its claim, and nothing is changed.
    f.patch("TokenPolicy", "b", json!({"spec": {"suspend": true, "timeoutSeconds": 10800}})).await;
    f.wait("TokenPolicy", "b", |p| is_current(p) && condition(p, "Suspended")["status"] == "True").await;
    f.reason("X2Gateway", "x2-1", "Drifted").await;
    assert_eq!(fleet.appliance(0).timeout(), 7200);
    // Once it is gone, the next one governs.
    f.ns.delete_object("TokenPolicy", "b").await.unwrap();
    at(3600, "a").await;
    f.reason("TokenPolicy", "a", "InSync").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observing_policy_reports_and_displaces_nobody() {
    let fleet = fleet(2);
    let mut f = Fixture::new("observe").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("governed", &fleet.appliance(0))).await;
    f.apply(&with(gateway("free", &fleet.appliance(1)), json!({"metadata": {"labels": {"site": "paris"}}})))
        .await;
    let site = json!({"gatewaySelector": {"matchLabels": {"site": "berlin"}}, "timeoutSeconds": 28800});
    f.apply(&policy("enforcing", site)).await;
    f.apply(&policy("watching", json!({"timeoutSeconds": 3600, "mode": "Observe", "priority": 1000}))).await;
    f.start().await;
    f.reason("X2Gateway", "governed", "InSync").await;
    let free = f.reason("X2Gateway", "free", "Observed").await;
    assert_eq!(ready(&free)["status"], "True");
    assert!(ready(&free)["message"].as_str().unwrap().contains("watching would set 3600s"));
    assert_eq!([fleet.appliance(0).timeout(), fleet.appliance(1).timeout()], [28800, 86400]);
    assert_eq!(fleet.appliance(1).counts(), Counts { login: 1, get: 1, ..Counts::default() });
    let watching = f
        .wait("TokenPolicy", "watching", |p| {
            ready(p)["reason"] == "Observed" && status(p)["gateways"]["drifted"] == 2
        })
        .await;
    assert_eq!(
        (&ready(&watching)["status"], &status(&watching)["gateways"]["summary"]),
        (&json!("True"), &json!("0/2"))
    );
    let metrics = f.operator().metrics().await.unwrap();
    let line =
        format!(r#"tenure_gateways{{policy="watching",namespace="{}",state="drifted"}} 2"#, f.ns.name());
    assert!(metrics.contains(&line), "{metrics}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relabelling_moves_a_gateway_to_another_policy() {
    let fleet = fleet(1);
    let mut f = Fixture::new("relabel").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    let site = |site: &str, seconds: u32| json!({"gatewaySelector": {"matchLabels": {"site": site}}, "timeoutSeconds": seconds});
    f.apply(&policy("berlin", site("berlin", 28800))).await;
    f.apply(&policy("paris", site("paris", 3600))).await;
    f.start().await;
    f.reason("TokenPolicy", "berlin", "InSync").await;
    let none = f.reason("TokenPolicy", "paris", "NoGatewaysMatch").await;
    assert_eq!(condition(&none, "Reconciling")["status"], "True");
    f.patch("X2Gateway", "x2-1", json!({"metadata": {"labels": {"site": "paris"}}})).await;
    let moved = f
        .wait("X2Gateway", "x2-1", |g| status(g)["policy"] == "paris" && ready(g)["reason"] == "InSync")
        .await;
    assert_eq!(status(&moved)["history"][0]["cause"], "Policy");
    assert_eq!(fleet.appliance(0).timeout(), 3600);
    f.reason("TokenPolicy", "paris", "InSync").await;
    f.reason("TokenPolicy", "berlin", "NoGatewaysMatch").await;
    f.patch("X2Gateway", "x2-1", json!({"metadata": {"labels": {"site": null}}})).await;
    let free = f.reason("X2Gateway", "x2-1", "Unmanaged").await;
    assert!(status(&free)["policy"].is_null());
    assert_eq!(fleet.appliance(0).timeout(), 3600);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_policy_is_ready_only_when_its_gateways_follow() {
    let fleet = fleet(3);
    let mut f = Fixture::new("follow").await;
    f.credentials(&fleet).await;
    for index in 0..3 {
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let gate = tenure_kit::faults::Gate::new();
    fleet.appliance(2).fault(tenure_kit::faults::Fault::gate(&gate));
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 3600}})).await;
    let between =
        f.wait("TokenPolicy", "short", |p| is_current(p) && status(p)["gateways"]["inSync"] == 2).await;
    assert_eq!(ready(&between)["status"], "False");
    assert_eq!(status(&between)["gateways"]["pending"], 1);
    assert_eq!(condition(&between, "Reconciling")["status"], "True");
    gate.open();
    let done = f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(status(&done)["gateways"]["summary"], "3/3");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_a_policy_covers_its_gateways() {
    let fleet = fleet(3);
    let mut f = Fixture::new("request").await;
    f.credentials(&fleet).await;
    for index in 0..3 {
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let before = fleet.counts();
    fleet.appliance(1).factory_reset();
    f.look("TokenPolicy", "short", "one").await;
    assert_eq!(fleet.appliance(1).timeout(), 28800);
    assert_eq!(fleet.counts() - before, Counts { login: 1, get: 3, write: 1, ..Counts::default() });
    // Flux's annotation means the same; ours wins over it.
    let before = fleet.counts();
    let annotate = async |annotations: serde_json::Value| {
        f.patch("TokenPolicy", "short", json!({"metadata": {"annotations": annotations}})).await;
    };
    annotate(json!({"reconcile.fluxcd.io/requestedAt": "ignored"})).await;
    annotate(json!({"reconcile.fluxcd.io/requestedAt": "two", "tenure.dev/reconcile-requested-at": null}))
        .await;
    f.wait("TokenPolicy", "short", |p| status(p)["lastHandledReconcileAt"] == "two").await;
    assert_eq!(fleet.counts() - before, Counts { get: 3, ..Counts::default() });
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_bounds_hold_for_every_policy() {
    let fleet = fleet(1);
    let mut f = Fixture::new("bounds").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("long", json!({"timeoutSeconds": 600_000}))).await;
    f.start_with(&[
        "--max-timeout",
        "43200",
        "--namespaces",
        f.ns.name().to_owned().as_str(),
        "--allow-cidr",
        "127.0.0.0/8",
    ])
    .await;
    let refused = f.reason("TokenPolicy", "long", "InvalidSpec").await;
    assert!(ready(&refused)["message"].as_str().unwrap().contains("--max-timeout"));
    f.reason("X2Gateway", "x2-1", "InvalidSpec").await;
    assert_eq!(fleet.appliance(0).timeout(), 86400);
    f.patch("TokenPolicy", "long", json!({"spec": {"timeoutSeconds": 43200}})).await;
    f.reason("TokenPolicy", "long", "InSync").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policys_status_is_written_at_most_once_a_second() {
    use futures::StreamExt as _;
    use kube::runtime::{WatchStreamExt as _, watcher};
    let fleet = fleet(24);
    let mut f = Fixture::new("spaced").await;
    f.credentials(&fleet).await;
    for index in 0..24 {
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    fleet.fault(tenure_kit::faults::Fault::latency(std::time::Duration::from_millis(150)));
    let versions =
        watcher(f.ns.api("TokenPolicy").await.unwrap(), watcher::Config::default()).applied_objects();
    let namespace = f.ns.name().to_owned();
    let begun = std::time::Instant::now();
    f.start_with(&["--concurrency", "2", "--namespaces", &namespace, "--allow-cidr", "127.0.0.0/8"]).await;
    let done = |p: &kube::api::DynamicObject| status(p)["gateways"]["inSync"] == 24;
    let mut writes = 0_u64;
    let mut versions = std::pin::pin!(versions);
    while !done(&versions.next().await.unwrap().unwrap()) {
        writes += 1;
    }
    let seconds = begun.elapsed().as_secs();
    assert!(writes >= 3, "{writes} writes: it is seen moving");
    assert!(writes <= seconds + 2, "{writes} writes in {seconds} s");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_limits_what_the_operator_sees() {
    let fleet = fleet(2);
    let mut f = Fixture::new("selector").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("mine", &fleet.appliance(0))).await;
    f.apply(&with(gateway("other", &fleet.appliance(1)), json!({"metadata": {"labels": {"site": "paris"}}})))
        .await;
    let labelled = json!({"metadata": {"labels": {"site": "berlin"}}});
    f.apply(&with(policy("seen", json!({"timeoutSeconds": 28800})), labelled)).await;
    f.apply(&policy("unseen", json!({"timeoutSeconds": 600, "priority": 1000}))).await;
    let namespace = f.ns.name().to_owned();
    f.start_with(&["--selector", "site=berlin", "--namespaces", &namespace, "--allow-cidr", "127.0.0.0/8"])
        .await;
    let seen = f.reason("TokenPolicy", "seen", "InSync").await;
    assert_eq!(status(&seen)["gateways"]["matched"], 1);
    assert_eq!([fleet.appliance(0).timeout(), fleet.appliance(1).timeout()], [28800, 86400]);
    assert_eq!(fleet.appliance(1).counts(), Counts::default());
    assert_eq!(status(&f.get("TokenPolicy", "unseen").await)["observedGeneration"], -1);
    // What loses the label is let go, and what gains it is taken on.
    f.patch("X2Gateway", "mine", json!({"metadata": {"labels": {"site": "paris"}}})).await;
    f.patch("X2Gateway", "other", json!({"metadata": {"labels": {"site": "berlin"}}})).await;
    f.reason("X2Gateway", "other", "InSync").await;
    let seen = f.wait("TokenPolicy", "seen", |p| status(p)["gateways"]["summary"] == "1/1").await;
    assert_eq!(status(&seen)["gateways"]["matched"], 1);
    f.finish().await;
}
