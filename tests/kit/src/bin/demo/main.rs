//! `cargo demo`: tenure at work on a real Kubernetes API server, against simulated appliances.

mod board;
mod build;
mod cleanup;
mod examples;
mod interactive;
mod screen;
mod stage;
mod tour;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use cleanup::Cleanup;
use screen::Screen;
use stage::Stage;

/// Exit code of a tour that was interrupted, as a shell has it.
const INTERRUPTED: u8 = 130;

/// Runs tenure on your machine: a real Kubernetes API server, the operator, the manifests of examples/, and simulated
/// appliances and servers for them. Everything runs on loopback, and is removed at the end.
#[derive(Debug, Parser)]
#[command(name = "demo", bin_name = "cargo demo --", version)]
struct Options {
    /// Runs a tour of six steps, and checks each one. Exits with 0 if all checks pass, else with 1
    #[arg(long)]
    tour: bool,
    /// Uses this cluster instead of starting an API server. Creates a namespace, and the CRDs if there are none, and removes
    /// them at the end. No other tenure may manage that namespace
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Prints no colors, as with `NO_COLOR` in the environment
    #[arg(
        long,
        env = "NO_COLOR",
        hide_env = true,
        num_args = 0,
        default_missing_value = "1",
        value_name = "ANY"
    )]
    no_color: Option<String>,
    /// Cargo tells where it is.
    #[arg(long, env = "CARGO", default_value = "cargo", hide = true)]
    cargo: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let screen = Screen::new(options.no_color.as_ref().is_some_and(|value| !value.is_empty()));
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&screen, &error.into()),
    };
    let code = runtime.block_on(show(&options, &screen));
    // A Go build that was interrupted still holds a thread; it gets the same signal and ends by itself.
    runtime.shutdown_background();
    code
}

/// How it ended.
enum Ending {
    Complete,
    Interrupted,
}

async fn show(options: &Options, screen: &Screen) -> ExitCode {
    let mut interruptions = match Interruptions::listen() {
        Ok(interruptions) => interruptions,
        Err(error) => return fail(screen, &error),
    };
    let mut cleanup = Cleanup::default();
    let outcome = tokio::select! {
        outcome = perform(options, screen, &mut cleanup) => outcome.map(|()| Ending::Complete),
        () = interruptions.next() => Ok(Ending::Interrupted),
        () = screen.closed() => Ok(Ending::Interrupted),
    };
    // What ran has ended with its values by now.
    let removed = tokio::select! {
        removed = cleanup.run(screen) => removed,
        () = interruptions.next() => Err(anyhow::anyhow!("interrupted while cleaning up")),
    };
    match (outcome.and_then(|ending| removed.map(|()| ending)), options.tour) {
        (Err(error), _) => fail(screen, &error),
        (Ok(Ending::Interrupted), true) => ExitCode::from(INTERRUPTED),
        (Ok(_), _) => ExitCode::SUCCESS,
    }
}

async fn perform(options: &Options, screen: &Screen, cleanup: &mut Cleanup) -> Result<()> {
    let kind = if options.tour { "Tour in six steps" } else { "Demo" };
    screen.title(&format!("{kind}: tenure {}", env!("CARGO_PKG_VERSION")));
    screen.blank();
    let stage = Stage::set_up(options.kubeconfig.clone(), &options.cargo, screen, cleanup).await?;
    if options.tour {
        tour::run(&stage, screen).await?;
    } else {
        interactive::run(&stage, screen).await?;
    }
    stage.end().await
}

fn fail(screen: &Screen, error: &anyhow::Error) -> ExitCode {
    screen.blank();
    screen.failed(&format!("{error:#}"));
    ExitCode::FAILURE
}

/// Signals that ask the demo to end.
struct Interruptions([Signal; 3]);

impl Interruptions {
    fn listen() -> Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
