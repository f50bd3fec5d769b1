//! Logins: one a token lifetime, a refused password once, and never a locked account.

use kube::api::DynamicObject;
use serde_json::json;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::{Counts, Kind};
use tenure_kit::x2::{FleetOptions, X2Fleet};

use super::fixture::*;

/// A Secret whose correction must be noticed: polled every half minute.
const NOTICED: std::time::Duration = std::time::Duration::from_secs(45);

async fn gateways(f: &Fixture, fleet: &X2Fleet) {
    for index in 0..fleet.len() {
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
}

async fn password(f: &Fixture, password: &str) {
    f.ns.secret("x2-admin", &[("username", "admin"), ("password", password)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_at_three_places_and_never_again() {
    let fleet = fleet(8);
    let mut f = Fixture::new("wrong").await;
    f.credentials(&fleet).await;
    password(&f, "planted-wrong-password").await;
    gateways(&f, &fleet).await;
    f.start().await;
    let mut remembered = 0;
    for index in 0..8 {
        let gateway = f.reason("X2Gateway", &format!("x2-{index}"), "AuthenticationFailed").await;
        assert_eq!(condition(&gateway, "Stalled")["status"], "True");
        let message = ready(&gateway)["message"].as_str().unwrap();
        assert!(message.contains("Secret x2-admin"), "{message}");
        remembered += status(&gateway)["refusedLogin"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(remembered, 3);
    let three = Counts { login: 3, ..Counts::default() };
    assert_eq!(fleet.counts(), three);

    // Neither another look nor a restart tries again.
    f.kill().await;
    f.start().await;
    f.patch("X2Gateway", "x2-0", json!({"metadata": {"annotations": {"somebody/else": "edits"}}})).await;
    f.wait("X2Gateway", "x2-0", is_current).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.wait("TokenPolicy", "short", |p| status(p)["gateways"]["failed"] == 8 && is_current(p)).await;
    assert_eq!(fleet.counts(), three);

    // A request, on the policy too, begins another row of three: one try at a time, and once in ten minutes.
    f.look("TokenPolicy", "short", "try again").await;
    assert_eq!(fleet.counts(), Counts { login: 6, ..Counts::default() });
    for index in 0..8 {
        f.look("X2Gateway", &format!("x2-{index}"), "and again").await;
    }
    assert_eq!(fleet.counts(), Counts { login: 6, ..Counts::default() });

    // The corrected Secret is noticed by itself.
    password(&f, "x2-admin-password").await;
    for index in 0..8 {
        let name = format!("x2-{index}");
        let gateway =
            f.ns.wait_for("X2Gateway", &name, NOTICED, |g| ready(g)["reason"] == "InSync").await.unwrap();
        assert!(status(&gateway)["refusedLogin"].is_null());
    }
    assert_eq!(fleet.counts(), Counts { login: 6 + 16, get: 8, write: 8, ..Counts::default() });
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_account_is_locked_out() {
    let options = FleetOptions { appliances: 1, lockout_after: Some(2), ..FleetOptions::default() };
    let fleet = X2Fleet::start(options).unwrap();
    let mut f = Fixture::new("lockout").await;
    f.credentials(&fleet).await;
    password(&f, "planted-wrong-password").await;
    gateways(&f, &fleet).await;
    f.start().await;
    f.reason("X2Gateway", "x2-0", "AuthenticationFailed").await;
    // Everything that makes the operator look, short of asking for it.
    f.patch("X2Gateway", "x2-0", json!({"metadata": {"labels": {"site": "paris"}}})).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.wait("TokenPolicy", "short", |p| status(p)["gateways"]["failed"] == 1).await;
    f.kill().await;
    f.start().await;
    f.patch("TokenPolicy", "short", json!({"spec": {"timeoutSeconds": 7200}})).await;
    f.wait("TokenPolicy", "short", |p| is_current(p) && status(p)["target"] == "7200").await;
    assert!(!fleet.appliance(0).is_locked("admin"));
    assert_eq!(fleet.counts(), Counts { login: 1, ..Counts::default() });
    password(&f, "x2-admin-password").await;
    f.ns.wait_for("X2Gateway", "x2-0", NOTICED, |g| ready(g)["reason"] == "InSync").await.unwrap();
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn until_a_password_is_accepted_three_logins_are_under_way() {
    let fleet = fleet(20);
    let gate = Gate::new();
    fleet.fault(Fault::gate(&gate).on(Kind::Login));
    let mut f = Fixture::new("herd").await;
    f.credentials(&fleet).await;
    gateways(&f, &fleet).await;
    f.start().await;
    fleet.requests().wait_arrived(Kind::Login, 3).await;
    // All others are known by now, and wait.
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "mode": "Observe"}))).await;
    f.wait("TokenPolicy", "short", |p| status(p)["gateways"]["matched"] == 20).await;
    assert_eq!(fleet.requests().counts().login, 3);
    gate.open();
    f.wait("TokenPolicy", "short", |p| status(p)["gateways"]["drifted"] == 20).await;
    assert_eq!(fleet.counts().login, 20);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_is_read_before_the_fresh_login() {
    let options = FleetOptions { appliances: 1, lockout_after: Some(1), ..FleetOptions::default() };
    let fleet = X2Fleet::start(options).unwrap();
    let mut f = Fixture::new("rotate").await;
    f.credentials(&fleet).await;
    gateways(&f, &fleet).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-0", "InSync").await;
    let before = fleet.counts();
    // Rotated on both sides, and the old tokens are gone: the operator's copy of the Secret is the old one.
    fleet.appliance(0).set_password("admin", "x2-admin-password-2");
    fleet.appliance(0).forget_tokens();
    password(&f, "x2-admin-password-2").await;
    f.look("X2Gateway", "x2-0", "now").await;
    let gateway = f.reason("X2Gateway", "x2-0", "InSync").await;
    assert!(status(&gateway)["refusedLogin"].is_null());
    assert!(!fleet.appliance(0).is_locked("admin"));
    assert_eq!((fleet.counts() - before).login, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_forgives_a_refusal_where_it_is_told_to() {
    let fleet = fleet(1);
    let mut f = Fixture::new("forgive").await;
    f.credentials(&fleet).await;
    fleet.appliance(0).set_password("admin", "planted-wrong-password");
    gateways(&f, &fleet).await;
    let namespace = f.ns.name().to_owned();
    f.start_with(&[
        "--namespaces",
        &namespace,
        "--allow-cidr",
        "127.0.0.0/8",
        "--retry-refused-logins-after",
        "10s",
    ])
    .await;
    f.reason("X2Gateway", "x2-0", "AuthenticationFailed").await;
    fleet.appliance(0).set_password("admin", "x2-admin-password");
    f.ns.wait_for("X2Gateway", "x2-0", NOTICED, |g| ready(g)["reason"] == "Unmanaged").await.unwrap();
    assert_eq!(fleet.counts().login, 2);
    f.finish().await;
}

/// A fleet whose policy has it checked every half minute.
async fn checked_often(f: &Fixture) {
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "30s"}))).await;
}

async fn all_in_sync(f: &Fixture, gateways: std::ops::Range<usize>) {
    for index in gateways {
        let name = format!("x2-{index}");
        f.ns.wait_for("X2Gateway", &name, NOTICED, |g| ready(g)["reason"] == "InSync").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn appliances_that_refuse_a_user_do_not_stop_the_others_after_a_restart() {
    let fleet = fleet(8);
    let mut f = Fixture::new("some-refuse").await;
    f.credentials(&fleet).await;
    gateways(&f, &fleet).await;
    checked_often(&f).await;
    f.start().await;
    all_in_sync(&f, 0..8).await;
    // Three appliances do not know the user any more.
    for index in 0..3 {
        fleet.appliance(index).set_password("admin", "planted-wrong-password");
        fleet.appliance(index).forget_tokens();
    }
    for index in 0..3 {
        let gateway = f.reason("X2Gateway", &format!("x2-{index}"), "AuthenticationFailed").await;
        let message = ready(&gateway)["message"].as_str().unwrap();
        assert!(message.contains("Secret x2-admin"), "{message}");
    }
    f.kill().await;
    for index in 3..8 {
        fleet.appliance(index).set_timeout(600);
    }
    let before = fleet.counts_by_appliance();
    f.start().await;
    // The others are checked as before, and their drift is corrected.
    let corrected = tokio::time::timeout(NOTICED, async {
        while fleet.standing_at(28800) < 8 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    corrected.await.unwrap();
    all_in_sync(&f, 3..8).await;
    for (index, before) in before.iter().enumerate().take(3) {
        f.reason("X2Gateway", &format!("x2-{index}"), "AuthenticationFailed").await;
        let logins = fleet.counts_by_appliance()[index].login - before.login;
        assert!(logins <= 1, "x2-{index} was asked {logins} times");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_that_answers_the_login_accepts_no_password() {
    let fleet = fleet(30);
    fleet.appliance(0).fault(Fault::status(200, "{}").on(Kind::Login));
    let mut f = Fixture::new("web-page").await;
    f.credentials(&fleet).await;
    password(&f, "planted-wrong-password").await;
    f.apply(&gateway("x2-0", &fleet.appliance(0))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-0", "UnexpectedAnswer").await;
    gateways(&f, &fleet).await;
    for index in 1..30 {
        f.reason("X2Gateway", &format!("x2-{index}"), "AuthenticationFailed").await;
    }
    let logins: u64 = fleet.counts_by_appliance().iter().skip(1).map(|counts| counts.login).sum();
    assert_eq!(logins, 3);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_at_the_directory_costs_three_refusals() {
    let fleet = fleet(8);
    let mut f = Fixture::new("rotation").await;
    f.credentials(&fleet).await;
    gateways(&f, &fleet).await;
    checked_often(&f).await;
    f.start().await;
    all_in_sync(&f, 0..8).await;
    let before = fleet.counts();
    for index in 0..8 {
        fleet.appliance(index).set_password("admin", "x2-admin-password-2");
        fleet.appliance(index).forget_tokens();
    }
    for index in 0..8 {
        f.reason("X2Gateway", &format!("x2-{index}"), "AuthenticationFailed").await;
    }
    assert_eq!((fleet.counts() - before).login, 3);
    f.kill().await;
    f.start().await;
    f.look("TokenPolicy", "short", "still").await;
    assert_eq!((fleet.counts() - before).login, 6, "somebody asked for it");
    password(&f, "x2-admin-password-2").await;
    all_in_sync(&f, 0..8).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_secrets_metadata_makes_no_other_password() {
    let fleet = fleet(1);
    let mut f = Fixture::new("metadata").await;
    f.credentials(&fleet).await;
    password(&f, "planted-wrong-password").await;
    gateways(&f, &fleet).await;
    f.start().await;
    f.reason("X2Gateway", "x2-0", "AuthenticationFailed").await;
    let secret = f
        .patch("Secret", "x2-admin", json!({"metadata": {"annotations": {"replicator/synced": "now"}}}))
        .await;
    let version = json!(secret.metadata.resource_version);
    let seen = |g: &DynamicObject| status(g)["refusedLogin"][0]["secretResourceVersion"] == version;
    let gateway = f.ns.wait_for("X2Gateway", "x2-0", NOTICED, seen).await.unwrap();
    assert_eq!(status(&gateway)["refusedLogin"][0]["inARow"], 1);
    assert_eq!(fleet.counts(), Counts { login: 1, ..Counts::default() });
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_appliances_delay_nobody_for_long() {
    let fleet = fleet(12);
    let gate = Gate::new();
    for index in 0..4 {
        fleet.appliance(index).fault(Fault::gate(&gate).on(Kind::Login));
    }
    let mut f = Fixture::new("silent").await;
    f.credentials(&fleet).await;
    for index in 0..12 {
        let mut gateway = gateway(&format!("x2-{index}"), &fleet.appliance(index));
        gateway["spec"]["requestTimeout"] = json!("5m");
        f.apply(&gateway).await;
    }
    checked_often(&f).await;
    let begun = std::time::Instant::now();
    f.start().await;
    all_in_sync(&f, 4..12).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    gate.open();
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_noticed_while_a_role_is_lacking_and_nothing_is_asked_meanwhile() {
    let fleet = fleet(1);
    let mut f = Fixture::new("role").await;
    f.credentials(&fleet).await;
    f.ns.secret("x2-admin", &[("username", "viewer"), ("password", "x2-viewer-password")]).await.unwrap();
    gateways(&f, &fleet).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-0", "AdminRoleRequired").await;
    let before = fleet.counts();
    f.ns.secret("x2-admin", &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
    all_in_sync(&f, 0..1).await;
    assert!((fleet.counts() - before).login <= 2, "{:?}", fleet.counts() - before);
    f.finish().await;
}
