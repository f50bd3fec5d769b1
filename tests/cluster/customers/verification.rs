//! A user of the customer logs in afresh, which proves the lifetime that is in force.

use tenure_kit::faults::Fault;
use tenure_kit::kona::KonaUser;
use tenure_kit::requests::Kind;

use super::*;

/// Acme, its user, and a customer that the user does not belong to; `acme` wants the user's login as proof. The server is asked
/// one thing at a time.
async fn verified(name: &str) -> (Fixture, KonaServer, Customer) {
    let (f, kona) = world(name).await;
    f.patch("KonaServer", "kona", json!({"spec": {"limits": {"maxConcurrent": 1}}})).await;
    let acme = kona.add_customer(&id(1), "Acme");
    kona.add_customer(&id(2), "Other");
    kona.set_user(KonaUser::of_customer("user@acme.example", "kona-user-password", acme.id()));
    kona.set_user(KonaUser::of_customer("user@other.example", "kona-user-password", &id(2)));
    let by_login = json!({"spec": {"verifyCredentialsSecretRef": {"name": "acme-user"}}});
    f.apply(&with(customer("acme", acme.id(), 3600, 86400), by_login)).await;
    (f, kona, acme)
}

async fn user(f: &Fixture, username: &str, password: &str) {
    f.ns.secret("acme-user", &[("username", username), ("password", password)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_login_proves_a_change_and_every_correction() {
    let (mut f, kona, acme) = verified("verified").await;
    user(&f, "user@acme.example", "kona-user-password").await;
    f.start().await;
    let object = f.reason(CTT, "acme", "InSync").await;
    assert!(message(&object).contains("new login"), "{}", message(&object));
    assert_eq!(status(&object)["proven"]["accessTokenTtlSeconds"], 3600);
    assert_eq!(exchanges(acme.counts()), (1, 0, 2, 1));

    // What is proven is not proven again and again.
    let counts = acme.counts();
    let before = f.look(CTT, "acme", "steady").await;
    assert_eq!(exchanges(acme.counts() - counts), (0, 0, 1, 0));

    // A correction is a change like any other.
    acme.set_field("additionalInfo", "{}");
    let counts = acme.counts();
    let object = f.look(CTT, "acme", "drift").await;
    assert_eq!(exchanges(acme.counts() - counts), (1, 0, 2, 1));
    assert_eq!(status(&object)["history"][0]["cause"], "Drift");
    assert_eq!(ready(&object)["message"], ready(&before)["message"]);
    assert_eq!(kona.counts().login, 3);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_whose_proof_failed_is_proven_at_the_next_look() {
    let (mut f, _kona, acme) = verified("late-proof").await;
    user(&f, "user@acme.example", "kona-user-password").await;
    f.start().await;
    f.reason(CTT, "acme", "InSync").await;
    acme.set_field("additionalInfo", "{}");
    acme.fault(Fault::status(500, "{}").on(Kind::Login).times(1));
    let object = f.look(CTT, "acme", "drift").await;
    assert_eq!(ready(&object)["reason"], "InSync");
    assert_eq!(status(&object)["history"][0]["cause"], "Drift");
    assert_eq!(status(&object)["proven"], Value::Null);
    let object =
        f.wait(CTT, "acme", |object| status(object)["proven"]["accessTokenTtlSeconds"] == 3600).await;
    assert_eq!(status(&object)["history"].as_array().unwrap().len(), 2);
    assert_eq!(exchanges(acme.counts()), (3, 0, 5, 2));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_user_is_tried_once() {
    let (mut f, kona, acme) = verified("refused-user").await;
    user(&f, "user@acme.example", "planted-wrong-password").await;
    f.start().await;
    let object = f.reason(CTT, "acme", "AuthenticationFailed").await;
    assert_eq!(condition(&object, "Stalled")["status"], "True");
    assert!(message(&object).contains("Secret acme-user"), "{}", message(&object));
    assert_eq!(status(&object)["refusedLogin"].as_array().unwrap().len(), 1);
    assert_eq!(status(&object)["proven"], Value::Null);
    // What was changed is recorded all the same.
    assert_eq!(status(&object)["original"], json!({}));
    assert_eq!(status(&object)["history"].as_array().unwrap().len(), 1);
    assert_eq!(exchanges(acme.counts()), (1, 0, 2, 1));
    f.apply(&customer("healthy", &id(2), 3600, 86400)).await;
    f.reason(CTT, "healthy", "InSync").await;
    f.reason("KonaServer", "kona", "InSync").await;

    f.kill().await;
    f.start().await;
    acme.requests().wait_until(|requests| requests.served().get >= 3).await;
    user(&f, "user@acme.example", "kona-user-password").await;
    let object =
        f.ns.wait_for(CTT, "acme", AFTER_A_POLL, |object| ready(object)["reason"] == "InSync").await.unwrap();
    assert_eq!(status(&object)["refusedLogin"], Value::Null);
    assert_eq!(status(&object)["history"].as_array().unwrap().len(), 1);
    assert_eq!(status(&object)["proven"]["accessTokenTtlSeconds"], 3600);
    assert_eq!((acme.counts().login, acme.counts().write), (2, 1));
    assert!(kona.is_enabled("user@acme.example"));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_allows_a_refused_user_another_try() {
    let (mut f, kona, acme) = verified("again-user").await;
    user(&f, "user@acme.example", "planted-wrong-password").await;
    f.start().await;
    f.reason(CTT, "acme", "AuthenticationFailed").await;
    kona.set_password("user@acme.example", "planted-wrong-password");
    let object = f.look(CTT, "acme", "again").await;
    assert_eq!(ready(&object)["reason"], "InSync");
    assert_eq!((acme.counts().login, acme.counts().write), (2, 1));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_another_customer_proves_nothing() {
    let (mut f, kona, acme) = verified("stranger").await;
    user(&f, "user@other.example", "kona-user-password").await;
    f.start().await;
    let object = f.reason(CTT, "acme", "VerificationFailed").await;
    assert_eq!(condition(&object, "Stalled")["status"], "True");
    for part in ["verifyCredentialsSecretRef", "3600s", "got a token of", "applies the setting"] {
        assert!(message(&object).contains(part), "{part}: {}", message(&object));
    }
    assert_eq!(status(&object)["proven"], Value::Null);
    assert_eq!(exchanges(acme.counts()), (0, 0, 2, 1));
    let tries = kona
        .requests()
        .entries()
        .into_iter()
        .filter(|e| e.object.as_deref() == Some(&id(2)))
        .collect::<Vec<_>>();
    assert_eq!(tries.len(), 3);
    assert!(tries[2].at - tries[0].at < Duration::from_secs(5));

    // It is not written again, and one login shows that nothing is better.
    let again = f.look(CTT, "acme", "again").await;
    assert_eq!(lasting(&again), lasting(&object));
    assert_eq!(exchanges(acme.counts()), (0, 0, 3, 1));
    assert_eq!(kona.customer(&id(2)).counts().login, 4);
    f.ns.secret("right-user", &[("username", "user@acme.example"), ("password", "kona-user-password")])
        .await
        .unwrap();
    f.patch(CTT, "acme", json!({"spec": {"verifyCredentialsSecretRef": {"name": "right-user"}}})).await;
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(status(&object)["proven"]["accessTokenTtlSeconds"], 3600);
    assert_eq!(acme.counts().write, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_that_cannot_be_proven() {
    let (mut f, kona, acme) = verified("no-user").await;
    f.start().await;
    let object = f.reason(CTT, "acme", "SecretNotFound").await;
    assert!(message(&object).contains("Secret acme-user"), "{}", message(&object));
    assert_eq!(condition(&object, "Reconciling")["status"], "True");
    f.reason("KonaServer", "kona", "InSync").await;
    assert_eq!(acme.counts().total(), 0);
    user(&f, "user@acme.example", "kona-user-password").await;
    f.ns.wait_for(CTT, "acme", AFTER_A_POLL, |object| ready(object)["reason"] == "InSync").await.unwrap();
    assert_eq!(exchanges(kona.counts()), (2, 0, 2, 1));
    f.finish().await;
}

/// The annotation of a user's Secret counts as that of the server's Secret does.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_only_where_its_secret_allows() {
    let (mut f, kona, acme) = verified("tied-user").await;
    user(&f, "user@acme.example", "kona-user-password").await;
    let tie = async |f: &Fixture, origins: &str| {
        let annotations = json!({"tenure.dev/allowed-origins": origins});
        f.patch("Secret", "acme-user", json!({"metadata": {"annotations": annotations}})).await;
    };
    tie(&f, "https://10.0.0.0/8").await;
    f.start().await;
    let object = f.reason(CTT, "acme", "OriginNotAllowed").await;
    assert_eq!(condition(&object, "Ready")["status"], "False");
    for part in ["tenure.dev/allowed-origins", "Secret acme-user"] {
        assert!(message(&object).contains(part), "{part}: {}", message(&object));
    }
    // The server itself is let in, and goes on.
    f.apply(&customer("healthy", &id(2), 3600, 86400)).await;
    f.reason(CTT, "healthy", "InSync").await;
    assert_eq!(acme.counts().total(), 0);
    assert_eq!(kona.counts().login, 1, "the server's own");

    tie(&f, &format!("https://127.0.0.0/8:{}, tls=configmap/kona-ca", kona.port())).await;
    let object = f.look(CTT, "acme", "allowed").await;
    assert_eq!(ready(&object)["reason"], "InSync");
    assert_eq!(exchanges(acme.counts()), (1, 0, 2, 1));
    f.finish().await;
}
