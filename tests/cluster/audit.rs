//! Every write to a remote system is on record: one line, with who declared it, what was written, and what came of it. So is
//! the first use of a Secret at a new origin.

use kube::ResourceExt as _;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::namespace::FIELD_MANAGER as TESTS;
use tenure_kit::requests::Kind;
use tenure_kit::x2::PutEffect;

use super::fixture::*;

/// Whether a line is on record and about a write.
fn is_write(line: &Value) -> bool {
    line["audit"] == true && line["operation"] != "use_secret"
}

/// Whether it is about the use of a Secret.
fn is_use(line: &Value) -> bool {
    line["audit"] == true && line["operation"] == "use_secret"
}

/// Whether a line says all of this.
#[track_caller]
fn assert_says(line: &Value, expected: &Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key} of {line}");
    }
}

/// What a line says of the object itself.
fn identity(object: &DynamicObject, manager: &str) -> Value {
    json!({
        "namespace": object.namespace(), "name": object.name_any(), "uid": object.uid(),
        "generation": object.metadata.generation, "manager": manager,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_changes_name_the_policy_and_who_wrote_it() {
    let fleet = fleet(1);
    let mut f = Fixture::new("audit").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    let spec = json!({"timeoutSeconds": 28800, "interval": "24h", "revokeTokens": "OnTightening"});
    let policy = f.apply(&policy("short", spec)).await;
    f.start().await;
    let gateway = f.reason("X2Gateway", "x2-1", "InSync").await;
    let record = logged(f.operator(), 2, is_write).await;
    let declared = json!({
        "level": "INFO", "system": "x2", "url": fleet.appliance(0).url(), "kind": "X2Gateway",
        "policy": "short", "policy_uid": policy.uid(), "policy_generation": 1, "policy_manager": TESTS,
        "outcome": "accepted",
    });
    let changed = json!({
        "operation": "set_timeout", "cause": "Policy", "from": "86400", "to": "28800",
        "proven": "yes", "proven_value": "28800",
    });
    let revoked = json!({"operation": "revoke_tokens", "from": null, "to": null, "proven": "unknown"});
    for (line, what) in record.iter().zip([changed, revoked]) {
        assert_says(line, &declared);
        assert_says(line, &identity(&gateway, TESTS));
        assert_says(line, &what);
    }
    // Somebody else edits the policy; labels and statuses are no part of a spec.
    let api = f.ns.api("TokenPolicy").await.unwrap();
    for (manager, patch) in [
        ("alice", json!({"spec": {"timeoutSeconds": 36000}})),
        ("labeller", json!({"metadata": {"labels": {"a": "b"}}})),
    ] {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        api.patch("short", &params, &Patch::Merge(patch)).await.unwrap();
    }
    let record = logged(f.operator(), 3, is_write).await;
    assert_says(&record[2], &json!({"policy_generation": 2, "policy_manager": "alice", "manager": TESTS}));
    assert_says(&record[2], &json!({"from": "28800", "to": "36000", "proven_value": "36000"}));
    f.wait("X2Gateway", "x2-1", |g| status(g)["provenTimeoutSeconds"] == 36000).await;
    // Drift is put back.
    fleet.appliance(0).set_timeout(600);
    f.look("X2Gateway", "x2-1", "now").await;
    let record = logged(f.operator(), 4, is_write).await;
    assert_says(&record[3], &json!({"cause": "Drift", "from": "600", "to": "36000", "proven": "yes"}));
    assert_eq!(record.len(), 4, "{record:?}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_unknown_outcome_and_a_refused_one_are_on_record() {
    let fleet = fleet(2);
    let mut f = Fixture::new("audit-unknown").await;
    f.credentials(&fleet).await;
    fleet.appliance(0).fault(Fault::hang().on(Kind::Write).times(1));
    fleet.appliance(1).fault(Fault::status(400, "{}").on(Kind::Write).times(1));
    let patient = json!({"spec": {"requestTimeout": "1s"}});
    f.apply(&with(gateway("hangs", &fleet.appliance(0)), patient)).await;
    f.apply(&gateway("refuses", &fleet.appliance(1))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start().await;
    let record = logged(f.operator(), 2, is_write).await;
    let of = |name: &str| record.iter().find(|line| line["name"] == name).unwrap();
    assert_says(
        of("hangs"),
        &json!({"outcome": "unknown", "proven": "unknown", "from": "86400", "to": "28800"}),
    );
    assert!(of("hangs")["error"].as_str().unwrap().contains("requestTimeout"), "{record:?}");
    assert_says(of("refuses"), &json!({"outcome": "refused", "proven": "unknown", "proven_value": null}));
    assert!(of("refuses")["error"].as_str().unwrap().contains("400"), "{record:?}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_take_effect_is_on_record_as_that() {
    let fleet = fleet(1);
    let mut f = Fixture::new("audit-unproven").await;
    f.credentials(&fleet).await;
    fleet.appliance(0).set_put_effect(PutEffect::ShownOnly);
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start().await;
    let record = logged(f.operator(), 1, is_write).await;
    assert_says(&record[0], &json!({"outcome": "accepted", "proven": "no", "proven_value": "86400"}));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_changes_are_on_record_at_every_level_of_the_log() {
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    let f = Fixture::new("audit-kona").await;
    f.kona(&kona).await;
    let id = "1d2b7a10-5c1e-4f2a-9b3d-000000000001";
    kona.add_customer(id, "Acme");
    let restored = json!({"spec": {"deletionPolicy": "Restore"}});
    f.apply(&with(customer("acme", id, 3600, 86400), restored)).await;
    let mut operator = f.spawn(&["--log-level", "error"]);
    let acme = f.reason("CustomerTokenTtl", "acme", "InSync").await;
    let record = logged(&operator, 1, is_write).await;
    let declared = json!({
        "system": "kona", "operation": "set_customer", "url": kona.url(), "kind": "CustomerTokenTtl", "customer": id,
        "policy": null, "outcome": "accepted", "proven": "yes",
    });
    assert_says(&record[0], &declared);
    assert_says(&record[0], &identity(&acme, TESTS));
    let values =
        json!({"cause": "Policy", "from": "none/none", "to": "3600/86400", "proven_value": "3600/86400"});
    assert_says(&record[0], &values);
    f.ns.delete_object("CustomerTokenTtl", "acme").await.unwrap();
    let record = logged(&operator, 2, is_write).await;
    assert_says(&record[1], &declared);
    let values =
        json!({"cause": "Restore", "from": "3600/86400", "to": "none/none", "proven_value": "none/none"});
    assert_says(&record[1], &values);
    assert!(operator.terminate(SOON).await.unwrap().success());
    // Nothing else is said at that level, and no password.
    let log = operator.log();
    assert_eq!((log.lines().count(), log_lines(&operator, is_use).len()), (3, 1), "{log}");
    assert!(PLANTED.iter().all(|secret| !log.contains(secret)), "{log}");
    f.finish().await;
}

fn referring(object: Value, reference: &str) -> Value {
    with(object, json!({"metadata": {"annotations": {"tenure.dev/change-ref": reference}}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_changes_are_on_record_with_what_they_refer_to() {
    let fleet = fleet(1);
    let mut f = Fixture::new("change-ref").await;
    f.credentials(&fleet).await;
    // A gateway's own annotation says nothing of its policy's changes.
    f.apply(&referring(gateway("x2-1", &fleet.appliance(0)), "GATEWAY")).await;
    let spec = json!({"timeoutSeconds": 28800, "interval": "24h", "revokeTokens": "OnTightening"});
    f.apply(&referring(policy("short", spec.clone()), "CHG-1")).await;
    f.start().await;
    let gateway = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(status(&gateway)["history"][0]["changeRef"], "CHG-1");
    for line in logged(f.operator(), 2, is_write).await {
        assert_says(&line, &json!({"change_ref": "CHG-1"}));
    }
    for reason in ["TimeoutChanged", "TokensRevoked"] {
        let note = f.event("x2-1", reason).await;
        assert!(note.ends_with(" Change reference: CHG-1."), "{note}");
    }

    // The operator ends in the middle of a change, and the annotation is that of the next one by the time it is back.
    let gate = Gate::new();
    fleet.appliance(0).fault(Fault::gate(&gate).on(Kind::Write).after_effect().times(1));
    let spec = with(spec, json!({"timeoutSeconds": 14400}));
    f.apply(&referring(policy("short", spec.clone()), "CHG-2")).await;
    f.wait("X2Gateway", "x2-1", |g| status(g)["pending"]["changeRef"] == "CHG-2").await;
    fleet.requests().wait_until(|_| fleet.appliance(0).timeout() == 14400).await;
    f.kill().await;
    f.apply(&referring(policy("short", spec.clone()), "CHG-3")).await;
    f.start().await;
    let made = |g: &DynamicObject, to: u64| status(g)["history"][0]["to"] == to;
    let gateway = f.wait("X2Gateway", "x2-1", |g| made(g, 14400)).await;
    assert_eq!(status(&gateway)["history"][0]["changeRef"], "CHG-2");
    gate.open();

    // What is no short line is no reference.
    let spec = with(spec, json!({"timeoutSeconds": 7200}));
    f.apply(&referring(policy("short", spec), &"x".repeat(65))).await;
    let gateway = f.wait("X2Gateway", "x2-1", |g| made(g, 7200)).await;
    assert_eq!(status(&gateway)["history"][0]["changeRef"], Value::Null);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_changes_are_on_record_with_what_they_refer_to() {
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    let mut f = Fixture::new("change-ref-kona").await;
    f.kona(&kona).await;
    let id = "1d2b7a10-5c1e-4f2a-9b3d-000000000001";
    kona.add_customer(id, "Acme");
    let restored = json!({"spec": {"deletionPolicy": "Restore"}});
    f.apply(&referring(with(customer("acme", id, 3600, 86400), restored), "CHG-7")).await;
    f.start().await;
    let acme = f.reason("CustomerTokenTtl", "acme", "InSync").await;
    assert_eq!(status(&acme)["history"][0]["changeRef"], "CHG-7");
    assert!(f.event("acme", "TtlChanged").await.ends_with(" Change reference: CHG-7."));
    f.ns.delete_object("CustomerTokenTtl", "acme").await.unwrap();
    for line in logged(f.operator(), 2, is_write).await {
        assert_says(&line, &json!({"change_ref": "CHG-7"}));
    }
    f.event_saying("acme", "TtlChanged", "restored").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_use_of_a_secret_at_an_origin_is_on_record() {
    let fleet = fleet(2);
    let mut f = Fixture::new("audit-uses").await;
    f.credentials(&fleet).await;
    let gateway = f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "Unmanaged").await;
    let namespace = f.ns.name();
    let unbound = format!("tenure_secrets_without_origins{{namespace=\"{namespace}\"}} 1");
    assert!(f.operator().metrics().await.unwrap().contains(&unbound));
    let first = log_lines(f.operator(), is_use).remove(0);
    let secret = f.ns.get("Secret", "x2-admin").await.unwrap();
    assert_says(&first, &identity(&gateway, TESTS));
    assert_says(
        &first,
        &json!({
            "level": "INFO", "kind": "X2Gateway", "url": fleet.appliance(0).url(), "secret": "x2-admin",
            "secret_uid": secret.uid(), "allowed_origins": false, "certificates": "tls=configmap/x2-ca",
            "server_name": null, "proxy": null,
        }),
    );
    // Once, however often it is used; and again for each other place, and for what is trusted there.
    f.look("X2Gateway", "x2-1", "again").await;
    f.patch("X2Gateway", "x2-1", json!({"spec": {"tls": {"insecureSkipVerify": true}}})).await;
    logged(f.operator(), 2, is_use).await;
    let origins = format!("https://127.0.0.0/8:{}, tls=insecure", fleet.appliance(0).port());
    let bound = json!({"metadata": {"annotations": {"tenure.dev/allowed-origins": origins}}});
    f.patch("Secret", "x2-admin", bound).await;
    f.look("X2Gateway", "x2-1", "bound").await;
    f.patch("X2Gateway", "x2-1", json!({"spec": {"url": fleet.appliance(1).url()}})).await;
    let uses = logged(f.operator(), 3, is_use).await;
    assert_says(&uses[1], &json!({"url": fleet.appliance(0).url(), "certificates": "tls=insecure"}));
    assert_says(&uses[2], &json!({"url": fleet.appliance(1).url(), "allowed_origins": true}));
    assert_eq!(uses.len(), 3, "{uses:?}");
    let metrics = f.operator().metrics().await.unwrap();
    assert!(!metrics.contains("tenure_secrets_without_origins{"), "{metrics}");
    // Without the annotation, what was a known place is on record again.
    let unbound = json!({"metadata": {"annotations": {"tenure.dev/allowed-origins": null}}});
    f.patch("Secret", "x2-admin", unbound).await;
    f.look("X2Gateway", "x2-1", "unbound").await;
    let uses = logged(f.operator(), 4, is_use).await;
    assert_says(&uses[3], &json!({"url": fleet.appliance(1).url(), "allowed_origins": false}));
    f.finish().await;
}
