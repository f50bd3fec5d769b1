//! `deletionPolicy: Restore`: when the resource goes, its customer's two keys are what they were before it, unless somebody
//! else has changed them; and it goes in any case.

mod interrupted;
mod patience;

use kube::api::{Patch, PatchParams};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

const OURS: &str = "tenure.dev/restore";
const THEIRS: &str = "example.com/keep";
/// What a customer holds before: one of the keys in a spelling of its own, and what is others'.
const BEFORE: &str = r#"{"theirs":1.10,"accessTokenTtlSeconds":7.20e3,"more":{"x": 1}}"#;

fn restoring(name: &str, n: usize) -> Value {
    with(customer(name, &id(n), 3600, 86400), json!({"spec": {"deletionPolicy": "Restore"}}))
}

fn finalizers(object: &DynamicObject) -> Vec<&str> {
    object.metadata.finalizers.iter().flatten().map(String::as_str).collect()
}

/// A world whose customer `acme` holds `info`, with a resource that restores it, in sync.
async fn held(name: &str, info: &str) -> (Fixture, KonaServer, Customer) {
    let (mut f, kona) = world(name).await;
    let acme = with_info(&kona, 1, info);
    f.apply(&restoring("acme", 1)).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(finalizers(&object), [OURS]);
    assert_eq!(status(&object)["pending"], Value::Null);
    assert_eq!(acme.token_ttls(), (Some(3600), Some(86400)));
    (f, kona, acme)
}

async fn delete(f: &Fixture) {
    f.ns.delete_object(CTT, "acme").await.unwrap();
}

async fn gone(f: &Fixture) {
    f.ns.wait_until_gone(CTT, "acme", SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_puts_the_keys_back_and_nothing_else() {
    let (mut f, kona) = world("restore").await;
    let shapes = [
        (BEFORE, BEFORE, json!({"accessTokenTtlSeconds": "7.20e3"})),
        ("null", "{}", json!({})),
        (r#""""#, "{}", json!({})),
        (r#"{"theirs":[1.0,  2]}"#, r#"{"theirs":[1.0,  2]}"#, json!({})),
        (
            r#""{\"refreshTokenTtlSeconds\": 7200, \"a\": 1e400}""#,
            r#"{"refreshTokenTtlSeconds":7200,"a":1e400}"#,
            json!({"refreshTokenTtlSeconds": "7200"}),
        ),
    ];
    for (n, (info, ..)) in shapes.iter().enumerate() {
        with_info(&kona, n, info);
        f.apply(&restoring(&format!("c{n}"), n)).await;
    }
    f.start().await;
    for (n, (info, _, original)) in shapes.iter().enumerate() {
        let object = f.reason(CTT, &format!("c{n}"), "InSync").await;
        assert_eq!(status(&object)["original"], *original, "{info}");
        assert_eq!(finalizers(&object), [OURS], "{info}");
        // Read, read again once what must not be forgotten is in the status, written, read back.
        assert_eq!(exchanges(kona.customer(&id(n)).counts()), (0, 0, 3, 1), "{info}");
    }
    for (n, (info, after, _)) in shapes.iter().enumerate() {
        let name = format!("c{n}");
        let customer = kona.customer(&id(n));
        let written = customer.field("additionalInfo").unwrap();
        let whole = customer.json().unwrap();
        f.ns.delete_object(CTT, &name).await.unwrap();
        f.ns.wait_until_gone(CTT, &name, SOON).await.unwrap();
        assert_eq!(customer.json().unwrap(), whole.replace(&written, after), "{info}");
        // One read, one write, and read back.
        assert_eq!(exchanges(customer.counts()), (0, 0, 5, 2), "{info}");
        f.event_saying(&name, "TtlChanged", "restored").await;
    }
    let events = f.events().await;
    assert!(events.iter().all(|(_, reason, _)| reason != "RestoreSkipped"), "{events:?}");
    assert!(kona.created().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_restoration_is_recorded_before_the_resource_goes() {
    let (f, _kona, acme) = held("recorded", BEFORE).await;
    // Somebody else's finalizer shows what we leave behind.
    f.patch(CTT, "acme", json!({"metadata": {"finalizers": [THEIRS, OURS]}})).await;
    let mut states = watched(&f, "acme").await;
    until(&mut states, |_| true).await;
    delete(&f).await;
    let seen = until(&mut states, |object| finalizers(object) == [THEIRS]).await;
    // The deletion itself, one status, and the finalizer.
    assert_eq!(seen.len(), 3, "{seen:?}");
    let change = &status(&seen[2])["history"][0];
    assert_eq!(change["cause"], "Restore");
    assert_eq!(change["from"], json!({"accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400}));
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(BEFORE));
    assert!(is_current(&seen[2]));
    // Nobody sets it again while it lingers, and the customer is anybody's.
    let counts = acme.counts();
    f.apply(&customer("next", acme.id(), 600, 7200)).await;
    f.reason(CTT, "next", "InSync").await;
    assert_eq!(acme.token_ttls(), (Some(600), Some(7200)));
    assert_eq!(exchanges(acme.counts() - counts), (0, 0, 2, 1));
    f.patch(CTT, "acme", json!({"metadata": {"finalizers": null}})).await;
    gone(&f).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rival_comes_in_only_after_the_keys_were_put_back() {
    let (f, kona, acme) = held("rival", r#"{"accessTokenTtlSeconds":1800}"#).await;
    f.apply(&customer("rival", acme.id(), 600, 7200)).await;
    f.reason(CTT, "rival", "Conflict").await;
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Write).times(1));
    delete(&f).await;
    acme.requests().wait_arrived(Kind::Write, 2).await;
    assert_eq!(ready(&f.look(CTT, "rival", "now").await)["reason"], "Conflict");
    gate.open();
    gone(&f).await;
    let object = f.reason(CTT, "rival", "InSync").await;
    assert_eq!(status(&object)["history"][0]["from"], json!({"accessTokenTtlSeconds": 1800}));
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "1800"}));
    assert_eq!(kona.counts().write, 3);
    // Who never wrote anything restores nothing. Its name sorts last, should both have come within the same second.
    f.apply(&restoring("second", 1)).await;
    assert!(finalizers(&f.reason(CTT, "second", "Conflict").await).is_empty());
    f.ns.delete_object(CTT, "second").await.unwrap();
    f.ns.wait_until_gone(CTT, "second", SOON).await.unwrap();
    assert_eq!((kona.counts().write, acme.token_ttls()), (3, (Some(600), Some(7200))));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_changed_is_left() {
    const ELSE: &str = r#"{"accessTokenTtlSeconds":9999,"refreshTokenTtlSeconds":86400}"#;
    let (f, _kona, acme) = held("foreign", BEFORE).await;
    acme.set_field("additionalInfo", ELSE);
    delete(&f).await;
    gone(&f).await;
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(ELSE));
    assert_eq!(exchanges(acme.counts()), (0, 0, 4, 1));
    assert!(f.event("acme", "RestoreSkipped").await.contains("something else"));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_that_is_not_known_is_not_made_up() {
    let (f, _kona, acme) = held("unknown", BEFORE).await;
    let api = f.ns.api(CTT).await.unwrap();
    let forget = Patch::Merge(json!({"status": {"original": null}}));
    api.patch_status("acme", &PatchParams::default(), &forget).await.unwrap();
    // Not even when it is written again.
    f.patch(CTT, "acme", json!({"spec": {"accessTokenTtlSeconds": 600}})).await;
    let object = f.wait(CTT, "acme", |o| status(o)["history"].as_array().is_some_and(|h| h.len() == 2)).await;
    assert_eq!(status(&object)["original"], Value::Null);
    let counts = acme.counts();
    delete(&f).await;
    gone(&f).await;
    assert!(f.event("acme", "RestoreSkipped").await.contains("are unknown"));
    assert_eq!((acme.counts() - counts).total(), 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_as_before_already_is_not_written() {
    let (f, _kona, acme) = held("undone", BEFORE).await;
    acme.set_field("additionalInfo", BEFORE);
    delete(&f).await;
    gone(&f).await;
    assert_eq!(exchanges(acme.counts()), (0, 0, 4, 1));
    // Events are written in order: one that comes later shows that there is none about this.
    f.apply(&customer("late", &id(7), 600, 7200)).await;
    f.event("late", "CustomerNotFound").await;
    assert!(f.events().await.iter().all(|(_, reason, _)| reason != "RestoreSkipped"));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_restore_is_held() {
    let (mut f, kona) = world("finalizers").await;
    for n in 1..=2 {
        kona.add_customer(&id(n), "Customer");
    }
    let right = r#"{"accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":86400}"#;
    let adopted = with_info(&kona, 3, right);
    f.apply(&customer("retain", &id(1), 3600, 86400)).await;
    f.apply(&customer("acme", &id(2), 3600, 86400)).await;
    f.apply(&restoring("adopted", 3)).await;
    f.start().await;
    let mut states = watched(&f, "acme").await;
    for name in ["retain", "acme", "adopted"] {
        assert!(finalizers(&f.reason(CTT, name, "InSync").await).is_empty(), "{name}");
    }
    until(&mut states, |object| ready(object)["reason"] == "InSync").await;
    let policy = |policy: &str| json!({"spec": {"deletionPolicy": policy}});
    // The original is known from before.
    f.patch(CTT, "acme", policy("Restore")).await;
    let seen = until(&mut states, |object| finalizers(object) == [OURS]).await;
    assert_eq!(status(&seen[0])["original"], json!({}));
    // What others put there stays there.
    f.patch(CTT, "acme", json!({"metadata": {"finalizers": [THEIRS, OURS, "example.com/too"]}})).await;
    f.patch(CTT, "acme", policy("Retain")).await;
    until(&mut states, |object| finalizers(object) == [THEIRS, "example.com/too"]).await;
    f.patch(CTT, "acme", policy("Restore")).await;
    until(&mut states, |object| finalizers(object) == [THEIRS, "example.com/too", OURS]).await;
    f.patch(CTT, "acme", json!({"metadata": {"finalizers": [OURS]}})).await;
    delete(&f).await;
    gone(&f).await;
    assert_eq!(kona.customer(&id(2)).token_ttls(), (None, None));
    // What was right from the beginning was never written.
    f.ns.delete_object(CTT, "adopted").await.unwrap();
    f.ns.wait_until_gone(CTT, "adopted", SOON).await.unwrap();
    f.ns.delete_object(CTT, "retain").await.unwrap();
    f.ns.wait_until_gone(CTT, "retain", SOON).await.unwrap();
    assert_eq!(adopted.field("additionalInfo").as_deref(), Some(right));
    assert_eq!(kona.customer(&id(1)).token_ttls(), (Some(3600), Some(86400)));
    assert_eq!((adopted.counts().write, kona.counts().write), (0, 3));
    f.finish().await;
}

/// What the operator relies on where it has seen no finalizer and somebody else has just put one there.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_for_null_holds_where_there_is_nothing_and_nowhere_else() {
    let f = Fixture::new("null").await;
    f.apply(&customer("acme", &id(1), 3600, 86400)).await;
    let api = f.ns.api(CTT).await.unwrap();
    let hold = async || {
        let patch = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": [THEIRS]},
        ]);
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        api.patch("acme", &PatchParams::default(), &Patch::Json::<()>(patch)).await
    };
    assert_eq!(finalizers(&hold().await.unwrap()), [THEIRS]);
    let Err(kube::Error::Api(refusal)) = hold().await else { panic!("it is refused") };
    assert_eq!(refusal.code, 422);
    f.patch(CTT, "acme", json!({"metadata": {"finalizers": null}})).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restoration_whose_answer_was_lost_is_found_out_by_reading() {
    let (f, _kona, acme) = held("lost-restore", BEFORE).await;
    acme.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    delete(&f).await;
    gone(&f).await;
    assert_eq!(exchanges(acme.counts()), (0, 0, 5, 2));
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(BEFORE));
    f.event_saying("acme", "TtlChanged", "restored").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_suspended_or_observed_leaves_the_customer_alone() {
    let (f, kona, acme) = held("paused", BEFORE).await;
    let paused = json!({"spec": {"suspend": true}});
    f.patch(CTT, "acme", paused.clone()).await;
    f.wait(CTT, "acme", |object| condition(object, "Suspended")["status"] == "True").await;
    let counts = kona.counts();
    delete(&f).await;
    gone(&f).await;
    for (n, name) in [(2, "observed"), (3, "resting")] {
        with_info(&kona, n, BEFORE);
        f.apply(&restoring(name, n)).await;
        f.reason(CTT, name, "InSync").await;
    }
    f.patch(CTT, "observed", json!({"spec": {"mode": "Observe"}})).await;
    f.reason(CTT, "observed", "Observed").await;
    f.ns.delete_object(CTT, "observed").await.unwrap();
    f.ns.wait_until_gone(CTT, "observed", SOON).await.unwrap();
    f.patch("KonaServer", "kona", paused).await;
    f.wait(CTT, "resting", |object| condition(object, "Suspended")["status"] == "True").await;
    f.ns.delete_object(CTT, "resting").await.unwrap();
    f.ns.wait_until_gone(CTT, "resting", SOON).await.unwrap();
    for n in 1..=3 {
        assert_eq!(kona.customer(&id(n)).token_ttls(), (Some(3600), Some(86400)), "{n}");
    }
    assert_eq!((acme.counts().write, (kona.counts() - counts).write), (1, 2));
    assert!(f.events().await.iter().all(|(_, reason, _)| reason != "RestoreSkipped"));
    f.finish().await;
}
