//! `TokenPolicy`: the lifetime that a set of appliances must have.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeletionPolicy, Mode, RevokeTokens, Rollout, RolloutStatus, Time, Window, rules};

/// The token lifetime that the selected gateways of this namespace must have.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tenure.dev",
    version = "v1alpha1",
    kind = "TokenPolicy",
    plural = "tokenpolicies",
    shortname = "tp",
    category = "tenure",
    namespaced,
    status = "TokenPolicyStatus",
    doc = "The token lifetime that the selected X2Gateways of this namespace must have: an exact value or a range.",
    printcolumn = r#"{"name":"TARGET","type":"string","jsonPath":".status.target"}"#,
    printcolumn = r#"{"name":"GATEWAYS","type":"string","jsonPath":".status.gateways.summary"}"#,
    printcolumn = r#"{"name":"MODE","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"READY","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"PHASE","type":"string","jsonPath":".status.rollout.phase","priority":1}"#,
    printcolumn = r#"{"name":"MESSAGE","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::exact_or_range()))]
pub struct TokenPolicySpec {
    /// Selects `X2Gateways` in this namespace by label. {} selects all of them.
    pub gateway_selector: GatewaySelector,
    /// Exactly this token lifetime, in seconds: 600 (10 minutes) to 2592000 (30 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", extend("minimum" = 600, "maximum" = 2_592_000))]
    pub timeout_seconds: Option<u32>,
    /// Shortest token lifetime allowed, in seconds. A shorter one is raised to this; one within the range is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", extend("minimum" = 600, "maximum" = 2_592_000))]
    pub min_timeout_seconds: Option<u32>,
    /// Longest token lifetime allowed, in seconds. A longer one is reduced to this; one within the range is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", extend("minimum" = 600, "maximum" = 2_592_000))]
    pub max_timeout_seconds: Option<u32>,
    /// If several Enforce policies select a gateway, the highest priority wins, then the name that sorts first.
    #[serde(default)]
    #[schemars(with = "i64", extend("minimum" = -1000, "maximum" = 1000, "default" = 0))]
    pub priority: i32,
    /// Enforce changes gateways; Observe only reports what it would change, and never takes precedence over a policy.
    #[serde(default)]
    #[schemars(extend("default" = "Enforce"))]
    pub mode: Mode,
    /// Set to true to stop making changes. The policy still takes precedence for its gateways.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub suspend: bool,
    /// Time between two checks of a gateway, 30s to 24h.
    #[serde(default = "super::default_interval")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = rules::duration("30s", "24h", "10m or 1h30m"), "default" = "10m"))]
    pub interval: String,
    /// Changes are made only inside one of these windows; checks are always made. If empty or omitted, at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<Window>,
    /// Whether tokens issued before a change are invalidated: Never; `OnTightening`, if the change shortened the lifetime; or
    /// `OnChange`. This applies only to the operator's own user, and logs it out of all sessions.
    #[serde(default)]
    #[schemars(extend("default" = "Never"))]
    pub revoke_tokens: RevokeTokens,
    /// What happens to a gateway's lifetime when this policy or the gateway is deleted, or the policy no longer selects
    /// the gateway: Retain leaves it; Restore sets the original value again, unless something else has changed it.
    #[serde(default)]
    #[schemars(extend("default" = "Retain"))]
    pub deletion_policy: DeletionPolicy,
    /// Changes a few gateways at a time and halts on failures. If omitted, all gateways are changed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// A label selector, as in other Kubernetes resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::selector()))]
pub struct GatewaySelector {
    /// Labels that a gateway must have, each with this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = rules::label_value_schema(),
        "x-kubernetes-validations" = rules::label_keys()
    ))]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements, all of which must be met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub match_expressions: Option<Vec<Requirement>>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317), extend("x-kubernetes-validations" = rules::label_key()))]
    pub key: String,
    /// In or `NotIn` the values; Exists or `DoesNotExist`.
    pub operator: Operator,
    /// Values for In and `NotIn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)), extend("x-kubernetes-validations" = rules::label_values()))]
    pub values: Option<Vec<String>>,
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl GatewaySelector {
    /// Whether it selects an object with these labels.
    #[must_use]
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let value = |key: &String| labels.and_then(|labels| labels.get(key));
        let equal = self.match_labels.iter().flatten().all(|(key, required)| value(key) == Some(required));
        equal
            && self
                .match_expressions
                .iter()
                .flatten()
                .all(|requirement| requirement.holds(value(&requirement.key)))
    }
}

impl Requirement {
    /// As in Kubernetes, an object without the label meets `NotIn`.
    fn holds(&self, value: Option<&String>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().flatten().any(|one| one == value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// The observed state of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenPolicyStatus {
    /// Generation of the spec observed by the controller; -1 until the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, with Reconciling or Stalled while it is not; Suspended and Risky are informational.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The required lifetime, in seconds: "28800", or "600-43200" for a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Number of gateways by state; each selected gateway is in exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<GatewayCounts>,
    /// Progress of the rollout of the current target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// When the next change window opens, while changes wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_window: Option<Time>,
    /// The gateways that failed, sorted by name, at most twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failures: Vec<Failure>,
    /// Value of the annotation tenure.dev/reconcile-requested-at that was last handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// Gateways by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCounts {
    /// All gateways that the selector matches.
    pub matched: i64,
    /// Gateways verified to have the lifetime required by this policy.
    pub in_sync: i64,
    /// Gateways not yet changed or verified.
    pub pending: i64,
    /// Gateways observed with another lifetime than required.
    pub drifted: i64,
    /// Gateways that could not be read or changed.
    pub failed: i64,
    /// Gateways that another policy governs.
    pub overridden: i64,
    /// Suspended gateways.
    pub suspended: i64,
    /// Number in sync out of those not overridden, such as "38/40".
    pub summary: String,
}

/// Why a gateway failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Name of the `X2Gateway`.
    pub gateway: String,
    /// Reason of the gateway's Ready condition.
    pub reason: String,
    /// Message of the gateway's Ready condition.
    pub message: String,
}
