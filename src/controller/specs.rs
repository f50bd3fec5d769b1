//! The policies of a namespace with their specs, each parsed once per generation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::core::ObjectMeta;

use crate::clock;
use crate::crd::{Kind, TokenPolicy, X2GatewayStatus};
use crate::engine::governance::{Policies, Policy};
use crate::engine::lifetime::Bounds;
use crate::runtime::object::{Entry, Key};
use crate::runtime::store::Store;

/// The policies of all namespaces, with their specs as they were parsed.
#[derive(Debug)]
pub struct Specs {
    policies: Arc<Store<TokenPolicy>>,
    bounds: Bounds,
    namespaces: Mutex<HashMap<String, Known>>,
}

/// The policies of a namespace as they were read last.
#[derive(Debug, Default)]
struct Known {
    policies: Arc<Policies>,
    /// Whether none of them has changed since.
    is_current: bool,
}

impl Specs {
    /// None yet. What policies ask for has to be within the operator's bounds.
    pub fn new(policies: Arc<Store<TokenPolicy>>, bounds: Bounds) -> Self {
        Self { policies, bounds, namespaces: Mutex::default() }
    }

    /// The policies of a namespace as they are now.
    pub fn namespace(&self, namespace: &str) -> Arc<Policies> {
        // Locked while they are read: a change comes before or after that.
        let mut namespaces = self.known();
        if let Some(known) = namespaces.get(namespace).filter(|known| known.is_current) {
            return Arc::clone(&known.policies);
        }
        let before = namespaces.remove(namespace).unwrap_or_default().policies;
        let policy = |entry: Entry<TokenPolicy>| {
            let name = entry.meta().name.clone().unwrap_or_default();
            (name, entry.valid().map(|policy| before.parse(policy, self.bounds, clock::now().0)))
        };
        let policies: Arc<Policies> =
            Arc::new(self.policies.namespace(namespace).into_iter().map(policy).collect());
        if !policies.is_empty() {
            let known = Known { policies: Arc::clone(&policies), is_current: true };
            namespaces.insert(namespace.to_owned(), known);
        }
        policies
    }

    /// A policy with its spec.
    pub fn of(&self, policy: &Arc<TokenPolicy>) -> Policy {
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        self.namespace(namespace).parse(policy, self.bounds, clock::now().0)
    }

    /// Reconciles the policies that a gateway concerns.
    pub fn wake(&self, gateway: &ObjectMeta, status: Option<&X2GatewayStatus>) {
        let namespace = gateway.namespace.as_deref().unwrap_or_default();
        for policy in self.namespace(namespace).concerned(gateway, status) {
            self.policies.cluster().wake(Kind::Policy, Key::new(namespace, policy));
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

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
