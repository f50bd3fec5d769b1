//! The processes of a control plane.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf, absolute},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, anyhow, bail};

use super::{START_TIMEOUT, assets, folder::Folder, source::Program};

const LOG: &str = "control-plane.log";
const LINES_OF_LOG: usize = 25;

/// One API server with its etcd.
#[derive(Debug)]
pub(super) struct Servers {
    program: Program,
    folder: PathBuf,
    ephemeral: bool,
    audit_log: Option<PathBuf>,
    running: Option<Running>,
}

/// The child ends when its standard input does, so it never outlives us; we hold the other end.
#[derive(Debug)]
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Servers {
    pub(super) fn start(program: Program, folder: &Folder, audit_log: Option<PathBuf>) -> Result<Self> {
        let audit_log = audit_log.map(|file| absolute(&file)).transpose().context("the audit log")?;
        let (folder, ephemeral) = (folder.path().to_owned(), folder.is_temporary());
        let mut servers = Self { program, folder, ephemeral, audit_log, running: None };
        servers.restart()?;
        Ok(servers)
    }

    pub(super) fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let mut command = match &self.program {
            Program::Own(program) => self.own(program),
            Program::Assets(binaries) => {
                assets::command(binaries, &self.folder, self.ephemeral, self.audit_log.as_deref())?
            }
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(LOG))
            .context("the server's log")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child =
            command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        self.running = Some(Running { child, stdin });
        if matches!(self.program, Program::Own(_)) {
            self.await_line(stdout.ok_or_else(|| anyhow!("a child without its standard output"))?)?;
        }
        Ok(())
    }

    fn own(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("--data").arg(&self.folder);
        if let Some(file) = &self.audit_log {
            command.arg("--audit-log").arg(file);
        }
        if self.ephemeral {
            command.arg("--ephemeral");
        }
        command
    }

    fn await_line(&self, stdout: ChildStdout) -> Result<()> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let line = BufReader::new(stdout).lines().next().and_then(Result::ok);
            // Nobody listens any more when it took too long.
            let _ = sender.send(line);
        });
        match receiver.recv_timeout(START_TIMEOUT) {
            Ok(Some(line)) if line == "ready" => Ok(()),
            Ok(_) => bail!("the control plane ended before it was ready:\n{}", self.log_tail()),
            Err(_) => bail!("the control plane was not ready after {START_TIMEOUT:?}:\n{}", self.log_tail()),
        }
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        match self.program {
            Program::Own(_) => running.child.kill().context("killing the control plane")?,
            // The child is a shell; it kills the two servers. It may have ended already, with them.
            Program::Assets(_) => {
                let _ = running.stdin.take().map(|mut stdin| stdin.write_all(b"kill\n"));
            }
        }
        running.child.wait().map(drop).context("waiting for the control plane's end")
    }

    pub(super) fn stop(mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.stdin.take();
        running.child.wait().map(drop).context("waiting for the control plane's end")
    }

    /// Whether they ended by themselves.
    pub(super) fn have_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|running| !matches!(running.child.try_wait(), Ok(None)))
    }

    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(self.folder.join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut tail: Vec<&str> = log.lines().rev().take(LINES_OF_LOG).collect();
        tail.reverse();
        tail.join("\n")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // It is gone with our end of its standard input in any case.
        let _ = self.kill();
    }
}
