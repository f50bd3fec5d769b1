//! The policies of a namespace with their specs, each parsed once per generation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::core::ObjectMeta;

use super::regimes::Regimes;
use crate::clock;
use crate::crd::{Kind, TokenPolicy, X2GatewayStatus};
use crate::engine::governance::{Policies, Policy};
use crate::engine::lifetime::Bounds;
use crate::runtime::object::{Entry, Key};
use crate::runtime::store::Store;
use crate::runtime::workers::Trigger;

/// The policies of all namespaces, with their specs as they were parsed.
#[derive(Debug)]
pub(crate) struct Specs {
    policies: Arc<Store<TokenPolicy>>,
    bounds: Bounds,
    namespaces: Mutex<HashMap<String, Known>>,
}

/// The policies of a namespace as they were read last, and what they require of its gateways.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) policies: Arc<Policies>,
    pub(super) regimes: Arc<Regimes>,
    /// Whether none of them has changed since.
    is_current: bool,
}

impl Specs {
    /// None yet. What policies ask for has to be within the operator's bounds.
    pub fn new(policies: Arc<Store<TokenPolicy>>, bounds: Bounds) -> Self {
        Self { policies, bounds, namespaces: Mutex::default() }
    }

    /// The policies of a namespace as they are now.
    pub(super) fn namespace(&self, namespace: &str) -> Known {
        // Locked while they are read: a change comes before or after that.
        let mut namespaces = self.known();
        if let Some(known) = namespaces.get(namespace).filter(|known| known.is_current) {
            return known.clone();
        }
        let before = namespaces.remove(namespace).unwrap_or_default();
        let policy = |entry: Entry<TokenPolicy>| {
            let name = entry.meta().name.clone().unwrap_or_default();
            let parse = |policy| before.policies.parse(policy, self.bounds, clock::now().0);
            (name, entry.valid().map(parse))
        };
        let policies: Arc<Policies> =
            Arc::new(self.policies.namespace(namespace).into_iter().map(policy).collect());
        let regimes = Regimes::after(&before.regimes, &policies);
        let known = Known { policies, regimes, is_current: true };
        if !known.policies.is_empty() {
            namespaces.insert(namespace.to_owned(), known.clone());
        }
        known
    }

    /// A policy with its spec.
    pub fn of(&self, policy: &Arc<TokenPolicy>) -> Policy {
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        self.namespace(namespace).policies.parse(policy, self.bounds, clock::now().0)
    }

    /// Reconciles the policies that a gateway concerns.
    pub fn wake(&self, gateway: &ObjectMeta, status: Option<&X2GatewayStatus>) {
        let namespace = gateway.namespace.as_deref().unwrap_or_default();
        for policy in self.namespace(namespace).policies.concerned(gateway, status) {
            self.policies.cluster().wake(Kind::Policy, Key::new(namespace, policy), Trigger::Related);
        }
    }

    /// A policy of a namespace has appeared, changed or gone.
    pub fn changed(&self, namespace: &str) {
        if let Some(known) = self.known().get_mut(namespace) {
            known.is_current = false;
        }
    }

    /// A policy of a namespace is gone: what is kept of the namespace goes with the last one.
    pub fn gone(&self, namespace: &str) {
        let mut namespaces = self.known();
        if self.policies.namespace(namespace).is_empty() {
            namespaces.remove(namespace);
        }
    }

    /// A gateway is gone.
    pub fn forget(&self, gateway: &Key) {
        if let Some(known) = self.known().get(&gateway.namespace) {
            known.regimes.forget(&gateway.name);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
