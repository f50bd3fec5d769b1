//! The operator's program and the playground's, for tests and the demo that start them as processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use crate::control_plane::source::path_setting;

/// How the variables begin by which Cargo describes a package to its program.
const DESCRIBING: [&[u8]; 2] = [b"CARGO_PKG_", b"CARGO_MANIFEST_"];

/// The workspace.
///
/// # Panics
/// Never, as long as this package is two folders below it.
#[must_use]
pub fn root() -> &'static Path {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).expect("the kit is in tests/kit")
}

/// The operator's program, built once per process: a test of another package does not have Cargo build it.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| built("tenure").expect("the operator builds"));
    &PROGRAM
}

/// The playground's program, built the same way.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn playground() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> =
        LazyLock::new(|| built("tenure-playground").expect("the playground builds"));
    &PROGRAM
}

fn built(name: &str) -> Result<PathBuf> {
    let cargo = path_setting("CARGO").unwrap_or_else(|| "cargo".into());
    let output = building(&cargo, name).stderr(Stdio::inherit()).output().context("starting Cargo")?;
    ensure!(output.status.success(), "{name} does not build");
    executable(&String::from_utf8_lossy(&output.stdout))
}

/// The command that builds a program, and reports as JSON where it is.
#[must_use]
pub fn building(cargo: &Path, name: &str) -> Command {
    let mut build = Command::new(cargo);
    build.args(["build", "--bin", name, "--message-format", "json-render-diagnostics"]);
    build.current_dir(root()).stdin(Stdio::null());
    // Cargo describes the package of a program that it starts. Some build scripts listen to that, and would run, with all
    // that depends on them, in every other build.
    let described = std::env::vars_os().map(|(name, _)| name);
    for name in
        described.filter(|name| DESCRIBING.iter().any(|begin| name.as_encoded_bytes().starts_with(begin)))
    {
        build.env_remove(name);
    }
    build
}

/// Where the program is that Cargo's messages report.
///
/// # Errors
/// If they report none.
pub fn executable(messages: &str) -> Result<PathBuf> {
    let mut messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    program.ok_or_else(|| anyhow!("Cargo does not say where the program is"))
}
