//! What all controllers share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::claims::Claims;
use super::connection::{Connections, Restrictions};
use super::rollout::Rollouts;
use super::specs::Specs;
use super::windows;
use crate::crd::{CustomerTokenTtl, Kind, KonaServer, TokenPolicy, X2Gateway};
use crate::engine::lifetime::Bounds;
use crate::runtime::cluster::Cluster;
use crate::runtime::object::{Key, Reported};
use crate::runtime::reconcile::new_work;
use crate::runtime::store::Store;
use crate::runtime::workers::{Kinds, Work};

/// Settings of the command line that rules depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// What is forbidden to tenants.
    pub restrictions: Restrictions,
    /// What policies may ask for.
    pub bounds: Bounds,
}

/// Everything but the objects' own memory.
#[derive(Debug)]
pub struct Context {
    /// What all kinds share.
    pub cluster: Arc<Cluster>,
    /// Gateways as the API server holds them.
    pub gateways: Arc<Store<X2Gateway>>,
    /// Policies, likewise.
    pub policies: Arc<Store<TokenPolicy>>,
    /// Servers, likewise.
    pub servers: Arc<Store<KonaServer>>,
    /// Customers, likewise.
    pub customers: Arc<Store<CustomerTokenTtl>>,
    /// Who declares which appliance.
    pub gateway_claims: Claims,
    /// Who declares which customer.
    pub customer_claims: Claims,
    /// How remote systems are reached.
    pub connections: Connections,
    /// The specs of policies, as they were parsed.
    pub specs: Specs,
    /// Change windows of customers, as they were read.
    pub windows: windows::Cache,
    /// The rollouts, which permit changes.
    pub rollouts: Rollouts,
    /// Which requests of a whole its parts have carried out.
    pub handled: Handled,
    /// Servers whose login was refused in a reconcile of one of their customers.
    pub alarms: Alarms,
}

/// The kinds that are reconciled, as long as the operator lives.
pub(super) struct AllKinds(pub(super) Weak<Context>);

impl Kinds for AllKinds {
    fn new_work(&self, kind: Kind) -> Box<dyn Work> {
        let context = Weak::clone(&self.0);
        match kind {
            Kind::Gateway => new_work::<X2Gateway>(context),
            Kind::Policy => new_work::<TokenPolicy>(context),
            Kind::Server => new_work::<KonaServer>(context),
            Kind::Customer => new_work::<CustomerTokenTtl>(context),
        }
    }

    fn objects(&self, namespace: Option<&str>) -> Vec<(Kind, Key)> {
        let Some(context) = self.0.upgrade() else { return Vec::new() };
        let mut objects = keys(&context.servers, namespace);
        objects.extend(keys(&context.policies, namespace));
        objects.extend(keys(&context.gateways, namespace));
        objects.extend(keys(&context.customers, namespace));
        objects
    }
}

/// The keys of a namespace's objects of one kind, or of all of them, and of those that have left.
fn keys<K: Reported>(store: &Store<K>, namespace: Option<&str>) -> Vec<(Kind, Key)> {
    let (there, left) = (store.keys().into_iter(), store.departures().open().into_iter());
    let in_scope = |key: &Key| namespace.is_none_or(|namespace| key.namespace == namespace);
    there.chain(left).filter(in_scope).map(|key| (K::KIND, key)).collect()
}

/// A request on a policy or a server: its key, and the value of its annotation.
pub type Request = (Key, String);

/// Which requests on a policy or server were carried out by which of its parts.
#[derive(Debug, Default)]
pub struct Handled(Mutex<HashMap<(Kind, Key), HashSet<Request>>>);

impl Handled {
    /// A part has carried out requests; older ones are of no interest anymore.
    pub fn set(&self, kind: Kind, part: Key, requests: HashSet<Request>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.is_empty() {
            parts.remove(&(kind, part));
        } else {
            parts.insert((kind, part), requests);
        }
    }

    /// Whether a part has carried out a request.
    #[must_use]
    pub fn has(&self, kind: Kind, part: &Key, request: &Request) -> bool {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(&(kind, part.clone())).is_some_and(|requests| requests.contains(request))
    }
}

/// Objects that are to be reconciled although they are not due.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<HashSet<Key>>);

impl Alarms {
    /// Requests a reconcile.
    pub fn raise(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Whether a reconcile was requested. That is answered once.
    pub fn take(&self, key: &Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }
}
