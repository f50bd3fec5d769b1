//! Building the operator.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{ChildStderr, Command};

use tenure_kit::program::{building, executable};

use crate::screen::Screen;

/// A cold build compiles about 300.
const CRATES_PER_LINE: usize = 50;
const LINES_OF_AN_ERROR: usize = 40;

/// The operator's program, built if need be.
///
/// # Errors
/// When it does not compile; the message has what Cargo says.
pub(crate) async fn operator(cargo: &Path, screen: &Screen) -> Result<PathBuf> {
    let mut build = Command::from(building(cargo, "tenure"));
    build.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut build = build.spawn().with_context(|| format!("starting {}", cargo.display()))?;
    let mut messages = build.stdout.take().ok_or_else(|| anyhow!("Cargo without standard output"))?;
    let progress = build.stderr.take().ok_or_else(|| anyhow!("Cargo without standard error"))?;
    let mut json = String::new();
    let (read, said) = tokio::join!(messages.read_to_string(&mut json), follow(progress, screen));
    read.context("reading what Cargo says")?;
    let success = build.wait().await.context("waiting for Cargo")?.success();
    ensure!(success, "the operator does not build:\n{}", said.join("\n"));
    executable(&json)
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
