//! A network between two programs that can be cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, net::SocketAddr};

use anyhow::{Context, Result, anyhow};
use kube::config::Kubeconfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Mute,
    Cut,
    Down,
}

/// A network, and how often it has forgotten its connections.
type Network = (State, usize);

/// Passes TCP connections on to another address. Dropping it closes them all.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: watch::Sender<Network>,
    // Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Passes on to `target` (host and port).
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn start(target: String) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = watch::Sender::new((State::Open, 0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target.into(), state.subscribe()));
        Ok(Self { address, state, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stands between whoever uses the result and the API server of a kubeconfig.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or names no server.
    pub async fn before(kubeconfig: &Path) -> Result<(Self, PathBuf)> {
        let mut config = Kubeconfig::read_from(kubeconfig)?;
        let cluster = config.clusters.first_mut().and_then(|cluster| cluster.cluster.as_mut());
        let server = cluster.and_then(|cluster| cluster.server.as_mut());
        let server = server.ok_or_else(|| anyhow!("{} names no server", kubeconfig.display()))?;
        let target = server.strip_prefix("https://").context("the server is not reached by https")?;
        let relay = Self::start(target.trim_end_matches('/').to_owned()).await?;
        *server = format!("https://{}", relay.address);
        let path = kubeconfig.with_extension(format!("{}.kubeconfig", relay.address.port()));
        fs::write(&path, serde_json::to_vec(&config)?)
            .with_context(|| format!("writing {}", path.display()))?;
        Ok((relay, path))
    }

    /// From now on nothing arrives, in either direction. Connections stay open.
    pub fn cut(&self) {
        self.change_to(State::Cut);
    }

    /// From now on requests arrive and answers do not.
    pub fn mute(&self) {
        self.change_to(State::Mute);
    }

    /// Closes all connections, and new ones at once.
    pub fn down(&self) {
        self.change_to(State::Down);
    }

    /// Delivers what was held back, and what comes.
    pub fn mend(&self) {
        self.change_to(State::Open);
    }

    /// From now on nothing arrives by the connections that are open now, and nobody is told. New ones work.
    pub fn forget(&self) {
        self.state.send_modify(|(_, forgotten)| *forgotten += 1);
    }

    fn change_to(&self, now: State) {
        self.state.send_modify(|(state, _)| *state = now);
    }
}

async fn accept(listener: TcpListener, target: Arc<str>, state: watch::Receiver<Network>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (now, forgotten) = *state.borrow();
        if now == State::Down {
            continue;
        }
        let (target, state) = (Arc::clone(&target), state.clone());
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(&*target).await else { return };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            let mut down = state.clone();
            // One end that closes closes the other.
            tokio::select! {
                () = pass(near_read, far_write, state.clone(), [State::Open, State::Mute], forgotten) => {}
                () = pass(far_read, near_write, state, [State::Open; 2], forgotten) => {}
                _ = down.wait_for(|(state, _)| *state == State::Down) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut state: watch::Receiver<Network>,
    when: [State; 2],
    forgotten: usize,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let Some(data) = buffer.get(..read) else { return };
        let passes = |(state, times): &Network| when.contains(state) && *times == forgotten;
        if state.wait_for(passes).await.is_err() || to.write_all(data).await.is_err() {
            return;
        }
    }
}
