//! What was in order and has been changed by somebody else: one by one it is put back, a whole site is rolled out again.

use std::time::Duration;

use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_put_back_during_a_soak_and_without_one() {
    let mut w = World::new("put-back", 4, 3).await;
    w.policy(json!({"rollout": {"canary": {"count": 1, "soak": "1s"}, "maxConcurrent": 1}})).await;
    w.f.start().await;
    let complete = w.complete().await;

    w.fleet.appliance(1).factory_reset();
    w.f.look("X2Gateway", &w.name(1), "first").await;
    let repaired = w.f.reason("X2Gateway", &w.name(1), "InSync").await;
    assert_eq!(status(&repaired)["history"][0]["cause"], "Drift");
    // Also one that fails at first remains a repair.
    w.fleet.appliance(2).factory_reset();
    w.fleet.appliance(2).fault(refused().times(1));
    w.f.look("X2Gateway", &w.name(2), "second").await;
    w.f.wait("X2Gateway", &w.name(2), |g| {
        ready(g)["reason"] == "InSync"
            && status(g)["history"][0]["cause"] == "Drift"
            && status(g)["pending"].is_null()
    })
    .await;
    assert_eq!(w.fleet.standing_at(28800), 3);
    let after = w.until(|p| ready(p)["reason"] == "InSync").await;
    for field in ["phase", "startedTime", "canaries", "targetHash"] {
        assert_eq!(rollout(&after)[field], rollout(&complete)[field]);
    }

    // A newcomer is a rollout of its own. While it is watched, others are put back.
    w.edit(json!({"rollout": {"canary": {"soak": "1h"}}})).await;
    w.add(3).await;
    let soaking = w.until(|p| !rollout(p)["soakUntil"].is_null() && rollout(p)["phase"] == "Canary").await;
    assert_eq!(rollout(&soaking)["canaries"], json!(w.names([3])));
    for index in [0, 3] {
        w.fleet.appliance(index).factory_reset();
        w.f.look("X2Gateway", &w.name(index), "third").await;
        w.f.wait("X2Gateway", &w.name(index), |g| status(g)["history"][0]["cause"] == "Drift").await;
    }
    let still = w.now().await;
    assert_eq!(
        (&rollout(&still)["phase"], &rollout(&still)["soakUntil"]),
        (&json!("Canary"), &rollout(&soaking)["soakUntil"])
    );
    assert_eq!(w.fleet.standing_at(28800), 4);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repairs_keep_to_what_is_allowed_at_once() {
    let mut w = World::new("repairs", 6, 6).await;
    w.policy(json!({"rollout": {"maxConcurrent": 2, "maxFailures": 3}})).await;
    w.f.start().await;
    let complete = w.complete().await;
    let gate = Gate::new();
    w.fleet.fault(Fault::gate(&gate).on(Kind::Write));
    // Five are borne: three failures and two at once.
    (0..5).for_each(|index| w.fleet.appliance(index).factory_reset());
    w.f.request("TokenPolicy", "fleet", "now").await;
    w.arrived(8).await;
    let under_way = w.pending().await;
    assert_eq!(under_way.len(), 2);
    w.waiting((0..5).filter(|index| !under_way.contains(&w.name(*index)))).await;
    assert_eq!(w.writes(), 8);
    gate.open();
    let after =
        w.until(|p| status(p)["lastHandledReconcileAt"] == "now" && ready(p)["reason"] == "InSync").await;
    w.fleet.requests().wait_for(Kind::Write, 11).await;
    assert_eq!(rollout(&after)["startedTime"], rollout(&complete)["startedTime"]);
    w.until(|p| status(p)["gateways"]["inSync"] == 6).await;
    assert_eq!(w.fleet.standing_at(28800), 6);
    assert_eq!(w.trace().peak(), 2);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reset_of_a_site_is_a_rollout_with_canaries() {
    let mut w = World::new("site-reset", 9, 9).await;
    let spec = json!({"maxConcurrent": 2, "maxFailures": 1, "canary": {"count": 1, "soak": "2s"}});
    w.policy(json!({"rollout": spec})).await;
    w.f.start().await;
    let complete = w.complete().await;
    let writes = usize::try_from(w.writes()).unwrap();
    w.fleet.appliances().for_each(|appliance| appliance.factory_reset());
    w.f.request("TokenPolicy", "fleet", "now").await;
    let canary = w
        .until(|p| {
            rollout(p)["phase"] == "Canary" && rollout(p)["startedTime"] != rollout(&complete)["startedTime"]
        })
        .await;
    assert_ne!(rollout(&canary)["targetHash"], rollout(&complete)["targetHash"]);
    let done = w.until(|p| rollout(p)["phase"] == "Complete" && status(p)["gateways"]["inSync"] == 9).await;
    assert_eq!(rollout(&done)["canaries"], rollout(&canary)["canaries"]);
    assert_eq!(w.fleet.standing_at(28800), 9);
    let trace = w.trace().after(writes);
    assert!(trace.peak() <= 2);
    // Before it was clear what had happened no more were put back than is borne.
    let chosen = rollout(&canary)["canaries"][0].as_str().unwrap().to_owned();
    let at = trace.order().iter().position(|name| *name == chosen).unwrap();
    assert!(at <= 3, "{at}");
    assert!(trace.pause_after(at + 1) >= Duration::from_secs(2), "{:?}", trace.order());
    let gateway = w.f.get("X2Gateway", &w.name(8)).await;
    assert_eq!(status(&gateway)["history"][0]["cause"], "Drift");
    w.f.finish().await;
}
