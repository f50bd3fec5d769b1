//! The operator as a process of its own, and what it says.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the operator may take until it is at work.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// A running operator. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    log: Arc<Mutex<String>>,
    lines: watch::Receiver<usize>,
}

impl Operator {
    /// Starts `tenure run` with a kubeconfig and more arguments, and returns when it is at work. It logs JSON, serves
    /// its metrics on a port of its choice, and allows any port of remote systems.
    ///
    /// # Errors
    /// When it does not begin to work; the message has its log.
    pub async fn start(binary: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<Self> {
        let operator = Self::spawn(binary, kubeconfig, arguments)?;
        operator.wait_for_log("\"at work\"", START_TIMEOUT).await?;
        Ok(operator)
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn spawn(binary: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = command(binary, kubeconfig, arguments);
        // Its own session's proxies must not matter; that they do not is part of the tests.
        command
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("HTTP_PROXY", "http://127.0.0.1:1")
            .env("NO_PROXY", "127.0.0.1");
        Self::launch(command)
    }

    /// As [`start`](Self::start), with this session's proxies, which a cluster of the user's may need.
    ///
    /// # Errors
    /// When it does not begin to work; the message has its log.
    pub async fn start_in_session(binary: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<Self> {
        let operator = Self::launch(command(binary, kubeconfig, arguments))?;
        operator.wait_for_log("\"at work\"", START_TIMEOUT).await?;
        Ok(operator)
    }

    /// Starts it as a kubelet would, with exactly these arguments and this environment; a kubeconfig stands for the mounted
    /// token.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn spawn_exactly(
        binary: &Path,
        kubeconfig: &Path,
        arguments: &[String],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(arguments).env_clear().envs(environment.iter().cloned()).env("KUBECONFIG", kubeconfig);
        Self::launch(command)
    }

    fn launch(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let stderr = child.stderr.take().ok_or_else(|| anyhow!("the operator has no standard error"))?;
        let log = Arc::new(Mutex::new(String::new()));
        let (count, lines) = watch::channel(0);
        tokio::spawn(collect(stderr, Arc::clone(&log), count));
        Ok(Self { child, log, lines })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines it has logged; changes with each.
    #[must_use]
    pub fn lines(&self) -> watch::Receiver<usize> {
        self.lines.clone()
    }

    /// Waits until its log holds a text.
    ///
    /// # Errors
    /// When it does not in time, or when it ends before; the message has the log.
    pub async fn wait_for_log(&self, text: &str, limit: Duration) -> Result<()> {
        let mut lines = self.lines.clone();
        let found = timeout(limit, async {
            while !self.log().contains(text) {
                lines.changed().await?;
            }
            anyhow::Ok(())
        });
        match found.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => bail!("the operator ended before it logged {text}:\n{}", self.log()),
            Err(_) => bail!("the operator did not log {text} within {limit:?}:\n{}", self.log()),
        }
    }

    /// Its `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await.map(|(_, body)| body)
    }

    /// Status and body of one of its pages.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        self.get_as(path, "application/openmetrics-text").await
    }

    /// The same, for a client that accepts this media type.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address()?).await.context("connecting to the operator")?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: operator\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no HTTP answer"))?;
        let status =
            head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| anyhow!("no status"))?;
        Ok((status, body.to_owned()))
    }

    /// Where it serves its pages.
    ///
    /// # Errors
    /// When it has not said so yet.
    pub fn address(&self) -> Result<String> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut addresses = lines.filter_map(|line| Some(line.get("listen")?.as_str()?.to_owned()));
        addresses.next().ok_or_else(|| anyhow!("the operator has not said where it listens"))
    }

    /// Stops it (SIGSTOP), and returns when it stands still: it keeps its memory and its connections and does nothing.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn pause(&self) -> Result<()> {
        use rustix::process::{Pid, WaitOptions, waitpid};
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.ok_or_else(|| anyhow!("the operator has ended already"))?;
        self.signal("-STOP").await?;
        // Until one of its threads takes the signal, all of them go on.
        let stopped = tokio::task::spawn_blocking(move || waitpid(Some(id), WaitOptions::UNTRACED)).await?;
        let stopped = stopped.context("waiting until the operator stands still")?;
        anyhow::ensure!(stopped.is_some_and(|(_, status)| status.stopped()), "the operator has ended");
        Ok(())
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// When it has ended.
    pub async fn resume(&self) -> Result<()> {
        self.signal("-CONT").await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not in time; the message has its log.
    pub async fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut lines = self.lines.clone();
        let ended = async {
            let status = self.child.wait().await;
            // The last words, too: whoever collects them ends after them.
            while lines.changed().await.is_ok() {}
            status
        };
        match timeout(limit, ended).await {
            Ok(status) => status.context("waiting for the operator"),
            Err(_) => bail!("the operator did not end within {limit:?}:\n{}", self.log()),
        }
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.id().ok_or_else(|| anyhow!("the operator has ended already"))?;
        let kill = Command::new("kill").args([signal, &id.to_string()]).status().await?;
        anyhow::ensure!(kill.success(), "the operator could not be sent {signal}");
        Ok(())
    }

    /// Ends it at once, without a chance to finish anything.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the operator")
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal("-TERM").await?;
        self.end(limit).await
    }
}

fn command(binary: &Path, kubeconfig: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.arg("run").args(["--listen", "127.0.0.1:0", "--log-format", "json"]).args(arguments);
    // Simulators get any free port.
    command.env("KUBECONFIG", kubeconfig).env("TENURE_ALLOW_PORTS", "1-65535");
    command
}

async fn collect(stderr: ChildStderr, log: Arc<Mutex<String>>, count: watch::Sender<usize>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
        count.send_modify(|count| *count += 1);
    }
}
