//! Which policy governs a gateway, and within which bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::change::reference;
use super::gateway::{Regime, is_changed, owes_original, wrote_last};
use super::lifetime::{Bounds, InvalidTarget, Target};
use super::precedence::{Claim, winner};
use super::restoration::is_released;
use super::rollout::is_bounded;
use super::verdict::{Reason, Verdict};
use super::window::{Closed, override_annotation};
use super::{request, schedule, spec};
use crate::crd::{Cause, DeletionPolicy, Mode, TokenPolicy, X2Gateway, X2GatewayStatus};

/// A policy, and its spec as it was parsed.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The resource.
    pub object: Arc<TokenPolicy>,
    /// What it asks for.
    pub spec: Arc<spec::Policy>,
}

impl Policy {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.claim.policy
    }

    /// Whether it selects an object.
    #[must_use]
    pub fn selects(&self, meta: &ObjectMeta) -> bool {
        self.object.spec.gateway_selector.matches(meta.labels.as_ref())
    }

    /// Whether its changes need a permit.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        is_bounded(&self.object.spec, self.spec.target())
    }

    /// Whether its gateways are changed as its own task permits.
    #[must_use]
    pub(crate) fn rolls(&self) -> bool {
        let claim = &self.spec.claim;
        !claim.suspended && claim.mode != Mode::Observe && self.is_bounded()
    }

    /// Whether it restores original values. One that is suspended or only observes changes nothing.
    #[must_use]
    pub fn restores(&self) -> bool {
        let spec = &self.object.spec;
        self.is_to_restore() && spec.mode == Mode::Enforce && !spec.suspend
    }

    /// What keeps its changes from being made now, if its windows do.
    #[must_use]
    pub fn closed_window(&self, now: Timestamp) -> Option<Closed> {
        self.spec.windows.closed(override_annotation(&self.object.metadata), now)
    }

    /// What to report of a change that waits for a window. Restoring the original value does not wait for one.
    #[must_use]
    pub fn awaiting_window(&self, cause: Cause, now: Timestamp) -> Option<Verdict> {
        let closed = self.closed_window(now).filter(|_| cause != Cause::Restore)?;
        let whose = format!("TokenPolicy {}", self.name());
        Some(Verdict::new(Reason::AwaitingWindow, closed.message(&whose)))
    }

    /// The request to reconcile now, unless it was carried out.
    #[must_use]
    pub(crate) fn open_request(&self) -> Option<&str> {
        open_request(&self.object)
    }

    /// Whether it asks for original values to be restored one day.
    fn is_to_restore(&self) -> bool {
        self.object.spec.deletion_policy == DeletionPolicy::Restore
    }

    /// What shows whether it still governs as it did: its UID and generation, and whether it is being deleted and waits for its finalizer.
    fn rules(&self) -> (Option<&str>, Option<i64>, bool, bool) {
        let meta = &self.object.metadata;
        (meta.uid.as_deref(), meta.generation, self.is_deleted(), is_released(meta))
    }

    fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }
}

/// The request on a policy to reconcile now, unless it was carried out.
#[must_use]
pub(crate) fn open_request(policy: &TokenPolicy) -> Option<&str> {
    let handled = policy.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
    request::open(&policy.metadata, handled)
}

/// Which policy governs a gateway.
#[derive(Clone, Debug)]
pub struct Governance {
    /// What is required of it.
    pub regime: Regime,
    /// The policy that the regime names: the one in force, or the one that is left.
    pub policy: Option<Policy>,
    /// Time between checks.
    pub interval: Duration,
    /// Requests on the policies that govern or observe it, not carried out yet: name of the policy and value.
    pub requests: Vec<(String, String)>,
    /// The policy that restores the original value one day, if its value was changed: the one that wrote last.
    pub restorer: Option<Policy>,
}

impl Governance {
    /// Whether the original value is to be restored one day.
    #[must_use]
    pub fn restores(&self) -> bool {
        self.policy.as_ref().is_some_and(Policy::is_to_restore)
    }

    /// What a change takes besides the regime: a permit, and what makes sure that its original value is restored.
    #[must_use]
    pub fn demands(&self) -> (bool, bool) {
        (self.policy.as_ref().is_some_and(Policy::is_bounded), self.restores())
    }

    /// Whether the gateway was changed and its original value is to be restored one day, whichever policy governs it now.
    #[must_use]
    pub fn owes_original(&self, gateway: &X2Gateway) -> bool {
        self.restorer.as_ref().is_some_and(Policy::is_to_restore)
            && gateway.status.as_ref().is_some_and(owes_original)
    }

    /// What the policy's changes refer to.
    #[must_use]
    pub(crate) fn change_reference(&self) -> Option<String> {
        reference(&self.policy.as_ref()?.object.metadata)
    }

    /// What keeps changes from being made now, if the policy's windows do.
    #[must_use]
    pub fn closed_window(&self, now: Timestamp) -> Option<Closed> {
        self.policy.as_ref()?.closed_window(now)
    }
}

/// The policies of a namespace by name; none for one that does not match this version of the schema.
#[derive(Clone, Debug, Default)]
pub struct Policies(BTreeMap<String, Option<Policy>>);

impl FromIterator<(String, Option<Policy>)> for Policies {
    fn from_iter<I: IntoIterator<Item = (String, Option<Policy>)>>(policies: I) -> Self {
        Self(policies.into_iter().collect())
    }
}

impl Policies {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that govern otherwise than before, as they are and as they were: of the others nothing has changed but the status,
    /// the labels or the annotations.
    #[must_use]
    pub(crate) fn changed_since(&self, before: &Self) -> [Self; 2] {
        let differing = |these: &Self, those: &Self| {
            let is_same = |(name, policy): &(&String, &Option<Policy>)| {
                let other = those.0.get(*name);
                other.is_some_and(|other| {
                    other.as_ref().map(Policy::rules) == policy.as_ref().map(Policy::rules)
                })
            };
            let these = these.0.iter().filter(|entry| !is_same(entry));
            these.map(|(name, policy)| (name.clone(), policy.clone())).collect()
        };
        [differing(self, before), differing(before, self)]
    }

    /// Whether a change of one of them concerns a gateway.
    #[must_use]
    pub(crate) fn concern(&self, gateway: &X2Gateway) -> bool {
        self.concerned(&gateway.metadata, gateway.status.as_ref()).next().is_some()
    }

    /// A policy with its spec: the one that is known, unless that is of another generation.
    #[must_use]
    pub fn parse(&self, policy: &Arc<TokenPolicy>, bounds: Bounds, now: Timestamp) -> Policy {
        let TokenPolicy { spec, metadata: meta, .. } = &**policy;
        let name = meta.name.as_deref().unwrap_or_default();
        let is_same = |known: &&Policy| {
            let before = &known.object.metadata;
            before.uid == meta.uid && before.generation == meta.generation
        };
        let known = self.get(name).filter(is_same).map(|known| Arc::clone(&known.spec));
        Policy {
            object: Arc::clone(policy),
            spec: known.unwrap_or_else(|| Arc::new(spec::Policy::parse(name, spec, bounds, now))),
        }
    }

    /// Finds out who governs a gateway.
    #[must_use]
    pub fn governance(&self, gateway: &X2Gateway) -> Governance {
        let selecting: Vec<&Policy> = self.selecting(gateway).collect();
        if let Some(policy) = self.undecodable(gateway) {
            return undecodable(policy, requests(&selecting, &[]));
        }
        let claims = || selecting.iter().map(|policy| &policy.spec.claim);
        let stays = gateway.metadata.deletion_timestamp.is_none();
        let governor = winner(claims()).filter(|_| stays).cloned();
        let (names, regime) = match (governor, self.left(gateway)) {
            (Some(Claim { policy, target, suspended, .. }), _) => {
                (vec![policy.clone()], Regime::Enforced { policy, target, suspended })
            }
            (None, Some(policy)) => {
                (vec![policy.name().to_owned()], Regime::Left { policy: policy.name().to_owned() })
            }
            (None, None) => observed(claims()),
        };
        let is_named = |policy: &Policy| names.iter().any(|name| name == policy.name());
        let interval = selecting.iter().filter(|policy| is_named(policy)).map(|policy| policy.spec.interval);
        Governance {
            policy: regime.policy().and_then(|name| self.get(name)).cloned(),
            interval: interval.min().unwrap_or(schedule::UNMANAGED),
            requests: requests(&selecting, &names),
            restorer: gateway.status.as_ref().and_then(|status| self.restorer(status)).cloned(),
            regime,
        }
    }

    /// The policies that a change of a gateway concerns: those that select it, and those whose value it has.
    pub fn concerned<'a>(
        &'a self,
        meta: &'a ObjectMeta,
        status: Option<&'a X2GatewayStatus>,
    ) -> impl Iterator<Item = &'a str> {
        let named = [status.and_then(|status| status.policy.as_deref()), status.and_then(wrote_last)];
        let concerned = move |(name, policy): &(&'a String, &'a Option<Policy>)| {
            named.contains(&Some(name.as_str())) || policy.as_ref().is_some_and(|policy| policy.selects(meta))
        };
        self.0.iter().filter(concerned).map(|(name, _)| name.as_str())
    }

    /// One of them, if it matches this version of the schema.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.0.get(name)?.as_ref()
    }

    /// The policies that select a gateway and are not being deleted.
    fn selecting(&self, gateway: &X2Gateway) -> impl Iterator<Item = &Policy> {
        let policies = self.0.values().flatten();
        policies.filter(|policy| !policy.is_deleted() && policy.selects(&gateway.metadata))
    }

    /// The policy in force that cannot be understood anymore. It keeps its gateways: what it requires is not known, so
    /// nothing is changed.
    fn undecodable<'a>(&self, gateway: &'a X2Gateway) -> Option<&'a str> {
        let policy = gateway.status.as_ref()?.policy.as_deref()?;
        self.0.get(policy)?.is_none().then_some(policy)
    }

    /// The policy that restores a gateway's original value: the one that wrote last, or if it is gone the one in force.
    fn restorer(&self, status: &X2GatewayStatus) -> Option<&Policy> {
        let writer = wrote_last(status).and_then(|policy| self.get(policy));
        writer.or_else(|| self.get(status.policy.as_deref()?))
    }

    /// The policy that was in force and restores the original value: it is being deleted or does not select the gateway any
    /// more, or the gateway is being deleted. If nothing was changed there is nothing to restore.
    fn left(&self, gateway: &X2Gateway) -> Option<&Policy> {
        let status = gateway.status.as_ref().filter(|status| is_changed(status))?;
        let policy = self.restorer(status)?;
        let deleted = policy.is_deleted() || gateway.metadata.deletion_timestamp.is_some();
        let left = deleted || !policy.selects(&gateway.metadata);
        (policy.restores() && !is_released(&policy.object.metadata) && left).then_some(policy)
    }
}

/// The open requests that cover a gateway: those of its governor, and those of the policies that observe it, whichever governs.
fn requests(selecting: &[&Policy], governors: &[String]) -> Vec<(String, String)> {
    let covers = |policy: &&&Policy| {
        policy.spec.claim.mode == Mode::Observe || governors.iter().any(|name| name == policy.name())
    };
    let request = |policy: &&Policy| Some((policy.name().to_owned(), policy.open_request()?.to_owned()));
    selecting.iter().filter(covers).filter_map(request).collect()
}

fn undecodable(policy: &str, requests: Vec<(String, String)>) -> Governance {
    let (policy, target) = (policy.to_owned(), Err(InvalidTarget::Undecodable));
    Governance {
        regime: Regime::Enforced { policy, target, suspended: false },
        policy: None,
        interval: schedule::UNMANAGED,
        requests,
        restorer: None,
    }
}

fn observed<'a>(claims: impl Iterator<Item = &'a Claim>) -> (Vec<String>, Regime) {
    let claims = claims.filter(|claim| !claim.suspended);
    let required: Vec<(String, Target)> =
        claims.filter_map(|claim| Some((claim.policy.clone(), claim.target.clone().ok()?))).collect();
    let names = required.iter().map(|(policy, _)| policy.clone()).collect();
    (names, if required.is_empty() { Regime::Unmanaged } else { Regime::Observed(required) })
}
