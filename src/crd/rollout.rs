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

/// How many gateways are changed at once, which first, and how many failures stop it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Gateways under change at once: a number, or a percentage of the matched ones, rounded up.
    #[serde(default = "ten")]
    #[schemars(extend("x-kubernetes-validations" = rules::at_least_one_or_percent(), "default" = 10))]
    pub max_concurrent: NumberOrPercent,
    /// Gateways that are changed before all others, and are looked at again before these follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Failed changes that are borne: one more halts the rollout. A number, or a percentage of the matched gateways,
    /// rounded down.
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
    /// So many, 1 to 100: the first in the order of their names that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", extend("minimum" = 1, "maximum" = 100))]
    pub count: Option<u32>,
    /// Or these, by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<GatewaySelector>,
    /// Time from the change of the last of them until they are looked at again and the others follow, 0s to 168h. Without
    /// it the others follow at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = rules::duration("0s", "168h", "10m or 1h30m")))]
    pub soak: Option<String>,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The canaries are changed and watched.
    Canary,
    /// The others are changed.
    Progressing,
    /// Every gateway that could be read has the lifetime wanted.
    Complete,
    /// Too many changes failed: nothing is changed until somebody has corrected what is wrong.
    Halted,
    /// Gateways wait to be changed, and no change window is open.
    AwaitingWindow,
}

/// How far a policy's present target has been rolled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Canary, Progressing, Complete, Halted or `AwaitingWindow`.
    pub phase: Phase,
    /// Which target this speaks of: changes whenever another one is wanted.
    #[schemars(length(max = 16))]
    pub target_hash: String,
    /// The gateways that are changed first, pinned when the rollout began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub canaries: Vec<String>,
    /// Until then the canaries are only watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_until: Option<Time>,
    /// When it began, or was resumed.
    pub started_time: Time,
    /// Gateways proven at the target.
    pub changed: i64,
    /// Gateways whose last change failed.
    pub failed: i64,
}
