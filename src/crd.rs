//! The four kinds that users declare, as Rust types, and the CRDs derived from them.

mod customertokenttl;
mod kind;
mod konaserver;
mod parse;
mod reference;
mod rollout;
mod rules;
mod schema;
mod tokenpolicy;
mod window;
mod x2gateway;

pub use customertokenttl::{
    CustomerTokenTtl, CustomerTokenTtlSpec, CustomerTokenTtlStatus, ServerRef, TtlChange, TtlPending,
    TtlSeconds,
};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
pub use kind::Kind;
pub use konaserver::{CustomerCounts, KonaServer, KonaServerSpec, KonaServerStatus, Limits};
pub use reference::{CaRef, Connection, CredentialsRef, RefusedLogin, Tls};
pub use rollout::{Approval, Canary, NumberOrPercent, Phase, Rollout, RolloutStatus};
pub use schema::manifests;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use tokenpolicy::{
    Failure, GatewayCounts, GatewaySelector, Operator, Requirement, TokenPolicy, TokenPolicySpec,
    TokenPolicyStatus,
};
pub use window::Window;
pub use x2gateway::{Change, Pending, X2Gateway, X2GatewaySpec, X2GatewayStatus};

/// Requests a reconcile now, by any new value.
pub const RECONCILE_REQUESTED_AT: &str = "tenure.dev/reconcile-requested-at";
/// Flux's annotation of the same meaning; ours wins over it.
pub const FLUX_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Finalizer of objects whose remote values are to be restored when they are deleted.
pub const RESTORE: &str = "tenure.dev/restore";
/// `"true"` releases an object without restoring anything.
pub const SKIP_RESTORE: &str = "tenure.dev/skip-restore";
/// On a Secret: the only origins its password may be sent to.
pub const ALLOWED_ORIGINS: &str = "tenure.dev/allowed-origins";
/// On a policy: the target hash of a rollout that may go on after its canaries.
pub const APPROVE: &str = "tenure.dev/approve";
/// On a policy or customer: what its changes refer to, such as the number of a ticket.
pub const CHANGE_REF: &str = "tenure.dev/change-ref";
/// Opens the change windows manually until the given time.
pub const OVERRIDE_WINDOW_UNTIL: &str = "tenure.dev/override-window-until";

/// Whether a difference is corrected or only reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Corrected.
    #[default]
    Enforce,
    /// Only reported.
    Observe,
}

/// Prepared: nothing was written yet, or the last write was refused. Sent: a write may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PendingOutcome {
    /// Nothing was written yet, or the last write was refused.
    Prepared,
    /// A write was sent and may have taken effect.
    Sent,
}

/// Policy: the desired value has changed. Drift: something else has changed the remote value. Restore: the original value is
/// restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cause {
    /// The desired value had changed.
    Policy,
    /// Something else had changed the remote value.
    Drift,
    /// The resource was deleted, or left its policy: the original value was restored.
    Restore,
}

impl Cause {
    /// The word as it stands in statuses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "Policy",
            Self::Drift => "Drift",
            Self::Restore => "Restore",
        }
    }
}

/// What happens to remote values when the resource that set them is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They are kept.
    #[default]
    Retain,
    /// The original values are restored.
    Restore,
}

/// When tokens issued before a change are invalidated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RevokeTokens {
    /// Never: they remain valid for as long as they were issued.
    #[default]
    Never,
    /// If a change has shortened lifetimes.
    OnTightening,
    /// After every change required by the policy.
    OnChange,
}

fn default_interval() -> String {
    "10m".to_owned()
}
