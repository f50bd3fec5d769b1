//! Gather, decide and act: one reconcile of an appliance.

use kube::Resource as _;

use super::GatewayController;
use crate::controller::access::{self, Access, Visitor};
use crate::controller::reconcile::{self, Findings, Given, Memory, Working};
use crate::controller::uses::User;
use crate::crd::{Kind, X2Gateway};
use crate::engine::access::AccessError;
use crate::engine::backoff::Inconclusive;
use crate::engine::connection::ValidConnection;
use crate::engine::gateway::{CONFLICT, MOVED, Prior, RIVAL, Regime, Seen, found_drift, prior, remembered};
use crate::engine::governance::Governance;
use crate::engine::ownership::{Standing, Trial};
use crate::engine::references::Unread;
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::runtime::secrets::Age;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::limits::Bounds;
use crate::vendor::remotes::Login;
use crate::vendor::sessions::SessionKey;
use crate::vendor::x2::X2;

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
pub(super) type Stop = reconcile::Stop<X2Gateway>;

/// Checks an appliance and does what is to be done.
pub(super) async fn examine(
    controller: &GatewayController,
    gateway: &mut Working<'_, X2Gateway>,
    given: &Given<X2Gateway>,
    memory: &mut Memory<X2Gateway>,
) -> Result<Findings<X2Gateway>, Inconclusive> {
    let governance = &given.parents.governance;
    let connection = match controller.connections.validate(&gateway.spec.connection) {
        Ok(connection) => connection,
        Err(verdict) => {
            let trial = Some(Trial::ruled_out(verdict.reason));
            return Ok(Findings { trial, ..Findings::from(verdict) });
        }
    };
    let (url, insecure) = (connection.base.to_string(), connection.insecure.clone());
    let known = gateway.status.as_ref().and_then(|status| status.effective_url.clone());
    gateway.move_to((&url, known.as_deref()), MOVED, memory).await?;
    let status = gateway.status.clone().unwrap_or_default();
    if !std::mem::replace(&mut memory.extra.has_recalled, true) {
        memory.change = remembered(&status, &governance.regime).map(Box::new);
    }
    let prior = prior(&status, memory.change.as_deref(), &memory.owed);
    let mut examination = Examination {
        controller,
        gateway,
        governance,
        prior,
        connection,
        url: url.clone(),
        insecure: insecure.clone(),
        revoked: false,
    };
    let mut findings = match examination.conflict(memory) {
        Some(verdict) => verdict.into(),
        None => access::visit(controller, &mut examination, given, memory).await?,
    };
    let (before, reason) = (examination.prior.timeout, findings.verdict.reason);
    findings.found.drifted_from = found_drift(&governance.regime, before, findings.found.timeout, reason);
    if reason == Reason::Conflict && matches!(governance.regime, Regime::Left { .. }) {
        findings.found.skipped = Some(RIVAL);
    }
    findings.effective_url = Some(url);
    findings.notes = Notes { insecure, ..Notes::default() };
    Ok(findings)
}

impl Visitor<X2Gateway> for Examination<'_, '_> {
    const SYSTEM: &'static str = "The appliance";

    async fn reach(&self, age: Age) -> Result<(Endpoint, Credentials), Unread> {
        let reference = &self.gateway.spec.connection.credentials_secret_ref;
        let connections = &self.controller.connections;
        // Of those that reach the same peer in another way only the owner asks it.
        let limit = connections.limit(Kind::Gateway, &self.connection, None, Bounds::ONE_AT_A_TIME);
        connections.reach(&self.connection, reference, User::of(self.object()), limit, age).await
    }

    fn object(&self) -> &X2Gateway {
        self.gateway
    }

    async fn visit(
        &mut self,
        Access { endpoint, credentials, refused, .. }: Access<'_>,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<Findings<X2Gateway>, Stop> {
        let remotes = &self.controller.connections.remotes;
        let mut x2 = X2::new(Login::new(remotes, endpoint, credentials, refused));
        x2.log_in().await?;
        if let Some(verdict) = self.let_in(endpoint, memory) {
            return Ok(verdict.into());
        }
        let timeout = x2.read_timeout().await;
        if matches!(timeout, Err(AccessError::NotAdmin | AccessError::TokenRefused)) {
            // A token keeps the role it was issued with: the next reconcile logs in again.
            remotes.sessions.forget(&SessionKey::new(endpoint, &credentials.identity)).await;
        }
        let (timeout, token) = (timeout?, x2.fresh_lifetime());
        // It may be another peer that answers to an earlier login.
        if let Some(verdict) = self.let_in(endpoint, memory) {
            return Ok(verdict.into());
        }
        let seen = Seen { timeout, written: false, read_back: false, token, proofs: 0 };
        self.settle(&mut x2, seen, (endpoint, credentials), memory).await
    }

    fn url(&self) -> &str {
        &self.url
    }
}

impl Examination<'_, '_> {
    /// Records that the gateway was let in, and by which peer. Returns what to report if the appliance is another resource's.
    fn let_in(&self, endpoint: &Endpoint, memory: &mut Memory<X2Gateway>) -> Option<Verdict> {
        self.controller.claims.let_in(self.gateway.meta(), endpoint);
        self.conflict(memory)
    }

    /// What to report if the appliance is another resource's, or is not known to be this one's.
    fn conflict(&self, memory: &mut Memory<X2Gateway>) -> Option<Verdict> {
        let standing = self.controller.claims.standing(self.gateway.meta());
        memory.acted_on = Some(standing);
        standing.conflict(&CONFLICT)
    }

    /// Who governs the gateway now, if what the reconcile began with still holds: after a wait the
    /// decision may be out of date.
    pub(super) fn still_holds(&self) -> Option<Governance> {
        let now = self.gateway.current()?;
        let owns = self.controller.claims.standing(now.meta()) == Standing::Owner;
        let namespace = now.metadata.namespace.as_deref().unwrap_or_default();
        let governance = self.controller.specs.namespace(namespace).policies.governance(&now);
        let begun = self.governance;
        let is_same = governance.regime == begun.regime && governance.demands() == begun.demands();
        (owns && is_same).then_some(governance)
    }
}
