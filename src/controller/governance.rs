//! Which policy governs a gateway, and within which bounds.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use kube::{Resource as _, ResourceExt};

use super::context::{Context, Request};
use super::request;
use super::windows::{self, Closed};
use crate::crd::{DeletionPolicy, GatewaySelector, Mode, TokenPolicy, X2Gateway, X2GatewayStatus};
use crate::engine::change::reference;
use crate::engine::gateway::{Regime, is_changed, wrote_last};
use crate::engine::lifetime::{InvalidTarget, Target};
use crate::engine::precedence::{Claim, winner};
use crate::engine::schedule;
use crate::runtime::finalizers;
use crate::runtime::object::{Entry, Key};

/// Who governs a gateway.
#[derive(Clone, Debug)]
pub struct Governance {
    /// What is wanted of it.
    pub regime: Regime,
    /// The policy that the regime names: the one in force, or the one that is left.
    pub policy: Option<Arc<TokenPolicy>>,
    /// Time between checks.
    pub interval: Duration,
    /// Requests on the policies that govern or observe it, not carried out yet.
    pub requests: Vec<Request>,
    /// The policy that restores the original value one day, if its value was changed: the one that wrote last.
    pub restorer: Option<Arc<TokenPolicy>>,
}

impl Governance {
    /// Whether what stood before our first write is to be put back one day.
    #[must_use]
    pub fn restores(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.spec.deletion_policy == DeletionPolicy::Restore)
    }

    /// What the policy says that its changes refer to.
    #[must_use]
    pub fn change_reference(&self) -> Option<String> {
        reference(self.policy.as_ref()?.metadata.annotations.as_ref())
    }

    /// What keeps changes from being made now, if the policy's windows do.
    #[must_use]
    pub fn closed_window(&self, context: &Context) -> Option<Closed> {
        closed_window(context, self.policy.as_deref()?)
    }
}

/// The policies of a namespace, made ready for finding out who governs which gateway.
pub struct PolicySet {
    entries: Vec<Entry<TokenPolicy>>,
    /// Those that are not being deleted.
    claims: Vec<(Arc<TokenPolicy>, Selector, Claim)>,
}

impl PolicySet {
    /// The policies of a namespace as they are now.
    pub fn of(context: &Context, namespace: &str) -> Self {
        let entries = context.policies.namespace(namespace);
        let ready =
            |policy: &Arc<TokenPolicy>| Some((Arc::clone(policy), selector(policy)?, claim(policy, context)));
        let claims = entries
            .iter()
            .filter_map(Entry::valid)
            .filter(|policy| !is_deleted(&***policy))
            .filter_map(ready);
        Self { claims: claims.collect(), entries }
    }

    /// Finds out who governs a gateway.
    pub fn governance(&self, gateway: &X2Gateway) -> Governance {
        if let Some(held) = self.held_by_undecodable(gateway) {
            return held;
        }
        let selecting = || self.claims.iter().filter(|(_, selector, _)| selector.matches(gateway.labels()));
        let governor = winner(selecting().map(|(_, _, claim)| claim)).filter(|_| !is_deleted(gateway));
        let (names, regime) = match (governor.cloned(), self.left(gateway)) {
            (Some(Claim { policy, target, suspended, .. }), _) => {
                (vec![policy.clone()], Regime::Enforced { policy, target, suspended })
            }
            (None, Some(policy)) => (vec![policy.name_any()], Regime::Left { policy: policy.name_any() }),
            (None, None) => observed(selecting().map(|(_, _, claim)| claim)),
        };
        let concerned =
            || selecting().map(|(policy, _, _)| policy).filter(|policy| names.contains(&policy.name_any()));
        let interval = concerned().filter_map(|policy| schedule::parse(&policy.spec.interval)).min();
        // An observing policy's request covers its gateways, too, whoever governs them.
        let asking = selecting()
            .map(|(policy, _, _)| policy)
            .filter(|policy| policy.spec.mode == Mode::Observe || names.contains(&policy.name_any()));
        let requests =
            asking.filter_map(|policy| Some((Key::of(policy.meta()), open_request(policy)?.to_owned())));
        Governance {
            policy: regime.policy().and_then(|name| self.valid(name)).cloned(),
            interval: interval.unwrap_or(schedule::UNMANAGED),
            requests: requests.collect(),
            restorer: gateway.status.as_ref().and_then(|status| self.restorer(status)).cloned(),
            regime,
        }
    }

    fn valid(&self, name: &str) -> Option<&Arc<TokenPolicy>> {
        self.entries.iter().filter_map(Entry::valid).find(|policy| policy.name_any() == name)
    }

    /// A policy that cannot be understood any more keeps the gateways it had: nobody knows what it wants, so nothing is
    /// changed.
    fn held_by_undecodable(&self, gateway: &X2Gateway) -> Option<Governance> {
        let policy = gateway.status.as_ref()?.policy.clone()?;
        let is_it = |entry: &Entry<TokenPolicy>| {
            entry.valid().is_none() && entry.meta().name.as_ref() == Some(&policy)
        };
        self.entries.iter().any(is_it).then(|| Governance {
            regime: Regime::Enforced { policy, target: Err(InvalidTarget::Undecodable), suspended: false },
            policy: None,
            interval: schedule::UNMANAGED,
            requests: Vec::new(),
            restorer: None,
        })
    }

    /// The policy that restores a gateway's original value: the one that wrote last, or if it is gone the one in force.
    fn restorer(&self, status: &X2GatewayStatus) -> Option<&Arc<TokenPolicy>> {
        let writer = wrote_last(status).and_then(|policy| self.valid(policy));
        writer.or_else(|| self.valid(status.policy.as_deref()?))
    }

    /// The policy that was in force and gives back what stood there before it: it is being deleted or does not select the
    /// gateway any more, or the gateway goes. Where nothing was changed there is nothing to give back.
    fn left(&self, gateway: &X2Gateway) -> Option<&Arc<TokenPolicy>> {
        let status = gateway.status.as_ref().filter(|status| is_changed(status))?;
        let policy = self.restorer(status)?;
        let selects = || selector(policy).is_some_and(|selector| selector.matches(gateway.labels()));
        let left = is_deleted(&**policy) || is_deleted(gateway) || !selects();
        (gives_back(policy) && !finalizers::is_released(policy.meta()) && left).then_some(policy)
    }
}

fn observed<'a>(claims: impl Iterator<Item = &'a Claim>) -> (Vec<String>, Regime) {
    let wants =
        |claim: &Claim| Some((claim.policy.clone(), claim.target.clone().ok()?)).filter(|_| !claim.suspended);
    let wants: Vec<(String, Target)> = claims.filter_map(wants).collect();
    let names = wants.iter().map(|(policy, _)| policy.clone()).collect();
    (names, if wants.is_empty() { Regime::Unmanaged } else { Regime::Observed(wants) })
}

/// Whether a policy puts back what stood there before it. One that is paused or only observes changes nothing.
#[must_use]
pub fn gives_back(policy: &TokenPolicy) -> bool {
    let spec = &policy.spec;
    spec.deletion_policy == DeletionPolicy::Restore && spec.mode == Mode::Enforce && !spec.suspend
}

/// What keeps a policy's changes from being made now, if its windows do.
pub fn closed_window(context: &Context, policy: &TokenPolicy) -> Option<Closed> {
    windows::closed(context, &policy.spec.windows, policy)
}

/// Whether an object is being deleted.
pub fn is_deleted(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
}

fn claim(policy: &TokenPolicy, context: &Context) -> Claim {
    let spec = &policy.spec;
    Claim {
        policy: policy.name_any(),
        priority: spec.priority,
        mode: spec.mode,
        suspended: spec.suspend,
        target: target(policy, context),
    }
}

/// What a policy wants.
pub fn target(policy: &TokenPolicy, context: &Context) -> Result<Target, InvalidTarget> {
    let spec = &policy.spec;
    let given = [spec.timeout_seconds, spec.min_timeout_seconds, spec.max_timeout_seconds];
    let [exact, least, most] = given;
    let target = Target::new(exact, least, most)?.within(context.settings.bounds)?;
    context.settings.bounds.check(given)?;
    context.windows.read(&spec.windows).map_err(|why| InvalidTarget::Window(why.to_string()))?;
    Ok(target)
}

/// What a policy's selector selects.
pub fn selector(policy: &TokenPolicy) -> Option<Selector> {
    labels(&policy.spec.gateway_selector)
}

/// A selector made ready for matching.
pub fn labels(selector: &GatewaySelector) -> Option<Selector> {
    LabelSelector::from(selector).try_into().ok()
}

/// Value of the annotation that asks for a look, where it was not carried out yet.
pub fn open_request(policy: &TokenPolicy) -> Option<&str> {
    request::open(policy, policy.status.as_ref().and_then(|s| s.last_handled_reconcile_at.as_deref()))
}
