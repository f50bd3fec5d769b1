//! How a policy's changes spread over its gateways, and how far they have got.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{GatewaySelector, Time, rules};

/// A number of gateways, or a share of all that are matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NumberOrPercent {
    /// So many.
    Number(u32),
    /// Such as `10%`.
    Percent(String),
}

impl JsonSchema for NumberOrPercent {
    fn schema_name() -> Cow<'static, str> {
        "NumberOrPercent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

/// How many gateways are changed at once, which ones first, and how many failures halt the rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Maximum number of gateways to change at once: a number, or a percentage of the matched gateways, rounded up.
    #[serde(default = "ten")]
    #[schemars(extend("x-kubernetes-validations" = rules::at_least_one_or_percent(), "default" = 10))]
    pub max_concurrent: NumberOrPercent,
    /// Gateways that are changed first, and checked again before the others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Number of failed changes to tolerate; one more halts the rollout. A number, or a percentage of the matched
    /// gateways, rounded down.
    #[serde(default = "three")]
    #[schemars(extend("x-kubernetes-validations" = rules::number_or_percent(), "default" = 3))]
    pub max_failures: NumberOrPercent,
}

fn ten() -> NumberOrPercent {
    NumberOrPercent::Number(10)
}

fn three() -> NumberOrPercent {
    NumberOrPercent::Number(3)
}

/// The gateways that are changed first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::one_canary()))]
pub struct Canary {
    /// Number of canaries, 1 to 100, instead of selector: the first by name among the gateways that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", extend("minimum" = 1, "maximum" = 100))]
    pub count: Option<u32>,
    /// Selects the canaries by label among the gateways of the policy, instead of count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<GatewaySelector>,
    /// How long to observe the canaries after the last of them was changed, 0s to 168h. They are then checked again before
    /// the others follow. If omitted, the others follow immediately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = rules::duration("0s", "168h", "10m or 1h30m")))]
    pub soak: Option<String>,
    /// Whether the others follow the canaries by themselves: Automatic; or Required, which waits after the soak until the
    /// annotation tenure.dev/approve of this policy equals status.rollout.targetHash.
    #[serde(default)]
    #[schemars(extend("default" = "Automatic"))]
    pub approval: Approval,
}

/// Whether the gateways that follow the canaries need a person's approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// They follow by themselves.
    #[default]
    Automatic,
    /// They wait for it.
    Required,
}

/// The phase of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The canaries are being changed and observed.
    Canary,
    /// The canaries were observed, and the other gateways wait for approval.
    AwaitingApproval,
    /// The other gateways are being changed.
    Progressing,
    /// Every gateway that could be read has the required lifetime.
    Complete,
    /// Too many changes failed: nothing is changed until a person acts.
    Halted,
    /// Gateways are waiting to be changed, and no change window is open.
    AwaitingWindow,
}

/// Progress of the rollout of a policy's current target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Canary, `AwaitingApproval`, Progressing, Complete, Halted or `AwaitingWindow`.
    pub phase: Phase,
    /// Identifies the target of this rollout: changes whenever the target does. The annotation tenure.dev/approve with
    /// this value approves it.
    #[schemars(length(max = 16))]
    pub target_hash: String,
    /// The gateways that are changed first, chosen when the rollout began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub canaries: Vec<String>,
    /// When the observation of the canaries ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_until: Option<Time>,
    /// When the rollout began, or was resumed.
    pub started_time: Time,
    /// Gateways verified to have the target.
    pub changed: i64,
    /// Gateways whose last change failed.
    pub failed: i64,
}
