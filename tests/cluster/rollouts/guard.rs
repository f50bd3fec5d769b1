//! A policy without bounds that would make many sessions short: one gateway first.

use std::time::Duration;

use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_risky_change_is_announced_tried_on_one_gateway_and_waits_a_minute() {
    let mut w = World::new("risky", 5, 5).await;
    let gate = Gate::new();
    w.fleet.fault(Fault::gate(&gate).on(Kind::Write));
    w.policy(json!({"timeoutSeconds": 3599})).await;
    w.f.start().await;
    w.arrived(1).await;
    let risky = w.now().await;
    assert_eq!(condition(&risky, "Risky")["status"], "True");
    assert!(condition(&risky, "Risky")["message"].as_str().unwrap().contains("more than half"));
    assert_eq!(
        (&rollout(&risky)["phase"], &rollout(&risky)["canaries"]),
        (&json!("Canary"), &json!(w.names([0])))
    );
    w.waiting(1..5).await;
    assert_eq!(w.writes(), 1);
    gate.open();
    let done = w.f.ns.wait_for("TokenPolicy", "fleet", 3 * SOON, |p| {
        ready(p)["reason"] == "InSync" && condition(p, "Risky").is_null()
    });
    done.await.unwrap();
    assert_eq!((w.fleet.standing_at(3599), w.writes()), (5, 5));
    assert_eq!(w.trace().order()[0], w.name(0));
    assert!(w.trace().pause_after(1) >= Duration::from_secs(60), "{:?}", w.trace().pause_after(1));
    w.f.event("fleet", "RolloutComplete").await;
    w.f.finish().await;
}

/// Gateways with these lifetimes get another, all at once.
async fn at_once(name: &str, before: &[u64], target: u32) {
    let mut w = World::new(name, before.len(), before.len()).await;
    for (index, seconds) in before.iter().enumerate() {
        w.fleet.appliance(index).set_timeout(*seconds);
    }
    // No one is waited for by the others.
    let gate = Gate::new();
    w.fleet.fault(Fault::gate(&gate).on(Kind::Write));
    w.policy(json!({"timeoutSeconds": target})).await;
    w.f.start().await;
    w.arrived(before.iter().filter(|seconds| **seconds != u64::from(target)).count() as u64).await;
    gate.open();
    let policy = w.f.reason("TokenPolicy", "fleet", "InSync").await;
    assert!(condition(&policy, "Risky").is_null() && rollout(&policy).is_null(), "{name}");
    assert_eq!(w.fleet.standing_at(u64::from(target)), before.len());
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_few_would_feel_is_changed_at_once() {
    let worlds = vec![
        at_once("small", &[FACTORY; 3], 1800),
        at_once("an-hour", &[FACTORY; 5], 3600),
        at_once("loosened", &[700; 5], 1800),
        at_once("a-half", &[FACTORY, FACTORY, 700, 1800], 1800),
    ];
    futures::future::join_all(worlds).await;
}
