//! One replica of the operator: a runtime of its own with a paused clock, stepped by the harness.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use tenure::admin::Health;
use tenure::clock::{self, Source};
use tenure::controller::operator::Settings;
use tenure::controller::operator::{Clients, Identity, Operator, OperatorSettings};
use tenure::engine::connection::Restrictions;
use tenure::engine::lifetime::Bounds;
use tenure::leader::timings::Timings;
use tenure::runtime::watch::Scope;
use tenure::vendor::wire::Wire;

use crate::api::Api;
use crate::crash::Crash;
use crate::judge::Judge;
use crate::remote::{Internet, Line};
use crate::time;

/// Uptime of every machine when a schedule begins.
const UPTIME: Duration = Duration::from_hours(1);

/// Why a step has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The time is there.
    Reached,
    /// A trap has struck: the harness is to do something now.
    Trapped,
    /// The replica has crashed.
    Crashed,
    /// The operator has returned.
    Ended,
}

/// A running replica.
pub struct Replica {
    pub index: usize,
    pub crash: Crash,
    pub health: Health,
    /// Always there, but for the moment in which it is dropped.
    runtime: Option<Runtime>,
    /// The harness's time, and the runtime's, when it was started.
    born: (Duration, Instant),
    rng: fastrand::Rng,
    operator: JoinHandle<()>,
    end: Option<oneshot::Sender<()>>,
}

/// What all replicas share.
#[derive(Clone, Debug)]
pub struct Outside {
    pub api: Api,
    pub internet: Internet,
    /// Whether a lease decides which replica works.
    pub elected: bool,
    pub concurrency: u16,
    /// Namespaces that the operator sees; none: all.
    pub namespaces: Vec<&'static str>,
    /// Labels of the objects that the operator sees.
    pub selector: Option<String>,
    pub judge: Judge,
}

impl Replica {
    /// Starts the operator. `number` tells this process from all others of the schedule.
    pub fn start(outside: &Outside, number: usize, now: Duration, seed: u64) -> Self {
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let crash = Crash::never();
        outside.judge.register(number, crash.clone());
        let mut rng = fastrand::Rng::with_seed(seed);
        let (end, ended) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let _entered = handle.enter();
        let born = (now, Instant::now());
        let _installed = install(now, rng.u64(..));
        let scopes = scopes(&outside.namespaces, outside.selector.as_deref());
        let line = Line { internet: outside.internet.clone(), replica: number, crash: crash.clone() };
        let client = |role: &str| outside.api.client(&client_name(number, role));
        let clients = Clients {
            writes: client("writes"),
            watching: client("watching"),
            lease: outside.elected.then(|| client("lease")),
        };
        let operator = Operator::assemble(
            clients,
            Arc::new(line),
            settings(outside.concurrency, scopes),
            identity(number),
        );
        let health = operator.health();
        let operator = runtime.spawn(async move {
            let _ = operator.run(async { drop(ended.await) }).await;
        });
        time::set_harness(Some(now));
        Self { index: number, crash, health, runtime: Some(runtime), born, rng, operator, end: Some(end) }
    }

    /// Lets the replica work until a time by its own clock.
    pub fn run_until(&mut self, until: Duration) -> Stop {
        let installed = self.install();
        time::set_harness(None);
        let deadline = self.born.1 + until.saturating_sub(self.born.0);
        let (crash, operator) = (&self.crash, &mut self.operator);
        let stop = self.runtime.as_ref().expect("it is there").block_on(async {
            tokio::select! {
                biased;
                stop = crash.struck() => stop,
                ended = operator => {
                    ended.expect("the operator does not panic");
                    Stop::Ended
                }
                () = tokio::time::sleep_until(deadline) => Stop::Reached,
            }
        });
        drop(installed);
        time::set_harness(Some(self.now()));
        stop
    }

    /// The replica was not running for a while: its clock has gone on.
    pub fn skip_to(&mut self, until: Duration) {
        let passed = until.saturating_sub(self.now());
        let _entered = self.runtime().enter();
        // Polled once, so that no task runs here: it would go by the machine's clock.
        let _ = tokio::time::advance(passed).now_or_never();
    }

    /// Asks the operator to end.
    pub fn end(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }

    /// Whether the operator was asked to end.
    pub fn is_ending(&self) -> bool {
        self.end.is_none()
    }

    /// The time by the replica's clock.
    pub fn now(&self) -> Duration {
        let _entered = self.runtime().enter();
        self.born.0 + self.born.1.elapsed()
    }

    /// How often its thread had nothing more to do so far: its clock goes on then.
    pub fn parks(&self) -> u64 {
        self.runtime().metrics().worker_park_count(0)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there")
    }

    /// Gives this thread the replica's clock and chance.
    fn install(&mut self) -> clock::Installed {
        fastrand::seed(self.rng.u64(..));
        let (now, seed) = (self.now(), self.rng.u64(..));
        let _entered = self.runtime().enter();
        install(now, seed)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Nothing of what is dropped with the runtime gets out any more.
        self.crash.kill();
        let installed = self.install();
        let runtime = self.runtime.take();
        let handle = runtime.as_ref().map(|runtime| runtime.handle().clone());
        let _entered = handle.as_ref().map(tokio::runtime::Handle::enter);
        drop(runtime);
        drop(installed);
    }
}

/// An operator without a lease, for the calling runtime, that sees these namespaces, or all.
pub fn alone(api: &Api, wire: Arc<dyn Wire>, namespaces: &[&str]) -> Operator {
    let client = |role: &str| api.client(&client_name(1, role));
    let clients = Clients { writes: client("writes"), watching: client("watching"), lease: None };
    Operator::assemble(clients, wire, settings(1, scopes(namespaces, None)), identity(1))
}

/// What an operator sees: these namespaces or all, and of them what a selector selects.
fn scopes(namespaces: &[&str], selector: Option<&str>) -> Vec<Scope> {
    let scope = |namespace: Option<&str>| Scope {
        namespace: namespace.map(str::to_owned),
        selector: selector.map(str::to_owned),
    };
    let listed: Vec<Scope> = namespaces.iter().map(|namespace| scope(Some(namespace))).collect();
    if listed.is_empty() { vec![scope(None)] } else { listed }
}

fn settings(concurrency: u16, scopes: Vec<Scope>) -> OperatorSettings {
    OperatorSettings {
        scopes,
        concurrency,
        rules: Settings {
            restrictions: Restrictions::default(),
            bounds: Bounds { least: 600, most: 2_592_000 },
        },
        retry_refused_logins_after: None,
        metrics_per_object: false,
    }
}

fn identity(number: usize) -> Identity {
    let text = |text: &str| text.to_owned();
    Identity {
        instance: format!("tenure-{number}"),
        lease_name: text("tenure"),
        lease_namespace: text("default"),
        lease_timings: Timings::default(),
    }
}

/// The name of a client of a process.
pub fn client_name(number: usize, role: &str) -> String {
    format!("{number}/{role}")
}

/// The process that a client belongs to; none for users.
pub fn process_of(client: &str) -> Option<usize> {
    client.split_once('/')?.0.parse().ok()
}

fn install(now: Duration, seed: u64) -> clock::Installed {
    clock::install(Source { wall: time::wall(now), uptime: UPTIME + now, seed })
}
