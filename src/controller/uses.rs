//! Where Secrets are used: the first use of one at a new place is on record, and those that may be used anywhere are counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use crate::clock;
use crate::crd::Kind;
use crate::engine::audit::Declarer;
use crate::engine::login::Account;
use crate::engine::origin::Route;
use crate::metrics::Metrics;
use crate::runtime::object::Reported;
use crate::telemetry::AUDIT;
use crate::vendor::credentials::Credentials;

/// How long a Secret is remembered that no object is known to log in with.
const UNUSED: Duration = Duration::from_secs(30);
/// Places of a Secret that are remembered. Beyond that, a place may be on record again.
const PLACES: usize = 16_384;

/// The object that a Secret is used for.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its metadata.
    pub meta: &'a ObjectMeta,
}

impl<'a> User<'a> {
    /// An object.
    #[must_use]
    pub fn of<K: Reported>(object: &'a K) -> Self {
        Self { kind: K::KIND, meta: object.meta() }
    }

    /// The namespace that the Secret is in, too.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }
}

/// The Secrets in use, by namespace and name.
#[derive(Debug)]
pub struct Uses {
    secrets: Mutex<HashMap<(String, String), Use>>,
    metrics: Arc<Metrics>,
    /// The key of what is kept of places: only this process has it.
    places: RandomState,
}

/// How a Secret is used.
#[derive(Debug)]
struct Use {
    uid: String,
    /// Whether it lists where it may be used.
    is_bound: bool,
    /// A hash of each.
    places: HashSet<u64>,
    last: Instant,
}

impl Uses {
    /// Counts into these metrics.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { secrets: Mutex::default(), metrics, places: RandomState::new() }
    }

    fn secrets(&self) -> MutexGuard<'_, HashMap<(String, String), Use>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Secret is about to be used for an object.
    pub fn note(&self, user: User<'_>, credentials: &Credentials, route: Route<'_>, is_bound: bool) {
        if self.add(credentials, self.place(route), is_bound) {
            record(user, credentials, route, is_bound);
        }
    }

    /// Adds a place. Returns whether it is new.
    fn add(&self, credentials: &Credentials, place: u64, is_bound: bool) -> bool {
        let Account { namespace, secret, .. } = &credentials.identity.account;
        let uid = &credentials.identity.version.uid;
        let mut secrets = self.secrets();
        let used = secrets.entry((namespace.clone(), secret.clone())).or_insert_with(|| {
            let (uid, last) = (uid.clone(), clock::instant());
            Use { uid, is_bound: true, places: HashSet::new(), last }
        });
        used.last = clock::instant();
        if used.is_bound != is_bound {
            used.is_bound = is_bound;
            self.metrics.count_unbound(namespace, if is_bound { -1 } else { 1 });
            if !is_bound {
                // What was permitted is no longer listed: it is on record again.
                used.places.clear();
            }
        }
        if used.uid != *uid || used.places.len() >= PLACES {
            used.uid.clone_from(uid);
            used.places.clear();
        }
        used.places.insert(place)
    }

    /// Scheme, host and port, and all that the other side is trusted for.
    fn place(&self, Route { target, proxy, trust, server_name }: Route<'_>) -> u64 {
        self.places.hash_one((target.origin(), proxy, trust.to_string(), server_name))
    }

    /// Drops Secrets that are not used anymore; `in_use` has those that objects log in with. To be called twice a minute.
    pub fn purge(&self, in_use: &BTreeMap<Account, BTreeSet<String>>) {
        let in_use: HashSet<(&str, &str)> =
            in_use.keys().map(|account| (account.namespace.as_str(), account.secret.as_str())).collect();
        self.secrets().retain(|(namespace, secret), used| {
            let is_kept =
                in_use.contains(&(namespace.as_str(), secret.as_str())) || used.last.elapsed() < UNUSED;
            if !is_kept && !used.is_bound {
                self.metrics.count_unbound(namespace, -1);
            }
            is_kept
        });
    }
}

/// Writes the line.
fn record(user: User<'_>, credentials: &Credentials, route: Route<'_>, is_bound: bool) {
    let Declarer { name, uid, generation, manager } = Declarer::of(user.meta);
    tracing::info!(
        target: AUDIT,
        audit = true,
        operation = "use_secret",
        secret = credentials.identity.account.secret,
        secret_uid = credentials.identity.version.uid,
        allowed_origins = is_bound,
        url = %route.target,
        proxy = route.proxy.map(tracing::field::display),
        certificates = %route.trust,
        server_name = route.server_name,
        kind = user.kind.as_str(),
        namespace = user.namespace(),
        name,
        uid,
        generation,
        manager,
        "uses a Secret at this origin for the first time"
    );
}
