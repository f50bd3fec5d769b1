//! What the kinds share: how a remote system is reached and which Secrets and `ConfigMaps` are read for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{parse, rules};

/// URL, TLS settings and credentials of a remote system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Base URL: scheme and host, such as `https://10.20.0.11`. A port and a path prefix are allowed; user info,
    /// query and fragment are not.
    #[schemars(length(max = 512), extend("x-kubernetes-validations" = rules::url()))]
    pub url: String,
    /// The Secret, in the same namespace, with the user name and password that the operator logs in with.
    pub credentials_secret_ref: CredentialsRef,
    /// How the server's certificate is verified. If omitted, against the system's root certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Set to true to allow an http:// URL, which sends the password unencrypted. Shown as condition Insecure.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub allow_plaintext: bool,
    /// Proxy to connect through, such as `http://proxy.example:3128`. The operator's own proxy variables are never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), extend("x-kubernetes-validations" = rules::proxy_url()))]
    pub proxy_url: Option<String>,
    /// Timeout of one request, 1s to 5m, such as 10s or 1m30s.
    #[serde(default = "default_request_timeout")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = rules::duration("1s", "5m", "10s or 1m30s"), "default" = "10s"))]
    pub request_timeout: String,
    /// Set to true to pause reconciliation of this object and, for a `KonaServer`, of all its customers. Ready stays as it is,
    /// and the condition Suspended is set.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub suspend: bool,
}

fn default_request_timeout() -> String {
    "10s".to_owned()
}

/// The Secret that holds a user name and a password.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRef {
    /// Name of a Secret in the same namespace.
    #[serde(deserialize_with = "parse::object_name")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::object_name()))]
    pub name: String,
    /// Key of the user name within the Secret.
    #[serde(default = "default_username_key")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::data_key(), "default" = "username"))]
    pub username_key: String,
    /// Key of the password within the Secret.
    #[serde(default = "default_password_key")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::data_key(), "default" = "password"))]
    pub password_key: String,
}

fn default_username_key() -> String {
    "username".to_owned()
}

fn default_password_key() -> String {
    "password".to_owned()
}

/// How the server's certificate is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::one_ca()))]
pub struct Tls {
    /// Secret with the PEM certificates to trust instead of the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaRef>,
    /// `ConfigMap` with the PEM certificates to trust instead of the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<CaRef>,
    /// Name to verify in the certificate, and to send as SNI, instead of the URL's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::server_name()))]
    pub server_name: Option<String>,
    /// Set to true to accept any certificate, which exposes the password to man-in-the-middle attacks. Shown as condition
    /// Insecure.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub insecure_skip_verify: bool,
}

/// A key of a Secret or `ConfigMap` that contains PEM certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRef {
    /// Name of the Secret or `ConfigMap` in the same namespace.
    #[serde(deserialize_with = "parse::object_name")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::object_name()))]
    pub name: String,
    /// Key in the Secret or `ConfigMap` that contains the PEM certificates.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::data_key(), "default" = "ca.crt"))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

/// A refused login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedLogin {
    /// UID of the Secret.
    pub secret_uid: String,
    /// `resourceVersion` of the Secret.
    pub secret_resource_version: String,
    /// When the login was refused.
    pub time: super::Time,
    /// How many logins with this version of the Secret had failed in a row, on any system, this one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub in_a_row: Option<u32>,
}
