//! Everything that runs: the API server, the simulated systems and the operator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::{Patch, PatchParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tenure_kit::access::{operator_rules, service_account_kubeconfig};
use tenure_kit::clock;
use tenure_kit::control_plane::{ControlPlane, Options};
use tenure_kit::namespace::{TestNamespace, install_absent_crds};
use tenure_kit::operator::Operator;
use tenure_kit::program::root;

use crate::board::Kind;
use crate::build;
use crate::cleanup::Cleanup;
use crate::examples::{self, Example, text};
use crate::screen::Screen;
use crate::world::World;

/// How long the operator may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// What runs. Fields are dropped in this order: nobody is left alone with what it needs.
pub(crate) struct Stage {
    pub(crate) operator: Operator,
    pub(crate) world: World,
    pub(crate) namespace: TestNamespace,
    pub(crate) examples: Vec<Example>,
    /// What is applied later, to be rolled out.
    pub(crate) rollout: Example,
    /// How a user points kubectl at it.
    pub(crate) kubectl: Kubectl,
    plane: ControlPlane,
}

/// How a user points kubectl at the demo.
pub(crate) struct Kubectl {
    pub(crate) kubeconfig: PathBuf,
    /// `kubectl`, with the namespace where the kubeconfig does not name it.
    pub(crate) command: String,
}

impl Stage {
    /// Starts everything, and says so.
    ///
    /// # Errors
    /// When something does not start; the message says what to do.
    pub(crate) async fn set_up(
        given: Option<PathBuf>,
        cargo: &Path,
        screen: &Screen,
        cleanup: &mut Cleanup,
    ) -> Result<Self> {
        let examples = examples::read()?;
        let rollout = examples::rollout()?;
        let plane = start_plane(given, screen).await?;
        if !plane.is_ours() {
            cleanup.kubeconfig = Some(plane.kubeconfig()?);
        }
        let since = clock::instant();
        let binary = build::operator(cargo, screen).await?;
        screen.item("operator", &format!("built in {:.1} s", since.elapsed().as_secs_f64()));
        let world = World::start(&examples.iter().chain([&rollout]).collect::<Vec<_>>())?;
        let (appliances, customers) = (world.gateways.len(), world.customers.len());
        screen.item(
            "systems",
            &format!("{appliances} simulated Profitap X2 with factory settings: tokens live 86400s"),
        );
        let (later, file) = (rollout.gateways(), rollout.name);
        screen.item("", &format!("({later} of them are for examples/{file}, which only the tour applies)"));
        screen.item("", &format!("1 simulated TEKTELIC Kona server with {customers} customers"));

        cleanup.crds = install_absent_crds(&plane, &root().join("crds")).await?;
        let namespace = TestNamespace::create(&plane, "tenure-demo").await?;
        cleanup.namespace = Some(namespace.name().to_owned());
        screen.item("namespace", &format!("{}; CRDs installed: {}", namespace.name(), cleanup.crds.len()));
        let access = service_account_kubeconfig(&plane, namespace.name(), &operator_rules()).await?;
        cleanup.files.push(access.clone());
        let arguments = ["--namespaces", namespace.name(), "--allow-cidr", "127.0.0.0/8"];
        let operator = Operator::start_in_session(&binary, &access, &arguments).await?;
        screen.item("operator", "running, as a ServiceAccount with only the rights that it needs");
        screen.item("", &format!("its metrics are at http://{}/metrics", operator.address()?));
        let kubectl = kubectl(&plane, namespace.name())?;
        Ok(Self { operator, world, namespace, examples, rollout, kubectl, plane })
    }

    /// Applies the examples, adapted to the simulated systems.
    pub(crate) async fn apply_examples(&self, interval: Option<&str>, screen: &Screen) -> Result<()> {
        for example in &self.examples {
            self.apply(example, interval, screen).await?;
        }
        Ok(())
    }

    /// Applies one file of the examples.
    pub(crate) async fn apply(
        &self,
        example: &Example,
        interval: Option<&str>,
        screen: &Screen,
    ) -> Result<()> {
        for document in example.staged(&self.world, interval)? {
            self.namespace.apply_yaml(&document.to_string()).await?;
        }
        screen.row("applied", &format!("examples/{:<24}{}", example.name, example.contents()));
        Ok(())
    }

    /// Merges something into an object, as `kubectl patch` does. Its new generation.
    pub(crate) async fn patch(&self, kind: &str, name: &str, patch: Value) -> Result<i64> {
        let api = self.namespace.api(kind).await?;
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let patched = patched.with_context(|| format!("patching {kind} {name}"))?;
        Ok(patched.metadata.generation.unwrap_or_default())
    }

    /// Asks for a look now.
    pub(crate) async fn request(&self, kind: &str, name: &str, value: &str) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": value}}});
        self.patch(kind, name, patch).await.map(drop)
    }

    /// Every object of the four kinds in the examples.
    pub(crate) fn names(&self) -> impl Iterator<Item = (Kind, &str)> {
        let documents = self.examples.iter().flat_map(|example| &example.documents);
        documents.filter_map(|document| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == text(document, "/kind"))?;
            Some((kind, text(document, "/metadata/name")))
        })
    }

    /// Ends everything in an orderly way.
    ///
    /// # Errors
    /// When something does not end.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.operator.terminate(END_TIMEOUT).await?;
        self.plane.stop()
    }
}

async fn start_plane(given: Option<PathBuf>, screen: &Screen) -> Result<ControlPlane> {
    let since = clock::instant();
    let plane = ControlPlane::start(Options { kubeconfig: given, ..Options::default() }).await?;
    let version =
        plane.client().await?.apiserver_version().await.context("asking for the version")?.git_version;
    let how = if plane.is_ours() {
        format!("ready in {:.1} s, on loopback", since.elapsed().as_secs_f64())
    } else {
        "the one that was given".to_owned()
    };
    screen.item("API server", &format!("Kubernetes {version}, {how}"));
    Ok(plane)
}

/// With a control plane of our own, a kubeconfig that names the namespace; else the user's, which is left as it is.
fn kubectl(plane: &ControlPlane, namespace: &str) -> Result<Kubectl> {
    if !plane.is_ours() {
        let kubeconfig = plane.kubeconfig_path().to_owned();
        return Ok(Kubectl { kubeconfig, command: format!("kubectl -n {namespace}") });
    }
    let mut config: Kubeconfig = plane.kubeconfig()?;
    for context in config.contexts.iter_mut().filter_map(|context| context.context.as_mut()) {
        context.namespace = Some(namespace.to_owned());
    }
    let kubeconfig = plane.folder().join("demo.kubeconfig");
    std::fs::write(&kubeconfig, serde_json::to_vec(&config)?).context("writing a kubeconfig")?;
    Ok(Kubectl { kubeconfig, command: "kubectl".to_owned() })
}
