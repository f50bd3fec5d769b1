//! `tenure-playground`: simulated appliances and a simulated Kona server in a Pod, to try tenure without hardware.

mod forward;

use std::iter::once;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use rustls::pki_types::DnsName;
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::x2::{Appliance, FleetOptions, X2Fleet};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{error, info};

/// The CA of the certificates. Its key is known to everyone, so that a manifest can contain its certificate, and no file a key.
const CA: &str = "tenure playground CA, not secret: anyone can sign with it";
const APPLIANCES: [&str; 4] = ["berlin-core", "berlin-edge", "munich-core", "munich-edge"];
const CUSTOMERS: [(&str, &str); 3] = [
    ("1d2b7a10-4f1e-11ee-be56-0242ac120002", "City Lights"),
    ("5b8c0e52-9a67-4d1c-8f0e-3c1f6a2d7b90", "Harbour Water"),
    ("c0a1d5ee-7f34-4b6a-9d02-6e8f4b3a5c17", "Orchard Farms"),
];
/// The port of the first appliance; each following system has the next one.
const FIRST_PORT: u16 = 8441;

/// Four simulated Profitap X2 appliances, on the ports 8441 to 8444, and a simulated TEKTELIC Kona server with three
/// customers, on port 8445. It writes a line for each request and for each reset of an appliance.
#[derive(Debug, Parser)]
#[command(name = "tenure-playground", version)]
struct Options {
    /// The IP address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::UNSPECIFIED.into())]
    listen: IpAddr,
    /// The DNS domain of the systems: the certificates are for berlin-core.DOMAIN, kona.DOMAIN and so on
    #[arg(long, value_parser = domain, default_value = "tenure-playground.svc.cluster.local")]
    domain: String,
    /// How often an appliance is reset to its factory setting, 86400s, one appliance after the other. 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    reset_every: u64,
}

fn domain(text: &str) -> Result<String, &'static str> {
    let valid = DnsName::try_from(text).is_ok();
    valid.then(|| text.to_owned()).ok_or("must be a DNS name such as tenure-playground.svc.cluster.local")
}

fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt().with_ansi(false).with_target(false).init();
    let ended = tokio::runtime::Runtime::new()
        .context("starting threads")
        .and_then(|runtime| runtime.block_on(run(options)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the process is asked to end.
async fn run(options: Options) -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (fleet, kona) = start(options.domain)?;
    let systems = fleet
        .appliances()
        .map(|appliance| (appliance.name().to_owned(), appliance.address(), appliance.port()));
    let systems = systems.chain(once(("kona".to_owned(), Ipv4Addr::LOCALHOST, kona.port())));
    let mut doors = JoinSet::new();
    for (port, (name, address, simulator)) in (FIRST_PORT..).zip(systems) {
        let at = SocketAddr::new(options.listen, port);
        let listener = TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
        doors.spawn(forward::accept(listener, (address, simulator).into()));
        info!("{name}: listening on {at}");
    }
    let appliances: Vec<Appliance> = fleet.appliances().collect();
    tokio::select! {
        () = reset(&appliances, Duration::from_secs(options.reset_every)) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("shutting down");
    Ok(())
}

/// Starts the simulators, which accept connections from loopback only.
fn start(domain: String) -> Result<(X2Fleet, KonaServer)> {
    let fleet = X2Fleet::start(FleetOptions {
        appliances: APPLIANCES.len(),
        names: APPLIANCES.map(str::to_owned).into(),
        domain: domain.clone(),
        known_ca: Some(CA.to_owned()),
        ..FleetOptions::default()
    });
    let kona =
        KonaServer::start(KonaOptions { domain, known_ca: Some(CA.to_owned()), ..KonaOptions::default() });
    let (fleet, kona) =
        (fleet.context("starting the appliances")?, kona.context("starting the Kona server")?);
    for (id, title) in CUSTOMERS {
        kona.add_customer(id, title);
    }
    Ok((fleet, kona))
}

/// Resets one appliance after the other, as a colleague would.
async fn reset(appliances: &[Appliance], every: Duration) {
    if every.is_zero() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(every);
    // The first one is at once.
    ticks.tick().await;
    for appliance in appliances.iter().cycle() {
        ticks.tick().await;
        let before = appliance.timeout();
        appliance.factory_reset();
        info!("{}: reset to factory settings, {before}s -> {}s", appliance.name(), appliance.timeout());
    }
}

#[cfg(test)]
mod tests {
    use super::{CA, FleetOptions, X2Fleet};

    #[tokio::test]
    async fn the_manifests_contain_the_certificate_of_the_ca() {
        let options = FleetOptions { known_ca: Some(CA.to_owned()), ..FleetOptions::default() };
        let made = X2Fleet::start(options).unwrap().ca_pem().unwrap();
        let file = include_str!("../../../../../examples/playground/ca.crt");
        assert_eq!(file, made, "examples/playground/ca.crt is stale: write this into it:\n{made}");
    }
}
