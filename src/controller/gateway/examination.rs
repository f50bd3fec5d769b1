//! What one reconcile of a gateway works with, and may end with.

use std::sync::Arc;

use super::GatewayController;
use crate::controller::access;
use crate::crd::X2Gateway;
use crate::engine::backoff::Inconclusive;
use crate::engine::connection::ValidConnection;
use crate::engine::gateway::Prior;
use crate::engine::governance::Governance;
use crate::engine::verdict::Verdict;

/// Everything that one reconcile works with.
pub(super) struct Examination<'a> {
    pub(super) controller: &'a GatewayController,
    /// The working copy, replaced after each write of our own.
    pub(super) gateway: &'a mut Arc<X2Gateway>,
    /// The generation of the spec that the reconcile began with.
    pub(super) generation: Option<i64>,
    pub(super) governance: &'a Governance,
    pub(super) prior: Prior,
    pub(super) connection: ValidConnection,
    pub(super) url: String,
    /// What is unprotected about the connection.
    pub(super) insecure: Option<String>,
    /// Whether tokens were revoked because an earlier change was closed.
    pub(super) revoked: bool,
}

/// Why a reconcile came to an early end.
pub(super) type Stop = access::Stop<X2Gateway>;

/// Whether a write may be made now.
pub(super) enum Clearance {
    /// Yes.
    Go,
    /// Not yet.
    Wait(Verdict),
    /// Nothing can be reported now.
    Inconclusive(Inconclusive),
}

impl From<Clearance> for Stop {
    fn from(clearance: Clearance) -> Self {
        match clearance {
            Clearance::Wait(verdict) => verdict.into(),
            Clearance::Inconclusive(why) => Self::Inconclusive(why),
            Clearance::Go => Self::Inconclusive(Inconclusive::Outdated),
        }
    }
}
