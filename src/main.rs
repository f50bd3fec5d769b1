//! The `tenure` program: parse, call, exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match tenure::cli::Cli::try_parse() {
        Ok(cli) => cli.execute(),
        Err(told) => {
            // There is nobody to tell where it cannot be printed.
            let _ = told.print();
            // Help is no error. One is 1: 2 has another meaning.
            if told.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}
