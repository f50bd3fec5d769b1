//! Tokens issued before a change are invalidated where the policy asks for it: once a change, and not forgotten.

use kube::api::DynamicObject;
use serde_json::{Value, json};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::{Counts, Kind};
use tenure_kit::x2::{Appliance, PutEffect, X2Fleet};

use super::fixture::*;

/// A namespace with one gateway and a policy for 28800 s, for looks that only tests ask for.
async fn world(name: &str, fleet: &X2Fleet, revoke: &str) -> Fixture {
    let f = Fixture::new(name).await;
    f.credentials(fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h", "revokeTokens": revoke})))
        .await;
    f
}

/// Sets another lifetime, and waits until it is proven; what that cost.
async fn set(f: &Fixture, appliance: &Appliance, seconds: u32) -> Counts {
    let before = appliance.counts();
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": seconds}})).await;
    proven(f, seconds).await;
    appliance.counts() - before
}

async fn proven(f: &Fixture, seconds: u32) -> DynamicObject {
    f.wait("X2Gateway", "x2-1", |g| {
        is_current(g)
            && ready(g)["reason"] == "InSync"
            && status(g)["provenTimeoutSeconds"] == seconds
            && status(g)["pending"].is_null()
    })
    .await
}

/// A colleague sets this, and the next look puts it back; what that cost.
async fn drift(f: &Fixture, appliance: &Appliance, seconds: u64, request: &str) -> Counts {
    let before = appliance.counts();
    appliance.set_timeout(seconds);
    let gateway = f.look("X2Gateway", "x2-1", request).await;
    assert_eq!(status(&gateway)["history"][0]["cause"], "Drift");
    assert_eq!(ready(&gateway)["reason"], "InSync");
    appliance.counts() - before
}

/// How often it was told that tokens were revoked.
async fn told(f: &Fixture) -> usize {
    f.events()
        .await
        .iter()
        .filter(|(object, reason, _)| object == "x2-1" && reason == "TokensRevoked")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tightening_revokes_once_and_the_session_is_renewed_on_demand() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    let mut f = world("tighten", &fleet, "OnTightening").await;
    f.start().await;
    proven(&f, 28800).await;
    // Login, GET, PUT, the proof, DELETE: and nobody is logged in then.
    let first = Counts { login: 2, get: 1, write: 1, delete: 1, ..Counts::default() };
    assert_eq!(appliance.counts(), first);
    assert_eq!(appliance.live_tokens(), 0);
    let note = f.event("x2-1", "TokensRevoked").await;
    assert!(note.contains("invalidated"), "{note}");
    // The next look logs in, the one after it does not, and neither revokes.
    f.look("X2Gateway", "x2-1", "one").await;
    f.look("X2Gateway", "x2-1", "two").await;
    assert_eq!(appliance.counts() - first, Counts { login: 1, get: 2, ..Counts::default() });

    assert_eq!(set(&f, &appliance, 43200).await.delete, 0, "longer");
    assert_eq!(set(&f, &appliance, 7200).await.delete, 1, "shorter");
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": null, "maxTimeoutSeconds": 10800}}))
        .await;
    f.reason("TokenPolicy", "short", "InSync").await;
    f.look("TokenPolicy", "short", "three").await;
    assert_eq!(appliance.counts().delete, 2, "nothing was changed");
    f.look("TokenPolicy", "short", "four").await;
    assert_eq!(told(&f).await, 2);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_setting_revokes_after_its_changes_only() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    let mut f = world("each", &fleet, "Never").await;
    f.start().await;
    proven(&f, 28800).await;
    assert_eq!(appliance.counts().delete, 0);
    let setting = async |value: &str| {
        let before = appliance.counts();
        f.patch("TokenPolicy", "short", json!({"spec": {"revokeTokens": value}})).await;
        f.look("TokenPolicy", "short", value).await;
        let spent = appliance.counts() - before;
        assert_eq!((spent.write, spent.delete), (0, 0), "what was changed before is not made up for");
    };
    setting("OnChange").await;
    assert_eq!(set(&f, &appliance, 43200).await.delete, 1, "longer");
    assert_eq!(set(&f, &appliance, 28800).await.delete, 1, "shorter");
    setting("Never").await;
    assert_eq!(set(&f, &appliance, 7200).await.delete, 0);
    assert_eq!(appliance.counts().delete, 2);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_revokes_only_what_was_issued_for_too_long() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    for setting in ["OnChange", "OnTightening"] {
        appliance.factory_reset();
        let mut f = world("repair", &fleet, setting).await;
        f.start().await;
        proven(&f, 28800).await;
        let shortened = drift(&f, &appliance, 600, "one").await;
        assert_eq!((shortened.write, shortened.delete), (1, 0), "{setting}: a mere repair");
        let loosened = drift(&f, &appliance, 86400, "two").await;
        assert_eq!((loosened.write, loosened.delete), (1, 1), "{setting}: a loosened one");
        f.look("X2Gateway", "x2-1", "three").await;
        assert_eq!(told(&f).await, 2);
        f.finish().await;
    }
    // Without being asked for, never.
    let mut f = world("repairs", &fleet, "Never").await;
    f.start().await;
    proven(&f, 28800).await;
    assert_eq!(drift(&f, &appliance, 86400, "one").await.delete, 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_back_what_stood_there_before_revokes_nothing() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    appliance.set_timeout(7200);
    let mut f = world("back", &fleet, "OnChange").await;
    f.patch("TokenPolicy", "short", json!({"spec": {"deletionPolicy": "Restore"}})).await;
    f.start().await;
    proven(&f, 28800).await;
    assert_eq!(appliance.counts().delete, 1);
    f.ns.delete_object("TokenPolicy", "short").await.unwrap();
    f.ns.wait_until_gone("TokenPolicy", "short", SOON).await.unwrap();
    assert_eq!((appliance.timeout(), appliance.counts().delete), (7200, 1));
    f.finish().await;
}

/// What the status must hold while a revocation is owed.
fn owes(gateway: &DynamicObject, to: u32) -> bool {
    status(gateway)["pending"]["to"] == to
}

/// After a restart the change is proven, revoked, told and recorded, each once.
async fn makes_up_for_it(f: &mut Fixture, appliance: &Appliance, (from, to): (u32, u32), cause: Value) {
    let before = appliance.counts();
    f.start().await;
    let gateway = proven(f, to).await;
    let spent = appliance.counts() - before;
    assert_eq!((spent.write, spent.delete), (0, 1));
    let last = &status(&gateway)["history"][0];
    assert_eq!((&last["from"], &last["to"], &last["cause"]), (&json!(from), &json!(to), &cause));
    f.event("x2-1", "TokensRevoked").await;
    f.look("X2Gateway", "x2-1", "again").await;
    assert_eq!((appliance.counts() - before).delete, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_write_and_revocation_it_is_still_done() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    let mut f = world("killed", &fleet, "OnChange").await;
    // At the proof of the first change,
    appliance.fault(Fault::gate(&Gate::new()).on(Kind::Login).skip(1).times(1));
    f.start().await;
    appliance.requests().wait_arrived(Kind::Login, 2).await;
    f.kill().await;
    assert!(owes(&f.get("X2Gateway", "x2-1").await, 28800));
    assert_eq!((appliance.timeout(), appliance.counts().delete), (28800, 0));
    makes_up_for_it(&mut f, &appliance, (86400, 28800), json!("Policy")).await;

    // at the answer to the write of the next,
    appliance.fault(Fault::gate(&Gate::new()).after_effect().on(Kind::Write).times(1));
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 43200}})).await;
    fleet.requests().wait_until(|_| appliance.timeout() == 43200).await;
    f.kill().await;
    makes_up_for_it(&mut f, &appliance, (28800, 43200), json!("Policy")).await;

    // and at the revocation for a loosened lifetime.
    appliance.fault(Fault::gate(&Gate::new()).on(Kind::Delete).times(1));
    let deletes = appliance.counts().delete;
    appliance.set_timeout(86400);
    f.request("X2Gateway", "x2-1", "loosened").await;
    appliance.requests().wait_arrived(Kind::Delete, deletes + 1).await;
    f.kill().await;
    assert!(owes(&f.get("X2Gateway", "x2-1").await, 43200));
    makes_up_for_it(&mut f, &appliance, (86400, 43200), json!("Drift")).await;
    assert_eq!(told(&f).await, 3);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_mere_repair_nothing_is_revoked() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    let mut f = world("mere", &fleet, "OnTightening").await;
    f.start().await;
    proven(&f, 28800).await;
    f.look("X2Gateway", "x2-1", "logged-in").await;
    let logins = appliance.counts().login;
    appliance.fault(Fault::gate(&Gate::new()).on(Kind::Login).times(1));
    appliance.set_timeout(600);
    f.request("X2Gateway", "x2-1", "shortened").await;
    appliance.requests().wait_arrived(Kind::Login, logins + 1).await;
    f.kill().await;
    f.start().await;
    let gateway = proven(&f, 28800).await;
    assert_eq!(status(&gateway)["history"][0]["cause"], "Drift");
    assert_eq!((appliance.timeout(), appliance.counts().delete), (28800, 1));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_fails_is_tried_again_also_after_a_restart() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    let mut f = world("retried", &fleet, "OnTightening").await;
    appliance.fault(Fault::status(500, "{}").on(Kind::Delete));
    f.start().await;
    let failed = f.reason("X2Gateway", "x2-1", "UnexpectedAnswer").await;
    assert!(ready(&failed)["message"].as_str().unwrap().contains("DELETE /api2/tokens"));
    assert!(owes(&failed, 28800));
    appliance.requests().wait_for(Kind::Delete, 2).await;
    f.kill().await;
    assert!(owes(&f.get("X2Gateway", "x2-1").await, 28800));
    assert_eq!(told(&f).await, 0);
    appliance.clear_faults();
    f.start().await;
    f.request("X2Gateway", "x2-1", "now").await;
    let gateway = proven(&f, 28800).await;
    assert_eq!(status(&gateway)["history"].as_array().unwrap().len(), 1);
    assert_eq!(appliance.counts().write, 1);
    let deletes = appliance.counts().delete;
    f.event("x2-1", "TokensRevoked").await;
    f.look("X2Gateway", "x2-1", "again").await;
    assert_eq!((appliance.counts().delete, told(&f).await), (deletes, 1));

    // Nor is it forgotten while the operator lives.
    appliance.fault(Fault::status(500, "{}").on(Kind::Delete).times(2));
    assert_eq!(set(&f, &appliance, 7200).await.delete, 3);
    f.look("X2Gateway", "x2-1", "at last").await;
    assert_eq!((appliance.counts().delete, told(&f).await), (deletes + 3, 2));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_proven_change_revokes() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    let mut f = world("unproven", &fleet, "OnTightening").await;
    appliance.set_put_effect(PutEffect::AfterLogins(3));
    f.start().await;
    f.reason("X2Gateway", "x2-1", "VerificationFailed").await;
    assert_eq!(appliance.counts().delete, 0);
    f.look("X2Gateway", "x2-1", "later").await;
    proven(&f, 28800).await;
    assert_eq!((appliance.counts().write, appliance.counts().delete), (1, 1));
    f.event("x2-1", "TokensRevoked").await;

    // The same after a restart in between.
    appliance.set_put_effect(PutEffect::AfterLogins(3));
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200}})).await;
    f.reason("X2Gateway", "x2-1", "VerificationFailed").await;
    f.kill().await;
    f.start().await;
    f.request("X2Gateway", "x2-1", "restarted").await;
    proven(&f, 7200).await;
    assert_eq!((appliance.counts().write, appliance.counts().delete), (2, 2));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_set_revokes_nothing() {
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    appliance.set_timeout(28800);
    let mut f = world("elsewhere", &fleet, "OnChange").await;
    f.start().await;
    proven(&f, 28800).await;
    appliance.set_timeout(7200);
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200}})).await;
    proven(&f, 7200).await;
    assert_eq!((appliance.counts().write, appliance.counts().delete), (0, 0));
    f.finish().await;
}
