//! Whatever makes gateways differ from what their policy wants for the first time: they go through the rollout.

use std::time::Duration;

use serde_json::json;

use super::*;

const SOAK: Duration = Duration::from_secs(1);

/// The bounds of all policies here.
fn bounds() -> Value {
    json!({"canary": {"count": 1, "soak": "1s"}, "maxConcurrent": 2})
}

fn site(site: &str) -> Value {
    json!({"matchLabels": {"site": site}})
}

impl World {
    /// Waits until another rollout than that which began at `before` is complete, and checks that of the changes after so
    /// many others a canary was the first, that it was watched, and that all of these gateways were changed.
    async fn rolled_out(&self, policy: &str, before: &Value, writes: u64, changed: &[usize]) -> Value {
        let done = self.f.wait("TokenPolicy", policy, |p| {
            is_current(p)
                && rollout(p)["phase"] == "Complete"
                && rollout(p)["startedTime"] != *before
                && ready(p)["reason"] == "InSync"
        });
        let done = done.await;
        let trace = self.trace().after(usize::try_from(writes).unwrap());
        assert_eq!(rollout(&done)["canaries"], json!([trace.order()[0]]));
        assert!(trace.pause_after(1) >= SOAK, "{:?}", trace.pause_after(1));
        assert!(trace.peak() <= 2);
        let mut order = trace.order();
        order.sort();
        assert_eq!(order, self.names(changed.iter().copied()));
        rollout(&done)["startedTime"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_only_observed_or_suspended_or_is_edited_is_rolled_out() {
    let mut w = World::new("edits", 5, 5).await;
    w.policy(json!({"mode": "Observe", "rollout": bounds()})).await;
    w.f.start().await;
    let observed = w.f.reason("TokenPolicy", "fleet", "Observed").await;
    assert!(rollout(&observed).is_null());
    w.edit(json!({"mode": "Enforce"})).await;
    let first = w.rolled_out("fleet", &Value::Null, 0, &[0, 1, 2, 3, 4]).await;

    w.edit(json!({"timeoutSeconds": 14400})).await;
    let second = w.rolled_out("fleet", &first, 5, &[0, 1, 2, 3, 4]).await;

    w.edit(json!({"suspend": true, "timeoutSeconds": 7200})).await;
    w.until(|p| is_current(p) && condition(p, "Suspended")["status"] == "True").await;
    for index in 0..5 {
        w.f.reason("X2Gateway", &w.name(index), "Drifted").await;
    }
    assert_eq!(w.writes(), 10);
    w.edit(json!({"suspend": false})).await;
    w.rolled_out("fleet", &second, 10, &[0, 1, 2, 3, 4]).await;
    assert_eq!(w.fleet.standing_at(7200), 5);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_relabelled_or_selected_anew_is_rolled_out() {
    let mut w = World::new("labels", 8, 8).await;
    for index in 2..8 {
        w.f.patch("X2Gateway", &w.name(index), json!({"metadata": {"labels": {"site": "rome"}}})).await;
    }
    w.policy(json!({"gatewaySelector": site("berlin"), "rollout": bounds()})).await;
    w.f.start().await;
    let first = w.rolled_out("fleet", &Value::Null, 0, &[0, 1]).await;

    // One after the other, as fast as somebody's script can: whoever comes first is the canary.
    for index in [5, 2, 3, 4] {
        w.f.patch("X2Gateway", &w.name(index), json!({"metadata": {"labels": {"site": "berlin"}}})).await;
    }
    let complete =
        w.until(|p| rollout(p)["phase"] == "Complete" && status(p)["gateways"]["inSync"] == 6).await;
    assert_ne!(rollout(&complete)["startedTime"], first);
    let trace = w.trace().after(2);
    assert_eq!(rollout(&complete)["canaries"], json!([trace.order()[0]]));
    assert!(trace.pause_after(1) >= SOAK);
    assert!(trace.peak() <= 2);
    let second = rollout(&complete)["startedTime"].clone();

    w.edit(json!({"gatewaySelector": {"matchLabels": null}})).await;
    w.rolled_out("fleet", &second, 6, &[6, 7]).await;
    assert_eq!((w.fleet.standing_at(28800), w.writes()), (8, 8));
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_another_policy_is_rolled_out() {
    let mut w = World::new("succession", 5, 5).await;
    w.policy(json!({"rollout": bounds()})).await;
    let other = json!({"timeoutSeconds": 14400, "priority": -1, "rollout": bounds()});
    w.f.apply(&policy("other", other)).await;
    w.f.start().await;
    w.rolled_out("fleet", &Value::Null, 0, &[0, 1, 2, 3, 4]).await;
    let idle = w.f.reason("TokenPolicy", "other", "Overridden").await;
    assert!(rollout(&idle).is_null());

    w.f.patch("TokenPolicy", "other", json!({"spec": {"priority": 1}})).await;
    let before = w.rolled_out("other", &Value::Null, 5, &[0, 1, 2, 3, 4]).await;
    assert_eq!(w.fleet.standing_at(14400), 5);

    // And back, by the winner's deletion: proven once, long ago, is not proven.
    let old = rollout(&w.now().await)["startedTime"].clone();
    assert_ne!(old, before);
    w.f.ns.delete_object("TokenPolicy", "other").await.unwrap();
    w.rolled_out("fleet", &old, 10, &[0, 1, 2, 3, 4]).await;
    assert_eq!(w.fleet.standing_at(28800), 5);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_goes_on_at_once_when_the_policy_drops_its_rollout() {
    let mut w = World::new("dropped", 4, 4).await;
    w.policy(json!({"interval": "24h", "rollout": {"canary": {"count": 1, "soak": "168h"}}})).await;
    w.f.start().await;
    w.waiting(1..4).await;
    w.until(|p| !rollout(p)["soakUntil"].is_null()).await;
    w.edit(json!({"rollout": null})).await;
    let policy = w.f.reason("TokenPolicy", "fleet", "InSync").await;
    assert!(rollout(&policy).is_null());
    assert_eq!((w.fleet.standing_at(28800), w.writes()), (4, 4));
    w.f.finish().await;
}
