//! The controllers of all kinds, put together.

use std::sync::{Arc, Weak};

use super::claims::Claims;
use super::connection::Connections;
use super::customer::CustomerController;
use super::gateway::GatewayController;
use super::planning::Planning;
use super::policy::PolicyController;
use super::requests::{Alarms, Handled};
use super::rollout::Rollouts;
use super::server::ServerController;
use super::specs::Specs;
use crate::crd::Kind;
use crate::engine::lifetime::Bounds;
use crate::runtime::cluster::Cluster;
use crate::runtime::object::{Entry, Key, Reported};
use crate::runtime::reconcile::{Reconciler, new_work};
use crate::runtime::store::Store;
use crate::runtime::workers::{Kinds, Work};

/// One controller per kind.
pub(super) struct Controllers {
    pub(super) gateways: Arc<GatewayController>,
    pub(super) policies: Arc<PolicyController>,
    pub(super) servers: Arc<ServerController>,
    pub(super) customers: Arc<CustomerController>,
}

impl Controllers {
    /// Puts them together; `all` is what this returns. Policies may ask for what is within the bounds.
    pub(super) fn new(
        all: &Weak<Self>,
        cluster: &Arc<Cluster>,
        connections: &Arc<Connections>,
        bounds: Bounds,
    ) -> Self {
        let gateways = store(cluster, all, |all| &all.gateways);
        let policies = store(cluster, all, |all| &all.policies);
        let servers = store(cluster, all, |all| &all.servers);
        let customers = store(cluster, all, |all| &all.customers);
        let specs = Arc::new(Specs::new(Arc::clone(&policies), bounds));
        let rollouts = Arc::<Rollouts>::default();
        let server_claims = Arc::new(Claims::new(Kind::Server, cluster.workers.clone()));
        let customer_claims = Arc::new(Claims::new(Kind::Customer, cluster.workers.clone()));
        let handled = Arc::<Handled>::default();
        let alarms = Arc::<Alarms>::default();
        Self {
            policies: Arc::new(PolicyController {
                policies: Arc::clone(&policies),
                gateways: Arc::clone(&gateways),
                specs: Arc::clone(&specs),
                rollouts: Arc::clone(&rollouts),
                planning: Planning::default(),
                handled: Arc::clone(&handled),
            }),
            gateways: Arc::new(GatewayController {
                gateways,
                policies,
                specs,
                rollouts,
                claims: Claims::new(Kind::Gateway, cluster.workers.clone()),
                connections: Arc::clone(connections),
                handled: Arc::clone(&handled),
            }),
            servers: Arc::new(ServerController {
                servers: Arc::clone(&servers),
                customers: Arc::clone(&customers),
                claims: Arc::clone(&server_claims),
                customer_claims: Arc::clone(&customer_claims),
                connections: Arc::clone(connections),
                handled: Arc::clone(&handled),
                alarms: Arc::clone(&alarms),
            }),
            customers: Arc::new(CustomerController {
                customers,
                servers,
                claims: customer_claims,
                server_claims,
                connections: Arc::clone(connections),
                handled,
                alarms,
            }),
        }
    }
}

/// The objects of one kind; what depends on one is reconciled when it changes.
fn store<R: Reconciler>(
    cluster: &Arc<Cluster>,
    all: &Weak<Controllers>,
    reconciler: fn(&Controllers) -> &Arc<R>,
) -> Arc<Store<R::Object>> {
    let all = Weak::clone(all);
    let changed = move |before: Option<&Entry<R::Object>>, after: Option<&Entry<R::Object>>| {
        if let Some(all) = all.upgrade() {
            reconciler(&all).changed(before, after);
        }
    };
    Arc::new(Store::new(Arc::clone(cluster), changed))
}

/// The kinds that are reconciled, as long as the operator lives.
pub(super) struct AllKinds(pub(super) Weak<Controllers>);

impl Kinds for AllKinds {
    fn new_work(&self, kind: Kind) -> Box<dyn Work> {
        let all = self.0.upgrade();
        let all = all.as_deref();
        match kind {
            Kind::Gateway => work(all.map(|all| &all.gateways)),
            Kind::Policy => work(all.map(|all| &all.policies)),
            Kind::Server => work(all.map(|all| &all.servers)),
            Kind::Customer => work(all.map(|all| &all.customers)),
        }
    }

    fn objects(&self, namespace: Option<&str>) -> Vec<(Kind, Key)> {
        let Some(all) = self.0.upgrade() else { return Vec::new() };
        let mut objects = keys(all.servers.store(), namespace);
        objects.extend(keys(all.policies.store(), namespace));
        objects.extend(keys(all.gateways.store(), namespace));
        objects.extend(keys(all.customers.store(), namespace));
        objects
    }
}

fn work<R: Reconciler>(reconciler: Option<&Arc<R>>) -> Box<dyn Work> {
    new_work(reconciler.map(Arc::downgrade).unwrap_or_default())
}

/// The keys of a namespace's objects of one kind, or of all of them, and of those that have left.
fn keys<K: Reported>(store: &Store<K>, namespace: Option<&str>) -> Vec<(Kind, Key)> {
    let (there, left) = (store.keys().into_iter(), store.out_of_scope().open().into_iter());
    let in_scope = |key: &Key| namespace.is_none_or(|namespace| key.namespace == namespace);
    there.chain(left).filter(in_scope).map(|key| (K::KIND, key)).collect()
}
