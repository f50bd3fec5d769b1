//! Building the operator.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{ChildStderr, Command};

use crate::screen::Screen;

/// A cold build compiles about 300.
const CRATES_PER_LINE: usize = 50;
/// How the variables begin by which Cargo describes a package to its program.
const DESCRIBING: [&[u8]; 2] = [b"CARGO_PKG_", b"CARGO_MANIFEST_"];
const LINES_OF_AN_ERROR: usize = 40;

/// The workspace.
pub(crate) fn root() -> Result<&'static Path> {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).ok_or_else(|| anyhow!("the kit is not in tests/kit"))
}

/// The operator's program, built if need be.
///
/// # Errors
/// When it does not compile; the message has what Cargo says.
pub(crate) async fn operator(cargo: &Path, screen: &Screen) -> Result<PathBuf> {
    let mut build = Command::new(cargo);
    build.args(["build", "--bin", "tenure", "--message-format", "json-render-diagnostics"]);
    build.current_dir(root()?).kill_on_drop(true);
    // `cargo run` describes the demo's package to us. Some build scripts listen to that, and would run, with all that
    // depends on them, in every other build.
    let described = std::env::vars_os().map(|(name, _)| name);
    for name in
        described.filter(|name| DESCRIBING.iter().any(|begin| name.as_encoded_bytes().starts_with(begin)))
    {
        build.env_remove(name);
    }
    build.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut build = build.spawn().with_context(|| format!("starting {}", cargo.display()))?;
    let mut messages = build.stdout.take().ok_or_else(|| anyhow!("Cargo without standard output"))?;
    let progress = build.stderr.take().ok_or_else(|| anyhow!("Cargo without standard error"))?;
    let mut json = String::new();
    let (read, said) = tokio::join!(messages.read_to_string(&mut json), follow(progress, screen));
    read.context("reading what Cargo says")?;
    let success = build.wait().await.context("waiting for Cargo")?.success();
    ensure!(success, "the operator does not build:\n{}", said.join("\n"));
    let mut messages = json.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    program.ok_or_else(|| anyhow!("Cargo does not say where the operator's program is"))
}

/// Says how far it is, and keeps the last lines in case they are an error.
async fn follow(stderr: ChildStderr, screen: &Screen) -> Vec<String> {
    let mut lines = BufReader::new(stderr).lines();
    let (mut last, mut crates) = (Vec::new(), 0);
    while let Ok(Some(line)) = lines.next_line().await {
        if line.trim_start().starts_with("Compiling") {
            crates += 1;
            if crates == 1 {
                screen.item("operator", "building …");
            } else if crates % CRATES_PER_LINE == 0 {
                screen.item("", &format!("… {crates} crates"));
            }
        }
        if last.len() == LINES_OF_AN_ERROR {
            last.remove(0);
        }
        last.push(line);
    }
    last
}
