//! Gateways are brought to the lifetime that policies declare, and checked from then on.

use serde_json::json;
use tenure_kit::faults::Fault;
use tenure_kit::requests::{Counts, Kind};
use tenure_kit::x2::PutEffect;

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn brings_a_gateway_to_its_lifetime_and_proves_it() {
    let fleet = fleet(1);
    let mut f = Fixture::new("converge").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;

    let gateway = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    let status = status(&gateway);
    assert_eq!(status["timeoutSeconds"], 28800);
    assert_eq!(status["desiredTimeoutSeconds"], 28800);
    assert_eq!(status["provenTimeoutSeconds"], 28800);
    assert_eq!(status["originalTimeoutSeconds"], 86400);
    assert_eq!(status["policy"], "short");
    assert_eq!(status["effectiveUrl"], fleet.appliance(0).url());
    assert_eq!(status["history"][0]["from"], 86400);
    assert_eq!(status["history"][0]["to"], 28800);
    assert_eq!(status["history"][0]["cause"], "Policy");
    assert_eq!(ready(&gateway)["status"], "True");
    assert!(condition(&gateway, "Reconciling").is_null() && condition(&gateway, "Stalled").is_null());
    let change = Counts { login: 2, get: 1, write: 1, ..Counts::default() };
    assert_eq!(fleet.appliance(0).counts(), change);

    let policy = f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(policy.data["status"]["gateways"]["summary"], "1/1");
    assert_eq!(policy.data["status"]["target"], "28800");
    assert!(f.event("x2-1", "TimeoutChanged").await.contains("28800"));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_right_already_is_proven_and_not_written() {
    let fleet = fleet(1);
    fleet.appliance(0).set_timeout(28800);
    let mut f = Fixture::new("right").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    let gateway = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(status(&gateway)["provenTimeoutSeconds"], 28800);
    assert!(status(&gateway)["history"].is_null());
    assert!(status(&gateway)["originalTimeoutSeconds"].is_null());
    assert_eq!(fleet.appliance(0).counts(), Counts { login: 1, get: 1, ..Counts::default() });
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_policy_is_read_and_left_alone() {
    let fleet = fleet(1);
    let mut f = Fixture::new("unmanaged").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.start().await;
    let gateway = f.reason("X2Gateway", "x2-1", "Unmanaged").await;
    assert_eq!(ready(&gateway)["status"], "True");
    assert_eq!(status(&gateway)["timeoutSeconds"], 86400);
    assert!(status(&gateway)["desiredTimeoutSeconds"].is_null() && status(&gateway)["policy"].is_null());
    assert_eq!(fleet.appliance(0).counts(), Counts { login: 1, get: 1, ..Counts::default() });
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_is_one_get_and_writes_nothing() {
    let fleet = fleet(1);
    let mut f = Fixture::new("steady").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let before = fleet.appliance(0).counts();
    for round in 1..=3 {
        let looked = f.look("X2Gateway", "x2-1", &format!("round {round}")).await;
        assert_eq!(ready(&looked)["reason"], "InSync");
    }
    assert_eq!(fleet.appliance(0).counts() - before, Counts { get: 3, ..Counts::default() });

    // A look that its interval asks for changes not even the status.
    let (gateway, policy) = (f.get("X2Gateway", "x2-1").await, f.get("TokenPolicy", "short").await);
    let events = f.events().await.len();
    fleet.appliance(0).requests().wait_for(Kind::Get, fleet.appliance(0).counts().get + 1).await;
    assert_eq!(fleet.appliance(0).counts() - before, Counts { get: 4, ..Counts::default() });
    f.kill().await;
    assert_eq!(version(&f.get("X2Gateway", "x2-1").await), version(&gateway));
    assert_eq!(version(&f.get("TokenPolicy", "short").await), version(&policy));
    assert_eq!(f.events().await.len(), events);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_edits_cause_no_request() {
    let fleet = fleet(1);
    let mut f = Fixture::new("edits").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let before = fleet.appliance(0).counts();
    for round in 0..5 {
        let annotation = json!({"metadata": {"annotations": {"somebody/else": round.to_string()}}});
        f.patch("X2Gateway", "x2-1", annotation.clone()).await;
        f.patch("TokenPolicy", "short", annotation).await;
    }
    // A look that is asked for comes after those edits, and is the only one.
    f.look("X2Gateway", "x2-1", "now").await;
    assert_eq!(fleet.appliance(0).counts() - before, Counts { get: 1, ..Counts::default() });
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unproven_change_is_reported_and_not_repeated() {
    let fleet = fleet(2);
    fleet.appliance(0).set_put_effect(PutEffect::ShownOnly);
    fleet.appliance(1).set_put_effect(PutEffect::AfterLogins(2));
    let mut f = Fixture::new("unproven").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("liar", &fleet.appliance(0))).await;
    f.apply(&gateway("slow", &fleet.appliance(1))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    let liar = f.reason("X2Gateway", "liar", "VerificationFailed").await;
    assert_eq!(condition(&liar, "Stalled")["status"], "True");
    assert_eq!(status(&liar)["timeoutSeconds"], 28800);
    assert_eq!(status(&liar)["provenTimeoutSeconds"], 86400);
    assert_eq!(fleet.appliance(0).counts(), Counts { login: 4, get: 2, write: 1, ..Counts::default() });
    f.reason("X2Gateway", "slow", "InSync").await;
    assert!(fleet.appliance(1).counts().login <= 4);

    // Asked again, it proves once more and does not write what is there already.
    let looked = f.look("X2Gateway", "liar", "again").await;
    assert_eq!(ready(&looked)["reason"], "VerificationFailed");
    assert_eq!(fleet.appliance(0).counts(), Counts { login: 5, get: 3, write: 1, ..Counts::default() });
    fleet.appliance(0).set_put_effect(PutEffect::Applied);
    fleet.appliance(0).set_timeout(28800);
    f.look("X2Gateway", "liar", "and again").await;
    f.reason("X2Gateway", "liar", "InSync").await;
    assert_eq!(fleet.appliance(0).counts().write, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_write_is_found_out_by_reading() {
    let fleet = fleet(1);
    fleet.appliance(0).fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    let mut f = Fixture::new("lost").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    let gateway = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(fleet.appliance(0).counts().write, 1);
    assert_eq!(status(&gateway)["provenTimeoutSeconds"], 28800);
    assert_eq!(status(&gateway)["originalTimeoutSeconds"], 86400);
    assert_eq!(status(&gateway)["history"][0]["from"], 86400);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_not_recorded_is_proven_and_recorded_once() {
    let fleet = fleet(1);
    let mut f = Fixture::new("unrecorded").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    f.kill().await;
    // The operator dies between its write and its report.
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 3600}})).await;
    fleet.appliance(0).set_timeout(3600);
    f.start().await;
    let gateway = f
        .wait("X2Gateway", "x2-1", |g| {
            status(g)["provenTimeoutSeconds"] == 3600 && ready(g)["reason"] == "InSync"
        })
        .await;
    let history = status(&gateway)["history"].as_array().unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!((&history[0]["from"], &history[0]["to"]), (&json!(28800), &json!(3600)));
    assert_eq!(history[0]["cause"], "Policy");
    assert_eq!(status(&gateway)["originalTimeoutSeconds"], 86400);
    assert_eq!(fleet.appliance(0).counts().write, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_costs_one_status_write_and_no_request() {
    let fleet = fleet(1);
    let mut f = Fixture::new("suspend").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let before = fleet.appliance(0).counts();
    f.patch("X2Gateway", "x2-1", json!({"spec": {"suspend": true}})).await;
    let paused =
        f.wait("X2Gateway", "x2-1", |g| is_current(g) && condition(g, "Suspended")["status"] == "True").await;
    assert_eq!((&ready(&paused)["reason"], &ready(&paused)["status"]), (&json!("InSync"), &json!("True")));
    let summed = f.wait("TokenPolicy", "short", |p| status(p)["gateways"]["suspended"] == 1).await;
    assert_eq!(status(&summed)["gateways"]["summary"], "0/1");
    assert_eq!(ready(&summed)["status"], "True");
    fleet.appliance(0).set_timeout(3600);
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200}})).await;
    f.wait("TokenPolicy", "short", is_current).await;
    assert_eq!(fleet.appliance(0).counts(), before);
    assert_eq!(version(&f.get("X2Gateway", "x2-1").await), version(&paused));

    f.patch("X2Gateway", "x2-1", json!({"spec": {"suspend": false}})).await;
    let resumed = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert!(condition(&resumed, "Suspended").is_null());
    assert_eq!(fleet.appliance(0).timeout(), 7200);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_url_drops_what_was_known_before_the_first_request() {
    let fleet = fleet(2);
    let mut f = Fixture::new("moved").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    fleet.appliance(1).set_timeout(7200);
    let gate = tenure_kit::faults::Gate::new();
    fleet.appliance(1).fault(Fault::gate(&gate));
    f.patch("X2Gateway", "x2-1", json!({"spec": {"url": fleet.appliance(1).url()}})).await;
    fleet.appliance(1).requests().wait_arrived(Kind::Login, 1).await;
    let between = f.get("X2Gateway", "x2-1").await;
    assert!(
        status(&between)["timeoutSeconds"].is_null() && status(&between)["originalTimeoutSeconds"].is_null()
    );
    assert_eq!(ready(&between)["reason"], "Progressing");
    gate.open();
    let moved = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(status(&moved)["originalTimeoutSeconds"], 7200);
    assert_eq!(status(&moved)["effectiveUrl"], fleet.appliance(1).url());
    assert_eq!(status(&moved)["history"].as_array().unwrap().len(), 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_does_not_hold_any_more_is_not_carried_out() {
    let fleet = fleet(3);
    let gate = tenure_kit::faults::Gate::new();
    let mut f = Fixture::new("superseded").await;
    f.credentials(&fleet).await;
    for index in 0..3 {
        fleet.appliance(index).fault(Fault::gate(&gate).on(Kind::Get));
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    f.apply(&policy("short", json!({"timeoutSeconds": 600}))).await;
    f.start().await;
    // All three are being read for the first policy when somebody thinks better of it.
    for index in 0..3 {
        fleet.appliance(index).requests().wait_arrived(Kind::Get, 1).await;
    }
    f.patch("X2Gateway", "x2-1", json!({"spec": {"suspend": true}})).await;
    f.ns.delete_object("X2Gateway", "x2-2").await.unwrap();
    let edited = f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 28800}})).await;
    f.wait("TokenPolicy", "short", |p| status(p)["observedGeneration"] == json!(edited.metadata.generation))
        .await;
    gate.open();
    f.reason("X2Gateway", "x2-0", "InSync").await;
    f.wait("X2Gateway", "x2-1", |g| is_current(g) && condition(g, "Suspended")["status"] == "True").await;
    assert_eq!(fleet.appliance(0).requests().written(), [r#"{"timeout_seconds":28800}"#]);
    assert_eq!([fleet.appliance(1).counts().write, fleet.appliance(2).counts().write], [0, 0]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_last_check_is_refreshed_when_it_is_an_hour_old() {
    let fleet = fleet(1);
    let mut f = Fixture::new("hourly").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let mut before = fleet.appliance(0).counts();
    for (minutes, refreshed) in [(50, false), (70, true)] {
        let ago = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
        let old = json!({"status": {"lastCheckedTime": format!("{ago:.0}")}});
        let api = f.ns.api("X2Gateway").await.unwrap();
        let patch = kube::api::Patch::Merge(old.clone());
        let patched = api.patch_status("x2-1", &kube::api::PatchParams::default(), &patch).await.unwrap();
        fleet.appliance(0).requests().wait_for(Kind::Get, before.get + 1).await;
        if refreshed {
            let fresh = f.wait("X2Gateway", "x2-1", |g| version(g) != version(&patched)).await;
            assert_ne!(status(&fresh)["lastCheckedTime"], old["status"]["lastCheckedTime"]);
            assert_eq!(status(&fresh)["history"], status(&patched)["history"]);
        } else {
            fleet.appliance(0).requests().wait_for(Kind::Get, before.get + 2).await;
            assert_eq!(version(&f.get("X2Gateway", "x2-1").await), version(&patched));
        }
        let now = fleet.appliance(0).counts();
        assert_eq!((now.login, now.write), (before.login, before.write));
        before = now;
    }
    f.finish().await;
}
