//! How long a deletion waits, what it does not wait for, and how many are restored at once.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::namespace::TestNamespace;
use tenure_kit::requests::Kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn windows_canaries_and_soak_do_not_hold_it_up() {
    let fleet = fleet(3);
    let f = changed_world("nowait", &fleet).await;
    let bounds = json!({"spec": {
        "windows": [{"schedule": "0 0 29 2 *", "duration": "1m"}],
        "rollout": {"maxConcurrent": 1, "canary": {"count": 1, "soak": "24h"}},
    }});
    f.patch("TokenPolicy", "short", bounds).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    delete_and_wait(&f, "X2Gateway", "x2-2").await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    assert_eq!(fleet.standing_at(86400), 3);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_restored_at_once_than_the_rollout_allows() {
    let fleet = fleet(6);
    let mut f = world("bounded", &fleet).await;
    let spec = json!({"timeoutSeconds": 28800, "rollout": {"maxConcurrent": 2}});
    f.apply(&restoring("short", spec)).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let gate = Gate::new();
    fleet.fault(Fault::gate(&gate).on(Kind::Write));
    delete(&f, "TokenPolicy", "short").await;
    fleet.requests().wait_arrived(Kind::Write, 8).await;
    let mut waiting = 0;
    for index in 0..6 {
        let name = format!("x2-{index}");
        let gateway = f.wait("X2Gateway", &name, |g| {
            ready(g)["reason"] == "AwaitingRollout" || !status(g)["pending"].is_null()
        });
        waiting += u8::from(ready(&gateway.await)["reason"] == "AwaitingRollout");
    }
    assert_eq!((waiting, fleet.counts().write), (4, 8));
    gate.open();
    gone(&f, "TokenPolicy", "short").await;
    assert_eq!((fleet.standing_at(86400), fleet.counts().write), (6, 12));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_target_changes_no_bound() {
    let fleet = fleet(4);
    let mut f = world("invalid-bounded", &fleet).await;
    let spec = json!({"timeoutSeconds": 28800, "rollout": {"maxConcurrent": 1}});
    f.apply(&restoring("short", spec)).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let misspelt = json!({"schedule": "0 22 * * 6", "duration": "4h", "timeZone": "Europe/Berln"});
    f.patch("TokenPolicy", "short", json!({"spec": {"windows": [misspelt]}})).await;
    f.reason("TokenPolicy", "short", "InvalidSpec").await;
    let gate = Gate::new();
    fleet.fault(Fault::gate(&gate).on(Kind::Write));
    delete(&f, "TokenPolicy", "short").await;
    fleet.requests().wait_arrived(Kind::Write, 5).await;
    for index in 0..4 {
        f.wait("X2Gateway", &format!("x2-{index}"), |g| {
            ready(g)["reason"] == "AwaitingRollout" || !status(g)["pending"].is_null()
        })
        .await;
    }
    assert_eq!(fleet.counts().write, 5);
    gate.open();
    gone(&f, "TokenPolicy", "short").await;
    assert_eq!((fleet.standing_at(86400), fleet.counts().write), (4, 8));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_annotation_nobody_waits_for_an_appliance_that_does_not_answer() {
    let fleet = fleet(2);
    let f = changed_world("skip", &fleet).await;
    fleet.stop_listening().await;
    let skip = json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "true"}}});
    delete(&f, "X2Gateway", "x2-0").await;
    let held = f.wait("X2Gateway", "x2-0", |g| ready(g)["reason"] == "Unreachable").await;
    assert_eq!(finalizers(&held), [FINALIZER]);
    f.patch("X2Gateway", "x2-0", skip.clone()).await;
    gone(&f, "X2Gateway", "x2-0").await;
    assert!(f.event("x2-0", "RestoreSkipped").await.contains("tenure.dev/skip-restore"));

    delete(&f, "TokenPolicy", "short").await;
    let held = f.wait("X2Gateway", "x2-1", |g| ready(g)["reason"] == "Unreachable").await;
    assert_eq!(finalizers(&held), [FINALIZER]);
    let policy = f.get("TokenPolicy", "short").await;
    assert_eq!(finalizers(&policy), [FINALIZER]);
    f.patch("TokenPolicy", "short", skip).await;
    gone(&f, "TokenPolicy", "short").await;
    let told = f.event("short", "RestoreSkipped").await;
    assert!(told.contains("tenure.dev/skip-restore") && told.contains("x2-1"), "{told}");
    f.wait("X2Gateway", "x2-1", |g| finalizers(g).is_empty()).await;
    assert_eq!(fleet.standing_at(28800), 2);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn annotated_beforehand_it_is_gone_at_once_and_nothing_is_written() {
    let fleet = fleet(2);
    let f = changed_world("skipped", &fleet).await;
    let skip = json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "true"}}});
    f.patch("X2Gateway", "x2-0", skip.clone()).await;
    delete_and_wait(&f, "X2Gateway", "x2-0").await;
    f.event("x2-0", "RestoreSkipped").await;
    f.patch("TokenPolicy", "short", skip).await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    f.event("short", "RestoreSkipped").await;
    left(&f, "x2-1").await;
    assert_eq!((fleet.standing_at(28800), fleet.counts().write), (2, 2));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_is_under_way_holds_nobody_up() {
    let fleet = fleet(1);
    let f = changed_world("underway", &fleet).await;
    f.patch("X2Gateway", "x2-0", json!({"spec": {"requestTimeout": "5m"}})).await;
    f.reason("X2Gateway", "x2-0", "InSync").await;
    fleet.fault(Fault::hang());
    let before = fleet.counts().total();
    f.request("X2Gateway", "x2-0", "now").await;
    fleet.requests().wait_until(|requests| requests.counts().total() > before).await;
    let skip = json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "true"}}});
    f.patch("X2Gateway", "x2-0", skip).await;
    delete_and_wait(&f, "X2Gateway", "x2-0").await;
    f.event("x2-0", "RestoreSkipped").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_does_not_wait_for_a_gateway_that_was_let_go() {
    let fleet = fleet(1);
    let f = changed_world("letgo", &fleet).await;
    fleet.stop_listening().await;
    let theirs = json!({"metadata": {
        "finalizers": ["example.net/theirs", FINALIZER], "annotations": {"tenure.dev/skip-restore": "true"},
    }});
    f.patch("X2Gateway", "x2-0", theirs).await;
    delete(&f, "X2Gateway", "x2-0").await;
    f.wait("X2Gateway", "x2-0", |g| finalizers(g) == ["example.net/theirs"]).await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    f.patch("X2Gateway", "x2-0", json!({"metadata": {"finalizers": null}})).await;
    gone(&f, "X2Gateway", "x2-0").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_policy_was_let_go_before_it_says_so() {
    let fleet = fleet(1);
    let f = changed_world("bereft", &fleet).await;
    fleet.stop_listening().await;
    delete(&f, "X2Gateway", "x2-0").await;
    let skip = json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "true"}}});
    f.patch("TokenPolicy", "short", skip).await;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    gone(&f, "X2Gateway", "x2-0").await;
    let told = f.event("x2-0", "RestoreSkipped").await;
    assert!(told.contains("its TokenPolicy no longer exists"), "{told}");
    assert_eq!(fleet.standing_at(28800), 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_is_not_held_up() {
    let fleet = fleet(2);
    // The operator's own rights are not in the namespace that goes.
    let mut f = Fixture::new("home").await;
    let doomed = TestNamespace::create(&f.plane, "doomed").await.unwrap();
    doomed.secret("x2-admin", &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
    let ca = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x2-ca"}, "data": {"ca.crt": fleet.ca_pem()}});
    let gateways = [0, 1].map(|index| gateway(&format!("x2-{index}"), &fleet.appliance(index)));
    let short = restoring("short", json!({"timeoutSeconds": 28800}));
    for manifest in [ca, short].into_iter().chain(gateways) {
        doomed.apply_yaml(&manifest.to_string()).await.unwrap();
    }
    let name = doomed.name().to_owned();
    f.start_with(&["--namespaces", &name, "--allow-cidr", "127.0.0.0/8", "--log-level", "trace"]).await;
    let done = doomed.wait_for("TokenPolicy", "short", SOON, |p| status(p)["gateways"]["inSync"] == 2).await;
    assert_eq!(finalizers(&done.unwrap()), [FINALIZER]);

    let secrets = Api::<Secret>::namespaced(doomed.client(), &name);
    secrets.delete("x2-admin", &DeleteParams::default()).await.unwrap();
    fleet.stop_listening().await;
    doomed.delete(Duration::from_mins(1)).await.unwrap();
    assert_eq!(fleet.standing_at(28800), 2);
    f.finish().await;
}
