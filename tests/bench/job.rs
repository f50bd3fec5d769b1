//! One operator and one fleet, measured.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures::StreamExt as _;
use kube::api::ListParams;
use serde_json::json;
use tenure_kit::clock;
use tenure_kit::control_plane;
use tenure_kit::operator::Operator;
use tenure_kit::requests::{Counts, Kind};
use tenure_kit::server::Reception;
use tenure_kit::x2::{Appliance, FleetOptions, X2Fleet};

use super::Options;
use super::api::Requests;
use super::fixture::{Fixture, gateway, is_current, policy, ready, status};
use super::process::{Usage, load};

const TIMEOUT: u64 = 28_800;
const POLICY: &str = "fleet";
/// After it a fleet counts as one that does not converge.
const LIMIT: Duration = Duration::from_mins(10);
/// Objects that are applied at the same time.
const AT_ONCE: usize = 16;
/// How many appliances are changed behind the operator's back.
const DRIFTS: usize = 10;

/// A fleet and its operator, at work since `begun`.
pub struct Job<'a> {
    options: &'a Options,
    fixture: Fixture,
    fleet: X2Fleet,
    silent: usize,
    operator: Operator,
    audit_log: PathBuf,
    begun: Instant,
}

/// All counters at one moment.
struct Reading {
    at: Instant,
    usage: Usage,
    api: Requests,
    appliances: Vec<Counts>,
    connections: u64,
}

impl<'a> Job<'a> {
    /// Declares everything, then starts the operator.
    pub async fn begin(options: &'a Options, gateways: usize, silent: usize) -> Result<Self> {
        let latency = Duration::from_millis(options.latency);
        let fleet =
            X2Fleet::start(FleetOptions { appliances: gateways, latency, ..FleetOptions::default() })?;
        // The first of every so many: the operator meets one of them first.
        for appliance in fleet.appliances().step_by(gateways.checked_div(silent).unwrap_or(1)).take(silent) {
            appliance.set_reception(Reception::Silent);
        }
        let audit_log = std::env::temp_dir().join(format!("tenure-bench-audit-{}.log", std::process::id()));
        let audited = control_plane::Options {
            audit_log: Some(audit_log.clone()),
            ..control_plane::Options::default()
        };
        let fixture = Fixture::alone_with("bench", audited).await;
        fixture.credentials(&fleet).await;
        let objects = fleet.appliances().map(|appliance| gateway(appliance.name(), &appliance));
        let applied = futures::stream::iter(objects).map(async |object| fixture.apply(&object).await);
        applied.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        let spec = json!({"timeoutSeconds": TIMEOUT, "interval": format!("{}s", options.interval)});
        fixture.apply(&policy(POLICY, spec)).await;
        row("busy before the start", &format!("{} % of the machine", load().await?));
        let begun = clock::instant();
        let arguments = ["--namespaces", fixture.ns.name(), "--allow-cidr", "127.0.0.0/8"];
        let operator = Operator::spawn(&options.operator, fixture.kubeconfig(), &arguments)?;
        Ok(Self { options, fixture, fleet, silent, operator, audit_log, begun })
    }

    fn read(&self) -> Result<Reading> {
        let process =
            self.operator.id().ok_or_else(|| anyhow!("the operator has ended: {}", self.operator.log()))?;
        Ok(Reading {
            at: clock::instant(),
            usage: Usage::of(process)?,
            api: Requests::read(&self.audit_log, self.fixture.ns.name())?,
            appliances: self.fleet.counts_by_appliance(),
            connections: self.fleet.requests().connections(),
        })
    }

    /// Until all appliances that answer have the policy's value and are proven.
    pub async fn converge(&self) -> Result<()> {
        let answering = self.fleet.len() - self.silent;
        let wanted = if self.fleet.is_empty() { "NoGatewaysMatch" } else { "InSync" };
        let policy = self.fixture.ns.wait_for("TokenPolicy", POLICY, LIMIT, |policy| {
            let counted = status(policy)["gateways"]["inSync"] == answering;
            is_current(policy) && counted && (self.silent > 0 || ready(policy)["reason"] == wanted)
        });
        policy.await.context("the fleet has not converged")?;
        let (elapsed, reading) = (self.begun.elapsed(), self.read()?);
        let gateways = self.fixture.ns.api("X2Gateway").await?.list(&ListParams::default()).await?;
        let proven = gateways.iter().filter(|gateway| status(gateway)["provenTimeoutSeconds"] == TIMEOUT);
        ensure!(proven.count() == answering, "the policy counts gateways as in sync that are not proven");
        let logins = self.fleet.requests().entries().into_iter().filter(|entry| entry.kind == Kind::Login);
        let logins: Vec<Instant> = logins.filter_map(|login| login.served_at).collect();
        if let (Some(first), Some(last)) = (logins.iter().min(), logins.iter().max()) {
            let [first, last] = [first, last].map(|login| seconds(login.duration_since(self.begun)));
            row("the first login, and the last that proves", &format!("{first}, {last}"));
        }
        row(&format!("the policy says {answering} in sync"), &seconds(elapsed));
        row("requests to each appliance until then", &each(&reading.appliances));
        row("connections to appliances until then", &reading.connections.to_string());
        row("requests to the API server until then", &reading.api.to_string());
        row("processor time until then", &seconds(reading.usage.cpu));
        row("memory then, and at its height", &reading.usage.memory_told());
        Ok(())
    }

    /// Some intervals in which nothing changes.
    pub async fn rest(&self) -> Result<()> {
        // Until the first checks have passed and all events are written.
        tokio::time::sleep(self.options.interval()).await;
        let before = self.read()?;
        tokio::time::sleep(self.options.interval() * u32::try_from(self.options.rest)?).await;
        let after = self.read()?;
        let passed = after.at - before.at;
        let asked = after.appliances.iter().zip(&before.appliances).map(|(after, before)| *after - *before);
        println!("at rest, over {} intervals, which is {}:", self.options.rest, seconds(passed));
        row("requests to each appliance", &each(&asked.collect::<Vec<_>>()));
        row("new connections to appliances", &(after.connections - before.connections).to_string());
        row("requests to the API server", &after.api.since(&before.api).to_string());
        let cpu = after.usage.cpu.saturating_sub(before.usage.cpu).div_f64(passed.as_secs_f64() / 60.0);
        row("processor time a minute", &seconds(cpu));
        let since = (after.at - self.begun).as_secs();
        row(&format!("memory after {since} s, and at its height"), &after.usage.memory_told());
        row("requests to the API server since the start", &after.api.to_string());
        Ok(())
    }

    /// Some appliances are changed behind the operator's back, at moments spread over an interval.
    pub async fn drift(&self) -> Result<()> {
        let distance = (self.fleet.len() / DRIFTS).max(1);
        let drifted: Vec<Appliance> = self.fleet.appliances().step_by(distance).take(DRIFTS).collect();
        let mut changed = Vec::new();
        for appliance in &drifted {
            changed.push(clock::instant());
            appliance.factory_reset();
            tokio::time::sleep(self.options.interval() / u32::try_from(DRIFTS)?).await;
        }
        let (mut found, mut restored, mut proven) = (Vec::new(), Vec::new(), Vec::new());
        for (appliance, changed) in drifted.iter().zip(changed) {
            let is_corrected = |gateway: &_| status(gateway)["history"][0]["cause"] == "Drift";
            let limit = LIMIT.max(self.options.interval() * 2);
            let corrected = self.fixture.ns.wait_for("X2Gateway", appliance.name(), limit, is_corrected);
            corrected.await.context("a drift was not put back")?;
            let entries = appliance.requests().entries();
            let of = |kind| entries.iter().filter(move |entry| entry.kind == kind && entry.at > changed);
            let get = of(Kind::Get).map(|entry| entry.at).next().context("no GET")?;
            let served = |kind| of(kind).find_map(|entry| entry.served_at).context("no PUT or no login");
            found.push(get - changed);
            restored.push(served(Kind::Write)? - get);
            proven.push(served(Kind::Login)? - get);
        }
        println!("{} appliances changed behind its back, at moments spread over an interval:", drifted.len());
        row("the next check comes after", &spread(found));
        row("from there, the value is back after", &spread(restored));
        row("from there, it is proven after", &spread(proven));
        Ok(())
    }

    /// Ends the operator as a kubelet does, and searches what it leaves behind for passwords, as every test does.
    pub async fn end(mut self) -> Result<()> {
        self.fixture.operator = Some(self.operator);
        self.fixture.finish().await;
        std::fs::remove_file(&self.audit_log).context("removing the audit log")
    }
}

fn row(what: &str, value: &str) {
    println!("  {what:<48}{value}");
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// The shortest and the longest, and the one in the middle.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |index: usize| seconds(times[index]);
    format!("{} to {}, in the middle {}", at(0), at(times.len() - 1), at(times.len() / 2))
}

/// What an appliance was asked: the fewest and, where others were asked more, the most.
fn each(counts: &[Counts]) -> String {
    let kinds = [
        ("login", Kind::Login),
        ("GET", Kind::Get),
        ("PUT", Kind::Write),
        ("DELETE", Kind::Delete),
        ("other", Kind::Other),
    ];
    let told = kinds.map(|(word, kind)| {
        let of = counts.iter().map(|counts| counts.of(kind));
        match (of.clone().min().unwrap_or_default(), of.max().unwrap_or_default()) {
            (fewest, most) if fewest == most => format!("{word} {most}"),
            (fewest, most) => format!("{word} {fewest} to {most}"),
        }
    });
    told.join(", ")
}
