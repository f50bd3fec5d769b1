//! How many at once, how many failures are borne, and how a halted rollout goes on.

use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_allowed_are_changed_at_once() {
    let mut w = World::new("at-once", 10, 10).await;
    // Writes are held for as long as the others are checked: that must not time out.
    for index in 0..3 {
        w.f.patch("X2Gateway", &w.name(index), json!({"spec": {"requestTimeout": "5m"}})).await;
    }
    let gate = Gate::new();
    w.fleet.fault(Fault::gate(&gate).on(Kind::Write));
    // A share is rounded up: three of ten.
    w.policy(json!({"rollout": {"maxConcurrent": "21%"}})).await;
    w.f.start().await;
    w.arrived(3).await;
    w.waiting(3..10).await;
    // What is under way is on record before it is sent.
    assert_eq!(w.pending().await, w.names(0..3));
    let first = w.f.get("X2Gateway", &w.name(0)).await;
    assert_eq!(status(&first)["pending"]["to"], 28800);
    assert_eq!(status(&first)["originalTimeoutSeconds"], FACTORY);
    // Nobody else gets in by asking.
    for index in 3..10 {
        w.f.look("X2Gateway", &w.name(index), "now").await;
    }
    assert_eq!((w.writes(), w.fleet.standing_at(FACTORY)), (3, 10));
    gate.open();
    w.complete().await;
    assert_eq!(w.fleet.standing_at(28800), 10);
    assert_eq!((w.writes(), w.trace().peak()), (10, 3));
    assert!(w.pending().await.is_empty());
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_borne_up_to_their_number() {
    let mut w = World::new("borne", 6, 6).await;
    for index in [1, 3] {
        w.fleet.appliance(index).fault(refused());
    }
    // A share is rounded down: two of six.
    w.policy(json!({"rollout": {"maxConcurrent": 1, "maxFailures": "49%"}})).await;
    w.f.start().await;
    let borne = w.until(|p| rollout(p)["changed"] == 4 && rollout(p)["failed"] == 2).await;
    assert_eq!(rollout(&borne)["phase"], "Progressing");
    assert_eq!(w.fleet.standing_at(28800), 4);
    w.heal();
    w.f.request("TokenPolicy", "fleet", "now").await;
    w.complete().await;
    assert_eq!(w.fleet.standing_at(28800), 6);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_no_failed_change() {
    let mut w = World::new("unreadable", 5, 5).await;
    for index in [0, 2, 4] {
        w.fleet.appliance(index).fault(Fault::status(500, "{}").on(Kind::Get));
    }
    w.policy(json!({"rollout": {"maxConcurrent": 1, "maxFailures": 0}})).await;
    w.f.start().await;
    let complete = w.phase("Complete").await;
    assert_eq!((&rollout(&complete)["changed"], &rollout(&complete)["failed"]), (&json!(2), &json!(0)));
    assert_eq!(w.trace().order(), w.names([1, 3]));
    let failed = w.until(|p| status(p)["gateways"]["failed"] == 3).await;
    assert_eq!(ready(&failed)["status"], "False");
    w.heal();
    w.f.request("TokenPolicy", "fleet", "now").await;
    w.complete().await;
    assert_eq!(w.fleet.standing_at(28800), 5);
    w.f.finish().await;
}

/// Ten gateways of which all but three refuse: halted, with two at once and one failure borne.
async fn halted(name: &str, fault: &Fault, reason: &str) -> World {
    let mut w = World::new(name, 10, 10).await;
    w.refuse(3, fault);
    w.policy(json!({"rollout": {"maxConcurrent": 2, "maxFailures": 1}})).await;
    w.f.start().await;
    let halted = w.phase("Halted").await;
    assert_eq!(
        (&ready(&halted)["reason"], &condition(&halted, "Stalled")["status"]),
        (&json!("RolloutHalted"), &json!("True"))
    );
    assert!(condition(&halted, "Reconciling").is_null());
    // What was under way ends.
    w.until(|p| {
        rollout(p)["failed"].as_u64().unwrap() + rollout(p)["changed"].as_u64().unwrap() == w.writes()
    })
    .await;
    let refusing = w.trace().refused();
    assert!((2..=3).contains(&refusing.len()), "{refusing:?}");
    assert_eq!(w.fleet.standing_at(28800), 3);
    let started = w.f.event("fleet", "RolloutStarted").await;
    assert!(started.contains("without canaries"), "{started}");
    let event = w.f.event("fleet", "RolloutHalted").await;
    let (changed, unchanged) = event.split_once("Not updated: ").unwrap();
    let (failed, changed) = changed.split_once("Updated: ").unwrap();
    let halts =
        w.f.events()
            .await
            .into_iter()
            .filter(|(object, reason, _)| object == "fleet" && reason == "RolloutHalted");
    assert_eq!(halts.count(), 1);
    // The event tells of the moment: who was under way was neither.
    let named = |text: &str| refusing.iter().filter(|name| text.contains(name.as_str())).count();
    assert!(named(failed) >= 2 && named(changed) == 0, "{event}");
    assert!(names_all(changed, &w.names(0..3)), "{event}");
    let untouched: Vec<String> = w.names(3..10).into_iter().filter(|name| !refusing.contains(name)).collect();
    assert!(names_all(unchanged, &untouched), "{event}");
    assert!(named(ready(&halted)["message"].as_str().unwrap()) >= 2, "{}", ready(&halted));
    // What has failed stays in sight; who waits says for what.
    w.f.reason("X2Gateway", &refusing[0], reason).await;
    w.f.reason("X2Gateway", &untouched[0], "AwaitingRollout").await;
    w
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_more_halts_until_the_spec_is_changed() {
    // Of this a gateway thinks that only a person can repair it, and tries it every ten minutes.
    let w = halted("by-spec", &Fault::status(403, "{}").on(Kind::Write), "AdminRoleRequired").await;
    let touched = w.writes();
    // Halted means halted, whoever looks.
    for index in 3..10 {
        w.f.look("X2Gateway", &w.name(index), "now").await;
    }
    assert_eq!(w.writes(), touched);
    assert_eq!(rollout(&w.now().await)["phase"], "Halted");
    w.heal();
    w.edit(json!({"rollout": {"maxFailures": 2}})).await;
    w.complete().await;
    assert_eq!(w.fleet.standing_at(28800), 10);
    assert!(w.trace().peak() <= 2);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_the_policy_resumes_a_halted_rollout_once() {
    let w = halted("by-request", &refused(), "UnexpectedAnswer").await;
    // It halts again: one request is one try, with the same bounds as the first.
    let before = w.trace().refused().len();
    w.f.request("TokenPolicy", "fleet", "first").await;
    let writes = w.writes();
    w.arrived(writes + 2).await;
    let again =
        w.until(|p| rollout(p)["phase"] == "Halted" && status(p)["lastHandledReconcileAt"] == "first").await;
    assert_eq!(ready(&again)["reason"], "RolloutHalted");
    let refusing = w.trace().refused();
    assert!(refusing.len() <= before + 3, "{refusing:?}");
    w.heal();
    w.f.request("TokenPolicy", "fleet", "second").await;
    w.complete().await;
    assert_eq!(w.fleet.standing_at(28800), 10);
    assert!(w.trace().peak() <= 2);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_target_supersedes_a_rollout_in_the_middle() {
    let mut w = World::new("superseded", 8, 8).await;
    let gate = Gate::new();
    w.fleet.appliance(2).fault(Fault::gate(&gate).on(Kind::Write));
    w.policy(json!({"rollout": {"maxConcurrent": 1, "canary": {"count": 1, "soak": "1s"}}})).await;
    w.f.start().await;
    w.arrived(3).await;
    let first = w.phase("Progressing").await;
    w.edit(json!({"timeoutSeconds": 14400})).await;
    gate.open();
    let complete = w.complete().await;
    assert_ne!(rollout(&complete)["targetHash"], rollout(&first)["targetHash"]);
    assert_ne!(rollout(&complete)["startedTime"], rollout(&first)["startedTime"]);
    assert_eq!(w.fleet.standing_at(14400), 8);
    let old = w.fleet.requests().written().iter().filter(|body| body.contains("28800")).count();
    assert!(old <= 3, "{old} were changed to what was no longer wanted");
    // The new one has its own canary, watched again.
    let trace = w.trace().after(old);
    assert_eq!(trace.order()[0], w.name(0));
    assert!(trace.pause_after(1) >= std::time::Duration::from_secs(1));
    assert_eq!(w.trace().peak(), 1);
    w.f.finish().await;
}
