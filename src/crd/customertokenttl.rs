//! `CustomerTokenTtl`: the token lifetimes of one customer's users.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    DeletionPolicy, Mode, Time, Window,
    reference::{CredentialsRef, RefusedLogin},
    rules,
};

/// The token lifetimes that the users of one customer of a Kona server must have.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tenure.dev",
    version = "v1alpha1",
    kind = "CustomerTokenTtl",
    plural = "customertokenttls",
    shortname = "ctt",
    category = "tenure",
    namespaced,
    status = "CustomerTokenTtlStatus",
    doc = "The token lifetimes that the users of one customer of a Kona server must have. Only the two keys accessTokenTtlSeconds and refreshTokenTtlSeconds of the customer's additionalInfo are ever written.",
    printcolumn = r#"{"name":"SERVER","type":"string","jsonPath":".spec.serverRef.name"}"#,
    printcolumn = r#"{"name":"CUSTOMER","type":"string","jsonPath":".status.customerTitle"}"#,
    printcolumn = r#"{"name":"ACCESS","type":"integer","jsonPath":".status.accessTokenTtlSeconds"}"#,
    printcolumn = r#"{"name":"REFRESH","type":"integer","jsonPath":".status.refreshTokenTtlSeconds"}"#,
    printcolumn = r#"{"name":"READY","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::access_within_refresh()))]
pub struct CustomerTokenTtlSpec {
    /// The `KonaServer`, in the same namespace, that the customer belongs to. Cannot be changed.
    #[schemars(extend("x-kubernetes-validations" = rules::immutable("serverRef")))]
    pub server_ref: ServerRef,
    /// The customer's id, a lower-case UUID. Cannot be changed.
    #[schemars(length(max = 36), extend("x-kubernetes-validations" = rules::customer_id()))]
    pub customer_id: String,
    /// Lifetime of access tokens, in seconds: 60 or more, and not more than that of refresh tokens.
    #[schemars(with = "i64", extend("minimum" = 60, "maximum" = 31_536_000))]
    pub access_token_ttl_seconds: u32,
    /// Lifetime of refresh tokens, in seconds: at most 31536000 (a year).
    #[schemars(with = "i64", extend("minimum" = 60, "maximum" = 31_536_000))]
    pub refresh_token_ttl_seconds: u32,
    /// Enforce changes the customer; Observe only reports the difference.
    #[serde(default)]
    #[schemars(extend("default" = "Enforce"))]
    pub mode: Mode,
    /// Set to true to pause all work on this object. Ready stays as it is; the condition Suspended says so.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub suspend: bool,
    /// Time between two checks, 30s to 24h.
    #[serde(default = "super::default_interval")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = rules::duration("30s", "24h", "10m or 1h30m"), "default" = "10m"))]
    pub interval: String,
    /// When changes may be made: only inside one of these, while checks go on always. Empty or left out: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<Window>,
    /// What becomes of the customer's two keys when this resource is deleted: Retain leaves them; Restore puts back what
    /// stood there before the first change, if nobody has changed it since.
    #[serde(default)]
    #[schemars(extend("default" = "Retain"))]
    pub deletion_policy: DeletionPolicy,
    /// A Secret with a user of this customer. Its fresh login then proves the lifetime after a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_credentials_secret_ref: Option<CredentialsRef>,
}

/// A `KonaServer` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerRef {
    /// Name of the `KonaServer`.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::object_name()))]
    pub name: String,
}

/// What was last seen of a customer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerTokenTtlStatus {
    /// Generation of the spec that this status speaks of; -1 until the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, and beside it Reconciling or Stalled; Suspended informs.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The server that the values below were read from. When it changes they are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_url: Option<String>,
    /// The customer's title on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_title: Option<String>,
    /// Access-token lifetime last read, in seconds; absent when the server holds none for this customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub access_token_ttl_seconds: Option<u32>,
    /// Refresh-token lifetime last read, in seconds; absent when the server holds none for this customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub refresh_token_ttl_seconds: Option<u32>,
    /// Lifetimes that were read back after the last change, or shown by a fresh login where one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<TtlSeconds>,
    /// When they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_proven_time: Option<Time>,
    /// JSON text of each key before the operator's first write; a key without an entry was absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<BTreeMap<String, String>>,
    /// A change begun, and not yet proven and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<TtlPending>,
    /// Logins with verifyCredentialsSecretRef that were refused and are not repeated while the Secret stays as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub refused_login: Vec<RefusedLogin>,
    /// When the next change window opens, while changes wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_window: Option<Time>,
    /// When the customer was last read; refreshed at most once an hour unless something else is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checked_time: Option<Time>,
    /// Value of the annotation tenure.dev/reconcile-requested-at that was last carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// What the operator changed, newest first, ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<TtlChange>,
}

/// The two lifetimes of a customer's tokens, in seconds; absent where the server holds none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlSeconds {
    /// Lifetime of access tokens, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub access_token_ttl_seconds: Option<u32>,
    /// Lifetime of refresh tokens, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub refresh_token_ttl_seconds: Option<u32>,
}

/// A change of a customer's lifetimes that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlPending {
    /// The lifetimes to be set; one that is absent is to be removed.
    pub to: TtlSeconds,
    /// When it was begun.
    pub since: Time,
}

/// One change of a customer's lifetimes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlChange {
    /// When the change was recorded.
    pub time: Time,
    /// Lifetimes before.
    pub from: TtlSeconds,
    /// Lifetimes after.
    pub to: TtlSeconds,
    /// Policy: this resource asked for other values than before. Drift: somebody else had changed them. Restore: this
    /// resource was deleted.
    pub cause: super::Cause,
}
