//! What is wrong is said of the object that is wrong, with what to do; the neighbours do not notice.

use tenure_kit::faults::Fault;
use tenure_kit::kona::Failure;
use tenure_kit::requests::Kind;

use super::*;

/// A server that cannot be worked with: what is wrong with it, the reason it gives, the condition beside Ready, and words
/// of its message.
struct Bad {
    name: &'static str,
    spec: Value,
    reason: &'static str,
    beside: &'static str,
    words: &'static [&'static str],
}

fn bad(
    name: &'static str,
    spec: Value,
    reason: &'static str,
    beside: &'static str,
    words: &'static [&'static str],
) -> Bad {
    Bad { name, spec, reason, beside, words }
}

fn secret(name: &str) -> Value {
    json!({"credentialsSecretRef": {"name": name}})
}

fn ca(name: &str) -> Value {
    json!({"tls": {"caConfigMapRef": {"name": name}}})
}

fn bad_servers(kona: &KonaServer) -> Vec<Bad> {
    let plain = kona.url().replace("https", "http");
    let (going, failed) = ("Reconciling", "Stalled");
    vec![
        bad("no-secret", secret("nowhere"), "SecretNotFound", going, &["Secret nowhere", "create it"]),
        bad("no-key", secret("keyless"), "SecretKeyMissing", going, &["Secret keyless", "password"]),
        bad("empty", secret("empty"), "SecretKeyMissing", going, &["Secret empty", "password"]),
        bad("binary", secret("binary"), "SecretKeyMissing", going, &["Secret binary", "UTF-8"]),
        bad("typed", secret("typed"), "SecretTypeRefused", failed, &["Secret typed", "kubernetes.io/tls"]),
        bad(
            "elsewhere",
            secret("tied"),
            "OriginNotAllowed",
            failed,
            &["Secret tied", "tenure.dev/allowed-origins"],
        ),
        bad("no-map", ca("nowhere"), "ConfigMapNotFound", going, &["ConfigMap nowhere", "create it"]),
        bad("no-pem", ca("no-pem"), "CaUnusable", failed, &["ConfigMap no-pem", "PEM"]),
        bad("plain", json!({"url": plain}), "PlaintextRefused", failed, &["spec.url", "spec.allowPlaintext"]),
    ]
}

async fn bad_secrets(f: &Fixture) {
    let login = [("username", "tenant@example.net"), ("password", "kona-admin-password")];
    f.ns.secret("keyless", &login[..1]).await.unwrap();
    f.ns.secret("empty", &[login[0], ("password", "")]).await.unwrap();
    let manifest = |name: &str, rest: Value| {
        with(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}), rest)
    };
    let user = json!({"stringData": {"username": "tenant@example.net"}});
    f.apply(&manifest("binary", with(user, json!({"data": {"password": "//79"}})))).await;
    let all = json!({"stringData": {"username": "tenant@example.net", "password": "kona-admin-password"}});
    let tls = json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "", "tls.key": ""}});
    f.apply(&manifest("typed", with(all.clone(), tls))).await;
    let origins = json!({"metadata": {"annotations": {"tenure.dev/allowed-origins": "https://127.0.0.1, https://10.0.0.0/8"}}});
    f.apply(&manifest("tied", with(all, origins))).await;
    f.config_map("no-pem", "no certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_what_is_wrong_with_it() {
    let (mut f, kona) = world("bad-servers").await;
    let servers = bad_servers(&kona);
    bad_secrets(&f).await;
    for (n, Bad { name, spec, .. }) in servers.iter().enumerate() {
        kona.add_customer(&id(n), "Customer");
        f.apply(&with(kona_server(name, &kona.url()), json!({"spec": spec}))).await;
        f.apply(&with(customer(name, &id(n), 3600, 86400), json!({"spec": {"serverRef": {"name": name}}})))
            .await;
    }
    kona.add_customer(&id(99), "Healthy");
    f.apply(&customer("healthy", &id(99), 3600, 86400)).await;
    f.start().await;

    for Bad { name, reason, beside, words, .. } in &servers {
        let server = f.reason("KonaServer", name, reason).await;
        assert_eq!(condition(&server, beside)["status"], "True", "{name}");
        assert!(words.iter().all(|word| message(&server).contains(word)), "{name}: {}", message(&server));
        f.event(name, reason).await;
        let object = f.reason(CTT, name, "ServerNotReady").await;
        let text = format!("KonaServer {name} is not ready ({reason})");
        assert!(message(&object).contains(&text), "{name}: {}", message(&object));
    }
    f.reason(CTT, "healthy", "InSync").await;
    // The healthy one alone has asked anything.
    assert_eq!(exchanges(kona.counts()), (1, 0, 2, 1));

    // Corrected, it is at work at once; the rest goes on being wrong.
    f.patch("KonaServer", "plain", json!({"spec": {"url": kona.url()}})).await;
    f.reason(CTT, "plain", "InSync").await;
    f.ns.secret("nowhere", &[("username", "tenant@example.net"), ("password", "kona-admin-password")])
        .await
        .unwrap();
    let origins = format!("https://10.0.0.0/8, https://127.0.0.0/8:{}, tls=configmap/kona-ca", kona.port());
    f.patch("Secret", "tied", json!({"metadata": {"annotations": {"tenure.dev/allowed-origins": origins}}}))
        .await;
    for name in ["no-secret", "elsewhere"] {
        let found = f.ns.wait_for(CTT, name, AFTER_A_POLL, |object| ready(object)["reason"] == "InSync");
        found.await.unwrap();
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_says_how_far_one_got() {
    let (mut f, kona) = world("unreached").await;
    f.config_map("other-ca", &KonaServer::start(KonaOptions::default()).unwrap().ca_pem().unwrap()).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cases = [
        ("closed", json!({"url": format!("https://127.0.0.1:{closed}")}), "Unreachable", "refused"),
        ("metadata", json!({"url": "https://169.254.169.254"}), "AddressRefused", "--allow-cidr"),
        (
            "roots",
            json!({"tls": {"caConfigMapRef": {"name": "other-ca"}}}),
            "TlsFailed",
            "tls.caConfigMapRef",
        ),
        ("named", json!({"tls": {"serverName": "other.example.net"}}), "TlsFailed", "another name"),
    ];
    for (n, (name, spec, ..)) in cases.iter().enumerate() {
        f.apply(&with(kona_server(name, &kona.url()), json!({"spec": spec}))).await;
        f.apply(&with(customer(name, &id(n), 3600, 86400), json!({"spec": {"serverRef": {"name": name}}})))
            .await;
    }
    f.start().await;
    for (name, _, reason, word) in cases {
        let server = f.reason("KonaServer", name, reason).await;
        assert!(message(&server).contains(word), "{name}: {}", message(&server));
        let object = f.reason(CTT, name, reason).await;
        assert!(message(&object).contains(&format!("KonaServer {name}")), "{name}: {}", message(&object));
    }
    assert_eq!(exchanges(kona.counts()), (1, 0, 0, 0));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_says_what_is_wrong_with_its_answers() {
    let (mut f, kona) = world("bad-answers").await;
    let json = |failure: Failure| Fault::status(failure.codes().0, failure.body("no"));
    let other = kona.add_customer(&id(98), "Other").json().unwrap();
    let cases = [
        ("unknown", None, "CustomerNotFound", "Stalled", "spec.customerId"),
        ("forbidden", Some(json(Failure::Permission)), "Forbidden", "Stalled", "Grant it the permission"),
        ("elsewhere", Some(Fault::status(404, "{}")), "UnexpectedAnswer", "Reconciling", "the API's base"),
        ("broken", Some(json(Failure::General)), "UnexpectedAnswer", "Reconciling", "500"),
        ("page", Some(Fault::html()), "UnexpectedAnswer", "Reconciling", "check that the URL"),
        ("stranger", Some(Fault::body(other)), "UnexpectedAnswer", "Reconciling", "another customer"),
        ("nameless", Some(Fault::body("{}")), "UnexpectedAnswer", "Reconciling", "lacks the customer's id"),
        ("huge", Some(Fault::oversize(2_000_000)), "UnexpectedAnswer", "Reconciling", "too long"),
        ("cut", Some(Fault::truncate()), "Unreachable", "Reconciling", "before the answer was complete"),
    ];
    for (n, (name, fault, ..)) in cases.iter().enumerate() {
        if let Some(fault) = fault {
            kona.add_customer(&id(n), "Customer").fault(fault.clone().on(Kind::Get));
        }
        f.apply(&customer(name, &id(n), 3600, 86400)).await;
    }
    kona.add_customer(&id(99), "Healthy");
    f.apply(&customer("healthy", &id(99), 3600, 86400)).await;
    f.start().await;

    for (n, (name, _, reason, beside, word)) in cases.iter().enumerate() {
        let object = f.reason(CTT, name, reason).await;
        assert_eq!(condition(&object, beside)["status"], "True", "{name}");
        assert!(message(&object).contains(word), "{name}: {}", message(&object));
        let counts = kona.customer(&id(n)).counts();
        // Two or three more tries fit in until all cases were asked for.
        let most = if *beside == "Stalled" { 1 } else { 4 };
        assert!((1..=most).contains(&counts.get) && counts.write == 0, "{name}: {counts:?}");
    }
    f.reason(CTT, "healthy", "InSync").await;
    f.reason("KonaServer", "kona", "InSync").await;
    assert_eq!(kona.counts().login, 1);
    kona.customer(&id(3)).clear_faults();
    f.reason(CTT, "broken", "InSync").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_limits_requests_is_left_alone_by_all_its_customers() {
    let (mut f, kona) = world("limited").await;
    let limit = Fault::status(429, Failure::TooManyRequests.body("no")).retry_after("600");
    kona.fault(limit.on(Kind::Get));
    for n in 1..=2 {
        kona.add_customer(&id(n), "Customer");
    }
    f.apply(&customer("first", &id(1), 3600, 86400)).await;
    f.start().await;
    let first = f.reason(CTT, "first", "RateLimited").await;
    assert!(message(&first).contains("lower its spec.limits"), "{}", message(&first));
    f.apply(&customer("second", &id(2), 3600, 86400)).await;
    let second = f.reason(CTT, "second", "RateLimited").await;
    assert_eq!(message(&second), message(&first));
    assert_eq!(exchanges(kona.counts()), (1, 0, 1, 0));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_the_server_does_not_take_is_named_and_its_words_are_not_repeated() {
    let (mut f, kona) = world("fields").await;
    for (n, (name, words, reason, says)) in [
        ("email", "Invalid email address format 'planted'!", "UnexpectedAnswer", "field email"),
        ("unnamed", "planted", "UnexpectedAnswer", "status 400"),
        ("info", "Validation error: additionalInfo is planted", "AdditionalInfoUnusable", "additionalInfo"),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = Fault::status(400, Failure::BadRequest.body(words)).on(Kind::Write);
        kona.add_customer(&id(n), "Customer").fault(refused);
        f.apply(&customer(name, &id(n), 3600, 86400)).await;
        if f.operator.is_none() {
            f.start().await;
        }
        let object = f.reason(CTT, name, reason).await;
        assert!(message(&object).contains(says), "{name}: {}", message(&object));
        assert!(!message(&object).contains("planted"), "{}", message(&object));
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_fault_is_not_reported() {
    let (f, _kona, acme) = in_sync("blip").await;
    let before = f.get(CTT, "acme").await;
    acme.fault(Fault::status(500, "{}").on(Kind::Get).times(2));
    let object = f.look(CTT, "acme", "blip").await;
    assert_eq!(lasting(&object), lasting(&before));
    // The second try comes soon, the third one succeeds: nobody has noticed.
    acme.requests().wait_for(Kind::Get, 5).await;
    assert_eq!(lasting(&f.look(CTT, "acme", "over").await), lasting(&before));

    // Three in a row are reported.
    acme.fault(Fault::status(500, "{}").on(Kind::Get).times(3));
    f.request(CTT, "acme", "fault").await;
    f.reason(CTT, "acme", "UnexpectedAnswer").await;
    f.reason(CTT, "acme", "InSync").await;
    f.finish().await;
}
