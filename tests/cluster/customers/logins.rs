//! One login serves all customers of a server; a refused one is not repeated.

use tenure_kit::faults::Fault;
use tenure_kit::requests::Kind;

use super::*;

/// Declares customers `c1` … with as many customers behind them.
async fn declare(f: &Fixture, kona: &KonaServer, count: usize) {
    for n in 1..=count {
        kona.add_customer(&id(n), &format!("Customer {n}"));
        f.apply(&customer(&format!("c{n}"), &id(n), 3600, 86400)).await;
    }
}

async fn all_are(f: &Fixture, count: usize, reason: &str) {
    for n in 1..=count {
        f.reason(CTT, &format!("c{n}"), reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_customers_share_one_login() {
    let (mut f, kona) = world("shared").await;
    declare(&f, &kona, 20).await;
    f.start().await;
    all_are(&f, 20, "InSync").await;
    let (logins, renewals, reads, writes) = exchanges(kona.counts());
    assert_eq!((logins, renewals, writes), (1, 0, 20));
    // While the first write finds out the path, others wait: their customers are read again before they are written.
    assert!((40..60).contains(&reads), "{reads}");

    // When nobody's token counts any more, one new login serves them all, too.
    kona.expire_all_tokens();
    f.look("KonaServer", "kona", "all").await;
    assert_eq!(kona.counts().login, 2);
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "20/20").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_access_token_is_refreshed_without_a_login() {
    let (f, kona, _) = in_sync("refresh").await;
    let before = f.get(CTT, "acme").await;
    let counts = kona.counts();
    kona.expire_access_tokens();
    let object = f.look(CTT, "acme", "refresh").await;
    assert_eq!(exchanges(kona.counts() - counts), (0, 1, 2, 0));
    assert_eq!(lasting(&object), lasting(&before));

    // No refresh helps: log in, once.
    let counts = kona.counts();
    kona.expire_all_tokens();
    let object = f.look(CTT, "acme", "login").await;
    assert_eq!(exchanges(kona.counts() - counts), (1, 1, 2, 0));
    assert_eq!(lasting(&object), lasting(&before));

    // A redirect to a login page is the same fault, and never followed.
    let counts = kona.counts();
    kona.fault(Fault::redirect(302, "/login").on(Kind::Get).times(1));
    let object = f.look(CTT, "acme", "redirect").await;
    assert_eq!(exchanges(kona.counts() - counts), (0, 1, 2, 0));
    assert_eq!(lasting(&object), lasting(&before));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_is_tried_once_and_again_when_it_is_corrected() {
    let (mut f, kona) = world("refused").await;
    f.ns.secret("kona-admin", &[("username", "tenant@example.net"), ("password", "planted-wrong-password")])
        .await
        .unwrap();
    declare(&f, &kona, 3).await;
    f.start().await;
    let server = f.reason("KonaServer", "kona", "AuthenticationFailed").await;
    assert_eq!(condition(&server, "Stalled")["status"], "True");
    assert!(message(&server).contains("Secret kona-admin"), "{}", message(&server));
    let secret: DynamicObject = f.get("Secret", "kona-admin").await;
    let refused = status(&server)["refusedLogin"].as_array().unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["secretUid"], json!(secret.metadata.uid));
    assert_eq!(refused[0]["secretResourceVersion"], json!(secret.metadata.resource_version));
    f.event("kona", "AuthenticationFailed").await;
    for n in 1..=3 {
        let object = f.reason(CTT, &format!("c{n}"), "ServerNotReady").await;
        assert!(
            message(&object).contains("KonaServer kona is not ready (AuthenticationFailed)"),
            "{}",
            message(&object)
        );
    }
    assert_eq!(exchanges(kona.counts()), (1, 0, 0, 0));

    // Not after a restart, and not because somebody asks for a look at a customer.
    f.kill().await;
    f.start().await;
    f.look(CTT, "c1", "look").await;
    assert_eq!(exchanges(kona.counts()), (1, 0, 0, 0));

    // A request on the server allows one more try: one, however many customers it has.
    f.look("KonaServer", "kona", "again").await;
    all_are(&f, 3, "ServerNotReady").await;
    assert_eq!(exchanges(kona.counts()), (2, 0, 0, 0));

    f.ns.secret("kona-admin", &[("username", "tenant@example.net"), ("password", "kona-admin-password")])
        .await
        .unwrap();
    let healthy =
        f.ns.wait_for("KonaServer", "kona", AFTER_A_POLL, |server| ready(server)["reason"] == "InSync");
    assert_eq!(status(&healthy.await.unwrap())["refusedLogin"], Value::Null);
    all_are(&f, 3, "InSync").await;
    let (logins, renewals, reads, writes) = exchanges(kona.counts());
    assert_eq!((logins, renewals, writes), (3, 0, 3));
    // As above: those that wait for the first write are read again.
    assert!((6..6 + 3).contains(&reads), "{reads}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_changed_in_use_is_tried_once() {
    let (mut f, kona, acme) = in_sync("changed").await;
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "1/1").await;
    let counts = kona.counts();
    kona.set_password("tenant@example.net", "planted-wrong-password");
    f.look(CTT, "acme", "look").await;
    f.reason(CTT, "acme", "ServerNotReady").await;
    let server = f.reason("KonaServer", "kona", "AuthenticationFailed").await;
    assert!(message(&server).contains("or the account is disabled or locked"), "{}", message(&server));
    assert!(message(&server).contains("tenure.dev/reconcile-requested-at"), "{}", message(&server));
    f.look(CTT, "acme", "once more").await;
    assert_eq!((kona.counts() - counts).login, 1);
    assert_eq!(acme.counts().write, 1);

    kona.set_password("tenant@example.net", "kona-admin-password");
    f.kill().await;
    f.start().await;
    f.look("KonaServer", "kona", "again").await;
    f.reason(CTT, "acme", "InSync").await;
    assert_eq!((kona.counts() - counts).login, 2);
    f.finish().await;
}
