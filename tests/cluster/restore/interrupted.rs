//! The operator dies in the middle: what must not be forgotten is in the status before the first write.

use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn killed_right_after_the_first_write_the_original_is_still_known() {
    let fleet = fleet(2);
    let mut f = world("killed", &fleet).await;
    // Carried out, but never answered.
    fleet.fault(Fault::gate(&Gate::new()).after_effect().on(Kind::Write).times(2));
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    fleet.requests().wait_arrived(Kind::Write, 2).await;
    fleet.requests().wait_until(|_| fleet.standing_at(28800) == 2).await;
    f.kill().await;
    assert_eq!(finalizers(&f.get("TokenPolicy", "short").await), [FINALIZER]);
    for name in ["x2-0", "x2-1"] {
        let gateway = f.get("X2Gateway", name).await;
        assert_eq!(status(&gateway)["originalTimeoutSeconds"], 86400);
        assert_eq!(status(&gateway)["pending"]["to"], 28800);
        assert_eq!(finalizers(&gateway), [FINALIZER]);
    }
    // One goes while nobody is there.
    delete(&f, "X2Gateway", "x2-1").await;
    f.start().await;
    gone(&f, "X2Gateway", "x2-1").await;
    let stays = f.reason("X2Gateway", "x2-0", "InSync").await;
    assert_eq!([0, 1].map(|index| fleet.appliance(index).timeout()), [28800, 86400]);
    assert_eq!(status(&stays)["originalTimeoutSeconds"], 86400);
    assert_eq!(last_change(&stays), (&json!(86400), &json!(28800), &json!("Policy")));
    assert!(status(&stays)["pending"].is_null());
    assert_eq!(fleet.counts().write, 3, "nothing is written twice");
    delete_and_wait(&f, "TokenPolicy", "short").await;
    left(&f, "x2-0").await;
    assert_eq!(fleet.appliance(0).timeout(), 86400);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_first_write_takes_effect_nothing_is_restored() {
    let fleet = fleet(1);
    let mut f = world("tooearly", &fleet).await;
    fleet.fault(Fault::gate(&Gate::new()).on(Kind::Write).times(1));
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    fleet.requests().wait_arrived(Kind::Write, 1).await;
    f.kill().await;
    delete(&f, "TokenPolicy", "short").await;
    f.start().await;
    gone(&f, "TokenPolicy", "short").await;
    let gateway = left(&f, "x2-0").await;
    assert_eq!((fleet.appliance(0).timeout(), fleet.counts().write), (86400, 1));
    assert!(status(&gateway)["history"].is_null());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_restoring_it_is_proven_and_recorded_once() {
    let fleet = fleet(1);
    let mut f = changed_world("midway", &fleet).await;
    fleet.fault(Fault::gate(&Gate::new()).after_effect().on(Kind::Write).times(1));
    delete(&f, "TokenPolicy", "short").await;
    fleet.requests().wait_arrived(Kind::Write, 2).await;
    fleet.requests().wait_until(|_| fleet.standing_at(86400) == 1).await;
    f.kill().await;
    let before = fleet.counts();
    f.start().await;
    gone(&f, "TokenPolicy", "short").await;
    let gateway = left(&f, "x2-0").await;
    assert_eq!(last_change(&gateway), (&json!(28800), &json!(86400), &json!("Restore")));
    assert_eq!(status(&gateway)["history"].as_array().unwrap().len(), 2);
    assert_eq!(status(&gateway)["provenTimeoutSeconds"], 86400);
    assert_eq!((fleet.counts() - before).write, 0);
    assert!((fleet.counts() - before).login >= 1, "proven by a fresh login");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_at_first_is_restored_as_soon_as_it_can_be() {
    let fleet = fleet(1);
    let f = changed_world("unready", &fleet).await;
    fleet.fault(Fault::status(503, "{}").on(Kind::Write).times(2));
    delete_and_wait(&f, "X2Gateway", "x2-0").await;
    assert_eq!((fleet.appliance(0).timeout(), fleet.counts().write), (86400, 4));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_later_write_what_stands_there_is_still_known_as_ours() {
    let fleet = fleet(1);
    let mut f = changed_world("twice", &fleet).await;
    fleet.fault(Fault::gate(&Gate::new()).after_effect().on(Kind::Write).times(1));
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200}})).await;
    fleet.requests().wait_until(|_| fleet.standing_at(7200) == 1).await;
    f.kill().await;
    delete(&f, "TokenPolicy", "short").await;
    f.start().await;
    gone(&f, "TokenPolicy", "short").await;
    let gateway = left(&f, "x2-0").await;
    assert_eq!(last_change(&gateway), (&json!(7200), &json!(86400), &json!("Restore")));
    assert_eq!((fleet.appliance(0).timeout(), fleet.counts().write), (86400, 3));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_never_recorded_is_ours_also_when_something_else_is_wanted_by_now() {
    let fleet = fleet(1);
    let mut f = world("retarget", &fleet).await;
    fleet.fault(Fault::gate(&Gate::new()).after_effect().on(Kind::Write).times(1));
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    fleet.requests().wait_until(|_| fleet.standing_at(28800) == 1).await;
    f.kill().await;
    let windows = json!([{"schedule": "0 0 29 2 *", "duration": "1m"}]);
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200, "windows": windows}})).await;
    f.start().await;
    let waiting = f.reason("X2Gateway", "x2-0", "AwaitingWindow").await;
    assert_eq!(status(&waiting)["originalTimeoutSeconds"], 86400);
    delete_and_wait(&f, "TokenPolicy", "short").await;
    left(&f, "x2-0").await;
    assert_eq!((fleet.appliance(0).timeout(), fleet.counts().write), (86400, 2));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_recorded_stays_known_as_ours_when_taking_it_back_fails_once() {
    let fleet = fleet(1);
    let mut f = world("fails-once", &fleet).await;
    fleet.fault(Fault::gate(&Gate::new()).after_effect().on(Kind::Write).times(1));
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    fleet.requests().wait_until(|_| fleet.standing_at(28800) == 1).await;
    f.kill().await;
    fleet.fault(Fault::status(503, "{}").on(Kind::Write).times(1));
    delete(&f, "TokenPolicy", "short").await;
    f.start().await;
    gone(&f, "TokenPolicy", "short").await;
    let gateway = left(&f, "x2-0").await;
    assert_eq!((fleet.appliance(0).timeout(), fleet.counts().write), (86400, 3));
    assert_eq!(last_change(&gateway), (&json!(28800), &json!(86400), &json!("Restore")));
    let skipped = f.events().await.into_iter().filter(|(_, reason, _)| reason == "RestoreSkipped");
    assert_eq!(skipped.count(), 0);
    f.finish().await;
}
