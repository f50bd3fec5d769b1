//! What all controllers share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::watch;

use super::claims::Claims;
use super::connection::Restrictions;
use super::departures::Departures;
use super::events::{Events, Happening};
use super::references::References;
use super::report::Reporter;
use super::restore::Namespaces;
use super::rollout::Rollouts;
use super::store::{Key, Store};
use super::windows;
use super::workers::{Kind, Workers};
use crate::crd::{CustomerTokenTtl, KonaServer, TokenPolicy, X2Gateway};
use crate::engine::lifetime::Bounds;
use crate::engine::reason::{EventReason, Reason};
use crate::engine::verdict::Verdict;
use crate::leader::fence::Fence;
use crate::metrics::Metrics;
use crate::vendor::limits::Limits;
use crate::vendor::login::Remotes;

/// Settings of the command line that rules depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// What is taken from tenants.
    pub restrictions: Restrictions,
    /// What policies may ask for.
    pub bounds: Bounds,
}

/// Everything but the objects' own memory.
#[derive(Debug)]
pub struct Context {
    /// Gateways as the API server holds them.
    pub gateways: Store<X2Gateway>,
    /// Policies, likewise.
    pub policies: Store<TokenPolicy>,
    /// Servers, likewise.
    pub servers: Store<KonaServer>,
    /// Customers, likewise.
    pub customers: Store<CustomerTokenTtl>,
    /// Who declares which appliance.
    pub gateway_claims: Claims,
    /// Who declares which customer.
    pub customer_claims: Claims,
    /// The tasks, one an object.
    pub workers: Workers,
    /// Clients of the remote systems.
    pub remotes: Remotes,
    /// How hard each is asked.
    pub limits: Limits,
    /// Secrets and `ConfigMaps`.
    pub references: References,
    /// Which namespaces are being deleted.
    pub namespaces: Namespaces,
    /// Objects that are leaving, or have left.
    pub departures: Departures,
    /// Change windows, as they were read.
    pub windows: windows::Cache,
    /// Who may be changed now.
    pub rollouts: Rollouts,
    /// Writes statuses and finalizers.
    pub reporter: Reporter,
    /// Writes events.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Settings.
    pub settings: Settings,
    /// Which requests of a whole its parts have carried out.
    pub handled: Handled,
    /// Servers whose login was found refused by somebody else than their own task.
    pub alarms: Alarms,
    /// Becomes true when the operator is to end.
    pub ending: watch::Receiver<bool>,
    /// Whether this replica may work.
    pub fence: Fence,
    /// Whether the stores hold all there is.
    pub filled: Arc<AtomicBool>,
}

impl Context {
    /// Publishes a Warning where an object has come to stand worse, or otherwise badly, than before.
    pub fn warn_of(
        &self,
        object: ObjectReference,
        policy: Option<ObjectReference>,
        before: Option<Reason>,
        now: &Verdict,
    ) {
        if let Some(before) = before.filter(|before| before.is_warning() && now.reason.is_ready()) {
            let note = format!("Ready again after {}. {}", before.as_str(), now.message);
            let reason = EventReason::Recovered;
            return self.events.publish(Happening { object, reason, note, warning: false, policy });
        }
        if before == Some(now.reason) || !now.reason.is_warning() {
            return;
        }
        tracing::warn!(
            kind = object.kind,
            namespace = object.namespace,
            name = object.name,
            reason = now.reason.as_str(),
            "{}",
            now.message
        );
        let (reason, note) = (EventReason::NotReady(now.reason), now.message.clone());
        self.events.publish(Happening { object, reason, note, warning: true, policy });
    }
}

/// A request on a policy or a server: its key, and the value of its annotation.
pub type Request = (Key, String);

/// Which requests on a policy or server were carried out by which of its parts.
#[derive(Debug, Default)]
pub struct Handled(Mutex<HashMap<(Kind, Key), HashSet<Request>>>);

impl Handled {
    /// A part has carried out requests; older ones are of no interest any more.
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

/// Objects that are to be looked at although they are not due.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<HashSet<Key>>);

impl Alarms {
    /// Asks for a look.
    pub fn raise(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Whether a look was asked for; asks once.
    pub fn take(&self, key: &Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }
}

/// Time between two looks at something that only a change can concern.
pub const UNDISTURBED: Duration = Duration::from_hours(24);

/// Wait after the API server did not take a status.
pub const AGAIN: Duration = Duration::from_secs(15);
