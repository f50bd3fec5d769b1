//! `X2Gateway`: one Profitap X2 appliance.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Time,
    reference::{Connection, RefusedLogin},
};

/// One Profitap X2 appliance: how to reach it. The lifetime of its login tokens is set by a `TokenPolicy` that selects
/// it by labels; without one it is only read.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tenure.dev",
    version = "v1alpha1",
    kind = "X2Gateway",
    plural = "x2gateways",
    shortname = "x2",
    category = "tenure",
    namespaced,
    status = "X2GatewayStatus",
    doc = "One Profitap X2 appliance: how to reach it. The lifetime of its login tokens is set by a TokenPolicy that selects it by labels; without one it is only read.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url","priority":1}"#,
    printcolumn = r#"{"name":"DESIRED","type":"integer","jsonPath":".status.desiredTimeoutSeconds"}"#,
    printcolumn = r#"{"name":"TIMEOUT","type":"integer","jsonPath":".status.timeoutSeconds"}"#,
    printcolumn = r#"{"name":"POLICY","type":"string","jsonPath":".status.policy"}"#,
    printcolumn = r#"{"name":"READY","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"PROVEN","type":"date","jsonPath":".status.lastProvenTime","priority":1}"#,
    printcolumn = r#"{"name":"MESSAGE","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct X2GatewaySpec {
    /// URL, TLS settings and credentials of the appliance. The user needs the role admin.
    #[serde(flatten)]
    pub connection: Connection,
}

/// The observed state of an appliance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct X2GatewayStatus {
    /// Generation of the spec observed by the controller; -1 until the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, with Reconciling or Stalled while it is not; Suspended and Insecure are informational.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// URL of the appliance that the values in this status were read from. They are dropped when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_url: Option<String>,
    /// Token lifetime last read from the appliance, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub timeout_seconds: Option<u32>,
    /// Token lifetime required by the policy in force, in seconds. Absent if there is none, or if the value is within the
    /// policy's range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub desired_timeout_seconds: Option<u32>,
    /// Name of the `TokenPolicy` in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Lifetime of the last newly issued token (its exp - nbf), in seconds: the proof that the setting is in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub proven_timeout_seconds: Option<u32>,
    /// When a newly issued token last verified the lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_proven_time: Option<Time>,
    /// Value found before the operator's first write that took effect, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub original_timeout_seconds: Option<u32>,
    /// A change that has begun and is not yet verified and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// Refused logins, which are not repeated until the Secret changes or a reconcile is requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub refused_login: Vec<RefusedLogin>,
    /// When the appliance was last read; refreshed at most once an hour unless something else is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checked_time: Option<Time>,
    /// Value of the annotation tenure.dev/reconcile-requested-at that was last handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Changes made by the operator, newest first, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<Change>,
}

/// A change of an appliance's setting that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// The value that the change replaces, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub from: Option<u32>,
    /// The value that the change sets, in seconds.
    #[schemars(with = "i64")]
    pub to: u32,
    /// Why it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<super::Cause>,
    /// When the change began.
    pub since: Time,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<super::PendingOutcome>,
    /// Value of the annotation tenure.dev/change-ref of the policy, when the change began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub change_ref: Option<String>,
}

/// One change of an appliance's setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// When the change was recorded.
    pub time: Time,
    /// Value before the change, in seconds; absent if it was never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>")]
    pub from: Option<u32>,
    /// Value after the change, in seconds.
    #[schemars(with = "i64")]
    pub to: u32,
    /// The policy that required the change.
    pub policy: String,
    /// Policy: the required value had changed. Drift: something else had changed the remote value. Restore: the policy
    /// was deleted, or no longer selects the gateway.
    pub cause: super::Cause,
    /// Value of the annotation tenure.dev/change-ref of the policy, when the change began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub change_ref: Option<String>,
}
