//! The operator as a whole: what it is made of, and how it starts, works and ends.
//!
//! It listens on no port, catches no signal and reads no file: the command line, or a simulation, does.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, future};
use kube::Client;
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use super::connection::Connections;
use super::controllers::{AllKinds, Controllers};
use super::logins;
use super::references::References;
use super::uses::Uses;
use crate::admin::Health;
use crate::clock;
use crate::engine::connection::Restrictions;
use crate::engine::lifetime::Bounds;
use crate::leader::fence::{Fence, Term};
use crate::leader::timings::Timings;
use crate::leader::{Candidacy, Election, Superseded};
use crate::metrics::Metrics;
use crate::runtime::cluster::Cluster;
use crate::runtime::deletions::Deletions;
use crate::runtime::events::Events;
use crate::runtime::finalizers::release_namespace;
use crate::runtime::namespaces::Namespaces;
use crate::runtime::outages::Outages;
use crate::runtime::reconcile::Reconciler as _;
use crate::runtime::watch::{Scope, View, Watches};
use crate::runtime::workers::{Trigger, Workers};
use crate::runtime::writer::Writer;
use crate::vendor::admission::Admission;
use crate::vendor::http::Http;
use crate::vendor::limits::Limits;
use crate::vendor::remotes::Remotes;
use crate::vendor::sessions::Sessions;
use crate::vendor::slots::Slots;
use crate::vendor::spelling::Spellings;
use crate::vendor::wire::Wire;

/// Longest wait for writes under way when the operator is shut down.
const GRACE: Duration = Duration::from_secs(10);
/// Longest wait for events that have not been written yet.
const FLUSH: Duration = Duration::from_secs(2);
/// What was asked for at the end of an outage fails this long after it, at the latest.
const LATE: Duration = Duration::from_secs(30);
/// Time between two clean-ups of what was read for no longer than needed.
const CLEAN_UP: Duration = Duration::from_secs(30);
/// Time between two searches for Secrets that have tokens and were not read for a minute.
const RECHECK: Duration = Duration::from_secs(5);

/// Connections to the API server.
#[derive(Clone)]
pub struct Clients {
    /// For single reads, and for writes.
    pub writes: Client,
    /// For watches: beside many writes on one connection, one was seen to stop delivering.
    pub watching: Client,
    /// For the lease; none if there is no other replica.
    pub lease: Option<Client>,
}

/// Settings of the command line that rules depend on.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What is forbidden to tenants.
    pub restrictions: Restrictions,
    /// What policies may ask for.
    pub bounds: Bounds,
}

/// What the command line sets.
#[derive(Clone, Debug)]
pub struct OperatorSettings {
    /// What is watched.
    pub scopes: Vec<Scope>,
    /// Concurrent exchanges with remote systems.
    pub concurrency: u16,
    /// Settings that rules depend on.
    pub rules: Settings,
    /// When a refused password is tried again; none: never.
    pub retry_refused_logins_after: Option<Duration>,
    /// Whether there is a metric with one series per object.
    pub metrics_per_object: bool,
}

/// The identity of this replica.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name that events are reported under, and with something random added, that the lease is held under.
    pub instance: String,
    /// Name of the `Lease`.
    pub lease_name: String,
    /// Its namespace.
    pub lease_namespace: String,
    /// How long it lasts, and how often it is renewed.
    pub lease_timings: Timings,
}

impl Identity {
    fn candidacy(self) -> Candidacy {
        // A process that comes after this one in the same Pod is another candidate.
        let identity = format!("{}_{:x}", self.instance, clock::random().to_bits());
        let timings = self.lease_timings;
        Candidacy { name: self.lease_name, namespace: self.lease_namespace, identity, timings }
    }
}

/// The operator, ready to run.
pub struct Operator {
    controllers: Arc<Controllers>,
    cluster: Arc<Cluster>,
    connections: Arc<Connections>,
    views: Arc<OnceLock<Vec<View>>>,
    watching: Client,
    scopes: Vec<Scope>,
    election: Option<Election>,
    end: signal::Sender<bool>,
    write_events: BoxFuture<'static, ()>,
}

impl Operator {
    /// Puts the operator together. Nothing is asked or begun before it runs.
    #[must_use]
    pub fn assemble(
        clients: Clients,
        wire: Arc<dyn Wire>,
        settings: OperatorSettings,
        identity: Identity,
    ) -> Self {
        let (end, ending) = signal::channel(false);
        let (term, terms) = signal::channel(if clients.lease.is_some() { Term::OVER } else { Term::Endless });
        let fence = Fence::new(ending, terms);
        let metrics = Arc::new(Metrics::new(settings.metrics_per_object));
        let (events, write_events) = Events::new(
            clients.writes.clone(),
            identity.instance.clone(),
            fence.clone(),
            Arc::clone(&metrics),
        );
        let election = clients.lease.map(|client| Election::new(client, identity.candidacy(), term));
        let slots = Slots::new(settings.concurrency.into(), &metrics);
        let http = Http::new(wire, slots, Arc::clone(&metrics), fence.clone());
        let connections =
            Arc::new(connections(http, clients.writes.clone(), &settings, Arc::clone(&metrics)));
        let controllers = Arc::new_cyclic(|all| {
            let kinds = Box::new(AllKinds(Weak::clone(all)));
            let cluster = Arc::new(Cluster {
                writer: Writer::new(clients.writes, fence.clone()),
                events,
                namespaces: Namespaces::default(),
                deletions: Deletions::default(),
                outages: Outages::default(),
                workers: Workers::new(kinds, settings.concurrency.into(), fence.ending()),
                metrics,
                fence,
            });
            Controllers::new(all, &cluster, &connections, settings.rules.bounds)
        });
        Self {
            cluster: Arc::clone(controllers.gateways.store().cluster()),
            controllers,
            connections,
            watching: clients.watching,
            scopes: settings.scopes,
            views: Arc::default(),
            election,
            end,
            write_events: write_events.boxed(),
        }
    }

    /// What probes and scrapes are answered from.
    #[must_use]
    pub fn health(&self) -> Health {
        let Cluster { metrics, workers, fence, .. } = &*self.cluster;
        Health {
            metrics: Arc::clone(metrics),
            watches: Arc::clone(&self.views),
            started: workers.has_started(),
            fence: fence.clone(),
        }
    }

    /// Works until `shutdown`, then finishes what is under way and hands the lease over.
    ///
    /// # Errors
    /// When another replica has taken the lease: what this one knows is out of date.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Superseded> {
        let Self { controllers, cluster, .. } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(self.write_events);
        tasks.spawn(recheck_logins(Arc::clone(&self.connections)));
        tasks.spawn(clean_up(Arc::clone(&cluster), self.connections));
        tasks.spawn(recover(Arc::clone(&cluster)));
        tasks.spawn(cluster.workers.clone().keep_time());
        let mut watches = watch(&controllers, &self.watching, &self.scopes, &mut tasks);
        self.views.get_or_init(|| watches.views());
        let namespaces =
            watch_namespaces(Arc::clone(&controllers), self.watching.clone(), self.scopes).boxed();
        tokio::select! {
            biased;
            never = broken(&mut tasks) => match never {},
            () = shutdown => {}
            superseded = work(&controllers, &mut watches, &mut self.election, namespaces) => {
                let _ = self.end.send(true);
                return Err(superseded);
            }
        }
        let _ = self.end.send(true);
        tracing::info!("shutting down: writes in flight are completed");
        let finished = tokio::select! {
            biased;
            Superseded = kept(&mut self.election) => false,
            finished = finish(&cluster) => finished,
        };
        // Else what is under way may still take effect: nothing is to work before the lease has expired.
        if let Some(election) = self.election.filter(|_| finished) {
            election.hand_over().await;
        }
        Ok(())
    }
}

/// Waits for what is under way, and for the events of it. False if that took too long.
async fn finish(cluster: &Cluster) -> bool {
    let finished = tokio::time::timeout(GRACE, cluster.workers.finished()).await.is_ok();
    // Events are of less use than a lease that is handed over soon.
    let _ = tokio::time::timeout(FLUSH, cluster.events.flush()).await;
    finished
}

/// Passes on a panic in one of the tasks that all others depend on; they do not end otherwise.
async fn broken(tasks: &mut JoinSet<()>) -> Infallible {
    while let Some(ended) = tasks.join_next().await {
        if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
            std::panic::resume_unwind(panic);
        }
    }
    future::pending().await
}

/// Works as long as this replica may.
async fn work(
    controllers: &Controllers,
    watches: &mut Watches,
    election: &mut Option<Election>,
    namespaces: BoxFuture<'static, Infallible>,
) -> Superseded {
    watches.filled().await;
    if let Some(election) = election {
        tracing::info!("standing by");
        election.win().await;
    }
    let elected = election.is_some();
    let working = async {
        if elected {
            watches.renew().await;
        }
        let Controllers { gateways, customers, .. } = controllers;
        gateways.store().cluster().workers.start();
        let (gateways, customers) = (gateways.store().keys().len(), customers.store().keys().len());
        tracing::info!(gateways, customers, "at work");
        namespaces.await
    };
    tokio::select! {
        biased;
        superseded = kept(election) => superseded,
        never = working => match never {},
    }
}

/// Keeps the lease if there is one, until another replica has it.
async fn kept(election: &mut Option<Election>) -> Superseded {
    match election {
        Some(election) => election.keep().await,
        None => future::pending().await,
    }
}

fn watch(controllers: &Controllers, client: &Client, scopes: &[Scope], tasks: &mut JoinSet<()>) -> Watches {
    let mut watches = Watches::default();
    for scope in scopes {
        watches.add(controllers.gateways.store(), client, scope, tasks);
        watches.add(controllers.policies.store(), client, scope, tasks);
        watches.add(controllers.servers.store(), client, scope, tasks);
        watches.add(controllers.customers.store(), client, scope, tasks);
    }
    watches
}

/// Releases what is in a namespace that is being deleted, and reconciles what is in one that has come in its place.
async fn watch_namespaces(controllers: Arc<Controllers>, client: Client, scopes: Vec<Scope>) -> Infallible {
    let changed = |namespace: String, terminating| {
        let controllers = Arc::clone(&controllers);
        namespace_changed(controllers, namespace, terminating).boxed()
    };
    let names = scopes.iter().filter_map(|scope| scope.namespace.as_deref());
    controllers.gateways.store().cluster().namespaces.watch(&client, names, changed).await
}

async fn namespace_changed(controllers: Arc<Controllers>, namespace: String, terminating: bool) {
    let Controllers { gateways, policies, customers, .. } = &*controllers;
    if terminating {
        tracing::warn!(namespace, "the namespace is being deleted: original values are not restored");
        tokio::join!(
            release_namespace(policies.store(), &namespace),
            release_namespace(gateways.store(), &namespace),
            release_namespace(customers.store(), &namespace),
        );
    }
    gateways.store().cluster().workers.wake_all(Some(&namespace), Trigger::Namespace);
}

/// How remote systems are reached.
fn connections(
    http: Http,
    client: Client,
    settings: &OperatorSettings,
    metrics: Arc<Metrics>,
) -> Connections {
    let remotes = Remotes {
        http,
        sessions: Sessions::default(),
        admission: Admission::new(settings.retry_refused_logins_after),
        spellings: Spellings::default(),
    };
    let (limits, references) = (Limits::default(), References::new(client));
    let restrictions = settings.rules.restrictions.clone();
    Connections { remotes, limits, references, restrictions, uses: Uses::new(metrics) }
}

/// Wakes what has waited for the API server, once it answers again and this replica may work.
async fn recover(cluster: Arc<Cluster>) {
    let Cluster { outages, fence, .. } = &*cluster;
    loop {
        tokio::select! {
            biased;
            () = outages.ended() => {}
            // The lease could not be renewed.
            () = fence.over() => {}
        }
        for wait in [Duration::ZERO, LATE] {
            tokio::time::sleep(wait).await;
            fence.opened().await;
            outages.take().into_iter().for_each(|(kind, key)| cluster.wake(kind, key, Trigger::ApiServer));
        }
    }
}

async fn recheck_logins(connections: Arc<Connections>) {
    let mut every = tokio::time::interval(RECHECK);
    loop {
        every.tick().await;
        logins::recheck(&connections.remotes.sessions, &connections.references).await;
    }
}

async fn clean_up(cluster: Arc<Cluster>, connections: Arc<Connections>) {
    let mut every = tokio::time::interval(CLEAN_UP);
    loop {
        every.tick().await;
        let Connections { remotes, limits, references, uses, .. } = &*connections;
        references.purge();
        cluster.namespaces.purge();
        remotes.http.purge();
        remotes.admission.purge();
        let in_use = remotes.admission.systems();
        remotes.sessions.purge(&in_use);
        remotes.spellings.purge(&in_use);
        limits.purge(&in_use);
        uses.purge(&in_use);
    }
}
