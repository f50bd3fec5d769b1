//! `tenure run`: the operator.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures::future::BoxFuture;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admin;
use crate::controller::connection::Restrictions;
use crate::controller::context::{Alarms, Context, Handled, Settings};
use crate::controller::events::Events;
use crate::controller::references::References;
use crate::controller::report::Reporter;
use crate::controller::restore::Namespaces;
use crate::controller::rollouts::Rollouts;
use crate::controller::watch::{Scope, watch};
use crate::controller::windows;
use crate::controller::workers::{self, Workers};
use crate::controller::{claims::Claims, seed, store::Store};
use crate::crd::{CustomerTokenTtl, KonaServer, TokenPolicy, X2Gateway};
use crate::engine::lifetime::{Bounds, X2_LONGEST, X2_SHORTEST};
use crate::engine::schedule;
use crate::metrics::Metrics;
use crate::telemetry::{self, Format, Level};
use crate::vendor::address::{Cidr, DialPolicy};
use crate::vendor::admission::Admission;
use crate::vendor::http::Http;
use crate::vendor::kona::Spellings;
use crate::vendor::lanes::Lanes;
use crate::vendor::login::Remotes;
use crate::vendor::sessions::Sessions;
use crate::vendor::slots::Slots;

/// Longest wait for writes under way when the operator is told to end.
const GRACE: Duration = Duration::from_secs(10);
/// Longest wait for an answer of the API server, apart from watches.
const API_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two clean-ups of what was read for no longer than needed.
const CLEAN_UP: Duration = Duration::from_mins(1);

/// Options of `tenure run`. Each can be given as an environment variable, too: `--log-level` as `TENURE_LOG_LEVEL`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub(super) struct Options {
    /// Address for /metrics, /healthz and /readyz.
    #[arg(long, env = "TENURE_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Namespaces to work in, separated by commas [default: all]
    #[arg(long, env = "TENURE_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Label selector: only resources that it selects are worked on.
    #[arg(long, env = "TENURE_SELECTOR")]
    selector: Option<String>,
    /// Exchanges with remote systems that move at once.
    #[arg(long, env = "TENURE_CONCURRENCY", default_value_t = 64)]
    concurrency: u16,
    /// Format of log lines [default: text on a terminal, json otherwise]
    #[arg(long, env = "TENURE_LOG_FORMAT")]
    log_format: Option<Format>,
    /// How much is logged.
    #[arg(long, env = "TENURE_LOG_LEVEL", default_value = "info")]
    log_level: Level,
    /// Blocks of addresses that may be dialled although they are special, such as 127.0.0.0/8; separated by commas.
    #[arg(long, env = "TENURE_ALLOW_CIDR", value_delimiter = ',')]
    allow_cidr: Vec<Cidr>,
    /// Blocks of addresses that are never dialled; separated by commas.
    #[arg(long, env = "TENURE_DENY_CIDR", value_delimiter = ',')]
    deny_cidr: Vec<Cidr>,
    /// Refuse tls.insecureSkipVerify.
    #[arg(long, env = "TENURE_FORBID_INSECURE_TLS")]
    forbid_insecure_tls: bool,
    /// Refuse http://, whatever allowPlaintext says.
    #[arg(long, env = "TENURE_FORBID_PLAINTEXT")]
    forbid_plaintext: bool,
    /// Refuse Secrets without the annotation tenure.dev/allowed-origins.
    #[arg(long, env = "TENURE_REQUIRE_ALLOWED_ORIGINS")]
    require_allowed_origins: bool,
    /// Try a refused password again after this time, such as 24h [default: never]
    #[arg(long, env = "TENURE_RETRY_REFUSED_LOGINS_AFTER", value_parser = duration)]
    retry_refused_logins_after: Option<Duration>,
    /// Shortest token lifetime that policies may ask for, in seconds.
    #[arg(long, env = "TENURE_MIN_TIMEOUT", default_value_t = X2_SHORTEST)]
    min_timeout: u32,
    /// Longest token lifetime that policies may ask for, in seconds.
    #[arg(long, env = "TENURE_MAX_TIMEOUT", default_value_t = X2_LONGEST)]
    max_timeout: u32,
    /// Export the metric `last_success_timestamp_seconds`, one series an object.
    #[arg(long, env = "TENURE_METRICS_PER_OBJECT")]
    metrics_per_object: bool,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    schedule::parse(text).ok_or("must be a duration such as 24h")
}

pub(super) fn run(options: Options) -> anyhow::Result<()> {
    telemetry::start(options.log_format, options.log_level);
    telemetry::guard_panics();
    keep_out_of_core_files();
    anyhow::ensure!(
        options.min_timeout <= options.max_timeout,
        "--min-timeout must not be greater than --max-timeout"
    );
    rustls::crypto::ring::default_provider().install_default().ok();
    tokio::runtime::Runtime::new()?.block_on(operate(options))
}

/// Passwords and tokens are in memory; a core file would hold them.
fn keep_out_of_core_files() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, none).is_err() {
        tracing::warn!("core files could not be switched off");
    }
}

async fn operate(options: Options) -> anyhow::Result<()> {
    let config =
        Config::infer().await.context("no cluster: set KUBECONFIG, or run in a Pod with a ServiceAccount")?;
    let writes = client(&config, Some(API_TIMEOUT))?;
    // Watches have a connection of their own: beside many writes one was seen to stop delivering.
    let watches = client(&config, None)?;
    let listener = TcpListener::bind(options.listen).await;
    let listener =
        listener.with_context(|| format!("cannot listen on {}: choose another --listen", options.listen))?;
    let listening = listener.local_addr().unwrap_or(options.listen);
    let (end, ending) = watch::channel(false);
    let (events, write_events) = Events::new(writes.clone(), instance());
    let context = Arc::new(context(&options, &writes, events, ending));
    let mut tasks = JoinSet::new();
    tasks.spawn(write_events);
    tasks.spawn(clean_up(Arc::clone(&context)));
    let serving = Arc::clone(&context);
    tasks.spawn(async move {
        if let Err(error) = admin::serve(listener, serving).await {
            tracing::error!(%error, "/metrics, /healthz and /readyz have ended");
        }
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %listening, "tenure is starting");
    let filling = begin_watches(&options, &context, &watches, &mut tasks);
    let mut signals = Signals::new()?;
    let work = async {
        filling.await;
        seed::refused_logins(&context);
        context.metrics.leads(true);
        workers::start(&context);
        tracing::info!(
            gateways = context.gateways.keys().len(),
            customers = context.customers.keys().len(),
            "at work"
        );
        std::future::pending::<()>().await;
    };
    let told = tokio::select! {
        () = work => true,
        () = signals.next() => true,
        _ = tasks.join_next() => false,
    };
    let _ = end.send(true);
    tracing::info!("ending: writes under way are finished");
    tokio::select! {
        _ = tokio::time::timeout(GRACE, context.workers.finished()) => {}
        () = signals.next() => {}
    }
    anyhow::ensure!(told, "a task that must not end has ended: this is a bug, please report it");
    Ok(())
}

fn client(config: &Config, timeout: Option<Duration>) -> anyhow::Result<Client> {
    let mut config = config.clone();
    // The library's own tries can take a quarter of an hour; ours are bounded.
    config.default_retry = false;
    if timeout.is_some() {
        config.read_timeout = timeout;
        // Else the idle time of a kept connection would count against the next answer.
        config.reset_reader_on_write = true;
    }
    Client::try_from(config)
        .context("the connection to the API server cannot be set up: check the kubeconfig")
}

/// The name that events are reported under.
fn instance() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

fn context(options: &Options, client: &Client, events: Events, ending: watch::Receiver<bool>) -> Context {
    let metrics = Arc::new(Metrics::new(options.metrics_per_object));
    let dial = DialPolicy { allow: options.allow_cidr.clone(), deny: options.deny_cidr.clone() };
    let slots = Slots::new(options.concurrency.into());
    let remotes = Remotes {
        http: Http::new(dial, slots, Arc::clone(&metrics), ending.clone()),
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
        reporter: Reporter::new(client.clone()),
        events,
        metrics,
        settings: Settings { restrictions, bounds },
        handled: Handled::default(),
        alarms: Alarms::default(),
        ending,
    }
}

/// Begins to watch all four kinds. The result waits until all stores are filled.
fn begin_watches(
    options: &Options,
    context: &Arc<Context>,
    client: &Client,
    tasks: &mut JoinSet<()>,
) -> BoxFuture<'static, ()> {
    let namespaces: Vec<Option<String>> = match options.namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let mut filling = Vec::new();
    for namespace in namespaces {
        let scope = Scope { namespace, selector: options.selector.clone() };
        let mut begin = || {
            let (filled, fills) = mpsc::channel(1);
            filling.push(fills);
            (Arc::clone(context), client.clone(), scope.clone(), filled)
        };
        let (c, k, s, f) = begin();
        tasks.spawn(watch::<X2Gateway>(c, k, s, f));
        let (c, k, s, f) = begin();
        tasks.spawn(watch::<TokenPolicy>(c, k, s, f));
        let (c, k, s, f) = begin();
        tasks.spawn(watch::<KonaServer>(c, k, s, f));
        let (c, k, s, f) = begin();
        tasks.spawn(watch::<CustomerTokenTtl>(c, k, s, f));
    }
    Box::pin(async move {
        for mut fills in filling {
            fills.recv().await;
        }
    })
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
