//! The command line.

mod crds;
mod release_finalizers;
mod run;
mod scope;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};

/// Token lifetimes of network equipment as Kubernetes resources.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the operator.
    Run(Box<run::Options>),
    /// Prints the `CustomResourceDefinitions`, or writes them to a folder, one file per kind.
    Crds(crds::Options),
    /// Removes the finalizer `tenure.dev/restore` from all resources without restoring anything: for uninstalling the
    /// operator.
    ReleaseFinalizers(release_finalizers::Options),
}

impl Cli {
    /// Does what was asked for.
    #[must_use]
    pub fn execute(self) -> ExitCode {
        // Before the first use of TLS.
        rustls::crypto::ring::default_provider().install_default().ok();
        let done = match self.verb {
            Verb::Run(options) => run::run(*options),
            Verb::Crds(options) => crds::crds(&options),
            Verb::ReleaseFinalizers(options) => release_finalizers::release_finalizers(&options),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        }
    }
}

/// The cluster of the kubeconfig, or else the one that this Pod runs in, and whether it is the latter.
async fn cluster() -> anyhow::Result<(Config, bool)> {
    let kubeconfig = match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
        Ok(config) => return Ok((config, false)),
        Err(error) => error,
    };
    match Config::incluster() {
        Ok(config) => Ok((config, true)),
        Err(_) => bail!("no cluster: set KUBECONFIG, or run in a Pod with a ServiceAccount ({kubeconfig})"),
    }
}

fn client(config: Config) -> anyhow::Result<Client> {
    Client::try_from(config)
        .context("the connection to the API server cannot be set up: check the kubeconfig")
}

#[allow(clippy::print_stderr, reason = "a command's complaint goes to standard error")]
fn complain(error: &anyhow::Error) {
    eprintln!("tenure: {error:#}");
}
