//! What is left alone: values that are not ours any more, and whatever is no leaving.

use serde_json::json;
use tenure_kit::faults::Fault;
use tenure_kit::requests::Kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_changed_since_stays_and_that_is_said() {
    let fleet = fleet(2);
    let f = changed_world("foreign", &fleet).await;
    fleet.appliance(0).set_timeout(7200);
    delete_and_wait(&f, "TokenPolicy", "short").await;
    left(&f, "x2-0").await;
    left(&f, "x2-1").await;
    assert_eq!([0, 1].map(|index| fleet.appliance(index).timeout()), [7200, 86400]);
    assert!(f.event("x2-0", "RestoreSkipped").await.contains("changed by something else"));
    assert_eq!(skipped(&f).await, ["x2-0"]);

    // A gateway that goes does not wait for a value that is not ours either.
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    fleet.appliance(1).set_timeout(600);
    delete_and_wait(&f, "X2Gateway", "x2-1").await;
    assert_eq!(fleet.appliance(1).timeout(), 600);
    f.event("x2-1", "RestoreSkipped").await;
    f.finish().await;
}

/// The objects that events say were not restored.
async fn skipped(f: &Fixture) -> Vec<String> {
    let events = f.events().await.into_iter();
    events.filter(|(_, reason, _)| reason == "RestoreSkipped").map(|(object, ..)| object).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_original_is_unknown_nothing_is_restored_and_that_is_said() {
    let fleet = fleet(1);
    let mut f = changed_world("unknown", &fleet).await;
    f.kill().await;
    let api = f.ns.api("X2Gateway").await.unwrap();
    let forget = kube::api::Patch::Merge(json!({"status": {"originalTimeoutSeconds": null}}));
    api.patch_status("x2-0", &kube::api::PatchParams::default(), &forget).await.unwrap();
    f.start().await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    left(&f, "x2-0").await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    assert!(f.event("x2-0", "RestoreSkipped").await.contains("unknown"));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_suspended_leaves_the_remote_side_alone() {
    let fleet = fleet(2);
    let f = changed_world("paused", &fleet).await;
    f.patch("X2Gateway", "x2-0", json!({"spec": {"suspend": true}})).await;
    f.wait("X2Gateway", "x2-0", |g| condition(g, "Suspended")["status"] == "True").await;
    let before = fleet.counts();
    delete_and_wait(&f, "X2Gateway", "x2-0").await;
    f.patch("TokenPolicy", "short", json!({"spec": {"suspend": true}})).await;
    f.wait("TokenPolicy", "short", |p| condition(p, "Suspended")["status"] == "True").await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    left(&f, "x2-1").await;
    assert_eq!(fleet.standing_at(28800), 2);
    assert_eq!((fleet.counts() - before).write, 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_gateway_does_not_keep_its_policy_and_is_let_go() {
    let fleet = fleet(2);
    let f = changed_world("paused-one", &fleet).await;
    f.patch("X2Gateway", "x2-0", json!({"spec": {"suspend": true}})).await;
    f.wait("X2Gateway", "x2-0", |g| condition(g, "Suspended")["status"] == "True").await;
    let before = fleet.appliance(0).counts();
    delete_and_wait(&f, "TokenPolicy", "short").await;
    left(&f, "x2-1").await;
    f.wait("X2Gateway", "x2-0", |g| finalizers(g).is_empty()).await;
    assert_eq!([0, 1].map(|index| fleet.appliance(index).timeout()), [28800, 86400]);
    assert_eq!(fleet.appliance(0).counts(), before);
    // A gateway under a suspended policy is let go as well.
    f.apply(&restoring("short", json!({"timeoutSeconds": 7200}))).await;
    f.wait("X2Gateway", "x2-1", |g| status(g)["provenTimeoutSeconds"] == 7200 && !finalizers(g).is_empty())
        .await;
    f.patch("TokenPolicy", "short", json!({"spec": {"suspend": true}})).await;
    f.wait("TokenPolicy", "short", |p| condition(p, "Suspended")["status"] == "True").await;
    delete_and_wait(&f, "X2Gateway", "x2-1").await;
    assert_eq!(fleet.appliance(1).timeout(), 7200);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_observing_and_a_lower_priority_are_no_leaving() {
    let fleet = fleet(1);
    let f = changed_world("stays", &fleet).await;
    let change = async |spec: serde_json::Value, reason: &str| {
        f.patch("TokenPolicy", "short", json!({"spec": spec})).await;
        f.look("X2Gateway", "x2-0", &spec.to_string()).await;
        f.reason("TokenPolicy", "short", reason).await;
    };
    change(json!({"suspend": true}), "InSync").await;
    change(json!({"suspend": false}), "InSync").await;
    change(json!({"mode": "Observe"}), "Observed").await;
    let observed = f.reason("X2Gateway", "x2-0", "Observed").await;
    assert_eq!(status(&observed)["originalTimeoutSeconds"], 86400);
    change(json!({"mode": "Enforce"}), "InSync").await;
    f.apply(&policy("above", json!({"timeoutSeconds": 7200, "priority": 5}))).await;
    f.reason("TokenPolicy", "above", "InSync").await;
    f.reason("TokenPolicy", "short", "Overridden").await;
    delete_and_wait(&f, "TokenPolicy", "above").await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let written = [28800, 7200, 28800].map(|seconds| format!(r#"{{"timeout_seconds":{seconds}}}"#));
    assert_eq!(fleet.requests().written(), written);
    // What was found first is still known.
    delete_and_wait(&f, "TokenPolicy", "short").await;
    assert_eq!(fleet.appliance(0).timeout(), 86400);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_a_conflict_goes_without_a_request() {
    let fleet = fleet(1);
    let f = changed_world("loser", &fleet).await;
    for name in ["second", "third"] {
        f.apply(&gateway_at(name, &fleet.appliance(0).url())).await;
        f.reason("X2Gateway", name, "Conflict").await;
    }
    let before = fleet.counts();
    delete_and_wait(&f, "X2Gateway", "second").await;
    assert_eq!(fleet.counts(), before);
    f.reason("X2Gateway", "x2-0", "InSync").await;
    // Nor does the policy wait for it.
    delete_and_wait(&f, "TokenPolicy", "short").await;
    left(&f, "x2-0").await;
    assert_eq!(fleet.appliance(0).timeout(), 86400);
    assert_eq!((fleet.counts() - before).write, 1);
    f.reason("X2Gateway", "third", "Conflict").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_goes_without_a_request_too() {
    let fleet = fleet(1);
    let f = changed_world("former", &fleet).await;
    // The younger one takes over, changes the value, and loses the appliance again.
    f.patch("X2Gateway", "x2-0", json!({"spec": {"suspend": true}})).await;
    f.apply(&gateway_at("younger", &fleet.appliance(0).url())).await;
    f.reason("X2Gateway", "younger", "InSync").await;
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200}})).await;
    f.wait("X2Gateway", "younger", |g| {
        status(g)["provenTimeoutSeconds"] == 7200 && ready(g)["reason"] == "InSync"
    })
    .await;
    f.patch("X2Gateway", "x2-0", json!({"spec": {"suspend": false}})).await;
    let loser = f.reason("X2Gateway", "younger", "Conflict").await;
    assert_eq!(finalizers(&loser), [FINALIZER]);
    f.reason("TokenPolicy", "short", "Conflict").await;
    let before = fleet.counts();
    delete_and_wait(&f, "X2Gateway", "younger").await;
    assert_eq!(fleet.counts(), before);
    f.event("younger", "RestoreSkipped").await;
    f.reason("TokenPolicy", "short", "InSync").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_gateway_that_was_never_changed() {
    let fleet = fleet(2);
    fleet.appliance(0).fault(Fault::reset());
    fleet.appliance(1).set_timeout(28800);
    let mut f = world("never", &fleet).await;
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-0", "Unreachable").await;
    let gateway = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(finalizers(&gateway), [""; 0]);
    delete_and_wait(&f, "TokenPolicy", "short").await;
    f.reason("X2Gateway", "x2-1", "Unmanaged").await;
    assert_eq!(fleet.counts().of(Kind::Write), 0);
    assert_eq!(skipped(&f).await, [""; 0]);
    f.finish().await;
}
