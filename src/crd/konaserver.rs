//! `KonaServer`: one TEKTELIC Kona Core Network Server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Time,
    reference::{Connection, RefusedLogin},
};

/// One TEKTELIC Kona Core Network Server: how to reach it, and its rate limits.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tenure.dev",
    version = "v1alpha1",
    kind = "KonaServer",
    plural = "konaservers",
    shortname = "kona",
    category = "tenure",
    namespaced,
    status = "KonaServerStatus",
    doc = "One TEKTELIC Kona Core Network Server: how to reach it, and its rate limits. The token lifetimes of its customers are set by CustomerTokenTtls that refer to it.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url"}"#,
    printcolumn = r#"{"name":"CUSTOMERS","type":"string","jsonPath":".status.customers.summary"}"#,
    printcolumn = r#"{"name":"READY","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"MESSAGE","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct KonaServerSpec {
    /// URL, TLS settings and credentials of the server. The user must be allowed to read and write the customers.
    #[serde(flatten)]
    pub connection: Connection,
    /// Rate limits, shared by all customers of the server. If several `KonaServers` have the same URL, the lowest limits of those
    /// that could log in apply.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub limits: Limits,
}

/// Rate limits of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Maximum requests per second, 1 to 1000.
    #[serde(default = "default_rate")]
    #[schemars(with = "i64", extend("minimum" = 1, "maximum" = 1000, "default" = 20))]
    pub requests_per_second: u32,
    /// Maximum concurrent requests, 1 to 256.
    #[serde(default = "default_in_flight")]
    #[schemars(with = "i64", extend("minimum" = 1, "maximum" = 256, "default" = 8))]
    pub max_concurrent: u32,
}

fn default_rate() -> u32 {
    20
}

fn default_in_flight() -> u32 {
    8
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_second: default_rate(), max_concurrent: default_in_flight() }
    }
}

/// The observed state of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KonaServerStatus {
    /// Generation of the spec observed by the controller; -1 until the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, with Reconciling or Stalled while it is not; Suspended and Insecure are informational.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The URL that was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_url: Option<String>,
    /// Refused logins, which are not repeated until the Secret changes or a reconcile is requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub refused_login: Vec<RefusedLogin>,
    /// When the server was last checked; refreshed at most once an hour unless something else is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checked_time: Option<Time>,
    /// Value of the annotation tenure.dev/reconcile-requested-at that was last handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Number of `CustomerTokenTtls` by state; each is in exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customers: Option<CustomerCounts>,
}

/// `CustomerTokenTtls` by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerCounts {
    /// All customers that refer to this server.
    pub managed: i64,
    /// Customers verified to have the desired lifetimes.
    pub in_sync: i64,
    /// Customers not yet changed or verified.
    pub pending: i64,
    /// Customers observed with other lifetimes than desired.
    pub drifted: i64,
    /// Customers that could not be read or changed.
    pub failed: i64,
    /// Suspended customers.
    pub suspended: i64,
    /// Number in sync out of the total, such as "3/3".
    pub summary: String,
}
