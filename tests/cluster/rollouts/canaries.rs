//! Who goes first, for how long the others wait, and what a failing canary does to them.

use std::time::Duration;

use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn canaries_go_first_are_watched_and_checked_and_then_the_others_follow() {
    let mut w = World::new("canaries", 6, 6).await;
    // The first by name cannot be read, and is none.
    w.fleet.appliance(0).fault(Fault::status(500, "{}").on(Kind::Get));
    // The others are held, so that the rollout is still under way when it can be read again.
    let gate = Gate::new();
    w.fleet.appliance(3).fault(Fault::gate(&gate).on(Kind::Write));
    w.policy(json!({"rollout": {"canary": {"count": 2, "soak": "2s"}, "maxConcurrent": 1}})).await;
    w.f.start().await;
    let soaking = w.until(|p| !rollout(p)["soakUntil"].is_null()).await;
    assert_eq!(rollout(&soaking)["phase"], "Canary");
    assert_eq!(rollout(&soaking)["canaries"], json!(w.names([1, 2])));
    assert_eq!(condition(&soaking, "Reconciling")["status"], "True");
    w.arrived(3).await;
    let progressing = w.phase("Progressing").await;
    assert_eq!(rollout(&progressing)["soakUntil"], rollout(&soaking)["soakUntil"]);
    assert_eq!(w.trace().order(), w.names([1, 2, 3]));
    w.waiting([4, 5]).await;

    // What could not be read joins the end.
    w.heal();
    w.f.request("X2Gateway", &w.name(0), "now").await;
    w.waiting([0]).await;
    gate.open();
    let complete = w.complete().await;
    assert_eq!(rollout(&complete)["changed"], 6);
    assert_eq!(rollout(&complete)["canaries"], json!(w.names([1, 2])));
    assert_eq!(w.fleet.standing_at(28800), 6);
    let trace = w.trace();
    assert_eq!(trace.order(), w.names([1, 2, 3, 4, 5, 0]));
    assert_eq!(trace.peak(), 1);
    assert!(trace.pause_after(2) >= Duration::from_secs(2), "{:?}", trace.pause_after(2));
    // Each canary was read again after the soak, and before any other was touched.
    let soaked = trace.0[1].ended.unwrap() + Duration::from_secs(2);
    for canary in [1, 2] {
        let entries = w.fleet.appliance(canary).requests().entries();
        let mut reads = entries.iter().filter(|e| e.kind == Kind::Get).map(|e| e.at);
        assert!(reads.any(|read| soaked <= read && read <= trace.0[2].begun));
    }
    assert!(w.f.event("fleet", "RolloutComplete").await.contains("28800"));
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_are_pinned_and_who_appears_later_joins_the_end() {
    let mut w = World::new("pinned", 5, 4).await;
    let gate = Gate::new();
    w.fleet.fault(Fault::gate(&gate).on(Kind::Write));
    w.policy(json!({"rollout": {"canary": {"count": 1, "soak": "1s"}, "maxConcurrent": 1}})).await;
    w.f.start().await;
    w.arrived(1).await;
    // Its name sorts before all others.
    w.f.apply(&gateway("a-newcomer", &w.fleet.appliance(4))).await;
    w.f.reason("X2Gateway", "a-newcomer", "AwaitingRollout").await;
    assert_eq!(w.writes(), 1);
    gate.open();
    let complete = w.complete().await;
    assert_eq!(rollout(&complete)["canaries"], json!(w.names([0])));
    assert_eq!(w.trace().order(), w.names([0, 1, 2, 3, 4]));
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_may_be_chosen_by_labels_but_not_none() {
    let mut w = World::new("labelled", 4, 4).await;
    let canary = json!({"selector": {"matchLabels": {"ring": "first"}}, "soak": "1s"});
    w.policy(json!({"rollout": {"canary": canary}})).await;
    w.f.start().await;
    let stalled = w.until(|p| condition(p, "Stalled")["status"] == "True").await;
    assert_eq!(ready(&stalled)["reason"], "InvalidSpec");
    assert!(ready(&stalled)["message"].as_str().unwrap().contains("canary.selector"));
    w.waiting(0..4).await;
    assert_eq!(w.writes(), 0);
    w.f.patch("X2Gateway", &w.name(2), json!({"metadata": {"labels": {"ring": "first"}}})).await;
    let complete = w.complete().await;
    assert_eq!(rollout(&complete)["canaries"], json!(w.names([2])));
    assert_eq!(w.trace().order()[0], w.name(2));
    assert!(w.trace().pause_after(1) >= Duration::from_secs(1));
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_refuses_its_change_three_times_halts() {
    let mut w = World::new("refusing", 4, 4).await;
    w.refuse(0, &refused());
    // Three failures would be borne.
    w.policy(json!({"rollout": {"canary": {"count": 1, "soak": "1s"}, "maxFailures": 3}})).await;
    w.f.start().await;
    let halted = w.phase("Halted").await;
    assert_eq!(ready(&halted)["reason"], "RolloutHalted");
    assert!(names_all(ready(&halted)["message"].as_str().unwrap(), &w.names([0])));
    assert_eq!(w.trace().order(), w.names([0]));
    assert_eq!(w.writes(), 3);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_lost_during_the_soak_halts() {
    let mut w = World::new("lost", 4, 4).await;
    w.policy(json!({"rollout": {"canary": {"count": 1, "soak": "3s"}, "maxFailures": 3}})).await;
    w.f.start().await;
    w.until(|p| !rollout(p)["soakUntil"].is_null()).await;
    let gets = w.fleet.appliance(0).counts().get;
    w.fleet.appliance(0).fault(Fault::status(500, "{}").on(Kind::Get));
    let halted = w.phase("Halted").await;
    assert_eq!(condition(&halted, "Stalled")["reason"], "RolloutHalted");
    assert!(names_all(ready(&halted)["message"].as_str().unwrap(), &w.names([0])), "{}", ready(&halted));
    assert!(w.f.event("fleet", "RolloutHalted").await.contains(&w.name(0)));
    assert_eq!(w.fleet.appliance(0).counts().get, gets + 3);
    // Three tries are no burst: what is gone after a few seconds is no failure.
    let entries = w.fleet.appliance(0).requests().entries();
    let tries: Vec<_> = entries.iter().filter(|e| e.kind == Kind::Get).map(|e| e.at).collect();
    let [.., first, _, third] = tries[..] else { panic!("{tries:?}") };
    assert!(third - first >= Duration::from_secs(4), "{:?}", third - first);
    assert_eq!(w.trace().order(), w.names([0]));
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_answers_at_the_third_try_is_good() {
    let mut w = World::new("shaky", 3, 3).await;
    w.policy(json!({"rollout": {"canary": {"count": 1, "soak": "3s"}, "maxFailures": 0}})).await;
    w.f.start().await;
    w.until(|p| !rollout(p)["soakUntil"].is_null()).await;
    w.fleet.appliance(0).fault(Fault::status(500, "{}").on(Kind::Get).times(2));
    w.complete().await;
    assert_eq!(w.fleet.standing_at(28800), 3);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_runs_on_while_no_window_is_open() {
    let mut w = World::new("window", 4, 4).await;
    let by_hand = |until: serde_json::Value| json!({"metadata": {"annotations": {"tenure.dev/override-window-until": until}}});
    let rollout_spec = json!({"canary": {"count": 1, "soak": "4s"}});
    w.policy(json!({"rollout": rollout_spec, "windows": [{"schedule": "0 0 29 2 *", "duration": "1h"}]}))
        .await;
    w.f.start().await;
    let waiting = w.until(|p| rollout(p)["phase"] == "AwaitingWindow").await;
    assert!(!status(&waiting)["nextWindow"].is_null());
    assert_eq!(w.writes(), 0);
    let open = by_hand(json!(soon_enough(&waiting)));
    w.f.patch("TokenPolicy", "fleet", open.clone()).await;
    let soaking = w.until(|p| !rollout(p)["soakUntil"].is_null()).await;
    // It closes again. The canary is checked in time, and nobody follows.
    w.f.patch("TokenPolicy", "fleet", by_hand(serde_json::Value::Null)).await;
    let gets = w.fleet.appliance(0).counts().get;
    w.fleet.appliance(0).requests().wait_for(Kind::Get, gets + 1).await;
    let waiting = w.until(|p| rollout(p)["phase"] == "AwaitingWindow").await;
    assert_eq!(rollout(&waiting)["soakUntil"], rollout(&soaking)["soakUntil"]);
    assert_eq!(w.writes(), 1);
    w.f.patch("TokenPolicy", "fleet", open).await;
    let complete = w.complete().await;
    assert_eq!(rollout(&complete)["soakUntil"], rollout(&soaking)["soakUntil"]);
    assert_eq!((w.trace().order()[0].clone(), w.writes()), (w.name(0), 4));
    w.f.finish().await;
}

/// Six hours after a policy was last reported on.
fn soon_enough(policy: &DynamicObject) -> String {
    let reported = ready(policy)["lastTransitionTime"].as_str().unwrap();
    let reported: k8s_openapi::jiff::Timestamp = reported.parse().unwrap();
    (reported + Duration::from_secs(6 * 3600)).to_string()
}
