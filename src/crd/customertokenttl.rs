//! `CustomerTokenTtl`: the token lifetimes of one customer's users.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    DeletionPolicy, Mode, Time, Window, parse,
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
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"PROVEN","type":"date","jsonPath":".status.lastProvenTime","priority":1}"#,
    printcolumn = r#"{"name":"MESSAGE","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::access_within_refresh()))]
pub struct CustomerTokenTtlSpec {
    /// The `KonaServer`, in the same namespace, that the customer belongs to. Immutable.
    #[schemars(extend("x-kubernetes-validations" = rules::immutable("serverRef")))]
    pub server_ref: ServerRef,
    /// The customer's id, a lower-case UUID. Immutable.
    #[serde(deserialize_with = "parse::customer_id")]
    #[schemars(length(max = 36), extend("x-kubernetes-validations" = rules::customer_id()))]
    pub customer_id: String,
    /// Lifetime of access tokens, in seconds: at least 60, and at most that of refresh tokens.
    #[schemars(with = "i64", extend("minimum" = 60, "maximum" = 31_536_000))]
    pub access_token_ttl_seconds: u32,
    /// Lifetime of refresh tokens, in seconds: at most 31536000 (a year).
    #[schemars(with = "i64", extend("minimum" = 60, "maximum" = 31_536_000))]
    pub refresh_token_ttl_seconds: u32,
    /// Enforce changes the customer; Observe only reports the difference.
    #[serde(default)]
    #[schemars(extend("default" = "Enforce"))]
    pub mode: Mode,
    /// Set to true to pause reconciliation of this object. Ready stays as it is, and the condition Suspended is set.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub suspend: bool,
    /// Time between two checks, 30s to 24h.
    #[serde(default = "super::default_interval")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = rules::duration("30s", "24h", "10m or 1h30m"), "default" = "10m"))]
    pub interval: String,
    /// Changes are made only inside one of these windows; checks are always made. If empty or omitted, at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<Window>,
    /// What happens to the customer's two keys when this resource is deleted: Retain leaves them; Restore sets their
    /// original values again, unless they were changed by something else in the meantime.
    #[serde(default)]
    #[schemars(extend("default" = "Retain"))]
    pub deletion_policy: DeletionPolicy,
    /// A Secret with a user of this customer. A new login of that user then verifies the lifetime after a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_credentials_secret_ref: Option<CredentialsRef>,
}

/// A `KonaServer` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerRef {
    /// Name of the `KonaServer`.
    #[serde(deserialize_with = "parse::object_name")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::object_name()))]
    pub name: String,
}

/// The observed state of a customer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerTokenTtlStatus {
    /// Generation of the spec observed by the controller; -1 until the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, with Reconciling or Stalled while it is not; Suspended is informational.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// URL of the Kona server that the values in this status were read from. They are dropped when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_url: Option<String>,
    /// The customer's title on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_title: Option<String>,
    /// Access-token lifetime last read, in seconds; absent if the server has none for this customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub access_token_ttl_seconds: Option<u32>,
    /// Refresh-token lifetime last read, in seconds; absent if the server has none for this customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub refresh_token_ttl_seconds: Option<u32>,
    /// Lifetimes that were verified last: read back after a change or, if configured, measured by a new login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<TtlSeconds>,
    /// When the lifetimes were last verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_proven_time: Option<Time>,
    /// JSON text of each key before the operator's first write; a key without an entry was absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<BTreeMap<String, String>>,
    /// A change that has begun and is not yet verified and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<TtlPending>,
    /// Refused logins with verifyCredentialsSecretRef, which are not repeated until the Secret changes or a reconcile is
    /// requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub refused_login: Vec<RefusedLogin>,
    /// When the next change window opens, while changes wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_window: Option<Time>,
    /// When the customer was last read; refreshed at most once an hour unless something else is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checked_time: Option<Time>,
    /// Value of the annotation tenure.dev/reconcile-requested-at that was last handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Changes made by the operator, newest first, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<TtlChange>,
}

/// The two lifetimes of a customer's tokens, in seconds; absent if the server has none.
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

/// A change of a customer's lifetimes that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlPending {
    /// The lifetimes that the change replaces; an absent one was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<TtlSeconds>,
    /// The lifetimes that the change sets; an absent one is removed.
    pub to: TtlSeconds,
    /// Why it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<super::Cause>,
    /// When the change began.
    pub since: Time,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<super::PendingOutcome>,
    /// Value of the annotation tenure.dev/change-ref of the customer, when the change began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub change_ref: Option<String>,
}

/// One change of a customer's lifetimes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlChange {
    /// When the change was recorded.
    pub time: Time,
    /// Lifetimes before the change.
    pub from: TtlSeconds,
    /// Lifetimes after the change.
    pub to: TtlSeconds,
    /// Policy: the desired values had changed. Drift: something else had changed the remote values. Restore: this
    /// resource was deleted.
    pub cause: super::Cause,
    /// Value of the annotation tenure.dev/change-ref of the customer, when the change began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub change_ref: Option<String>,
}
