//! Bad input: each ends in its reason, with a sentence that names the object and the remedy, without a request more than
//! needed, and everything else goes on undisturbed.

mod cases;

use serde_json::{Value, json};
use tenure_kit::canary::Canary;
use tenure_kit::faults::Fault;
use tenure_kit::requests::{Counts, Kind};

use cases::{Case, NONE, answers, clocks, destinations, references, secret};

use super::fixture::*;

async fn prepare(f: &Fixture, ca: &str) {
    let long = "p".repeat(4097);
    let login = |password| [("username", "admin"), ("password", password)];
    f.ns.secret("wrong", &login("planted-wrong-password")).await.unwrap();
    f.ns.secret("viewer", &[("username", "viewer"), ("password", "x2-viewer-password")]).await.unwrap();
    f.ns.secret("no-key", &[("username", "admin")]).await.unwrap();
    f.ns.secret("empty", &login("")).await.unwrap();
    f.ns.secret("long-password", &login(&long)).await.unwrap();
    f.ns.secret("elsewhere", &login("x2-admin-password")).await.unwrap();
    let origins = json!({"metadata": {"annotations": {"tenure.dev/allowed-origins": "https://10.0.0.0/8"}}});
    f.patch("Secret", "elsewhere", origins).await;
    f.config_map("no-pem", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n").await;
    f.config_map("long-ca", &ca.repeat(256 * 1024 / ca.len() + 1)).await;
    let of_type = |name: &str, kind: &str, data: Value| {
        let meta = json!({"name": name, "annotations": {"kubernetes.io/service-account.name": "default"}});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": kind, "data": data})
    };
    // "admin" in base64, and a byte that is no UTF-8.
    f.apply(&of_type("binary", "Opaque", json!({"username": "YWRtaW4=", "password": "/w=="}))).await;
    f.apply(&of_type("type-tls", "kubernetes.io/tls", json!({"tls.crt": "", "tls.key": ""}))).await;
    let docker = json!({".dockerconfigjson": "e30="});
    f.apply(&of_type("type-docker", "kubernetes.io/dockerconfigjson", docker)).await;
    f.apply(&of_type("type-dockercfg", "kubernetes.io/dockercfg", json!({".dockercfg": "e30="}))).await;
    f.apply(&of_type(
        "type-helm",
        "helm.sh/release.v1",
        json!({"username": "YWRtaW4=", "password": "YWRtaW4="}),
    ))
    .await;
    f.apply(&of_type("type-account", "kubernetes.io/service-account-token", json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_ends_in_its_reason() {
    let cases: Vec<Case> =
        [references(), destinations(), answers(), clocks()].into_iter().flatten().collect();
    let fleet = fleet(cases.len() + 1);
    let mut f = Fixture::new("bad").await;
    f.credentials(&fleet).await;
    prepare(&f, &fleet.ca_pem().unwrap()).await;
    for (index, case) in cases.iter().enumerate() {
        (case.setup)(&fleet.appliance(index));
        f.apply(&with(gateway(case.name, &fleet.appliance(index)), case.patch.clone())).await;
    }
    f.apply(&gateway("neighbour", &fleet.appliance(cases.len()))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    for (index, case) in cases.iter().enumerate() {
        let gateway = f.reason("X2Gateway", case.name, case.reason).await;
        let message = ready(&gateway)["message"].as_str().unwrap();
        assert!(message.contains(case.says), "{}: {message}", case.name);
        assert!(message.ends_with('.'), "{}: {message}", case.name);
        // The first look's requests, and no more: tries that may help come later.
        let requests = fleet.appliance(index).counts();
        assert!(
            requests.login >= case.requests.login && requests.write == case.requests.write,
            "{}: {requests:?}",
            case.name
        );
        let quick = ["Unreachable", "UnexpectedAnswer"].contains(&case.reason);
        assert!(quick || requests == case.requests, "{}: {requests:?}", case.name);
    }
    let neighbour = f.reason("X2Gateway", "neighbour", "InSync").await;
    assert_eq!(status(&neighbour)["provenTimeoutSeconds"], 28800);
    let failed = cases.iter().filter(|case| case.reason != "InSync").count();
    let policy = f.wait("TokenPolicy", "short", |p| status(p)["gateways"]["failed"] == failed).await;
    assert_eq!(ready(&policy)["reason"], "GatewaysNotReady");
    assert_eq!(status(&policy)["failures"].as_array().unwrap().len(), 20);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_never_followed() {
    let fleet = fleet(1);
    let canary = Canary::start().unwrap();
    fleet.appliance(0).fault(Fault::redirect(307, &canary.url()).on(Kind::Login).times(1));
    fleet.appliance(0).fault(Fault::redirect(302, &canary.url()).on(Kind::Get));
    let mut f = Fixture::new("redirect").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.start().await;
    let gateway = f.reason("X2Gateway", "x2-1", "UnexpectedAnswer").await;
    assert!(ready(&gateway)["message"].as_str().unwrap().contains("redirect"));
    fleet.appliance(0).requests().wait_for(Kind::Get, 1).await;
    assert_eq!(canary.counts(), Counts::default());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_reference_is_noticed_when_it_appears() {
    let fleet = fleet(1);
    let mut f = Fixture::new("later").await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "ConfigMapNotFound").await;
    f.credentials(&fleet).await;
    f.ns.wait_for("X2Gateway", "x2-1", 3 * SOON, |g| ready(g)["reason"] == "Unmanaged").await.unwrap();
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_switches_of_the_operator_hold() {
    let fleet = fleet(3);
    let mut f = Fixture::new("switches").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("unlisted", &fleet.appliance(0))).await;
    let listed =
        f.ns.secret("listed", &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
    let port = fleet.appliance(0).port();
    let origins = format!("https://127.0.0.0/8:{port}, tls=configmap/x2-ca, tls=insecure");
    f.patch(
        "Secret",
        "listed",
        json!({"metadata": {"annotations": {"tenure.dev/allowed-origins": origins}}}),
    )
    .await;
    let insecure =
        json!({"spec": {"tls": {"insecureSkipVerify": true}, "credentialsSecretRef": {"name": "listed"}}});
    f.apply(&with(gateway("insecure", &fleet.appliance(1)), insecure)).await;
    f.apply(&with(gateway("listed", &fleet.appliance(2)), secret("listed"))).await;
    f.apply(&gateway_at("denied", "https://10.9.8.7")).await;
    f.patch("X2Gateway", "denied", secret("listed")).await;
    let plain = json!({"spec": {"allowPlaintext": true}});
    f.apply(&with(gateway_at("plain", "http://127.0.0.1:1"), plain)).await;
    let namespace = f.ns.name().to_owned();
    let flags = [
        "--namespaces",
        &namespace,
        "--allow-cidr",
        "127.0.0.0/8",
        "--deny-cidr",
        "10.9.0.0/16",
        "--forbid-insecure-tls",
        "--forbid-plaintext",
        "--require-allowed-origins",
        "--log-level",
        "trace",
    ];
    f.start_with(&flags).await;
    f.reason("X2Gateway", "unlisted", "OriginNotAllowed").await;
    f.reason("X2Gateway", "insecure", "InsecureTlsRefused").await;
    f.reason("X2Gateway", "listed", "Unmanaged").await;
    f.reason("X2Gateway", "denied", "OriginNotAllowed").await;
    f.reason("X2Gateway", "plain", "PlaintextRefused").await;
    assert_eq!([0, 1].map(|index| fleet.appliance(index).counts()), [NONE, NONE]);
    drop(listed);
    f.kill().await;

    // Without leave, loopback addresses are not dialled.
    f.start_with(&["--namespaces", &namespace]).await;
    f.request("X2Gateway", "insecure", "now").await;
    f.reason("X2Gateway", "insecure", "AddressRefused").await;
    assert_eq!(fleet.appliance(1).counts(), NONE);
    f.kill().await;

    f.start_with(&["--forbid-custom-ca", "--forbid-proxy"]).await;
    let proxied = json!({"spec": {"proxyUrl": "http://127.0.0.1:1"}});
    f.patch("X2Gateway", "insecure", proxied).await;
    f.request("X2Gateway", "listed", "now").await;
    f.reason("X2Gateway", "insecure", "AddressRefused").await;
    f.reason("X2Gateway", "listed", "CaUnusable").await;
    assert_eq!(fleet.appliance(1).counts(), NONE);
    f.finish().await;
}

/// Anyone who may edit a gateway, and controls one host that a Secret lists, still does not get its password.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_only_where_its_secret_trusts_the_other_side() {
    let (fleet, sink) = (fleet(2), fleet(1));
    let mut f = Fixture::new("trust").await;
    f.credentials(&fleet).await;
    f.config_map("own-ca", &sink.ca_pem().unwrap()).await;
    let (own, at_sink) = (sink.appliance(0), format!("https://127.0.0.0/8:{}", sink.appliance(0).port()));
    let block = format!("https://127.0.0.0/8:{}, {at_sink}", fleet.appliance(0).port());
    let pinned = format!("tls=sha256:{}", fingerprint(&fleet.ca_pem().unwrap()));
    for (name, tls) in [("plain", ""), ("named", "tls=configmap/x2-ca"), ("pinned", &pinned)] {
        f.ns.secret(name, &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
        let annotations = json!({"tenure.dev/allowed-origins": format!("{block}, {tls}")});
        f.patch("Secret", name, json!({"metadata": {"annotations": annotations}})).await;
    }
    let attacks = [
        ("any", json!({"tls": {"insecureSkipVerify": true}})),
        ("ca", json!({"tls": {"caConfigMapRef": {"name": "own-ca"}}})),
        ("name", json!({"tls": {"caConfigMapRef": {"name": "x2-ca"}, "serverName": own.dns_name()}})),
        ("proxy", json!({"tls": {"caConfigMapRef": {"name": "x2-ca"}}, "proxyUrl": own.url()})),
    ];
    let names: Vec<String> = ["plain", "named", "pinned"]
        .into_iter()
        .flat_map(|secret| attacks.each_ref().map(|(attack, _)| format!("{secret}-{attack}")))
        .collect();
    for name in &names {
        let (secret_name, attack) = name.split_once('-').unwrap();
        let (_, spec) = attacks.iter().find(|(name, _)| *name == attack).unwrap();
        // Each at a URL of its own: they are not to be in each other's way.
        let hostile = with(gateway(name, &own), json!({"spec": {"url": format!("{}/{name}", own.url())}}));
        f.apply(&with(with(hostile, json!({"spec": spec})), secret(secret_name))).await;
    }
    for (index, name) in ["named", "pinned"].into_iter().enumerate() {
        f.apply(&with(gateway(name, &fleet.appliance(index)), secret(name))).await;
    }
    f.start().await;
    for name in &names {
        let gateway = f.reason("X2Gateway", name, "OriginNotAllowed").await;
        let message = ready(&gateway)["message"].as_str().unwrap();
        assert!(message.contains("tenure.dev/allowed-origins"), "{name}: {message}");
    }
    for name in ["named", "pinned"] {
        f.reason("X2Gateway", name, "Unmanaged").await;
    }
    assert_eq!((sink.counts(), sink.requests().connections()), (NONE, 0));
    f.finish().await;
}

/// SHA-256 of a PEM certificate, as `openssl x509 -fingerprint -sha256` prints it.
fn fingerprint(pem: &str) -> String {
    let ca = tenure::vendor::ca::Ca::parse(pem).unwrap();
    ca.fingerprints()[0].map(|byte| format!("{byte:02X}")).join(":")
}

#[tokio::test(flavor = "multi_thread")]
async fn unprotected_connections_are_shown() {
    let fleet = fleet(1);
    let options = tenure_kit::x2::FleetOptions { tls: false, ..Default::default() };
    let plain = tenure_kit::x2::X2Fleet::start(options).unwrap();
    let mut f = Fixture::new("insecure").await;
    f.credentials(&fleet).await;
    let skip = json!({"spec": {"tls": {"insecureSkipVerify": true, "caConfigMapRef": null}}});
    f.apply(&with(gateway("unchecked", &fleet.appliance(0)), skip)).await;
    f.apply(&with(
        gateway("plain", &plain.appliance(0)),
        json!({"spec": {"allowPlaintext": true, "tls": null}}),
    ))
    .await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    for name in ["unchecked", "plain"] {
        let gateway = f.reason("X2Gateway", name, "InSync").await;
        assert_eq!(condition(&gateway, "Insecure")["status"], "True");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_name_is_verified_instead_of_the_host() {
    let fleet = fleet(2);
    let mut f = Fixture::new("sni").await;
    f.credentials(&fleet).await;
    let named = |name: &str| json!({"spec": {"tls": {"serverName": name}}});
    f.apply(&with(gateway("right", &fleet.appliance(0)), named(fleet.appliance(0).dns_name()))).await;
    f.apply(&with(gateway("wrong", &fleet.appliance(1)), named(fleet.appliance(0).dns_name()))).await;
    f.start().await;
    f.reason("X2Gateway", "right", "Unmanaged").await;
    f.reason("X2Gateway", "wrong", "TlsFailed").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_schema_is_reported_and_the_rest_goes_on() {
    let fleet = fleet(2);
    // The schema belongs to everybody.
    let mut f = Fixture::alone("schema").await;
    f.credentials(&fleet).await;
    for index in 0..2 {
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    let other = json!({"metadata": {"labels": {"site": "paris"}}});
    f.patch("X2Gateway", "x2-1", other).await;
    let berlin = json!({"gatewaySelector": {"matchLabels": {"site": "berlin"}}, "timeoutSeconds": 28800});
    f.apply(&policy("berlin", berlin)).await;
    f.apply(&policy("z-rest", json!({"timeoutSeconds": 3600}))).await;
    let loosen = json!([
        {"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
         "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    ]);
    let crds = f.ns.api("CustomResourceDefinition").await.unwrap();
    let names = ["x2gateways.tenure.dev", "tokenpolicies.tenure.dev"];
    for name in names {
        let patch: json_patch::Patch = serde_json::from_value(loosen.clone()).unwrap();
        let patch = kube::api::Patch::Json::<()>(patch);
        crds.patch(name, &kube::api::PatchParams::default(), &patch).await.unwrap();
    }
    f.start().await;
    f.reason("X2Gateway", "x2-0", "InSync").await;
    let writes = fleet.appliance(0).counts().write;
    until_accepted(&f, "X2Gateway", with(gateway("old", &fleet.appliance(1)), json!({"spec": {"url": 7}})))
        .await;
    until_accepted(&f, "TokenPolicy", policy("berlin", json!({"timeoutSeconds": "planted-wrong-password"})))
        .await;
    // Nobody knows what to restore of one that goes; it does so by the same rules as others. Under the stricter schema the API
    // server would take no change of it at all.
    let held = json!({"metadata": {
        "finalizers": ["tenure.dev/restore"], "annotations": {"tenure.dev/skip-restore": "true"},
    }, "spec": {"url": 7}});
    f.apply(&with(gateway("leaving", &fleet.appliance(1)), held)).await;
    f.ns.delete_object("X2Gateway", "leaving").await.unwrap();
    f.ns.wait_until_gone("X2Gateway", "leaving", SOON).await.unwrap();
    // Under the stricter schema the API server refuses each write of an object on which one of its rules fails.
    f.reason("X2Gateway", "old", "InvalidSpec").await;
    f.reason("TokenPolicy", "berlin", "InvalidSpec").await;
    tenure_kit::namespace::install_crds(&f.plane, &root().join("crds")).await.unwrap();

    let old = f.reason("X2Gateway", "old", "InvalidSpec").await;
    assert_eq!(condition(&old, "Stalled")["status"], "True");
    assert!(ready(&old)["message"].as_str().unwrap().contains("kubectl explain"));
    f.reason("TokenPolicy", "berlin", "InvalidSpec").await;
    // The states of its gateways are not known any more: they are not shown as they were.
    let metrics = f.operator().metrics().await.unwrap();
    assert!(!metrics.contains("tenure_gateways{policy=\"berlin\""), "{metrics}");
    assert!(metrics.contains("tenure_gateways{policy=\"z-rest\""), "{metrics}");
    // What it governed is not handed over to the next policy: nobody knows what it wants.
    let held = f.reason("X2Gateway", "x2-0", "InvalidSpec").await;
    assert_eq!(status(&held)["policy"], "berlin");
    assert_eq!((fleet.appliance(0).timeout(), fleet.appliance(0).counts().write), (28800, writes));
    f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(fleet.appliance(1).timeout(), 3600);
    f.ns.delete_object("TokenPolicy", "berlin").await.unwrap();
    f.event("leaving", "RestoreSkipped").await;
    f.finish().await;
}

/// Applies an object as soon as the API server serves the looser schema.
async fn until_accepted(f: &Fixture, kind: &str, manifest: Value) {
    let deadline = tokio::time::Instant::now() + SOON;
    while let Err(error) = f.ns.apply_yaml(&manifest.to_string()).await {
        assert!(tokio::time::Instant::now() < deadline, "{kind}: {error:#}");
        tokio::task::yield_now().await;
    }
}
