//! Attacks on passwords and by means of them.

use serde_json::{Value, json};
use tenure_kit::raw::{RawServer, long_token, whole};

use super::super::fixture::{fleet, gateway, gateway_at, policy, with};
use super::super::hostile::Hostile;
use super::super::world::World;
use super::silent;

pub async fn borrowed(world: &World, _hostile: &Hostile) {
    let canary = world.canary.url();
    let appliance = world.fleet.appliance(0).url();
    let elsewhere = json!({"url": canary, "allowPlaintext": true, "tls": null});
    for (name, spec) in [
        ("elsewhere", elsewhere),
        ("proxy", json!({"url": appliance, "proxyUrl": canary})),
        ("insecure", json!({"url": appliance, "tls": {"insecureSkipVerify": true, "caConfigMapRef": null}})),
        ("named", json!({"url": appliance, "tls": {"serverName": "evil.example.net"}})),
    ] {
        let patch = json!({"metadata": {"labels": {"site": "elsewhere"}}, "spec": spec});
        world.f.apply(&with(gateway_at(&format!("borrowed-{name}"), &canary), patch)).await;
    }
    for name in ["elsewhere", "proxy", "insecure", "named"] {
        world.f.reason("X2Gateway", &format!("borrowed-{name}"), "OriginNotAllowed").await;
    }
}

pub async fn wrong_password(world: &World, hostile: &Hostile) {
    hostile.credentials(&world.fleet).await;
    hostile
        .ns
        .secret("x2-admin", &[("username", "admin"), ("password", "planted-wrong-password")])
        .await
        .unwrap();
    hostile.apply_all(world.fleet.appliances().map(|appliance| gateway(appliance.name(), &appliance))).await;
    hostile.apply(policy("all", json!({"timeoutSeconds": 600}))).await;
    hostile.keep_patching("TokenPolicy", |number| ("all".to_owned(), asked(number))).await;
}

/// A request for a check, each another one.
fn asked(number: u64) -> Value {
    json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": number.to_string()}}})
}

pub async fn long(hostile: &Hostile) {
    let silent = silent(35);
    hostile.credentials(&silent).await;
    // Of three bytes 0x01 each, which take six bytes in JSON.
    let login = json!({"x": "AQEB".repeat(333_000)});
    hostile
        .apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "long"}, "data": login}))
        .await;
    let with_it = json!({"spec": {
        "requestTimeout": "5m",
        "credentialsSecretRef": {"name": "long", "usernameKey": "x", "passwordKey": "x"},
    }});
    hostile.apply_all(silent.appliances().map(|a| with(gateway(a.name(), &a), with_it.clone()))).await;
    hostile.keep(silent);
}

pub async fn large_secrets(hostile: &Hostile) {
    let fleet = fleet(200);
    hostile.credentials(&fleet).await;
    let rest = "x".repeat(1_000_000);
    let data = json!({"username": "admin", "password": "x2-admin-password", "rest": rest});
    let secrets = fleet.appliances().map(|appliance| {
        let metadata = json!({"name": appliance.name()});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
    });
    hostile.apply_all(secrets).await;
    let with_it = |name: &str| json!({"spec": {"credentialsSecretRef": {"name": name}}});
    hostile.apply_all(fleet.appliances().map(|a| with(gateway(a.name(), &a), with_it(a.name())))).await;
    hostile.apply(policy("all", json!({"timeoutSeconds": 600, "interval": "30s"}))).await;
    hostile.keep(fleet);
}

pub async fn long_tokens(hostile: &Hostile) {
    const GATEWAYS: usize = 300;
    let server = RawServer::start(&long_token(8_000), whole(r#"{"timeout_seconds":86400}"#)).await.unwrap();
    hostile.secrets().await;
    let name = |index: usize| format!("gateway-{index:03}");
    let url = |index: usize, round: usize| format!("{}/{round}/{index}", server.url());
    let plain = json!({"spec": {"allowPlaintext": true, "tls": null}});
    let gateways = (0..GATEWAYS).map(|index| with(gateway_at(&name(index), &url(index, 0)), plain.clone()));
    hostile.apply_all(gateways).await;
    for round in 1..3 {
        // Until each has logged in.
        server.wait_asked((round * GATEWAYS) as u64).await;
        let moved = |index| (name(index), json!({"spec": {"url": url(index, round)}}));
        hostile.patch_all("X2Gateway", (0..GATEWAYS).map(moved)).await;
    }
    hostile.keep(server);
}
