//! The honest namespace, the operator, and what is measured while others attack.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use tenure_kit::access::{lease_rules, operator_rules, service_account_kubeconfig};
use tenure_kit::canary::Canary;
use tenure_kit::clock;
use tenure_kit::control_plane;
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::operator::Operator;
use tenure_kit::requests::{Entry, Kind, Requests};
use tenure_kit::x2::X2Fleet;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api;
use super::attacks::Attack;
use super::audit::Audit;
use super::fixture::{Fixture, SOON, customer, fleet, gateway, is_current, policy, ready, status};
use super::hostile::Hostile;
use super::names;
use super::process::Usage;

/// Time between two checks of an object.
const INTERVAL: Duration = Duration::from_secs(30);
const APPLIANCES: usize = 20;
const CUSTOMERS: usize = 5;
const TIMEOUT: u64 = 28_800;
/// How many checks of each object an attack is endured for.
const CHECKS: u64 = 3;
/// A password that is refused everywhere is tried three times, and three times more after a request for a check, at most every
/// ten minutes.
const REFUSALS: usize = 6;
/// What an attack may take, with its objects, in MiB.
const ROOM: u64 = 64;
/// What more may be left when objects have come and gone a second time, in MiB.
const REST: u64 = 8;
/// Longest time between two renewals of the Lease, which is renewed every two seconds and is lost after ten.
const RENEWAL: Duration = Duration::from_secs(5);
const AUDIT_LOG: &str = "audit.log";
/// How often the operator's memory is read.
const SAMPLE: Duration = Duration::from_millis(100);

/// An honest namespace in which everything is in sync, and the operator for all namespaces.
pub struct World {
    pub f: Fixture,
    pub fleet: X2Fleet,
    pub kona: KonaServer,
    /// No password may arrive there.
    pub canary: Canary,
    /// Temporary files.
    folder: PathBuf,
    process: u32,
    lease: String,
}

/// What an attack has cost, while it still goes on.
pub struct Endured {
    attackers: Vec<Hostile>,
    /// By how much the operator's memory has grown at its height, in MiB.
    grown: u64,
    /// Longest time between two checks of an honest object.
    longest: Duration,
    /// Logins that the honest systems have refused.
    refused: usize,
    /// Connections to servers that no password may go to.
    stray: u64,
    /// Longest time between two renewals of the Lease.
    renewal: Duration,
    /// Honest objects whose statuses were written.
    reports: Vec<String>,
    /// How many requests with which the operator changes something at the API server the attacks may cause.
    most_writes: u64,
    /// How many there were, and how long that took.
    writes: u64,
    took: Duration,
    /// The operator's processor time.
    cpu: Duration,
}

impl Endured {
    pub const HEADINGS: &str = "| attack | memory | checks at most every | refused logins | stray connections | writes to the API server | processor time |\n| --- | --- | --- | --- | --- | --- | --- |";

    /// A row of the table.
    pub fn row(&self, attack: &str) -> String {
        let Self { grown, longest, refused, stray, writes, took, cpu, .. } = self;
        let [longest, took, cpu] = [longest, took, cpu].map(Duration::as_secs_f64);
        format!(
            "| {attack} | +{grown} MiB | {longest:.0} s | {refused} | {stray} | {writes} in {took:.0} s | {cpu:.1} s |"
        )
    }

    /// What holds whatever others do.
    pub async fn check(&self, world: &World) {
        let operator = world.f.operator();
        let log = operator.log();
        assert_eq!(operator.id(), Some(world.process), "the operator has ended: {log}");
        assert_eq!(log.matches("\"at work\"").count(), 1, "{log}");
        assert_eq!(world.lease().await, world.lease);
        assert_eq!(operator.get("/readyz").await.unwrap().0, 200);
        assert!(self.grown <= ROOM, "{} MiB more", self.grown);
        assert!(self.longest <= 2 * INTERVAL, "a check came after {:?}", self.longest);
        assert!(self.renewal <= RENEWAL, "the Lease was renewed after {:?}", self.renewal);
        assert!(self.writes <= self.most_writes, "{} writes to the API server", self.writes);
        // What is checked below was true all the time.
        assert!(self.reports.is_empty(), "{:?}", self.reports);
        assert!(self.refused <= REFUSALS, "{} logins were refused", self.refused);
        assert_eq!(self.stray, 0);
        world.is_in_sync().await;
        let ours = ListParams::default().labels("site=berlin");
        let gateways = world.f.ns.api("X2Gateway").await.unwrap().list(&ours).await.unwrap();
        for gateway in &gateways {
            assert!(is_current(gateway) && ready(gateway)["reason"] == "InSync", "{gateway:?}");
            assert_eq!(status(gateway)["provenTimeoutSeconds"], TIMEOUT);
        }
        assert_eq!(world.fleet.standing_at(TIMEOUT), APPLIANCES);
        let written = [world.fleet.counts().write, world.kona.counts().write];
        assert_eq!(written, [APPLIANCES as u64, CUSTOMERS as u64], "each was set once");
        for attacker in &self.attackers {
            attacker.statuses_are_small().await;
        }
    }
}

impl World {
    /// `has_names` starts the operator with a name server that never answers, and the name of the honest server in `/etc/hosts`.
    pub async fn begin(program: &Path, has_names: bool) -> Self {
        let fleet = fleet(APPLIANCES);
        let kona = KonaServer::start(KonaOptions::default()).unwrap();
        let folder = std::env::temp_dir().join(format!("tenure-hostile-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let audit_log = Some(folder.join(AUDIT_LOG));
        let audited = control_plane::Options { audit_log, ..Default::default() };
        let mut f = Fixture::alone_with("honest", audited).await;
        f.credentials(&fleet).await;
        f.kona(&kona).await;
        let mut trusted: Vec<String> = fleet.appliances().map(|appliance| appliance.url()).collect();
        trusted.push("tls=configmap/x2-ca".to_owned());
        let trusted = json!({"metadata": {"annotations": {"tenure.dev/allowed-origins": trusted.join(",")}}});
        f.patch("Secret", "x2-admin", trusted).await;
        for appliance in fleet.appliances() {
            f.apply(&gateway(appliance.name(), &appliance)).await;
        }
        let selector = json!({"matchLabels": {"site": "berlin"}});
        f.apply(&policy("honest", json!({"timeoutSeconds": TIMEOUT, "gatewaySelector": selector}))).await;
        for number in 0..CUSTOMERS {
            let id = customer_id(number);
            kona.add_customer(&id, &format!("Customer {number}"));
            f.apply(&customer(&format!("customer-{number}"), &id, 3600, 86_400)).await;
        }
        let rules = [operator_rules(), lease_rules("tenure")].concat();
        let kubeconfig = service_account_kubeconfig(&f.plane, f.ns.name(), &rules).await.unwrap();
        let arguments = ["--leader-elect", "--lease-namespace", f.ns.name(), "--allow-cidr", "127.0.0.0/8"];
        let mut program = program.to_owned();
        if has_names {
            let url = kona.url().replace("127.0.0.1", kona.dns_name());
            f.patch("KonaServer", "kona", json!({"spec": {"url": url}})).await;
            program = names::program(&folder, &program, kona.dns_name());
        }
        let operator = Operator::start(&program, &kubeconfig, &arguments).await.unwrap();
        let process = operator.id().unwrap();
        f.operator = Some(operator);
        let canary = Canary::start().unwrap();
        let mut world = Self { f, fleet, kona, canary, folder, process, lease: String::new() };
        world.is_in_sync().await;
        world.checked(1).await;
        world.lease = world.lease().await;
        world
    }

    /// Waits until everything honest is in sync.
    async fn is_in_sync(&self) {
        self.f.reason("TokenPolicy", "honest", "InSync").await;
        for number in 0..CUSTOMERS {
            self.f.reason("CustomerTokenTtl", &format!("customer-{number}"), "InSync").await;
        }
    }

    /// The requests that each honest object causes.
    fn objects(&self) -> Vec<Requests> {
        let appliances = self.fleet.appliances().map(|appliance| appliance.requests());
        let customers = (0..CUSTOMERS).map(|number| self.kona.customer(&customer_id(number)).requests());
        appliances.chain(customers).collect()
    }

    /// Waits until each honest object has been checked some times more.
    async fn checked(&self, times: u64) {
        let objects = self.objects();
        let all = objects.iter().map(|object| object.wait_for(Kind::Get, object.counts().get + times));
        futures::future::join_all(all).await;
    }

    /// Which process holds the Lease, and how often it has changed hands.
    async fn lease(&self) -> String {
        let leases: Api<Lease> = Api::namespaced(self.f.ns.client(), self.f.ns.name());
        let spec = leases.get("tenure").await.unwrap().spec.unwrap();
        format!("{:?}, {:?} transitions", spec.holder_identity, spec.lease_transitions)
    }

    /// The operator's memory, in MiB.
    pub fn memory(&self) -> u64 {
        Usage::of(self.process).unwrap().memory / 1024
    }

    /// Waits until the operator shows nothing of a namespace, and takes little more memory than before.
    pub async fn has_forgotten(&self, namespace: &str, memory: u64) {
        let forgotten = async {
            while self.f.operator().metrics().await.unwrap().contains(namespace)
                || self.memory() > memory + REST
            {
                tokio::time::sleep(SAMPLE).await;
            }
        };
        tokio::time::timeout(SOON, forgotten).await.unwrap_or_else(|_| panic!("{} MiB", self.memory()));
    }

    fn api(&self) -> api::Requests {
        api::Requests::read(&self.folder.join(AUDIT_LOG), self.f.ns.name()).unwrap()
    }

    fn audit(&self) -> Audit {
        Audit::read(&self.folder.join(AUDIT_LOG), self.f.ns.name())
    }

    /// Logins that the honest systems have refused so far.
    fn refused(&self) -> usize {
        let entries = self.fleet.requests().entries().into_iter().chain(self.kona.requests().entries());
        let is_refused = |entry: &Entry| {
            entry.kind == Kind::Login && entry.status.is_some_and(|status| (400..500).contains(&status))
        };
        entries.filter(is_refused).count()
    }

    /// Begins the attacks, each in a namespace of its own, and waits until everything honest has been checked some times.
    pub async fn endure(&self, attacks: impl IntoIterator<Item = &Attack>) -> Endured {
        let (begun, before, api) = (clock::instant(), Usage::of(self.process).unwrap(), self.api());
        let (refused, asked) = (self.refused(), self.audit().len());
        let usage = Sampled::begin(self.process);
        let (mut attackers, mut most_writes) = (Vec::new(), 0);
        for attack in attacks {
            most_writes += attack.most_writes;
            let attacker = Hostile::new(self, attack.name).await;
            attack.begin(self, &attacker).await;
            attackers.push(attacker);
        }
        self.checked(CHECKS).await;
        let highest = *usage.highest.borrow();
        let audit = self.audit();
        let mut reports = audit.reports(self.f.ns.name(), asked);
        // One attack has gateways of its own there.
        reports.retain(|name| !name.starts_with("borrowed-"));
        Endured {
            attackers,
            grown: highest.memory.saturating_sub(before.memory) / 1024,
            longest: self.longest(begun),
            refused: self.refused() - refused,
            stray: self.canary.requests().connections(),
            renewal: audit.longest_renewal(),
            reports,
            most_writes,
            writes: self.api().since(&api).writes(),
            took: begun.elapsed(),
            cpu: highest.cpu.saturating_sub(before.cpu),
        }
    }

    /// Longest time between two checks of an honest object since a moment. Those before it count for their distance to it.
    fn longest(&self, since: Instant) -> Duration {
        let now = clock::instant();
        let distances = self.objects().into_iter().flat_map(|object| {
            let mut checks: Vec<Instant> =
                object.entries().iter().filter(|e| e.kind == Kind::Get).map(|e| e.at).collect();
            checks.push(now);
            let pairs = checks.windows(2).filter(|pair| pair[1] > since).map(|pair| pair[1] - pair[0]);
            pairs.collect::<Vec<_>>()
        });
        distances.max().unwrap()
    }

    pub async fn end(self) {
        self.f.finish().await;
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

/// The id of a customer of the honest server.
pub fn customer_id(number: usize) -> String {
    format!("1d2b7a10-5c1e-4f2a-9b3d-{number:012}")
}

/// What a process uses, sampled until it ends or this is dropped.
struct Sampled {
    /// The most memory, and the last processor time.
    highest: watch::Receiver<Usage>,
    _sampling: JoinSet<()>,
}

impl Sampled {
    fn begin(process: u32) -> Self {
        let (sender, highest) = watch::channel(Usage::of(process).unwrap());
        let mut sampling = JoinSet::new();
        sampling.spawn(async move {
            while let Ok(usage) = Usage::of(process) {
                sender.send_modify(|highest| {
                    *highest = Usage { memory: highest.memory.max(usage.memory), ..usage };
                });
                tokio::time::sleep(SAMPLE).await;
            }
        });
        Self { highest, _sampling: sampling }
    }
}
