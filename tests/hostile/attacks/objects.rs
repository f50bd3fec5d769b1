//! Attacks by objects: many, long, or changed all the time.

use serde_json::{Value, json};

use super::super::fixture::{fleet, gateway, gateway_at, policy, with};
use super::super::hostile::Hostile;
use super::silent;

pub async fn long_annotation(hostile: &Hostile) {
    let silent = silent(1000);
    hostile.credentials(&silent).await;
    hostile.apply_all(silent.appliances().map(|appliance| gateway(appliance.name(), &appliance))).await;
    let long = json!({"tenure.dev/reconcile-requested-at": "x".repeat(250_000)});
    let patch = json!({"metadata": {"annotations": long}});
    hostile.apply(with(policy("all", json!({"timeoutSeconds": 28_800})), patch)).await;
    hostile.keep(silent);
}

pub async fn long_ca(hostile: &Hostile) {
    let silent = silent(320);
    let ca = silent.ca_pem().unwrap();
    hostile.credentials(&silent).await;
    hostile.config_map("bundle", &ca.repeat(200 * 1024 / ca.len())).await;
    hostile.config_map("text", &format!("{ca}{}", "x".repeat(900_000))).await;
    let gateways = silent.appliances().map(|appliance| {
        let map = if appliance.index() < 300 { "bundle" } else { "text" };
        let trust = json!({"spec": {"tls": {"caConfigMapRef": {"name": map}}}});
        with(gateway(appliance.name(), &appliance), trust)
    });
    hostile.apply_all(gateways).await;
    hostile.keep(silent);
}

pub async fn many_transports(hostile: &Hostile) {
    let fleet = fleet(10);
    hostile.credentials(&fleet).await;
    hostile.apply_all(fleet.appliances().map(|appliance| gateway(appliance.name(), &appliance))).await;
    let named = |number| json!({"spec": {"tls": {"serverName": format!("n{number}.example.net")}}});
    let edits = fleet.appliances().map(async |appliance| {
        hostile.patch("X2Gateway", appliance.name(), (0..500).map(named)).await;
    });
    futures::future::join_all(edits).await;
    hostile.keep(fleet);
}

pub async fn one_url(hostile: &Hostile) {
    let silent = silent(1);
    hostile.credentials(&silent).await;
    let gateways = (0..3_000).map(|index| gateway(&format!("gateway-{index:04}"), &silent.appliance(0)));
    hostile.apply_all(gateways).await;
    let flip =
        |number: u64| ("gateway-0000".to_owned(), json!({"spec": {"suspend": number.is_multiple_of(2)}}));
    hostile.keep_patching("X2Gateway", flip).await;
    hostile.keep(silent);
}

pub async fn many_policies(hostile: &Hostile) {
    let suspended = json!({"spec": {"suspend": true}});
    let url = |index| format!("https://127.1.0.{index}");
    let gateways = (0..200)
        .map(|index| with(gateway_at(&format!("gateway-{index:03}"), &url(index)), suspended.clone()));
    hostile.apply_all(gateways).await;
    let observe = json!({"timeoutSeconds": 28_800, "mode": "Observe"});
    hostile.apply_all((0..200).map(|index| policy(&format!("policy-{index:03}"), observe.clone()))).await;
    hostile.keep_patching("X2Gateway", |number| ("gateway-000".to_owned(), label(number))).await;
    let priority = |number| json!({"spec": {"priority": number % 1_000}});
    hostile.keep_patching("TokenPolicy", move |number| ("policy-000".to_owned(), priority(number))).await;
}

fn label(number: u64) -> Value {
    json!({"metadata": {"labels": {"site": format!("site-{number}")}}})
}

pub async fn many_windows(hostile: &Hostile) {
    let suspended = json!({"spec": {"suspend": true}});
    hostile.apply(with(gateway_at("gateway", "https://127.1.0.1"), suspended)).await;
    let policies = (0..1_001).map(|index| {
        let schedule = format!("{} {} 1 * *", index % 60, index / 60);
        let windows = json!([{"schedule": schedule, "duration": "1m"}]);
        policy(&format!("policy-{index:04}"), json!({"timeoutSeconds": 28_800, "windows": windows}))
    });
    hostile.apply_all(policies).await;
    hostile.keep_patching("X2Gateway", |number| ("gateway".to_owned(), label(number))).await;
}

pub async fn flapping(hostile: &Hostile) {
    const GATEWAYS: u64 = 300;
    hostile.secrets().await;
    let name = |index: u64| format!("gateway-{index:03}");
    let plain = json!({"spec": {"tls": null}});
    let url = |index: u64| format!("http://127.2.{}.{}:1", index / 250, index % 250 + 1);
    hostile
        .apply_all((0..GATEWAYS).map(|index| with(gateway_at(&name(index), &url(index)), plain.clone())))
        .await;
    let flip = move |number: u64| {
        let round = number / GATEWAYS;
        (name(number % GATEWAYS), json!({"spec": {"allowPlaintext": round.is_multiple_of(2)}}))
    };
    hostile.keep_patching("X2Gateway", flip).await;
}
