//! What the API server writes out, and that it keeps what was applied.

use serde_json::{Value, json};

use super::super::fixture::*;

const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";

fn manifest(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "tenure.dev/v1alpha1", "kind": kind, "metadata": {"name": "defaults"}, "spec": spec})
}

/// Applies a spec and reads it back.
async fn read_back(f: &Fixture, kind: &str, spec: Value) -> Value {
    f.apply(&manifest(kind, spec)).await;
    f.get(kind, "defaults").await.data
}

#[tokio::test(flavor = "multi_thread")]
async fn every_default_is_written_out() {
    let f = Fixture::new("defaults").await;
    let connection = json!({
        "url": "https://10.20.0.11", "credentialsSecretRef": {"name": "login"},
        "tls": {"caSecretRef": {"name": "ca"}},
    });
    let connected = json!({
        "url": "https://10.20.0.11",
        "credentialsSecretRef": {"name": "login", "usernameKey": "username", "passwordKey": "password"},
        "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}, "insecureSkipVerify": false},
        "allowPlaintext": false, "requestTimeout": "10s", "suspend": false,
    });
    let limits = json!({"limits": {"requestsPerSecond": 20, "maxConcurrent": 8}});
    let ttl = json!({
        "serverRef": {"name": "kona"}, "customerId": ID, "accessTokenTtlSeconds": 3600,
        "refreshTokenTtlSeconds": 86400, "verifyCredentialsSecretRef": {"name": "user"},
    });
    let ttl_defaults = json!({
        "mode": "Enforce", "suspend": false, "interval": "10m", "deletionPolicy": "Retain",
        "verifyCredentialsSecretRef": {"usernameKey": "username", "passwordKey": "password"},
    });
    let policy_defaults = json!({
        "priority": 0, "mode": "Enforce", "suspend": false, "interval": "10m",
        "revokeTokens": "Never", "deletionPolicy": "Retain",
        "rollout": {"maxConcurrent": 10, "maxFailures": 3, "canary": {"approval": "Automatic"}},
    });
    let policy = json!({"gatewaySelector": {}, "timeoutSeconds": 28800, "rollout": {"canary": {"count": 1}}});
    for (kind, applied, expected) in [
        ("X2Gateway", connection.clone(), connected.clone()),
        ("KonaServer", connection, with(connected, limits)),
        ("TokenPolicy", policy.clone(), with(policy, policy_defaults)),
        ("CustomerTokenTtl", ttl.clone(), with(ttl, ttl_defaults)),
    ] {
        let object = read_back(&f, kind, applied).await;
        assert_eq!(object["spec"], expected, "{kind}");
        assert_eq!(object["status"], json!({"observedGeneration": -1}), "{kind}");
    }
    let config_map = json!({"tls": {"caConfigMapRef": {"name": "ca"}}});
    let spec = with(json!({"url": "https://a", "credentialsSecretRef": {"name": "login"}}), config_map);
    let tls = &f.apply(&with(manifest("X2Gateway", spec), json!({"metadata": {"name": "other"}}))).await.data
        ["spec"]["tls"];
    assert_eq!(*tls, json!({"caConfigMapRef": {"name": "ca", "key": "ca.crt"}, "insecureSkipVerify": false}));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_reads_back_the_same() {
    let f = Fixture::new("readback").await;
    let connection = json!({
        "url": "https://X2.Example.net.:443/prefix/",
        "credentialsSecretRef": {"name": "login", "usernameKey": "user.Name", "passwordKey": "_"},
        "tls": {"caConfigMapRef": {"name": "ca", "key": "tls.crt"}, "insecureSkipVerify": true},
        "allowPlaintext": true, "proxyUrl": "http://Proxy.example:3128/", "requestTimeout": "00m090s", "suspend": true,
    });
    let limits = json!({"limits": {"requestsPerSecond": 1, "maxConcurrent": 256}});
    let policy = json!({
        "gatewaySelector": {
            "matchLabels": {"site": "berlin", "example.net/Rack": ""},
            "matchExpressions": [
                {"key": "b", "operator": "NotIn", "values": ["z", "a"]}, {"key": "a", "operator": "Exists", "values": []},
            ],
        },
        "minTimeoutSeconds": 600, "maxTimeoutSeconds": 43200, "priority": -7, "mode": "Observe", "suspend": true,
        "interval": "0h60m", "revokeTokens": "OnTightening", "deletionPolicy": "Restore",
        "rollout": {
            "maxConcurrent": "10%", "maxFailures": 0,
            "canary": {"selector": {"matchLabels": {"canary": "true"}}, "soak": "0h90m", "approval": "Required"},
        },
    });
    let ttl = json!({
        "serverRef": {"name": "kona.eu"}, "customerId": ID, "accessTokenTtlSeconds": 60, "refreshTokenTtlSeconds": 60,
        "mode": "Observe", "suspend": true, "interval": "86400s", "deletionPolicy": "Restore",
        "verifyCredentialsSecretRef": {"name": "user", "usernameKey": "a", "passwordKey": "b"},
    });
    for (kind, spec) in [
        ("X2Gateway", connection.clone()),
        ("KonaServer", with(connection, limits)),
        ("TokenPolicy", policy),
        ("CustomerTokenTtl", ttl),
    ] {
        let object = read_back(&f, kind, spec.clone()).await;
        assert_eq!(object["spec"].to_string(), spec.to_string(), "{kind}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typed_kinds_lose_nothing_that_the_api_server_keeps() {
    let f = Fixture::new("typed").await;
    let rollout = json!({"canary": {"count": 2, "soak": "1h"}, "maxConcurrent": "5%"});
    let spec =
        json!({"gatewaySelector": {"matchExpressions": []}, "minTimeoutSeconds": 900, "rollout": rollout});
    let object = read_back(&f, "TokenPolicy", spec).await;
    let typed: tenure::crd::TokenPolicySpec = serde_json::from_value(object["spec"].clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), object["spec"]);
    let spec = json!({"url": "https://a", "credentialsSecretRef": {"name": "login"}, "tls": {}});
    let object = read_back(&f, "X2Gateway", spec.clone()).await;
    let typed: tenure::crd::X2GatewaySpec = serde_json::from_value(object["spec"].clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), object["spec"]);
    let object = read_back(&f, "KonaServer", spec).await;
    let typed: tenure::crd::KonaServerSpec = serde_json::from_value(object["spec"].clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), object["spec"]);
    f.finish().await;
}
