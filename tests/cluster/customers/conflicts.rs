//! One customer, declared twice: the oldest that got in owns it, and nobody writes while that is undecided.

use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_two_owns_the_customer_until_it_goes() {
    let (mut f, kona) = world("twice").await;
    let acme = kona.add_customer(&id(1), "Acme");
    f.apply(&customer("acme-a", acme.id(), 3600, 86400)).await;
    // The same URL in other words, and a name that sorts later.
    f.apply(&kona_server("again", &format!("{}/", kona.url()))).await;
    let again = json!({"spec": {"serverRef": {"name": "again"}}});
    f.apply(&with(customer("acme-b", acme.id(), 600, 7200), again)).await;
    f.start().await;
    f.reason(CTT, "acme-a", "InSync").await;
    let loser = f.reason(CTT, "acme-b", "Conflict").await;
    assert_eq!(condition(&loser, "Stalled")["status"], "True");
    assert!(!message(&loser).contains("acme-a"), "{}", message(&loser));
    assert_eq!(status(&loser)["history"], Value::Null);
    f.event("acme-b", "Conflict").await;
    assert_eq!(acme.token_ttls(), (Some(3600), Some(86400)));
    assert_eq!(acme.counts().write, 1);
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["summary"] == "1/1").await;
    f.wait("KonaServer", "again", |server| status(server)["customers"]["failed"] == 1).await;

    // A restart changes nothing about it.
    f.kill().await;
    f.start().await;
    let object = f.look(CTT, "acme-b", "look").await;
    assert_eq!(ready(&object)["reason"], "Conflict");
    assert_eq!(ready(&f.look(CTT, "acme-a", "look").await)["reason"], "InSync");
    assert_eq!(acme.counts().write, 1);

    f.ns.delete_object(CTT, "acme-a").await.unwrap();
    f.reason(CTT, "acme-b", "InSync").await;
    assert_eq!(acme.token_ttls(), (Some(600), Some(7200)));
    assert_eq!(exchanges(acme.counts()).3, 2);
    f.finish().await;
}

/// Two namespaces with a server and a customer each, of the same simulated server.
async fn neighbours(name: &str) -> (Fixture, Fixture, KonaServer, Customer) {
    let (first, kona) = world(&format!("{name}-a")).await;
    let second = Fixture::new(&format!("{name}-b")).await;
    second.kona(&kona).await;
    let acme = kona.add_customer(&id(1), "Acme");
    (first, second, kona, acme)
}

/// One operator for both.
async fn start(first: &mut Fixture, second: &Fixture) {
    let both = format!("{},{}", first.ns.name(), second.ns.name());
    first.start_with(&["--namespaces", &both, "--allow-cidr", "127.0.0.0/8", "--log-level", "trace"]).await;
}

fn names_nobody(object: &DynamicObject, others: &[&str]) {
    let conditions = status(object)["conditions"].to_string();
    assert!(others.iter().all(|other| !conditions.contains(other)), "{conditions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn suspension_passes_a_customer_on_across_namespaces() {
    let (mut first, second, kona, acme) = neighbours("across").await;
    first.apply(&customer("mine", acme.id(), 3600, 86400)).await;
    second.apply(&customer("yours", acme.id(), 600, 7200)).await;
    start(&mut first, &second).await;
    first.reason(CTT, "mine", "InSync").await;
    let loser = second.reason(CTT, "yours", "Conflict").await;
    names_nobody(&loser, &["mine", first.ns.name()]);
    assert_eq!(acme.counts().write, 1);

    first.patch(CTT, "mine", json!({"spec": {"suspend": true}})).await;
    second.reason(CTT, "yours", "InSync").await;
    assert_eq!(acme.token_ttls(), (Some(600), Some(7200)));
    first.patch(CTT, "mine", json!({"spec": {"suspend": false}})).await;
    second.reason(CTT, "yours", "Conflict").await;
    let object =
        first.wait(CTT, "mine", |o| condition(o, "Suspended").is_null() && acme.counts().write == 3).await;
    first.reason(CTT, "mine", "InSync").await;
    names_nobody(&object, &["yours", second.ns.name()]);
    assert_eq!(acme.token_ttls(), (Some(3600), Some(86400)));
    assert_eq!(acme.counts().write, 3);
    assert!(kona.created().is_empty());
    second.finish().await;
    first.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_while_it_is_undecided() {
    let (mut first, second, kona, acme) = neighbours("undecided").await;
    let gate = Gate::new();
    kona.fault(Fault::gate(&gate).on(Kind::Login).times(1));
    first.apply(&customer("mine", acme.id(), 3600, 86400)).await;
    second.ns.delete_object("KonaServer", "kona").await.unwrap();
    start(&mut first, &second).await;
    // The older one has not got in yet when the younger one comes.
    kona.requests().wait_arrived(Kind::Login, 1).await;
    second.apply(&kona_server("kona", &kona.url())).await;
    second.apply(&customer("yours", acme.id(), 600, 7200)).await;
    let waiting = second.reason(CTT, "yours", "Progressing").await;
    assert!(message(&waiting).contains("nothing is changed"), "{}", message(&waiting));
    names_nobody(&waiting, &["mine", first.ns.name()]);
    assert_eq!(acme.counts().write, 0);
    gate.open();
    first.reason(CTT, "mine", "InSync").await;
    second.reason(CTT, "yours", "Conflict").await;
    assert_eq!((acme.counts().write, acme.token_ttls()), (1, (Some(3600), Some(86400))));
    second.finish().await;
    first.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_does_not_own_anything() {
    let (mut first, second, _kona, acme) = neighbours("locked-out").await;
    first
        .ns
        .secret("kona-admin", &[("username", "tenant@example.net"), ("password", "planted-wrong-password")])
        .await
        .unwrap();
    first.apply(&customer("mine", acme.id(), 3600, 86400)).await;
    second.apply(&customer("yours", acme.id(), 600, 7200)).await;
    start(&mut first, &second).await;
    second.reason(CTT, "yours", "InSync").await;
    let object = first
        .wait(CTT, "mine", |o| ["ServerNotReady", "Conflict"].iter().any(|r| ready(o)["reason"] == *r))
        .await;
    names_nobody(&object, &["yours", second.ns.name()]);
    assert_eq!(acme.token_ttls(), (Some(600), Some(7200)));
    assert_eq!(acme.counts().write, 1);
    second.finish().await;
    first.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_even_try_holds_nobody_up() {
    let (mut f, kona) = world("cannot-try").await;
    let lax = json!({"spec": {"tls": {"insecureSkipVerify": true}}});
    f.apply(&with(kona_server("lax", &kona.url()), lax)).await;
    for n in 1..=2 {
        kona.add_customer(&id(n), "Customer");
    }
    let by_lax = json!({"spec": {"serverRef": {"name": "lax"}}});
    f.apply(&with(customer("a-forbidden", &id(1), 600, 7200), by_lax)).await;
    let by_login = json!({"spec": {"verifyCredentialsSecretRef": {"name": "nowhere"}}});
    f.apply(&with(customer("a-unproven", &id(2), 600, 7200), by_login)).await;
    f.apply(&customer("b-one", &id(1), 3600, 86400)).await;
    f.apply(&customer("b-two", &id(2), 3600, 86400)).await;
    f.start_with(&["--forbid-insecure-tls"]).await;
    f.reason(CTT, "b-one", "InSync").await;
    f.reason(CTT, "b-two", "InSync").await;
    f.reason("KonaServer", "lax", "InsecureTlsRefused").await;
    assert_eq!(kona.counts().write, 2);
    f.finish().await;
}
