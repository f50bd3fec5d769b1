//! The policies of a namespace with their specs, each parsed once per generation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::core::ObjectMeta;

use crate::clock;
use crate::crd::{Kind, TokenPolicy, X2GatewayStatus};
use crate::engine::governance::{Policies, Policy};
use crate::engine::lifetime::Bounds;
use crate::engine::spec;
use crate::runtime::object::{Entry, Key};
use crate::runtime::store::Store;

/// The specs of all policies, as they were parsed.
#[derive(Debug)]
pub struct Specs {
    policies: Arc<Store<TokenPolicy>>,
    bounds: Bounds,
    parsed: Mutex<HashMap<Key, Parsed>>,
}

#[derive(Debug)]
struct Parsed {
    uid: Option<String>,
    generation: Option<i64>,
    spec: Arc<spec::Policy>,
}

impl Specs {
    /// None yet. What policies ask for has to be within the operator's bounds.
    pub fn new(policies: Arc<Store<TokenPolicy>>, bounds: Bounds) -> Self {
        Self { policies, bounds, parsed: Mutex::default() }
    }

    /// The policies of a namespace as they are now.
    pub fn namespace(&self, namespace: &str) -> Policies {
        let entries = self.policies.namespace(namespace);
        let mut parsed = self.parsed();
        let policy = |entry: &Entry<TokenPolicy>| {
            let name = entry.meta().name.clone().unwrap_or_default();
            (name, entry.valid().map(|policy| self.parse(&mut parsed, policy)))
        };
        entries.iter().map(policy).collect()
    }

    /// A policy with its spec.
    pub fn of(&self, policy: &Arc<TokenPolicy>) -> Policy {
        self.parse(&mut self.parsed(), policy)
    }

    /// Reconciles the policies that a gateway concerns.
    pub fn wake(&self, gateway: &ObjectMeta, status: Option<&X2GatewayStatus>) {
        let namespace = gateway.namespace.as_deref().unwrap_or_default();
        for policy in self.namespace(namespace).concerned(gateway, status) {
            self.policies.cluster().wake(Kind::Policy, Key::new(namespace, policy));
        }
    }

    /// A policy is gone.
    pub fn forget(&self, policy: &Key) {
        self.parsed().remove(policy);
    }

    fn parsed(&self) -> MutexGuard<'_, HashMap<Key, Parsed>> {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parse(&self, parsed: &mut HashMap<Key, Parsed>, policy: &Arc<TokenPolicy>) -> Policy {
        let TokenPolicy { spec, metadata: meta, .. } = &**policy;
        let key = Key::of(meta);
        let known = parsed.get(&key).filter(|one| one.uid == meta.uid && one.generation == meta.generation);
        if let Some(known) = known {
            return Policy { object: Arc::clone(policy), spec: Arc::clone(&known.spec) };
        }
        let spec = Arc::new(spec::Policy::parse(&key.name, spec, self.bounds, clock::now().0));
        let (uid, generation) = (meta.uid.clone(), meta.generation);
        parsed.insert(key, Parsed { uid, generation, spec: Arc::clone(&spec) });
        Policy { object: Arc::clone(policy), spec }
    }
}
