//! How a customer is written: on the path that the server wants, never over somebody else's change, never twice blindly.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{ListParams, PostParams};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::kona::WritePath;
use tenure_kit::requests::Kind;

use super::*;

fn lines_of_writes(kona: &KonaServer) -> Vec<String> {
    kona.requests()
        .entries()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Write)
        .map(|entry| entry.line)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_that_the_server_wants_is_found_and_remembered() {
    const SLASH: &str = "POST /api/customer/";
    const PLAIN: &str = "POST /api/customer";
    let (mut f, kona) =
        world_of("path", KonaOptions { write_path: WritePath::WithoutSlash, ..KonaOptions::default() }).await;
    for n in 1..=2 {
        kona.add_customer(&id(n), "Customer");
    }
    f.apply(&customer("one", &id(1), 3600, 86400)).await;
    f.start().await;
    f.reason(CTT, "one", "InSync").await;
    assert_eq!(lines_of_writes(&kona), [SLASH, PLAIN]);
    f.apply(&customer("two", &id(2), 3600, 86400)).await;
    f.reason(CTT, "two", "InSync").await;
    assert_eq!(lines_of_writes(&kona), [SLASH, PLAIN, PLAIN]);
    // A server that was replaced by an older one.
    kona.set_write_path(WritePath::WithSlash);
    f.patch(CTT, "one", json!({"spec": {"accessTokenTtlSeconds": 600}})).await;
    f.reason(CTT, "one", "InSync").await;
    assert_eq!(lines_of_writes(&kona), [SLASH, PLAIN, PLAIN, PLAIN, SLASH]);
    f.patch(CTT, "two", json!({"spec": {"accessTokenTtlSeconds": 600}})).await;
    f.reason(CTT, "two", "InSync").await;
    assert_eq!(lines_of_writes(&kona), [SLASH, PLAIN, PLAIN, PLAIN, SLASH, SLASH]);
    assert!(kona.created().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_deleted_between_read_and_write_is_not_found() {
    let (mut f, kona) = world("deleted").await;
    let acme = kona.add_customer(&id(1), "Acme");
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Write).times(1));
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    acme.requests().wait_arrived(Kind::Write, 1).await;
    acme.delete();
    gate.open();
    let object = f.reason(CTT, "acme", "CustomerNotFound").await;
    assert!(message(&object).contains(acme.id()), "{}", message(&object));
    assert_eq!(exchanges(acme.counts()), (0, 0, 1, 2));
    assert!(kona.created().is_empty());
    f.finish().await;
}

/// Holds the first write of a customer with a version while something else is done to it.
async fn meanwhile(name: &str, meddle: impl FnOnce(&Customer)) -> (Fixture, KonaServer, Customer) {
    let (mut f, kona) = world(name).await;
    let acme = with_info(&kona, 1, r#"{"accessTokenTtlSeconds":7200}"#);
    acme.put_raw(&acme.json().unwrap().replacen('{', r#"{"version":1,"#, 1));
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Write).times(1));
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    acme.requests().wait_arrived(Kind::Write, 1).await;
    meddle(&acme);
    gate.open();
    f.reason(CTT, "acme", "InSync").await;
    (f, kona, acme)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_write_begins_again_with_what_others_wrote() {
    let (f, kona, acme) = meanwhile("stale", |acme| {
        acme.set_field("phone", r#""+49 221 7""#);
        acme.set_field("additionalInfo", r#"{"theirs":1.10,"accessTokenTtlSeconds":1800}"#);
    })
    .await;
    assert_eq!(acme.field("phone").as_deref(), Some(r#""+49 221 7""#));
    let info = r#"{"theirs":1.10,"accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":86400}"#;
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(info));
    assert_eq!(exchanges(kona.counts()), (1, 0, 3, 2));
    let object = f.get(CTT, "acme").await;
    assert_eq!(status(&object)["history"][0]["from"], json!({"accessTokenTtlSeconds": 1800}));
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "1800"}));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_set_meanwhile_is_not_set_again() {
    let info = r#"{"accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":86400}"#;
    let (f, kona, acme) = meanwhile("overtaken", |acme| acme.set_field("additionalInfo", info)).await;
    assert_eq!(exchanges(kona.counts()), (1, 0, 2, 1));
    assert_eq!(acme.field("version").as_deref(), Some("2"));
    assert_eq!(status(&f.get(CTT, "acme").await)["history"], Value::Null);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_without_end_is_given_up() {
    let (mut f, kona) = world("races").await;
    let acme = kona.add_customer(&id(1), "Acme");
    let stale = Fault::status(409, r#"{"status":409,"message":"stale","errorCode":35}"#);
    acme.fault(stale.on(Kind::Write).times(3));
    let daily = json!({"spec": {"interval": "24h"}});
    f.apply(&with(customer("acme", acme.id(), 3600, 86400), daily)).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "Drifted").await;
    assert!(message(&object).contains("modified concurrently"), "{}", message(&object));
    assert_eq!(condition(&object, "Reconciling")["status"], "True");
    // It is tried again as after any failure, not at the interval.
    f.reason(CTT, "acme", "InSync").await;
    assert_eq!(exchanges(acme.counts()), (0, 0, 5, 4));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_is_found_out_by_reading() {
    let (mut f, kona) = world("lost").await;
    let acme = with_info(&kona, 1, r#"{"accessTokenTtlSeconds":"7200"}"#);
    acme.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    f.reason(CTT, "acme", "Unreachable").await;
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(exchanges(kona.counts()), (1, 0, 2, 1));
    let history = status(&object)["history"].as_array().unwrap();
    assert_eq!((history.len(), &history[0]["cause"]), (1, &json!("Policy")));
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "\"7200\""}));
    f.event("acme", "TtlChanged").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_a_lost_answer_still_records_the_change() {
    let (mut f, kona) = world("lost-restart").await;
    let acme = with_info(&kona, 1, r#"{"accessTokenTtlSeconds":7200}"#);
    acme.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    // Held, so that the first operator does not find out itself.
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Get).skip(1).times(1));
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    f.reason(CTT, "acme", "Unreachable").await;
    acme.requests().wait_arrived(Kind::Get, 2).await;
    f.kill().await;
    f.start().await;
    let object = f.look(CTT, "acme", "now").await;
    assert_eq!(ready(&object)["reason"], "InSync");
    assert_eq!(acme.counts().write, 1);
    assert_eq!(status(&object)["history"][0]["from"], json!({"accessTokenTtlSeconds": 7200}));
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "7200"}));
    gate.open();
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_shown_as_sent_and_known_to_the_letter_after_a_restart() {
    let (mut f, kona) = world("lost-letter").await;
    let acme = with_info(&kona, 1, r#"{"accessTokenTtlSeconds":"7200"}"#);
    acme.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    // Held, so that the first operator does not find out itself.
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Get).skip(1).times(1));
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "Unreachable").await;
    let pending = &status(&object)["pending"];
    assert_eq!((&pending["outcome"], &pending["cause"]), (&json!("Sent"), &json!("Policy")));
    assert_eq!(pending["to"], json!({"accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400}));
    acme.requests().wait_arrived(Kind::Get, 2).await;
    f.kill().await;
    f.start().await;
    let object = f.look(CTT, "acme", "now").await;
    assert_eq!(ready(&object)["reason"], "InSync");
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "\"7200\""}));
    assert_eq!(status(&object)["history"].as_array().unwrap().len(), 1);
    assert_eq!(status(&object)["pending"], Value::Null);
    gate.open();
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_was_lost_is_recorded_before_the_next() {
    let (mut f, kona) = world("lost-then-next").await;
    let acme = with_info(&kona, 1, r#"{"accessTokenTtlSeconds":"7200"}"#);
    acme.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    f.reason(CTT, "acme", "Unreachable").await;
    f.patch(CTT, "acme", json!({"spec": {"accessTokenTtlSeconds": 600}})).await;
    let object = f
        .wait(CTT, "acme", |object| status(object)["history"][0]["to"]["accessTokenTtlSeconds"] == 600)
        .await;
    let history = status(&object)["history"].as_array().unwrap();
    assert_eq!(history.len(), 2, "{history:?}");
    assert_eq!(history[0]["from"], history[1]["to"]);
    assert_eq!(history[1]["to"]["accessTokenTtlSeconds"], 3600);
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "\"7200\""}));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_whose_answer_was_lost_is_recorded_once_and_ready_stays() {
    let (f, _kona, acme) = in_sync("lost-drift").await;
    acme.set_field("additionalInfo", r#"{"accessTokenTtlSeconds":9999}"#);
    acme.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    f.request(CTT, "acme", "now").await;
    let mut reasons = Vec::new();
    let object = f
        .wait(CTT, "acme", |object| {
            reasons.push(ready(object)["reason"].clone());
            status(object)["history"][0]["cause"] == "Drift"
        })
        .await;
    assert!(reasons.iter().all(|reason| reason == "InSync"), "{reasons:?}");
    assert_eq!(status(&object)["history"].as_array().unwrap().len(), 2);
    assert_eq!(status(&object)["history"][0]["from"], json!({"accessTokenTtlSeconds": 9999}));
    assert_eq!(acme.counts().write, 2);
    f.event("acme", "DriftCorrected").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_does_not_show_is_not_repeated() {
    let (mut f, kona) = world("echo").await;
    let acme = kona.add_customer(&id(1), "Acme");
    let body = acme.json().unwrap();
    // The server accepts and keeps nothing.
    acme.fault(Fault::status(200, body).on(Kind::Write));
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "VerificationFailed").await;
    assert_eq!(condition(&object, "Stalled")["status"], "True");
    assert_eq!(status(&object)["proven"], Value::Null);
    assert_eq!(exchanges(kona.counts()), (1, 0, 2, 1));
    f.finish().await;
}

/// Gives the operator the right to write statuses, or takes it away.
async fn may_report(f: &Fixture, may: bool) {
    let api: Api<ClusterRole> = Api::all(f.ns.client());
    let prefix = format!("{}:", f.ns.name());
    let roles = api.list(&ListParams::default()).await.unwrap().items.into_iter();
    for mut role in roles.filter(|role| role.name_any().starts_with(&prefix)) {
        let is_status = |name: &String| name.starts_with("customertokenttls/status");
        for rule in role.rules.iter_mut().flatten() {
            if rule.resources.iter().flatten().any(is_status) {
                rule.verbs = if may { vec!["patch".to_owned()] } else { vec!["get".to_owned()] };
            }
        }
        api.replace(&role.name_any(), &PostParams::default(), &role).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_could_not_be_reported_is_recorded_once() {
    let (f, _kona, acme) = in_sync("unreported").await;
    may_report(&f, false).await;
    // The right is gone once a look could not be reported.
    let refused = "the API server refused a status";
    for n in 0.. {
        let value = n.to_string();
        f.request(CTT, "acme", &value).await;
        acme.requests().wait_for(Kind::Get, 3 + n).await;
        let handled = |object: &DynamicObject| status(object)["lastHandledReconcileAt"] == value;
        let written = f.ns.wait_for(CTT, "acme", Duration::from_secs(2), handled).await.is_ok();
        if !written && f.operator().log().contains(refused) {
            break;
        }
    }
    let told = f.operator().log().matches(refused).count();
    f.patch(CTT, "acme", json!({"spec": {"accessTokenTtlSeconds": 600}})).await;
    acme.requests().wait_for(Kind::Write, 2).await;
    let mut lines = f.operator().lines();
    while f.operator().log().matches(refused).count() == told {
        lines.changed().await.unwrap();
    }
    may_report(&f, true).await;
    let object = f.ns.wait_for(CTT, "acme", AFTER_A_POLL, is_current).await.unwrap();
    assert_eq!(ready(&object)["reason"], "InSync");
    let history = status(&object)["history"].as_array().unwrap();
    assert_eq!(history.len(), 2, "{history:?}");
    assert_eq!(history[0]["to"]["accessTokenTtlSeconds"], 600);
    assert_eq!(acme.counts().write, 2);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_while_the_api_server_is_slow_is_not_lost_even_without_a_version() {
    let (mut f, kona) = world("slow-api").await;
    let acme = kona.add_customer(&id(1), "Acme");
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Get).times(1));
    let restoring = json!({"spec": {"deletionPolicy": "Restore"}});
    f.apply(&with(customer("acme", acme.id(), 3600, 86400), restoring)).await;
    let relay = f.relay().await;
    f.start().await;
    acme.requests().wait_arrived(Kind::Get, 1).await;
    // Nothing is being written when the answers stop: a write in the middle would take its connection along, and no other opens.
    f.wait("KonaServer", "kona", |server| {
        ready(server)["reason"] == "InSync" && status(server)["customers"]["pending"] == 1
    })
    .await;
    // What must be durable before the write is made durable, but the operator does not learn of it yet.
    relay.mute();
    gate.open();
    f.wait(CTT, "acme", |object| object.metadata.finalizers.is_some()).await;
    acme.set_field("title", r#""Acme and Sons""#);
    relay.mend();
    f.reason(CTT, "acme", "InSync").await;
    assert_eq!(acme.field("title").as_deref(), Some(r#""Acme and Sons""#));
    f.finish().await;
}
