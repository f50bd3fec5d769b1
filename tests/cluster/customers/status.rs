//! What the statuses and events of customers and their server say.

use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_status_says_what_was_read_changed_and_proven() {
    let (mut f, kona) = world("status").await;
    let acme = kona.add_customer(&id(1), "Acme\u{7} GmbH");
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    let fresh = f.get(CTT, "acme").await;
    assert_eq!(status(&fresh)["observedGeneration"], -1);
    let mut states = watched(&f, "acme").await;
    until(&mut states, |_| true).await;
    f.start().await;

    // Changed, proven and recorded by one write.
    let written = until(&mut states, |object| ready(object)["reason"] == "InSync").await;
    assert_eq!(written.len(), 1);
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(version(&object), version(&written[0]));
    let found = status(&object);
    assert_eq!(ready(&object)["status"], "True");
    assert_eq!(condition(&object, "Reconciling"), &Value::Null);
    assert_eq!(condition(&object, "Stalled"), &Value::Null);
    assert_eq!(found["effectiveUrl"], kona.url());
    assert_eq!(found["customerTitle"], "Acme GmbH");
    assert_eq!(found["accessTokenTtlSeconds"], 3600);
    assert_eq!(found["refreshTokenTtlSeconds"], 86400);
    let wanted = json!({"accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400});
    assert_eq!(found["proven"], wanted);
    assert_eq!(found["original"], json!({}));
    assert!(found["lastProvenTime"].is_string() && found["lastCheckedTime"].is_string(), "{found}");
    let history = found["history"].as_array().unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!((&history[0]["from"], &history[0]["to"]), (&json!({}), &wanted));
    assert_eq!(history[0]["cause"], "Policy");
    let note = f.event("acme", "TtlChanged").await;
    assert!(note.contains("3600s") && note.contains("86400s"), "{note}");

    let server = f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "1/1").await;
    assert_eq!(ready(&server)["reason"], "InSync");
    assert_eq!(status(&server)["effectiveUrl"], kona.url());
    assert!(is_current(&server));
    assert_eq!(exchanges(kona.counts()), (1, 0, 2, 1));

    // An edit is followed at once, and is not drift.
    f.patch(CTT, "acme", json!({"spec": {"accessTokenTtlSeconds": 600}})).await;
    let written = until(&mut states, is_current).await;
    assert_eq!(written.len(), 2, "the edit itself, and one status");
    let object = f.reason(CTT, "acme", "InSync").await;
    let history = status(&object)["history"].as_array().unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0]["cause"], "Policy");
    assert_eq!(history[0]["from"], wanted);
    assert_eq!(history[0]["to"]["accessTokenTtlSeconds"], 600);
    assert_eq!(status(&object)["original"], json!({}));
    assert_eq!(acme.token_ttls(), (Some(600), Some(86400)));
    assert_eq!(exchanges(kona.counts()), (1, 0, 4, 2));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_resource_leaves_its_customer_alone() {
    let (f, kona, acme) = in_sync("removed").await;
    let (before, counts) = (acme.json(), kona.counts());
    assert_eq!(f.get(CTT, "acme").await.metadata.finalizers, None);
    f.ns.delete_object(CTT, "acme").await.unwrap();
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "0/0").await;
    f.look("KonaServer", "kona", "look").await;
    assert_eq!(acme.json(), before);
    assert_eq!((kona.counts() - counts).total(), 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_is_right_already_is_only_read() {
    let (mut f, kona) = world("already").await;
    let acme = with_info(&kona, 1, r#"{"refreshTokenTtlSeconds":86400,"accessTokenTtlSeconds":3600}"#);
    let before = acme.json();
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(exchanges(kona.counts()), (1, 0, 1, 0));
    assert_eq!(acme.json(), before);
    assert_eq!(status(&object)["history"], Value::Null);
    assert_eq!(status(&object)["original"], Value::Null);
    assert_eq!(status(&object)["proven"]["accessTokenTtlSeconds"], 3600);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_counts_its_customers() {
    let (mut f, kona) = world("counts").await;
    for n in 1..=3 {
        kona.add_customer(&id(n), "Customer");
    }
    f.apply(&customer("good", &id(1), 3600, 86400)).await;
    f.apply(&with(customer("watched", &id(2), 3600, 86400), json!({"spec": {"mode": "Observe"}}))).await;
    f.apply(&with(customer("paused", &id(3), 3600, 86400), json!({"spec": {"suspend": true}}))).await;
    f.apply(&customer("missing", &id(4), 3600, 86400)).await;
    f.start().await;
    let counts = json!({
        "managed": 4, "inSync": 1, "pending": 0, "drifted": 1, "failed": 1, "suspended": 1, "summary": "1/4",
    });
    f.wait("KonaServer", "kona", |server| status(server)["customers"] == counts).await;
    let metrics = f.operator().metrics().await.unwrap();
    let states = metrics.lines().filter(|line| line.starts_with("tenure_customers{") && line.ends_with(" 1"));
    assert_eq!(states.count(), 4, "{metrics}");
    f.ns.delete_object(CTT, "missing").await.unwrap();
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "1/3").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_changes_nothing_and_says_what_differs() {
    let (mut f, kona) = world("observe").await;
    let acme = with_info(&kona, 1, r#"{"accessTokenTtlSeconds":7200}"#);
    let before = acme.json();
    f.apply(&with(customer("acme", acme.id(), 3600, 86400), json!({"spec": {"mode": "Observe"}}))).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "Observed").await;
    assert_eq!(ready(&object)["status"], "True");
    let text = message(&object);
    assert!(["7200s", "none (refresh)", "3600s", "86400s"].iter().all(|word| text.contains(word)), "{text}");
    assert_eq!(status(&object)["accessTokenTtlSeconds"], 7200);
    assert_eq!(status(&object)["refreshTokenTtlSeconds"], Value::Null);
    assert_eq!(
        (status(&object)["proven"].clone(), status(&object)["original"].clone()),
        (Value::Null, Value::Null)
    );
    assert_eq!(acme.json(), before);
    assert_eq!(exchanges(acme.counts()), (0, 0, 1, 0));

    f.patch(CTT, "acme", json!({"spec": {"mode": "Enforce"}})).await;
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(acme.token_ttls(), (Some(3600), Some(86400)));
    assert_eq!(status(&object)["history"][0]["from"], json!({"accessTokenTtlSeconds": 7200}));
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "7200"}));

    f.patch(CTT, "acme", json!({"spec": {"mode": "Observe"}})).await;
    let object = f.reason(CTT, "acme", "Observed").await;
    assert!(message(&object).contains("as desired"), "{}", message(&object));
    assert_eq!(exchanges(acme.counts()), (0, 0, 4, 1));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_url_drops_what_was_read_at_the_old_one() {
    let (f, old, acme) = in_sync("moved").await;
    let new = KonaServer::start(KonaOptions::default()).unwrap();
    let moved = new.add_customer(acme.id(), "Acme at its new home");
    f.config_map("new-ca", &new.ca_pem().unwrap()).await;
    let before = old.counts();
    let there = json!({"spec": {"url": new.url(), "tls": {"caConfigMapRef": {"name": "new-ca"}}}});
    f.patch("KonaServer", "kona", there).await;
    let object = f
        .wait(CTT, "acme", |object| {
            ready(object)["reason"] == "InSync" && status(object)["effectiveUrl"] == new.url()
        })
        .await;
    assert_eq!(moved.token_ttls(), (Some(3600), Some(86400)));
    assert_eq!(status(&object)["customerTitle"], "Acme at its new home");
    let history = status(&object)["history"].as_array().unwrap();
    assert_eq!((history.len(), &history[0]["cause"]), (1, &json!("Policy")));
    assert_eq!((old.counts() - before).total(), 0);
    assert_eq!(exchanges(new.counts()), (1, 0, 2, 1));
    f.finish().await;
}
