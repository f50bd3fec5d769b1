//! `tenure run`: the operator.

mod options;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use crate::admin;
use crate::clock;
use crate::controller::connection::Restrictions;
use crate::controller::context::{Alarms, Context, Handled, Settings};
use crate::controller::events::Events;
use crate::controller::references::References;
use crate::controller::report::Reporter;
use crate::controller::restore::Namespaces;
use crate::controller::rollouts::Rollouts;
use crate::controller::watch::Watches;
use crate::controller::windows;
use crate::controller::workers::{self, Workers};
use crate::controller::{claims::Claims, endings, seed, store::Store};
use crate::engine::lifetime::Bounds;
use crate::leader::fence::{Fence, Term};
use crate::leader::{Candidacy, Election, Superseded};
use crate::metrics::Metrics;
use crate::telemetry;
use crate::telemetry::traces::Traces;
use crate::vendor::address::DialPolicy;
use crate::vendor::admission::Admission;
use crate::vendor::http::Http;
use crate::vendor::kona::Spellings;
use crate::vendor::lanes::Lanes;
use crate::vendor::login::Remotes;
use crate::vendor::sessions::Sessions;
use crate::vendor::slots::Slots;
use crate::vendor::wire::Network;

/// Longest wait for writes under way when the operator is told to end.
const GRACE: Duration = Duration::from_secs(10);
/// Longest wait for an answer of the API server, apart from watches.
const API_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence of a watch: longer than the API server lets one last.
const WATCH_TIMEOUT: Duration = Duration::from_secs(90);
/// Time between two clean-ups of what was read for no longer than needed.
const CLEAN_UP: Duration = Duration::from_mins(1);

pub(super) use options::Options;

pub(super) fn run(options: Options) -> anyhow::Result<()> {
    let traces = options.otlp_endpoint().map(Traces::to).transpose()?;
    telemetry::start(options.log_format, options.log_level, traces.as_ref());
    telemetry::guard_panics();
    keep_out_of_core_files();
    anyhow::ensure!(
        options.min_timeout <= options.max_timeout,
        "--min-timeout must not be greater than --max-timeout"
    );
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(operate(options));
    // A resolver that hangs holds nobody up.
    runtime.shutdown_background();
    traces.into_iter().for_each(Traces::flush);
    ended
}

/// Passwords and tokens are in memory; a core file would hold them.
fn keep_out_of_core_files() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, none).is_err() {
        tracing::warn!("core files could not be disabled");
    }
}

async fn operate(options: Options) -> anyhow::Result<()> {
    let (mut config, in_cluster) = super::cluster().await?;
    // The library's own tries can take a quarter of an hour; ours are bounded.
    config.default_retry = false;
    let writes = client(&config, Some(API_TIMEOUT))?;
    // Watches have a connection of their own: beside many writes one was seen to stop delivering. So has the lease.
    let watching = client(&config, Some(WATCH_TIMEOUT))?;
    let listener = TcpListener::bind(options.listen).await;
    let listener =
        listener.with_context(|| format!("cannot listen on {}: choose another --listen", options.listen))?;
    let listening = listener.local_addr().unwrap_or(options.listen);
    let (end, ending) = signal::channel(false);
    let elected = options.leader_elect.unwrap_or(in_cluster);
    let (term, terms) = signal::channel(if elected { Term::OVER } else { Term::Endless });
    let mut election = if elected {
        Some(Election::new(client(&config, None)?, candidacy(&options, &config), term))
    } else {
        None
    };
    let fence = Fence::new(ending.clone(), terms);
    let (events, write_events) = Events::new(writes.clone(), instance(), fence.clone());
    let context = Arc::new(context(&options, &writes, events, ending, fence));
    let mut tasks = JoinSet::new();
    tasks.spawn(write_events);
    tasks.spawn(clean_up(Arc::clone(&context)));
    let serving = Arc::clone(&context);
    tasks.spawn(async move {
        if let Err(error) = admin::serve(listener, serving).await {
            tracing::error!(%error, "the server for /metrics, /healthz and /readyz has stopped");
        }
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %listening, "tenure is starting");
    let scopes = options.scope.scopes();
    let mut watches = Watches::begin(&context, &watching, &scopes, &mut tasks);
    let endings = endings::watch(&context, &watching, &scopes);
    let mut signals = Signals::new()?;
    let told = tokio::select! {
        Superseded = work(&context, &mut watches, &mut election, endings) => false,
        () = signals.next() => true,
        _ = tasks.join_next() => anyhow::bail!("a background task exited unexpectedly: this is a bug, please report it"),
    };
    let _ = end.send(true);
    anyhow::ensure!(
        told,
        "another replica has taken the lease because it could not be renewed in time: exiting"
    );
    tracing::info!("shutting down: writes in flight are completed");
    let finished = tokio::select! {
        ended = tokio::time::timeout(GRACE, context.workers.finished()) => ended.is_ok(),
        () = signals.next() => false,
        Superseded = kept(&mut election) => false,
    };
    // Else what is under way may still take effect: nobody is to work before the lease has expired.
    if let Some(election) = election.filter(|_| finished) {
        election.hand_over().await;
    }
    Ok(())
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
        seed::refused_logins(context);
        workers::start(context);
        let (gateways, customers) = (context.gateways.keys().len(), context.customers.keys().len());
        tracing::info!(gateways, customers, "at work");
        endings.await
    };
    tokio::select! {
        superseded = kept(election) => superseded,
        never = working => match never {},
    }
}

/// Keeps the lease where there is one, until another replica has it.
async fn kept(election: &mut Option<Election>) -> Superseded {
    match election {
        Some(election) => election.keep().await,
        None => std::future::pending().await,
    }
}

fn candidacy(options: &Options, config: &Config) -> Candidacy {
    let namespace = options.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    // A process that comes after this one in the same Pod is another candidate.
    let identity = format!("{}_{:x}", instance(), clock::random().to_bits());
    Candidacy { name: options.lease_name.clone(), namespace, identity }
}

fn client(config: &Config, timeout: Option<Duration>) -> anyhow::Result<Client> {
    let mut config = config.clone();
    if timeout.is_some() {
        config.read_timeout = timeout;
        // Else the idle time of a kept connection would count against the next answer.
        config.reset_reader_on_write = true;
    }
    super::client(config)
}

/// The name that events are reported under.
fn instance() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

fn context(
    options: &Options,
    client: &Client,
    events: Events,
    ending: signal::Receiver<bool>,
    fence: Fence,
) -> Context {
    let metrics = Arc::new(Metrics::new(options.metrics_per_object));
    let dial = DialPolicy { allow: options.allow_cidr.clone(), deny: options.deny_cidr.clone() };
    let slots = Slots::new(options.concurrency.into());
    let remotes = Remotes {
        http: Http::new(Arc::new(Network::new(dial)), slots, Arc::clone(&metrics), fence.clone()),
        sessions: Sessions::default(),
        admission: Admission::new(options.retry_refused_logins_after),
        spellings: Spellings::default(),
    };
    let restrictions = Restrictions {
        plaintext: options.forbid_plaintext,
        insecure_tls: options.forbid_insecure_tls,
        origins_required: options.require_allowed_origins,
    };
    let bounds = Bounds { least: options.min_timeout, most: options.max_timeout };
    Context {
        gateways: Store::default(),
        policies: Store::default(),
        servers: Store::default(),
        customers: Store::default(),
        gateway_claims: Claims::default(),
        customer_claims: Claims::default(),
        workers: Workers::default(),
        remotes,
        lanes: Lanes::default(),
        references: References::new(client.clone()),
        namespaces: Namespaces::default(),
        rollouts: Rollouts::default(),
        windows: windows::Cache::default(),
        reporter: Reporter::new(client.clone(), fence.clone()),
        events,
        metrics,
        settings: Settings { restrictions, bounds },
        handled: Handled::default(),
        alarms: Alarms::default(),
        ending,
        fence,
        filled: AtomicBool::new(false),
    }
}

async fn clean_up(context: Arc<Context>) {
    let mut every = tokio::time::interval(CLEAN_UP);
    loop {
        every.tick().await;
        context.references.purge();
        context.namespaces.purge();
        context.remotes.http.purge();
    }
}

/// Signals that ask the operator to end.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
