//! The command line.

mod crds;
mod release_finalizers;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Prints the `CustomResourceDefinitions`, or writes them to a folder, one file a kind.
    Crds(crds::Options),
    /// Takes the finalizer `tenure.dev/restore` off all resources, restoring nothing: for uninstalling the operator.
    ReleaseFinalizers(release_finalizers::Options),
}

impl Cli {
    /// Does what was asked for.
    #[must_use]
    pub fn execute(self) -> ExitCode {
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

#[allow(clippy::print_stderr, reason = "a command's complaint goes to standard error")]
fn complain(error: &anyhow::Error) {
    eprintln!("tenure: {error:#}");
}
