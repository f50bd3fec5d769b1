//! The controller of `X2Gateway`.

mod change;
mod examine;
mod finalizer;
mod permits;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource as _, ResourceExt as _};

use self::permits::Permits;
use super::claims::Claims;
use super::connection::Connections;
use super::logins;
use super::reconcile::{Controller, Findings, Given, Managed, Memory, Report, Working, current_reason};
use super::requests::{self, Handled, Request};
use super::rollout::Rollouts;
use super::specs::Specs;
use crate::clock;
use crate::crd::{Change, Kind, Time, TokenPolicy, X2Gateway, X2GatewayStatus};
use crate::engine::annotation;
use crate::engine::backoff::Inconclusive;
use crate::engine::change::{last_set, referring};
use crate::engine::conditions::SUSPENDED;
use crate::engine::connection::paused;
use crate::engine::gateway::{self, Aim, REVOKED, Regime, changed, drifted, is_alike, update};
use crate::engine::governance::Governance;
use crate::engine::ownership::Claimed;
use crate::engine::reason::EventReason;
use crate::engine::verdict::Reason;
use crate::engine::window::Closed;
use crate::runtime::events::{reference, reference_to};
use crate::runtime::object::{Entry, Key};
use crate::runtime::reconcile::Reconcile;
use crate::runtime::store::Store;
use crate::runtime::{finalizers, restore};

/// What is kept in memory of a gateway beyond what all kinds keep.
#[derive(Debug, Default)]
pub struct Extra {
    contested: Aim,
    /// Whether what the status has on record of an open change was taken over.
    has_recalled: bool,
    /// What was last reported of a closed change window.
    window: Option<Closed>,
    /// When a login last proved the lifetime.
    last_proof: Option<Time>,
}

/// Who governs a gateway, and its part in the rollout.
pub struct Parents {
    governance: Governance,
    permits: Permits,
}

/// What, when it changes, is a reason to reconcile at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    generation: Option<i64>,
    /// Annotations that are too long: the report names them.
    ignored: Vec<&'static str>,
    regime: Regime,
    interval: Duration,
}

/// What a reconcile has found on an appliance, and done.
#[derive(Debug, Default)]
pub struct Found {
    /// Value of the setting, in seconds, if the reconcile ended with a trustworthy one.
    timeout: Option<u32>,
    /// Lifetime of a token issued during the reconcile, in seconds.
    token: Option<u32>,
    /// Whether tokens issued before the change were invalidated.
    revoked: bool,
    /// What the value was before something else changed it, if that is found and not corrected, in seconds.
    drifted_from: Option<u32>,
    /// Why the original value is not restored.
    skipped: Option<&'static str>,
}

/// Reconciles gateways.
pub(crate) struct GatewayController {
    pub(super) gateways: Arc<Store<X2Gateway>>,
    pub(super) policies: Arc<Store<TokenPolicy>>,
    pub(super) specs: Arc<Specs>,
    pub(super) rollouts: Arc<Rollouts>,
    /// Which resources declare which appliance.
    pub(super) claims: Claims,
    pub(super) connections: Arc<Connections>,
    /// Which requests were carried out.
    pub(super) handled: Arc<Handled>,
}

impl Managed for X2Gateway {
    type Parents = Parents;
    type Inputs = Inputs;
    type Value = u32;
    type Original = u32;
    type Record = Change;
    type Found = Found;
    type Extra = Extra;

    fn update(status: &mut X2GatewayStatus, report: &Report<'_, Self>, memory: &mut Memory<Self>) {
        let Found { timeout, token, .. } = report.findings.found;
        let (summary, last_proof) = (report.summary(), memory.extra.last_proof.clone());
        let found = gateway::Found { summary, timeout, token, last_proof };
        let changes = memory.changes(|change| status.history.contains(change));
        update(status, &found, &report.given.parents.governance.regime, changes, &clock::now());
        if token.is_some() {
            memory.extra.last_proof.clone_from(&status.last_proven_time);
        }
        if status.pending.is_none() {
            memory.change = None;
        }
    }

    fn progress(given: &Given<Self>, ended: Option<Reason>) {
        let permits = &given.parents.permits;
        ended.map_or_else(|| permits.begun(), |reason| permits.ended(reason));
    }
}

impl Controller for GatewayController {
    type Object = X2Gateway;

    fn store(&self) -> &Arc<Store<X2Gateway>> {
        &self.gateways
    }

    fn connections(&self) -> &Connections {
        &self.connections
    }

    fn handled(&self) -> &Handled {
        &self.handled
    }

    fn claims(&self) -> &Claims {
        &self.claims
    }

    fn claimed(&self, gateway: &X2Gateway) -> Option<Claimed> {
        Claimed::by_gateway(gateway)
    }

    fn changed(&self, before: Option<&Entry<X2Gateway>>, after: Option<&Entry<X2Gateway>>) {
        let (old, new) = (before.and_then(Entry::valid), after.and_then(Entry::valid));
        if !old.zip(new).is_some_and(|(before, after)| is_alike(before, after)) {
            for gateway in [before, after].into_iter().flatten() {
                let status = gateway.valid().and_then(|gateway| gateway.status.as_ref());
                self.specs.wake(gateway.meta(), status);
            }
        }
    }

    fn gone(&self, key: &Key) {
        self.specs.forget(key);
    }

    fn gather(&self, gateway: &X2Gateway, _: &mut Memory<X2Gateway>) -> Given<X2Gateway> {
        let namespace = gateway.namespace().unwrap_or_default();
        let governance = self.specs.namespace(&namespace).policies.governance(gateway);
        let Governance { regime, interval, .. } = governance.clone();
        let history = gateway.status.iter().flat_map(|status| &status.history);
        let history = history.map(|change| (change.to, change.time.0, change.cause));
        Given {
            standing: self.claims.standing(gateway.meta()),
            is_awaited: self.claims.is_awaited(gateway.meta()),
            requests: requests(gateway, &governance),
            paused: paused(&gateway.spec.connection, SUSPENDED),
            interval,
            time_left: finalizer::time_left(gateway, &governance),
            holds: finalizers::has_finalizer(gateway.meta()) || governance.restores(),
            last_set: last_set(history, |seconds| regime.requires(seconds)),
            inputs: Inputs {
                generation: gateway.meta().generation,
                ignored: annotation::ignored(gateway.meta()),
                regime,
                interval,
            },
            parents: Parents {
                permits: Permits::of((&self.rollouts, &self.policies), gateway, &governance),
                governance,
            },
        }
    }

    async fn finalize(
        &self,
        gateway: &Arc<X2Gateway>,
        given: &Given<X2Gateway>,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<Option<Reconcile>, Inconclusive> {
        let stores = (&self.gateways, &*self.policies);
        let next = finalizer::keep(stores, gateway, &given.parents.governance, memory).await?;
        Ok(next.map(Reconcile::NotDue))
    }

    fn is_called(
        &self,
        gateway: &X2Gateway,
        given: &Given<X2Gateway>,
        memory: &mut Memory<X2Gateway>,
    ) -> bool {
        let Parents { governance, permits } = &given.parents;
        let moved = match current_reason(gateway) {
            Some(Reason::AwaitingWindow) => window_has_moved(governance, memory),
            Some(Reason::AwaitingRollout) => !permits.are_given(),
            _ => false,
        };
        let holder = logins::holder(Kind::Gateway, gateway.meta());
        moved || permits.calls() || self.connections.remotes.admission.calls(&holder)
    }

    async fn examine(
        &self,
        gateway: &mut Working<'_, X2Gateway>,
        given: &Given<X2Gateway>,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<Findings<X2Gateway>, Inconclusive> {
        let mut findings = examine::examine(self, gateway, given, memory).await?;
        let waits = findings.verdict.reason == Reason::AwaitingWindow;
        memory.extra.window = given.parents.governance.closed_window(clock::now().0).filter(|_| waits);
        findings.opens = memory.extra.window.map(|closed| closed.next);
        Ok(findings)
    }

    fn announce(&self, report: &Report<'_, X2Gateway>, memory: &Memory<X2Gateway>) {
        let (gateway, findings) = (report.object, report.findings);
        let policy = || self.policy(gateway, report.given);
        for change in &*memory.owed {
            let (reason, note) = changed(change);
            let policy = self.reference(gateway, &change.policy);
            self.gateways.cluster().publish(gateway, reason, note, Some(policy));
        }
        if findings.found.revoked {
            let reference = report.given.parents.governance.change_reference();
            let (reason, note) =
                (EventReason::TokensRevoked, referring(REVOKED.to_owned(), reference.as_deref()));
            self.gateways.cluster().publish(gateway, reason, note, policy());
        }
        if let Some(why) = findings.found.skipped {
            restore::report_skipped(self.gateways.cluster(), reference(gateway), why);
        }
        // Something else has changed the value, and it is not corrected for now.
        if report.shown
            && let Some((from, to)) = findings.found.drifted_from.zip(findings.found.timeout)
        {
            let note = drifted(from, to, &findings.verdict);
            self.gateways.cluster().publish(gateway, EventReason::DriftFound, note, policy());
        }
    }

    fn policy(&self, gateway: &X2Gateway, given: &Given<X2Gateway>) -> Option<ObjectReference> {
        let policy = given.parents.governance.regime.policy();
        policy.map(|policy| self.reference(gateway, policy))
    }

    fn carried_out(&self, gateway: &X2Gateway) {
        self.specs.wake(gateway.meta(), gateway.status.as_ref());
    }
}

/// Whether what a gateway reports of its wait for a window is no longer so: one is open, or there is something else to say
/// of the annotation that opens it by hand. While it is so, the next reconcile comes with the window, which may be another by now.
fn window_has_moved(governance: &Governance, memory: &mut Memory<X2Gateway>) -> bool {
    let Some(closed) = governance.closed_window(clock::now().0) else { return true };
    memory.backoff.not_later_than(clock::instant_of(closed.next));
    memory.extra.window.is_none_or(|reported| reported.note != closed.note)
}

fn requests(gateway: &X2Gateway, governance: &Governance) -> BTreeSet<Request> {
    let namespace = gateway.namespace().unwrap_or_default();
    let of_policy = |(policy, asked): &(String, String)| (Key::new(namespace.clone(), policy), asked.clone());
    requests::open(gateway).into_iter().chain(governance.requests.iter().map(of_policy)).collect()
}

impl GatewayController {
    /// A policy of a gateway's namespace, for events that refer to it.
    fn reference(&self, gateway: &X2Gateway, policy: &str) -> ObjectReference {
        let key = Key::new(gateway.namespace().unwrap_or_default(), policy);
        let uid = self.policies.get(&key).and_then(|entry| entry.meta().uid.clone());
        reference_to::<TokenPolicy>(&key, uid)
    }
}
