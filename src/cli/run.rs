//! `tenure run`: the operator.

mod options;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::admin;
use crate::controller::operator::Settings;
use crate::controller::operator::{Clients, Identity, Operator, OperatorSettings};
use crate::engine::connection::Restrictions;
use crate::engine::lifetime::Bounds;
use crate::leader::Superseded;
use crate::leader::timings::Timings;
use crate::telemetry;
use crate::telemetry::traces::Traces;
use crate::vendor::address::DialPolicy;
use crate::vendor::wire::Network;

/// Longest wait for an answer of the API server, apart from watches.
const API_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence of a watch: longer than the API server lets one last.
const WATCH_TIMEOUT: Duration = Duration::from_secs(90);

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
    let timings = options.lease_timings().map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(operate(options, timings));
    // A resolver that hangs delays nothing else.
    runtime.shutdown_background();
    traces.into_iter().for_each(Traces::flush);
    ended
}

/// Passwords and tokens are in memory; a core file would hold them. The kernel ignores the limit if it passes core files on to a
/// program, but not that the process is not to be dumped. That also keeps others of the same user from reading its memory.
fn keep_out_of_core_files() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let disabled =
        setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if disabled.is_err() {
        tracing::warn!("core files could not be disabled");
    }
}

async fn operate(options: Options, timings: Timings) -> anyhow::Result<()> {
    let (mut config, in_cluster) = super::cluster().await?;
    // The library's own tries can take a quarter of an hour; ours are bounded.
    config.default_retry = false;
    let elected = options.leader_elect.unwrap_or(in_cluster);
    let clients = Clients {
        writes: client(&config, Some(API_TIMEOUT))?,
        watching: client(&config, Some(WATCH_TIMEOUT))?,
        lease: elected.then(|| client(&config, None)).transpose()?,
    };
    let listener = TcpListener::bind(options.listen).await;
    let listener =
        listener.with_context(|| format!("cannot listen on {}: choose another --listen", options.listen))?;
    let listening = listener.local_addr().unwrap_or(options.listen);
    let mut signals = Signals::new()?;
    let dial = DialPolicy { allow: options.allow_cidr.clone(), deny: options.deny_cidr.clone() };
    let wire = Arc::new(Network::new(dial));
    let operator = Operator::assemble(clients, wire, settings(&options), identity(options, timings, &config));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %listening, "tenure is starting");
    let serving = tokio::spawn(admin::serve(listener, operator.health()));
    let (end, ending) = oneshot::channel();
    let working = operator.run(async {
        // Fails only if the other side is gone, and then nothing waits for this.
        let _ = ending.await;
    });
    tokio::select! {
        biased;
        () = end_at(&mut signals, end) => Ok(()),
        ended = working => ended.map_err(|Superseded| {
            anyhow!("another replica has taken the lease because it could not be renewed in time: exiting")
        }),
        _ = serving => bail!("a background task exited unexpectedly: this is a bug, please report it"),
    }
}

/// The first signal ends the operator in good order, the second at once.
async fn end_at(signals: &mut Signals, end: oneshot::Sender<()>) {
    signals.next().await;
    let _ = end.send(());
    signals.next().await;
}

fn settings(options: &Options) -> OperatorSettings {
    let restrictions = Restrictions {
        plaintext: options.forbid_plaintext,
        insecure_tls: options.forbid_insecure_tls,
        custom_ca: options.forbid_custom_ca,
        proxy: options.forbid_proxy,
        origins_required: options.require_allowed_origins,
        ports: options.allow_ports.clone(),
    };
    let bounds = Bounds { least: options.min_timeout, most: options.max_timeout };
    OperatorSettings {
        scopes: options.scope.scopes(),
        concurrency: options.concurrency,
        rules: Settings { restrictions, bounds },
        retry_refused_logins_after: options.retry_refused_logins_after,
        metrics_per_object: options.metrics_per_object,
    }
}

fn identity(options: Options, lease_timings: Timings, config: &Config) -> Identity {
    Identity {
        instance: instance(),
        lease_name: options.lease_name,
        lease_namespace: options.lease_namespace.unwrap_or_else(|| config.default_namespace.clone()),
        lease_timings,
    }
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
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    #[test]
    fn a_core_file_is_neither_written_nor_passed_on() {
        // `--skip` of nothing marks the child.
        let alone = "in a process of its own";
        if !std::env::args().any(|arg| arg == alone) {
            // Other tests read the memory of their process, which this would forbid.
            let name = std::thread::current().name().unwrap().to_owned();
            let test = std::env::current_exe().unwrap();
            let ended = std::process::Command::new(test).args(["--exact", &name, "--skip", alone]).output();
            let ended = ended.unwrap();
            assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"), "{ended:?}");
            return;
        }
        super::keep_out_of_core_files();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }
}
