//! A real Kubernetes API server for tests and the demo, without containers.
//!
//! What is used, in this order:
//! 1. [`Options::kubeconfig`], else `TENURE_KUBECONFIG`: the cluster of that file. Nothing is started, nothing can be killed.
//! 2. `KUBEBUILDER_ASSETS`: the folder's `kube-apiserver` and `etcd`. No controllers run there: a deleted namespace stays,
//!    owner references collect nothing, and a namespace has no `default` `ServiceAccount`.
//! 3. The program in `tests/control-plane`, built by Go once and then kept below `target/control-plane/`.
//!
//! Without any of them every test fails and says what to install; none is skipped.

mod assets;
mod build;
mod folder;
mod servers;
pub(crate) mod source;

use std::{path::Path, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    sync::OnceCell,
    task::spawn_blocking,
    time::{sleep, timeout},
};

pub(crate) use build::cache;
pub use build::{kubectl, say};

use folder::Folder;
use servers::Servers;
use source::Source;

/// How long an API server that was just started may take. It takes three seconds on an idle machine.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// How long a cluster that somebody else runs may take to answer.
const GIVEN_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a control plane is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A kubeconfig of a cluster to use: nothing is started then, and nothing else here counts.
    pub kubeconfig: Option<PathBuf>,
    /// Where its state is kept beyond its end. By default a temporary folder that goes with it.
    pub data: Option<PathBuf>,
    /// A file that gets one line of JSON per request (audit level `Metadata`).
    pub audit_log: Option<PathBuf>,
}

/// A running API server. Dropping it ends it; so does the end of the process, however it comes about.
#[derive(Debug)]
pub struct ControlPlane {
    kubeconfig: PathBuf,
    // Before the folder, because fields are dropped in this order and the servers write into it.
    servers: Option<Servers>,
    folder: Folder,
}

impl ControlPlane {
    /// Starts a control plane of one's own and returns when it is ready.
    ///
    /// # Errors
    /// When there is nothing to start (the message says what to install) or it does not become ready.
    pub async fn start(options: Options) -> Result<Self> {
        let mut plane =
            spawn_blocking(move || Self::launch(options)).await.context("starting the control plane")??;
        plane.await_ready().await?;
        Ok(plane)
    }

    fn launch(options: Options) -> Result<Self> {
        match Source::find(options.kubeconfig)? {
            Source::Given(_) if options.audit_log.is_some() => {
                bail!("a cluster that was given writes no audit log for us")
            }
            Source::Given(kubeconfig) => {
                let folder = Folder::open(Some(build::cache()?.join("given")))?;
                Ok(Self { kubeconfig, servers: None, folder })
            }
            Source::Program(program) => {
                let folder = Folder::open(options.data)?;
                let servers = Servers::start(program, &folder, options.audit_log)?;
                Ok(Self { kubeconfig: folder.path().join("kubeconfig"), servers: Some(servers), folder })
            }
        }
    }

    /// Whether it was started by us; else it is somebody's cluster.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.servers.is_some()
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// The administrator's kubeconfig, read.
    pub fn kubeconfig(&self) -> Result<Kubeconfig> {
        let path = &self.kubeconfig;
        Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))
    }

    /// An administrator's client for the calling runtime: a connection belongs to the runtime that opened it, and every
    /// `#[tokio::test]` has one of its own.
    pub async fn client(&self) -> Result<Client> {
        client_of(self.kubeconfig()?).await
    }

    /// Ends it as a power cut would (SIGKILL).
    ///
    /// # Errors
    /// For a cluster that was given: it is not ours to kill.
    pub fn kill(&mut self) -> Result<()> {
        self.own_servers()?.kill()
    }

    /// Starts it again (killing it first if it runs) with the same objects, port and kubeconfig.
    pub async fn restart(&mut self) -> Result<()> {
        let mut servers = self.servers.take().ok_or_else(not_ours)?;
        let restarted = spawn_blocking(move || servers.restart().map(|()| servers)).await;
        self.servers = Some(restarted.context("restarting the control plane")??);
        self.await_ready().await
    }

    /// Ends it in an orderly way. A cluster that was given is left as it is.
    pub fn stop(mut self) -> Result<()> {
        self.servers.take().map_or(Ok(()), Servers::stop)
    }

    /// A folder for files that belong to this control plane, such as kubeconfigs of `ServiceAccount`s.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn own_servers(&mut self) -> Result<&mut Servers> {
        self.servers.as_mut().ok_or_else(not_ours)
    }

    async fn await_ready(&mut self) -> Result<()> {
        let limit = if self.servers.is_some() { START_TIMEOUT } else { GIVEN_TIMEOUT };
        let ready = timeout(limit, self.until_ready()).await;
        ready.unwrap_or_else(|_| Err(anyhow!("not ready after {limit:?}"))).with_context(|| {
            let log = self.servers.as_ref().map(Servers::log_tail).unwrap_or_default();
            format!("the API server of {} does not answer\n{log}", self.kubeconfig.display())
        })
    }

    async fn until_ready(&mut self) -> Result<()> {
        let client = self.client().await?;
        while !is_ready(&client).await {
            if self.servers.as_mut().is_some_and(Servers::have_ended) {
                bail!("it ended before it was ready");
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

/// The one control plane of this test process, started by whoever asks first.
///
/// It is never dropped, for a static is not; its program ends with us because it reads the end of its standard input.
pub async fn shared() -> Result<Arc<ControlPlane>> {
    static SHARED: OnceCell<Result<Arc<ControlPlane>, String>> = OnceCell::const_new();
    let start = || async {
        ControlPlane::start(Options::default()).await.map(Arc::new).map_err(|error| format!("{error:#}"))
    };
    SHARED.get_or_init(start).await.clone().map_err(|error| anyhow!("{error}"))
}

/// A client for the calling runtime with the rights of this kubeconfig's current context.
pub async fn client_of(kubeconfig: Kubeconfig) -> Result<Client> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Client::try_from(config).context("making a client")
}

async fn is_ready(client: &Client) -> bool {
    let Ok(request) = axum::http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
        && Api::<Namespace>::all(client.clone()).get("default").await.is_ok()
}

fn not_ours() -> anyhow::Error {
    anyhow!("the cluster was given, it is not ours to kill or restart")
}
