//! The operator as a whole: what it is made of, and how it starts, works and ends.
//!
//! It listens on no port, catches no signal and reads no file: the command line, or a simulation, does.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, future};
use kube::Client;
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use super::claims::Claims;
use super::context::{Alarms, Context, Handled, Settings};
use super::departures::Departures;
use super::events::Events;
use super::references::References;
use super::report::Reporter;
use super::restore::Namespaces;
use super::rollout::Rollouts;
use super::store::Store;
use super::watch::{Scope, Watches};
use super::workers::{self, Workers};
use super::{endings, windows};
use crate::admin::Health;
use crate::clock;
use crate::leader::fence::{Fence, Term};
use crate::leader::{Candidacy, Election, Superseded};
use crate::metrics::Metrics;
use crate::vendor::admission::Admission;
use crate::vendor::http::Http;
use crate::vendor::kona::Spellings;
use crate::vendor::limits::Limits;
use crate::vendor::login::Remotes;
use crate::vendor::sessions::Sessions;
use crate::vendor::slots::Slots;
use crate::vendor::wire::Wire;

/// Longest wait for writes under way when the operator is told to end.
const GRACE: Duration = Duration::from_secs(10);
/// Longest wait for events that have not been written yet.
const FLUSH: Duration = Duration::from_secs(2);
/// Time between two clean-ups of what was read for no longer than needed.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// Connections to the API server.
#[derive(Clone)]
pub struct Clients {
    /// For single reads, and for writes.
    pub writes: Client,
    /// For watches: beside many writes on one connection, one was seen to stop delivering.
    pub watching: Client,
    /// For the lease; none where there is no other replica.
    pub lease: Option<Client>,
}

/// What the command line sets.
#[derive(Clone, Debug)]
pub struct OperatorSettings {
    /// What is watched.
    pub scopes: Vec<Scope>,
    /// Exchanges with remote systems that move at once.
    pub concurrency: u16,
    /// Settings that rules depend on.
    pub rules: Settings,
    /// When a refused password is tried again; none: never.
    pub retry_refused_logins_after: Option<Duration>,
    /// Whether there is a metric with one series per object.
    pub metrics_per_object: bool,
}

/// Who this replica is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name that events are reported under, and with something random added, that the lease is held under.
    pub instance: String,
    /// Name of the `Lease`.
    pub lease_name: String,
    /// Its namespace.
    pub lease_namespace: String,
}

impl Identity {
    fn candidacy(self) -> Candidacy {
        // A process that comes after this one in the same Pod is another candidate.
        let identity = format!("{}_{:x}", self.instance, clock::random().to_bits());
        Candidacy { name: self.lease_name, namespace: self.lease_namespace, identity }
    }
}

/// The operator, ready to run.
pub struct Operator {
    context: Arc<Context>,
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
        let (events, write_events) =
            Events::new(clients.writes.clone(), identity.instance.clone(), fence.clone());
        let election = clients.lease.map(|client| Election::new(client, identity.candidacy(), term));
        let context = Arc::new(context(&settings, &clients.writes, wire, events, fence));
        let (watching, scopes) = (clients.watching, settings.scopes);
        Self { context, watching, scopes, election, end, write_events: write_events.boxed() }
    }

    /// What probes and scrapes are answered from.
    #[must_use]
    pub fn health(&self) -> Health {
        let Context { metrics, filled, workers, fence, .. } = &*self.context;
        Health {
            metrics: Arc::clone(metrics),
            filled: Arc::clone(filled),
            started: workers.has_started(),
            fence: fence.clone(),
        }
    }

    /// Works until `shutdown`, then finishes what is under way and hands the lease over.
    ///
    /// # Errors
    /// When another replica has taken the lease: what this one knows is out of date.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Superseded> {
        let context = self.context;
        let mut tasks = JoinSet::new();
        tasks.spawn(self.write_events);
        tasks.spawn(clean_up(Arc::clone(&context)));
        tasks.spawn(workers::keep_time(Arc::clone(&context)));
        let mut watches = Watches::begin(&context, &self.watching, &self.scopes, &mut tasks);
        let endings = endings::watch(&context, &self.watching, &self.scopes);
        tokio::select! {
            biased;
            never = broken(&mut tasks) => match never {},
            () = shutdown => {}
            superseded = work(&context, &mut watches, &mut self.election, endings) => {
                let _ = self.end.send(true);
                return Err(superseded);
            }
        }
        let _ = self.end.send(true);
        tracing::info!("shutting down: writes in flight are completed");
        let finished = tokio::select! {
            biased;
            Superseded = kept(&mut self.election) => false,
            finished = finish(&context) => finished,
        };
        // Else what is under way may still take effect: nothing is to work before the lease has expired.
        if let Some(election) = self.election.filter(|_| finished) {
            election.hand_over().await;
        }
        Ok(())
    }
}

/// Waits for what is under way, and for the events of it. False where that took too long.
async fn finish(context: &Context) -> bool {
    let finished = tokio::time::timeout(GRACE, context.workers.finished()).await.is_ok();
    // Events are of less use than a lease that is handed over soon.
    let _ = tokio::time::timeout(FLUSH, context.events.flush()).await;
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
    context: &Arc<Context>,
    watches: &mut Watches,
    election: &mut Option<Election>,
    endings: impl Future<Output = Infallible>,
) -> Superseded {
    watches.filled().await;
    context.filled.store(true, Ordering::Release);
    if let Some(election) = election {
        tracing::info!("standing by");
        election.win().await;
    }
    let elected = election.is_some();
    let working = async {
        if elected {
            watches.renew().await;
        }
        workers::start(context);
        let (gateways, customers) = (context.gateways.keys().len(), context.customers.keys().len());
        tracing::info!(gateways, customers, "at work");
        endings.await
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

fn context(
    settings: &OperatorSettings,
    client: &Client,
    wire: Arc<dyn Wire>,
    events: Events,
    fence: Fence,
) -> Context {
    let metrics = Arc::new(Metrics::new(settings.metrics_per_object));
    let slots = Slots::new(settings.concurrency.into());
    let remotes = Remotes {
        http: Http::new(wire, slots, Arc::clone(&metrics), fence.clone()),
        sessions: Sessions::default(),
        admission: Admission::new(settings.retry_refused_logins_after),
        spellings: Spellings::default(),
    };
    Context {
        gateways: Store::default(),
        policies: Store::default(),
        servers: Store::default(),
        customers: Store::default(),
        gateway_claims: Claims::default(),
        customer_claims: Claims::default(),
        workers: Workers::new(settings.concurrency.into()),
        remotes,
        limits: Limits::default(),
        references: References::new(client.clone()),
        namespaces: Namespaces::default(),
        departures: Departures::default(),
        rollouts: Rollouts::default(),
        windows: windows::Cache::default(),
        reporter: Reporter::new(client.clone(), fence.clone()),
        events,
        metrics,
        settings: settings.rules,
        handled: Handled::default(),
        alarms: Alarms::default(),
        ending: fence.ending(),
        fence,
        filled: Arc::default(),
    }
}

async fn clean_up(context: Arc<Context>) {
    let mut every = tokio::time::interval(CLEAN_UP);
    loop {
        every.tick().await;
        context.references.purge();
        context.namespaces.purge();
        context.remotes.http.purge();
        context.remotes.admission.purge();
        context.remotes.sessions.purge(&context.remotes.admission.systems());
    }
}
