//! What others change is put back at the next check; while nobody does, a check is one GET and writes nothing.

use tenure_kit::faults::Fault;
use tenure_kit::requests::Kind;

use super::*;

const ELSE: &str = r#"{"accessTokenTtlSeconds":9999,"theirs":1.10}"#;
const PUT_BACK: &str = r#"{"accessTokenTtlSeconds":3600,"theirs":1.10,"refreshTokenTtlSeconds":86400}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_one_get_and_writes_nothing() {
    let (mut f, kona) = world("steady").await;
    let steady = kona.add_customer(&id(1), "Steady");
    let drifting = kona.add_customer(&id(2), "Drifting");
    f.apply(&customer("steady", steady.id(), 3600, 86400)).await;
    f.apply(&customer("drifting", drifting.id(), 3600, 86400)).await;
    f.start().await;
    f.reason(CTT, "steady", "InSync").await;
    f.reason(CTT, "drifting", "InSync").await;
    let server = f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "2/2").await;
    let before = f.get(CTT, "steady").await;

    // Two checks at the interval: when the second begins, the first has ended.
    steady.requests().wait_for(Kind::Get, 3).await;
    drifting.set_field("additionalInfo", ELSE);
    steady.requests().wait_for(Kind::Get, 4).await;
    assert_eq!(version(&f.get(CTT, "steady").await), version(&before));
    assert_eq!(exchanges(steady.counts()), (0, 0, 4, 1));
    assert_eq!((kona.counts().login, kona.counts().refresh), (1, 0));

    let note = f
        .ns
        .wait_for(CTT, "drifting", AFTER_A_POLL, |object| status(object)["history"][0]["cause"] == "Drift");
    assert_eq!(ready(&note.await.unwrap())["reason"], "InSync");
    assert_eq!(drifting.field("additionalInfo").as_deref(), Some(PUT_BACK));
    assert_eq!(version(&f.get("KonaServer", "kona").await), version(&server));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requested_look_is_one_get_too() {
    let (f, kona, acme) = in_sync("requested").await;
    let before = f.get(CTT, "acme").await;
    for (n, value) in ["one", "two", "three"].into_iter().enumerate() {
        let counts = kona.counts();
        let object = f.look(CTT, "acme", value).await;
        assert_eq!(exchanges(kona.counts() - counts), (0, 0, 1, 0), "{n}");
        assert_eq!(lasting(&object), lasting(&before));
    }
    // On the server it covers the customers.
    let counts = kona.counts();
    f.look("KonaServer", "kona", "all").await;
    assert_eq!(exchanges(kona.counts() - counts), (0, 0, 1, 0));
    assert_eq!(acme.counts().write, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_put_back_and_told() {
    let (f, kona, acme) = in_sync("drift").await;
    acme.set_field("additionalInfo", ELSE);
    let counts = kona.counts();
    let object = f.look(CTT, "acme", "one").await;
    assert_eq!(exchanges(kona.counts() - counts), (0, 0, 2, 1));
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(PUT_BACK));
    assert_eq!(ready(&object)["reason"], "InSync");
    let history = status(&object)["history"].as_array().unwrap();
    assert_eq!((history.len(), &history[0]["cause"]), (2, &json!("Drift")));
    assert_eq!(history[0]["from"], json!({"accessTokenTtlSeconds": 9999}));
    assert_eq!(history[0]["to"], json!({"accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400}));
    assert_eq!(status(&object)["original"], json!({}));
    assert!(f.event("acme", "DriftCorrected").await.contains("3600s"));
    let metrics = f.operator().metrics().await.unwrap();
    let corrected = r#"tenure_drift_corrections_total{kind="CustomerTokenTtl"} 1"#;
    assert!(metrics.contains(corrected), "{metrics}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_customer_rests() {
    let (f, kona, acme) = in_sync("suspend").await;
    let other = kona.add_customer(&id(2), "Other");
    f.apply(&customer("other", other.id(), 3600, 86400)).await;
    f.reason(CTT, "other", "InSync").await;
    let counts = acme.counts();
    let mut states = watched(&f, "acme").await;
    until(&mut states, |_| true).await;
    f.patch(CTT, "acme", json!({"spec": {"suspend": true}})).await;
    let mut written = until(&mut states, |object| condition(object, "Suspended")["status"] == "True").await;
    assert_eq!(written.len(), 2, "the edit itself, and one status");
    let paused = written.remove(1);
    assert!(is_current(&paused));
    assert_eq!(ready(&paused)["reason"], "InSync");
    acme.set_field("additionalInfo", ELSE);
    f.look("KonaServer", "kona", "all").await;
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["suspended"] == 1).await;
    assert_eq!(version(&f.get(CTT, "acme").await), version(&paused));
    assert_eq!((acme.counts() - counts).total(), 0);

    f.patch(CTT, "acme", json!({"spec": {"suspend": false}})).await;
    let object = f.wait(CTT, "acme", |object| status(object)["history"][0]["cause"] == "Drift").await;
    assert_eq!(condition(&object, "Suspended"), &Value::Null);
    assert_eq!(ready(&object)["reason"], "InSync");
    assert!(is_current(&object));
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(PUT_BACK));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_server_rests_with_its_customers() {
    let (mut f, kona, acme) = in_sync("suspended").await;
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "1/1").await;
    let counts = kona.counts();
    f.patch("KonaServer", "kona", json!({"spec": {"suspend": true}})).await;
    let server = f.wait("KonaServer", "kona", |server| status(server)["customers"]["suspended"] == 1).await;
    assert_eq!(condition(&server, "Suspended")["status"], "True");
    assert_eq!(ready(&server)["reason"], "InSync");
    let object = f.wait(CTT, "acme", |object| condition(object, "Suspended")["status"] == "True").await;
    assert!(condition(&object, "Suspended")["message"].as_str().unwrap().contains("KonaServer kona"));
    acme.set_field("additionalInfo", ELSE);
    // A new operator comes to the same; another server's customers show that it has looked.
    f.kill().await;
    let other = KonaServer::start(KonaOptions::default()).unwrap();
    other.add_customer(&id(7), "Elsewhere");
    f.config_map("other-ca", &other.ca_pem().unwrap()).await;
    let ca = json!({"spec": {"tls": {"caConfigMapRef": {"name": "other-ca"}}}});
    f.apply(&with(kona_server("other", &other.url()), ca)).await;
    f.apply(&with(
        customer("elsewhere", &id(7), 3600, 86400),
        json!({"spec": {"serverRef": {"name": "other"}}}),
    ))
    .await;
    f.start().await;
    f.reason(CTT, "elsewhere", "InSync").await;
    assert_eq!((kona.counts() - counts).total(), 0);
    assert_eq!(version(&f.get(CTT, "acme").await), version(&object));
    assert_eq!(version(&f.get("KonaServer", "kona").await), version(&server));

    f.patch("KonaServer", "kona", json!({"spec": {"suspend": false}})).await;
    let object = f.wait(CTT, "acme", |object| status(object)["history"][0]["cause"] == "Drift").await;
    assert_eq!(condition(&object, "Suspended"), &Value::Null);
    let server = f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "1/1").await;
    assert_eq!(condition(&server, "Suspended"), &Value::Null);
    f.finish().await;
}

/// Makes the customer be looked at as an interval would: an edit of its server is no request, and forgives nothing.
async fn check(f: &Fixture, n: usize) {
    f.patch("KonaServer", "kona", json!({"spec": {"requestTimeout": format!("{}s", 20 + n)}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_corrections_undone_are_a_fight_that_is_not_fought() {
    let (mut f, kona, acme) = in_sync("contested").await;
    for n in 1..=5 {
        acme.set_field("additionalInfo", ELSE);
        check(&f, n).await;
        f.wait(CTT, "acme", |object| status(object)["history"].as_array().is_some_and(|h| h.len() == 1 + n))
            .await;
    }
    acme.set_field("additionalInfo", ELSE);
    check(&f, 6).await;
    let object = f.reason(CTT, "acme", "Contested").await;
    assert_eq!(condition(&object, "Stalled")["status"], "True");
    assert_eq!(status(&object)["accessTokenTtlSeconds"], 9999);
    f.event("acme", "Contested").await;
    assert_eq!(acme.counts().write, 6);

    // It is remembered across a restart; the check after it has ended when the next one begins.
    let gets = acme.counts().get;
    f.kill().await;
    f.start().await;
    f.patch(CTT, "acme", json!({"spec": {"interval": "11m"}})).await;
    acme.requests().wait_for(Kind::Get, gets + 1).await;
    check(&f, 7).await;
    acme.requests().wait_for(Kind::Get, gets + 2).await;
    assert_eq!(acme.counts().write, 6);
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(ELSE));

    // Who asks for it gets another try.
    let object = f.look(CTT, "acme", "again").await;
    assert_eq!(ready(&object)["reason"], "InSync");
    assert_eq!((acme.counts().write, kona.created().len()), (7, 0));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_that_fail_are_no_fight() {
    let (f, _kona, acme) = in_sync("no-fight").await;
    acme.set_field("additionalInfo", ELSE);
    acme.fault(Fault::status(500, "{}").on(Kind::Write));
    for n in 1..=7 {
        check(&f, n).await;
        acme.requests().wait_for(Kind::Write, 1 + n as u64).await;
    }
    acme.clear_faults();
    let object = f.wait(CTT, "acme", |object| status(object)["history"][0]["cause"] == "Drift").await;
    assert_eq!(ready(&object)["reason"], "InSync");
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(PUT_BACK));
    f.finish().await;
}
