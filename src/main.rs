//! The `tenure` program: parse, call, exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    tenure::cli::Cli::parse().execute()
}
