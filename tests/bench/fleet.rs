//! `cargo bench --bench fleet`: what a fleet of simulated appliances costs the operator, the appliances and the API server.
//!
//! It prints figures and judges none. It fails where a fleet does not converge.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    clippy::doc_markdown,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test equipment"
)]

mod api;
#[path = "../cluster/fixture.rs"]
mod fixture;
mod job;
mod process;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use job::Job;

/// Measures the operator, as a process of its own, on a real API server and simulated X2 appliances with TLS. All objects
/// are there before it starts: the gateways, and one policy for all of them.
#[derive(Debug, Parser)]
#[command(name = "fleet", bin_name = "cargo bench --bench fleet --")]
struct Options {
    /// Numbers of gateways, measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    gateways: Vec<usize>,
    /// How long every answer of an appliance takes, in milliseconds
    #[arg(long, default_value_t = 50)]
    latency: u64,
    /// The policy's interval: the time between two checks of a gateway, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(30..))]
    interval: u64,
    /// How many intervals are measured at rest
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rest: u64,
    /// How many of a hundred appliances do not answer, in three runs of their own; 0 for none
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=50))]
    silent: u8,
    /// The operator's program, such as that of the image
    #[arg(long, default_value = env!("CARGO_BIN_EXE_tenure"))]
    operator: PathBuf,
    /// Cargo tells every benchmark that it is one.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The first login of all may meet a silent appliance or one that answers: once says little.
const SILENT_RUNS: usize = 3;

impl Options {
    fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }

    /// A run in which all appliances answer, then some in which not all do.
    async fn measure(&self, gateways: usize) -> Result<()> {
        println!(
            "{gateways} gateways; an answer takes {} ms; a check every {} s",
            self.latency, self.interval
        );
        let job = Job::begin(self, gateways, 0).await?;
        job.converge().await?;
        job.rest().await?;
        if gateways > 0 {
            job.drift().await?;
        }
        job.end().await?;
        let silent = gateways * usize::from(self.silent) / 100;
        for _ in (0..SILENT_RUNS).filter(|_| silent > 0) {
            println!("the same where {silent} of {gateways} appliances take connections and never answer:");
            let job = Job::begin(self, gateways, silent).await?;
            job.converge().await?;
            job.end().await?;
        }
        println!();
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    println!("{}\n", options.operator.display());
    for gateways in &options.gateways {
        options.measure(*gateways).await?;
    }
    Ok(())
}
