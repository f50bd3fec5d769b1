//! What a status keeps of a change: what a refused write brought along is taken back, what was sent is never forgotten.

use kube::api::DynamicObject;
use serde_json::{Value, json};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;
use tenure_kit::x2::X2Fleet;

use super::fixture::*;

/// A namespace with a gateway `x2-0`, which `short` is to set to 28800 s once the operator runs.
async fn world(name: &str, fleet: &X2Fleet, spec: Value) -> Fixture {
    let f = Fixture::new(name).await;
    f.credentials(fleet).await;
    f.apply(&gateway("x2-0", &fleet.appliance(0))).await;
    let spec = with(json!({"timeoutSeconds": 28800, "interval": "24h"}), spec);
    f.apply(&policy("short", spec)).await;
    f
}

fn closed() -> Value {
    json!([{"schedule": "0 0 29 2 *", "duration": "1m"}])
}

/// The changes on record, newest first.
fn history(gateway: &DynamicObject) -> Vec<(u64, u64, String)> {
    let entries = status(gateway)["history"].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().unwrap();
    let entry = |e: &Value| (number(&e["from"]), number(&e["to"]), e["cause"].as_str().unwrap().to_owned());
    entries.iter().map(entry).collect()
}

fn entry(from: u64, to: u64, cause: &str) -> (u64, u64, String) {
    (from, to, cause.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_leaves_no_original_behind() {
    let fleet = fleet(1);
    let mut f = world("refused", &fleet, json!({"deletionPolicy": "Restore"})).await;
    fleet.fault(Fault::status(400, "{}").on(Kind::Write).times(1));
    f.start().await;
    let refused = f.reason("X2Gateway", "x2-0", "UnexpectedAnswer").await;
    assert!(status(&refused)["originalTimeoutSeconds"].is_null(), "{}", status(&refused));
    assert_eq!(status(&refused)["pending"]["outcome"], "Prepared");
    // Somebody sets another value before the change works.
    fleet.appliance(0).set_timeout(43200);
    f.request("X2Gateway", "x2-0", "now").await;
    let changed = f.reason("X2Gateway", "x2-0", "InSync").await;
    assert_eq!(status(&changed)["originalTimeoutSeconds"], 43200);
    assert_eq!(history(&changed), [entry(43200, 28800, "Policy")]);
    f.ns.delete_object("TokenPolicy", "short").await.unwrap();
    f.ns.wait_until_gone("TokenPolicy", "short", SOON).await.unwrap();
    assert_eq!(fleet.appliance(0).timeout(), 43200);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_is_no_part_of_the_change_that_follows() {
    let fleet = fleet(1);
    let mut f = world("loosened", &fleet, json!({"revokeTokens": "OnTightening"})).await;
    fleet.fault(Fault::status(400, "{}").on(Kind::Write).times(1));
    f.start().await;
    f.reason("X2Gateway", "x2-0", "UnexpectedAnswer").await;
    fleet.appliance(0).set_timeout(7200);
    f.request("X2Gateway", "x2-0", "now").await;
    let changed = f.reason("X2Gateway", "x2-0", "InSync").await;
    assert_eq!(history(&changed), [entry(7200, 28800, "Policy")]);
    assert_eq!(fleet.appliance(0).counts().delete, 0, "from 7200 s to 28800 s is no tightening");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_never_came_is_closed_before_the_next_target() {
    let fleet = fleet(1);
    let mut f = world("retarget", &fleet, json!({"revokeTokens": "OnTightening"})).await;
    fleet.fault(Fault::gate(&Gate::new()).after_effect().on(Kind::Write).times(1));
    f.start().await;
    fleet.requests().wait_until(|_| fleet.standing_at(28800) == 1).await;
    f.kill().await;
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 43200}})).await;
    f.start().await;
    let changed = f
        .wait("X2Gateway", "x2-0", |g| {
            ready(g)["reason"] == "InSync" && status(g)["provenTimeoutSeconds"] == 43200
        })
        .await;
    assert_eq!(history(&changed), [entry(28800, 43200, "Policy"), entry(86400, 28800, "Policy")]);
    assert_eq!(fleet.appliance(0).counts().delete, 1, "tokens of 86400 s are still about");
    f.event("x2-0", "TokensRevoked").await;
    f.event_saying("x2-0", "TimeoutChanged", "28800").await;
    f.look("X2Gateway", "x2-0", "again").await;
    assert_eq!(fleet.appliance(0).counts().delete, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_answer_has_set_is_restored_although_the_next_target_was_never_set() {
    let fleet = fleet(1);
    let mut f = world("lost", &fleet, json!({"deletionPolicy": "Restore"})).await;
    fleet.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    f.start().await;
    fleet.requests().wait_until(|_| fleet.standing_at(28800) == 1).await;
    fleet.fault(Fault::status(503, "{}").on(Kind::Write));
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200}})).await;
    f.wait("X2Gateway", "x2-0", |g| {
        ready(g)["reason"] == "UnexpectedAnswer" && status(g)["pending"]["to"] == 7200
    })
    .await;
    f.ns.delete_object("TokenPolicy", "short").await.unwrap();
    fleet.clear_faults();
    f.ns.wait_until_gone("TokenPolicy", "short", SOON).await.unwrap();
    assert_eq!(fleet.appliance(0).timeout(), 86400);
    let skipped = f.events().await.into_iter().filter(|(_, reason, _)| reason == "RestoreSkipped");
    assert_eq!(skipped.count(), 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_one_url_that_was_never_reported_does_not_follow_to_another() {
    let fleet = fleet(3);
    let mut f = world("moved-on", &fleet, json!({})).await;
    f.start().await;
    f.reason("X2Gateway", "x2-0", "InSync").await;
    fleet.appliance(2).set_timeout(604_800);
    let gate = Gate::new();
    fleet.appliance(1).fault(Fault::gate(&gate).on(Kind::Write).times(1));
    let move_to = async |n: usize| {
        f.patch("X2Gateway", "x2-0", json!({"spec": {"url": fleet.appliance(n).url()}})).await;
    };
    move_to(1).await;
    fleet.appliance(1).requests().wait_arrived(Kind::Write, 1).await;
    move_to(2).await;
    gate.open();
    let is_there = |g: &DynamicObject| {
        is_current(g)
            && ready(g)["reason"] == "InSync"
            && status(g)["effectiveUrl"] == json!(fleet.appliance(2).url())
    };
    let moved = f.wait("X2Gateway", "x2-0", is_there).await;
    assert_eq!(status(&moved)["originalTimeoutSeconds"], 604_800, "{}", status(&moved));
    assert_eq!(history(&moved), [(604_800, 28800, "Policy".to_owned())]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_failed_at_one_url_does_not_follow_to_another() {
    let fleet = fleet(2);
    let mut f = world("moved", &fleet, json!({"revokeTokens": "OnChange"})).await;
    fleet.appliance(0).fault(Fault::status(503, "{}").on(Kind::Write));
    f.start().await;
    let failed = f.reason("X2Gateway", "x2-0", "UnexpectedAnswer").await;
    assert_eq!(status(&failed)["pending"]["to"], 28800);
    f.patch("TokenPolicy", "short", json!({"spec": {"windows": closed()}})).await;
    let url = fleet.appliance(1).url();
    f.patch("X2Gateway", "x2-0", json!({"spec": {"url": url}})).await;
    let waiting = f.reason("X2Gateway", "x2-0", "AwaitingWindow").await;
    assert_eq!(status(&waiting)["effectiveUrl"], json!(url));
    assert!(status(&waiting)["pending"].is_null(), "{}", status(&waiting));
    fleet.appliance(1).set_timeout(28800);
    f.look("X2Gateway", "x2-0", "now").await;
    f.reason("X2Gateway", "x2-0", "InSync").await;
    assert_eq!(fleet.appliance(1).counts().delete, 0, "nothing was changed there");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_that_wrote_last_restores_whoever_governs_meanwhile() {
    let fleet = fleet(1);
    let berlin = json!({"gatewaySelector": {"matchLabels": {"site": "berlin"}}, "deletionPolicy": "Restore"});
    let mut f = world("wrote-last", &fleet, berlin).await;
    let hamburg = json!({
        "gatewaySelector": {"matchLabels": {"site": "hamburg"}}, "timeoutSeconds": 7200, "windows": closed(),
        "interval": "24h",
    });
    f.apply(&policy("other", hamburg)).await;
    f.start().await;
    f.wait("X2Gateway", "x2-0", |g| ready(g)["reason"] == "InSync").await;
    f.patch("X2Gateway", "x2-0", json!({"metadata": {"labels": {"site": "hamburg"}}})).await;
    let waiting = f
        .wait("X2Gateway", "x2-0", |g| {
            ready(g)["reason"] == "AwaitingWindow" && status(g)["policy"] == "other"
        })
        .await;
    assert_eq!(waiting.metadata.finalizers, Some(vec!["tenure.dev/restore".to_owned()]));
    f.look("X2Gateway", "x2-0", "still").await;
    f.patch("X2Gateway", "x2-0", json!({"metadata": {"labels": {"site": "nowhere"}}})).await;
    let left = f.wait("X2Gateway", "x2-0", |g| ready(g)["reason"] == "Unmanaged").await;
    assert_eq!(fleet.appliance(0).timeout(), 86400);
    assert_eq!(history(&left), [entry(28800, 86400, "Restore"), entry(86400, 28800, "Policy")]);
    f.finish().await;
}
