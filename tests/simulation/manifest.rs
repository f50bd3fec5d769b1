//! The objects of the schedules, as their users write them.

use serde_json::{Value, json};

/// The namespace that all objects are in.
pub const NAMESPACE: &str = "field";
/// The label `scope` of the objects that an operator sees which is started with a selector.
pub const IN_SCOPE: &str = "in";
/// The same of those that it does not see.
pub const OUT_OF_SCOPE: &str = "out";

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn secret(name: &str, user: &str, password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "Opaque", "data": credentials(user, password),
    })
}

/// The data of a Secret.
pub fn credentials(user: &str, password: &str) -> Value {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    json!({"username": encode(user), "password": encode(password)})
}

pub fn gateway(name: &str, url: &str, secret: &str, group: &str) -> Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"group": group, "scope": IN_SCOPE}},
        "spec": {"url": url, "credentialsSecretRef": {"name": secret}},
    })
}

/// A policy for the gateways of a group, with what else its spec says.
pub fn policy(name: &str, group: &str, spec: &Value) -> Value {
    let mut policy = json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"scope": IN_SCOPE}},
        "spec": {"gatewaySelector": {"matchLabels": {"group": group}}},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        policy["spec"][field] = value.clone();
    }
    policy
}

pub fn server(name: &str, url: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "KonaServer",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"scope": IN_SCOPE}},
        "spec": {"url": url, "credentialsSecretRef": {"name": secret}},
    })
}

/// The lifetimes of a customer, with what else the spec says.
pub fn customer(name: &str, server: &str, id: &str, spec: &Value) -> Value {
    let mut customer = json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "CustomerTokenTtl",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"scope": IN_SCOPE}},
        "spec": {"serverRef": {"name": server}, "customerId": id},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        customer["spec"][field] = value.clone();
    }
    customer
}
