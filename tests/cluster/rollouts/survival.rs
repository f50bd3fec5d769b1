//! The operator's death at any point of a rollout, and what a rollout costs the API server.

use futures::TryStreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

/// What of a rollout must be the same before and after a restart.
fn pinned(policy: &DynamicObject) -> [&Value; 4] {
    ["targetHash", "canaries", "soakUntil", "startedTime"].map(|field| &rollout(policy)[field])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_write_is_no_failed_change() {
    let mut w = World::new("killed-write", 6, 6).await;
    let gate = Gate::new();
    w.fleet.fault(Fault::gate(&gate).on(Kind::Write));
    // Not one failure is borne.
    w.policy(
        json!({"rollout": {"canary": {"count": 2, "soak": "1s"}, "maxConcurrent": 2, "maxFailures": 0}}),
    )
    .await;
    w.f.start().await;
    for writes in [2, 4, 6] {
        w.arrived(writes).await;
        assert_eq!(w.pending().await, w.names([0, 1]));
        w.f.kill().await;
        w.f.start().await;
    }
    // What the dead have sent never had an effect.
    assert_eq!(w.fleet.standing_at(FACTORY), 6);
    let before = w.now().await;
    w.arrived(8).await;
    gate.open();
    let complete = w.complete().await;
    assert_eq!(rollout(&complete)["canaries"], json!(w.names([0, 1])));
    assert_eq!(rollout(&complete)["startedTime"], rollout(&before)["startedTime"]);
    assert_eq!(w.trace().peak(), 2);
    assert_eq!(w.fleet.standing_at(28800), 6);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_soak_does_not_prolong_it() {
    let mut w = World::new("killed-soak", 5, 5).await;
    w.policy(json!({"rollout": {"canary": {"count": 2, "soak": "20s"}, "maxConcurrent": 2}})).await;
    w.f.start().await;
    let soaking = w.until(|p| !rollout(p)["soakUntil"].is_null()).await;
    for _ in 0..3 {
        w.f.kill().await;
        w.f.start().await;
        w.waiting(2..5).await;
        assert_eq!(pinned(&w.now().await), pinned(&soaking));
    }
    let complete = w.complete().await;
    assert_eq!(pinned(&complete), pinned(&soaking));
    let mut canaries = w.trace().order()[..2].to_vec();
    canaries.sort();
    assert_eq!((canaries, w.writes()), (w.names([0, 1]), 5));
    assert!(w.trace().pause_after(2) >= std::time::Duration::from_secs(20));
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_others_follow_neither_starts_over_nor_crowds() {
    let mut w = World::new("killed-later", 9, 9).await;
    let gate = Gate::new();
    for index in 4..9 {
        w.fleet.appliance(index).fault(Fault::gate(&gate).on(Kind::Write).after_effect());
    }
    w.policy(
        json!({"rollout": {"canary": {"count": 1, "soak": "1s"}, "maxConcurrent": 3, "maxFailures": 0}}),
    )
    .await;
    w.f.start().await;
    w.arrived(7).await;
    let before = w.phase("Progressing").await;
    let under_way = w.pending().await;
    assert_eq!(under_way.len(), 3);
    // The writes have had their effect, their answers are lost.
    w.f.kill().await;
    w.f.start().await;
    w.arrived(9).await;
    let pending = w.pending().await;
    assert!(pending.len() <= 3, "{pending:?}");
    gate.open();
    let complete = w.complete().await;
    assert_eq!(pinned(&complete), pinned(&before));
    assert_eq!((&w.trace().order()[..1], w.writes()), (&*w.names([0]), 9));
    assert!(w.trace().peak() <= 3);
    let lost = w.f.get("X2Gateway", &under_way[0]).await;
    assert_eq!(
        (&status(&lost)["history"][0]["from"], &status(&lost)["history"][0]["cause"]),
        (&json!(FACTORY), &json!("Policy"))
    );
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_rollout_stays_halted_after_a_restart() {
    let mut w = World::new("killed-halted", 6, 6).await;
    w.refuse(1, &refused());
    w.policy(json!({"rollout": {"maxConcurrent": 1, "maxFailures": 0}})).await;
    w.f.start().await;
    let halted = w.phase("Halted").await;
    w.f.reason("X2Gateway", &w.name(5), "AwaitingRollout").await;
    let message = ready(&halted)["message"].clone();
    w.f.kill().await;
    w.f.start().await;
    for index in 0..6 {
        w.f.look("X2Gateway", &w.name(index), "now").await;
    }
    let still = w.now().await;
    assert_eq!((&rollout(&still)["phase"], &ready(&still)["message"]), (&json!("Halted"), &message));
    assert_eq!(w.writes(), 2);
    w.heal();
    w.f.request("TokenPolicy", "fleet", "go on").await;
    w.complete().await;
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_written_about_once_a_second_and_at_the_end_not_at_all() {
    let mut w = World::new("spaced", 12, 12).await;
    w.fleet.fault(Fault::latency(std::time::Duration::from_millis(300)).on(Kind::Write));
    w.policy(json!({"rollout": {"maxConcurrent": 1}})).await;
    let api = w.f.ns.api("TokenPolicy").await.unwrap();
    let counting = tokio::spawn(async move {
        let mut policies = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
        let (mut versions, mut last) = (0_u64, None);
        while let Some(policy) = policies.try_next().await.unwrap() {
            let now = version(&policy);
            versions += u64::from(last.as_ref() != Some(&now));
            last = Some(now);
            if rollout(&policy)["phase"] == "Complete" && ready(&policy)["reason"] == "InSync" {
                return versions;
            }
        }
        panic!("the watch ended");
    });
    let begun = w.fleet.requests();
    w.f.start().await;
    let complete = w.complete().await;
    let versions = tokio::time::timeout(SOON, counting).await.unwrap().unwrap();
    let entries = begun.entries();
    let seconds = (entries[entries.len() - 1].at - entries[0].at).as_secs();
    println!("{versions} versions of the policy in {seconds} s of a rollout of 12");
    // The object as it was applied, the beginning and the end come beside one a second.
    assert!(versions <= seconds + 6, "{versions} in {seconds} s");
    let before = w.fleet.counts();
    // The next check of each gateway finds everything in order, and costs one GET.
    w.fleet.requests().wait_for(Kind::Get, before.get + 12).await;
    assert_eq!(version(&w.now().await), version(&complete));
    let after = w.fleet.counts() - before;
    assert_eq!((after.login, after.write), (0, 0));
    w.f.finish().await;
}
