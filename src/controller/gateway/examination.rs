//! What one reconcile of a gateway works with, and may end with.

use super::GatewayController;
use crate::controller::access;
use crate::controller::reconcile::Working;
use crate::crd::X2Gateway;
use crate::engine::connection::ValidConnection;
use crate::engine::gateway::Prior;
use crate::engine::governance::Governance;

/// Everything that one reconcile works with.
pub(super) struct Examination<'a, 'w> {
    pub(super) controller: &'a GatewayController,
    pub(super) gateway: &'a mut Working<'w, X2Gateway>,
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
