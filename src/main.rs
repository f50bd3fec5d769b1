//! The `tenure` program: parse, call, exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match tenure::cli::Cli::try_parse() {
        Ok(cli) => cli.execute(),
        Err(error) => {
            // If it cannot be printed, it cannot be reported either.
            let _ = error.print();
            // Printing help is a success. Errors exit with 1, since 2 means pending changes.
            if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}
