//! Events that report what was found without being corrected, and that something is healthy again.

use serde_json::json;
use tenure_kit::faults::Fault;
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::requests::Kind;

use super::fixture::*;

const ACME: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";

/// The notes of all events with this reason about an object.
async fn notes(f: &Fixture, object: &str, reason: &str) -> Vec<String> {
    let events = f.events().await.into_iter();
    events.filter(|(about, why, _)| about == object && why == reason).map(|(_, _, note)| note).collect()
}

/// The level of each log line with this reason about an object, once there is one.
async fn levels(f: &Fixture, object: &str, reason: &str) -> Vec<String> {
    let lines = logged(f.operator(), 1, |line| line["name"] == object && line["reason"] == reason).await;
    lines.iter().map(|line| line["level"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_that_a_policy_does_not_correct_for_now_is_reported_once() {
    for (name, pause) in [
        ("drift-suspended", json!({"suspend": true})),
        ("drift-observed", json!({"mode": "Observe"})),
        ("drift-window", json!({"windows": [{"schedule": "0 0 29 2 *", "duration": "1m"}]})),
    ] {
        let fleet = fleet(1);
        let mut f = Fixture::new(name).await;
        f.credentials(&fleet).await;
        f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
        f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
        f.start().await;
        f.reason("TokenPolicy", "short", "InSync").await;
        f.patch("TokenPolicy", "short", json!({"spec": pause})).await;
        f.look("X2Gateway", "x2-1", "paused").await;
        fleet.appliance(0).set_timeout(86400);
        f.look("X2Gateway", "x2-1", "drifted").await;
        let note = f.event("x2-1", "DriftFound").await;
        assert!(note.starts_with("Something changed the token lifetime from 28800s to 86400s."), "{note}");
        f.look("X2Gateway", "x2-1", "again").await;
        assert_eq!(notes(&f, "x2-1", "DriftFound").await.len(), 1, "{name}");
        assert_eq!(levels(&f, "x2-1", "DriftFound").await, ["INFO"], "{name}");
        assert_eq!(
            (fleet.appliance(0).timeout(), notes(&f, "x2-1", "DriftCorrected").await),
            (86400, vec![])
        );
        f.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_fails_each_time_it_is_sent_is_one_warning() {
    let fleet = fleet(1);
    let mut f = Fixture::new("refused-change").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    fleet.appliance(0).fault(Fault::status(503, "{}").on(Kind::Write));
    // Each change is put on record before it is sent, which shows as Progressing.
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "deletionPolicy": "Restore"}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "UnexpectedAnswer").await;
    for again in ["first", "second", "third"] {
        let gateway = f.look("X2Gateway", "x2-1", again).await;
        assert_eq!(ready(&gateway)["reason"], "UnexpectedAnswer");
    }
    assert!(fleet.counts().write >= 4, "{:?}", fleet.counts());
    assert_eq!(notes(&f, "x2-1", "UnexpectedAnswer").await.len(), 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_of_a_customer_that_is_not_corrected_for_now_is_reported_once() {
    for (name, pause) in [
        ("customer-observed", json!({"mode": "Observe"})),
        ("customer-window", json!({"windows": [{"schedule": "0 0 29 2 *", "duration": "1m"}]})),
    ] {
        let kona = KonaServer::start(KonaOptions::default()).unwrap();
        let acme = kona.add_customer(ACME, "Acme");
        let mut f = Fixture::new(name).await;
        f.kona(&kona).await;
        f.apply(&customer("acme", ACME, 3600, 86400)).await;
        f.start().await;
        f.reason("CustomerTokenTtl", "acme", "InSync").await;
        f.patch("CustomerTokenTtl", "acme", json!({"spec": pause})).await;
        f.look("CustomerTokenTtl", "acme", "paused").await;
        acme.set_field("additionalInfo", r#"{"accessTokenTtlSeconds":7200,"refreshTokenTtlSeconds":86400}"#);
        f.look("CustomerTokenTtl", "acme", "drifted").await;
        let note = f.event("acme", "DriftFound").await;
        assert!(note.starts_with("Something changed the token lifetimes"), "{note}");
        assert!(note.contains("3600s") && note.contains("7200s"), "{note}");
        f.look("CustomerTokenTtl", "acme", "again").await;
        assert_eq!(notes(&f, "acme", "DriftFound").await.len(), 1, "{name}");
        assert_eq!(levels(&f, "acme", "DriftFound").await, ["INFO"], "{name}");
        assert_eq!(acme.token_ttls(), (Some(7200), Some(86400)));
        assert_eq!(notes(&f, "acme", "DriftCorrected").await, Vec::<String>::new());
        f.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_its_customer_report_that_they_are_ready_again_after_a_warning() {
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    kona.add_customer(ACME, "Acme");
    let mut f = Fixture::new("kona-recovered").await;
    f.kona(&kona).await;
    kona.fault(Fault::status(500, "{}").on(Kind::Login));
    f.apply(&customer("acme", ACME, 3600, 86400)).await;
    f.start().await;
    let (server, acme) = (("KonaServer", "kona"), ("CustomerTokenTtl", "acme"));
    f.reason(server.0, server.1, "UnexpectedAnswer").await;
    f.event("kona", "UnexpectedAnswer").await;
    kona.clear_faults();
    kona.fault(Fault::status(500, "{}").on(Kind::Get));
    f.look(server.0, server.1, "healed").await;
    f.reason(acme.0, acme.1, "UnexpectedAnswer").await;
    f.event("acme", "UnexpectedAnswer").await;
    kona.clear_faults();
    f.look(acme.0, acme.1, "healed").await;
    for (kind, name) in [server, acme] {
        f.reason(kind, name, "InSync").await;
        let note = f.event(name, "Recovered").await;
        assert!(note.starts_with("Ready again after UnexpectedAnswer. "), "{note}");
        f.look(kind, name, "steady").await;
        assert_eq!(notes(&f, name, "Recovered").await.len(), 1, "{name}");
        assert_eq!(levels(&f, name, "Recovered").await, ["INFO"], "{name}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_and_its_gateway_report_that_they_are_ready_again_after_a_warning() {
    let fleet = fleet(1);
    let mut f = Fixture::new("recovered").await;
    f.credentials(&fleet).await;
    fleet.appliance(0).fault(Fault::status(500, "{}").on(Kind::Get));
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "UnexpectedAnswer").await;
    for object in ["short", "x2-1"] {
        f.event(object, "UnexpectedAnswer").await;
        assert_eq!(notes(&f, object, "Recovered").await, Vec::<String>::new());
    }
    fleet.appliance(0).clear_faults();
    f.look("X2Gateway", "x2-1", "healed").await;
    f.reason("TokenPolicy", "short", "InSync").await;
    for object in ["short", "x2-1"] {
        let note = f.event(object, "Recovered").await;
        assert!(note.starts_with("Ready again after UnexpectedAnswer. "), "{note}");
    }
    f.look("X2Gateway", "x2-1", "steady").await;
    assert_eq!(notes(&f, "x2-1", "Recovered").await.len(), 1);
    for (reason, level) in [("UnexpectedAnswer", "WARN"), ("Recovered", "INFO"), ("TimeoutChanged", "INFO")] {
        assert_eq!(levels(&f, "x2-1", reason).await, [level], "{reason}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_reports_its_start_its_halt_and_its_end_once_each() {
    let fleet = fleet(3);
    let mut f = Fixture::new("rollout-news").await;
    f.credentials(&fleet).await;
    for index in 0..3 {
        let appliance = fleet.appliance(index);
        appliance.fault(Fault::status(500, "{}").on(Kind::Write));
        f.apply(&gateway(&format!("x2-{index}"), &appliance)).await;
    }
    let rollout = json!({"timeoutSeconds": 28800, "rollout": {"maxConcurrent": 1, "maxFailures": 0}});
    f.apply(&policy("fleet", rollout)).await;
    f.start().await;
    let phase = async |phase: &str| {
        let is_there = |p: &kube::api::DynamicObject| is_current(p) && status(p)["rollout"]["phase"] == phase;
        f.wait("TokenPolicy", "fleet", is_there).await
    };
    phase("Halted").await;
    let halted = f.event("fleet", "RolloutHalted").await;
    assert!(halted.contains("failed. Updated: none. Not updated: x2-"), "{halted}");
    for index in 0..3 {
        f.look("X2Gateway", &format!("x2-{index}"), "now").await;
    }
    (0..3).for_each(|index| fleet.appliance(index).clear_faults());
    f.request("TokenPolicy", "fleet", "go on").await;
    phase("Complete").await;
    f.event("fleet", "RolloutComplete").await;
    f.look("TokenPolicy", "fleet", "steady").await;
    let started = [
        "The rollout has started, without canaries.".to_owned(),
        "The rollout has resumed, without canaries.".to_owned(),
    ];
    let mut published = notes(&f, "fleet", "RolloutStarted").await;
    published.sort_by_key(|note| note.contains("resumed"));
    assert_eq!(published, started);
    for (reason, level) in [("RolloutHalted", "WARN"), ("RolloutComplete", "INFO")] {
        assert_eq!(notes(&f, "fleet", reason).await.len(), 1, "{reason}");
        assert_eq!(levels(&f, "fleet", reason).await, [level], "{reason}");
    }
    f.finish().await;
}
