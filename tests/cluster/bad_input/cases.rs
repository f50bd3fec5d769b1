//! The faults: what is wrong, what it ends in, and what it may cost.

use serde_json::{Value, json};
use tenure_kit::faults::Fault;
use tenure_kit::pki::Certificate;
use tenure_kit::requests::{Counts, Kind};
use tenure_kit::x2::{Appliance, TokenShape};

pub const NONE: Counts = Counts { login: 0, refresh: 0, get: 0, write: 0, delete: 0, other: 0 };
const LOGIN: Counts = Counts { login: 1, ..NONE };
const LOOK: Counts = Counts { get: 1, ..LOGIN };

pub struct Case {
    pub name: &'static str,
    /// Merged into the gateway.
    pub patch: Value,
    /// What is wrong with the appliance.
    pub setup: fn(&Appliance),
    pub reason: &'static str,
    pub says: &'static str,
    pub requests: Counts,
}

fn case(
    name: &'static str,
    patch: Value,
    reason: &'static str,
    says: &'static str,
    requests: Counts,
) -> Case {
    Case { name, patch, setup: |_| {}, reason, says, requests }
}

fn broken(
    name: &'static str,
    setup: fn(&Appliance),
    reason: &'static str,
    says: &'static str,
    requests: Counts,
) -> Case {
    Case { name, patch: json!({}), setup, reason, says, requests }
}

pub fn secret(name: &str) -> Value {
    json!({"spec": {"credentialsSecretRef": {"name": name}}})
}

pub fn references() -> Vec<Case> {
    vec![
        case("no-secret", secret("absent"), "SecretNotFound", "Secret absent", NONE),
        case("no-key", secret("no-key"), "SecretKeyMissing", "Secret no-key has no key password", NONE),
        case(
            "empty",
            secret("empty"),
            "SecretKeyMissing",
            "Secret empty has an empty value for key password",
            NONE,
        ),
        case(
            "long-password",
            secret("long-password"),
            "SecretKeyMissing",
            "Secret long-password has more than 4096 bytes for key password",
            NONE,
        ),
        case("binary", secret("binary"), "SecretKeyMissing", "does not have UTF-8", NONE),
        case("tls-secret", secret("type-tls"), "SecretTypeRefused", "kubernetes.io/tls", NONE),
        case("docker-secret", secret("type-docker"), "SecretTypeRefused", "Secret type-docker", NONE),
        case("dockercfg-secret", secret("type-dockercfg"), "SecretTypeRefused", "Opaque", NONE),
        case("helm-secret", secret("type-helm"), "SecretTypeRefused", "helm.sh/release.v1", NONE),
        case("account-secret", secret("type-account"), "SecretTypeRefused", "service-account-token", NONE),
        case("origin", secret("elsewhere"), "OriginNotAllowed", "allowed-origins of Secret elsewhere", NONE),
        case(
            "no-map",
            json!({"spec": {"tls": {"caConfigMapRef": {"name": "absent"}}}}),
            "ConfigMapNotFound",
            "ConfigMap absent",
            NONE,
        ),
        case(
            "no-map-key",
            json!({"spec": {"tls": {"caConfigMapRef": {"key": "other"}}}}),
            "CaUnusable",
            "ConfigMap x2-ca has no key other",
            NONE,
        ),
        case(
            "no-pem",
            json!({"spec": {"tls": {"caConfigMapRef": {"name": "no-pem"}}}}),
            "CaUnusable",
            "Key ca.crt of ConfigMap no-pem",
            NONE,
        ),
        case(
            "long-ca",
            json!({"spec": {"tls": {"caConfigMapRef": {"name": "long-ca"}}}}),
            "CaUnusable",
            "more than 256 KiB",
            NONE,
        ),
        case(
            "no-ca-secret",
            json!({"spec": {"tls": {"caConfigMapRef": null, "caSecretRef": {"name": "absent-ca"}}}}),
            "SecretNotFound",
            "Secret absent-ca",
            NONE,
        ),
    ]
}

pub fn destinations() -> Vec<Case> {
    vec![
        case(
            "metadata",
            json!({"spec": {"url": "https://169.254.169.254"}}),
            "AddressRefused",
            "--allow-cidr",
            NONE,
        ),
        case(
            "nowhere",
            json!({"spec": {"url": "https://x2.invalid"}}),
            "Unreachable",
            "does not resolve",
            NONE,
        ),
        case("closed", json!({"spec": {"url": "https://127.0.0.1:1"}}), "Unreachable", "refused", NONE),
        case(
            "plain",
            json!({"spec": {"url": "http://127.0.0.1:1"}}),
            "PlaintextRefused",
            "spec.allowPlaintext",
            NONE,
        ),
        case("no-proxy", json!({"spec": {"proxyUrl": "http://127.0.0.1:1"}}), "Unreachable", "refused", NONE),
        broken(
            "stranger",
            |a| a.set_certificate(Certificate::UnknownCa),
            "TlsFailed",
            "tls.caSecretRef",
            NONE,
        ),
        broken(
            "misnamed",
            |a| a.set_certificate(Certificate::WrongName),
            "TlsFailed",
            "tls.serverName",
            NONE,
        ),
        broken("expired", |a| a.set_certificate(Certificate::Expired), "TlsFailed", "renew it", NONE),
        case(
            "system-roots",
            json!({"spec": {"tls": {"caConfigMapRef": null}}}),
            "TlsFailed",
            "tls.caSecretRef",
            NONE,
        ),
    ]
}

pub fn answers() -> Vec<Case> {
    let timeout = "timeout_seconds";
    vec![
        case("viewer", secret("viewer"), "AdminRoleRequired", "Secret viewer lacks the role admin", LOGIN),
        case("wrong", secret("wrong"), "AuthenticationFailed", "Secret wrong", LOGIN),
        broken("gone", |a| a.fault(Fault::status(404, "{}").on(Kind::Get)), "UnexpectedAnswer", "404", LOOK),
        broken(
            "gone-login",
            |a| a.fault(Fault::status(404, "{}").on(Kind::Login)),
            "UnexpectedAnswer",
            "URL",
            LOGIN,
        ),
        broken("html", |a| a.fault(Fault::html().on(Kind::Get)), "UnexpectedAnswer", "not JSON", LOOK),
        broken(
            "html-login",
            |a| a.fault(Fault::html().on(Kind::Login)),
            "UnexpectedAnswer",
            "no token",
            LOGIN,
        ),
        broken(
            "limited",
            |a| a.fault(Fault::status(429, "{}").retry_after("600").on(Kind::Get)),
            "RateLimited",
            "429",
            LOOK,
        ),
        broken(
            "oversize",
            |a| a.fault(Fault::oversize(2 << 20).on(Kind::Get)),
            "UnexpectedAnswer",
            "too long",
            LOOK,
        ),
        broken("missing", |a| a.fault(Fault::body("{}").on(Kind::Get)), "UnexpectedAnswer", "missing", LOOK),
        broken("text", |a| a.fault(raw(r#""3600""#)), "UnexpectedAnswer", timeout, LOOK),
        broken("negative", |a| a.fault(raw("-1")), "UnexpectedAnswer", timeout, LOOK),
        broken("huge", |a| a.fault(raw("2147483648")), "UnexpectedAnswer", timeout, LOOK),
        broken(
            "no-exp",
            |a| a.set_token_shape(TokenShape::WithoutExp),
            "UnexpectedAnswer",
            "exp and nbf",
            LOGIN,
        ),
        broken("no-token", |a| a.set_token_shape(TokenShape::Missing), "UnexpectedAnswer", "no token", LOGIN),
        broken(
            "nonsense",
            |a| a.set_token_shape(TokenShape::Text("eyJh.%%%.x".to_owned())),
            "UnexpectedAnswer",
            "exp and nbf",
            LOGIN,
        ),
    ]
}

/// A lifetime is a difference: an appliance's clock does not matter.
pub fn clocks() -> Vec<Case> {
    vec![
        broken(
            "late",
            |a| a.set_clock_offset(3600),
            "InSync",
            "28800",
            Counts { login: 2, get: 1, write: 1, ..NONE },
        ),
        broken(
            "early",
            |a| a.set_clock_offset(-3600),
            "InSync",
            "28800",
            Counts { login: 2, get: 1, write: 1, ..NONE },
        ),
    ]
}

fn raw(value: &str) -> Fault {
    Fault::body(format!(r#"{{"timeout_seconds":{value}}}"#)).on(Kind::Get)
}
