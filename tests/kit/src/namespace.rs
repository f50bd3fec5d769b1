//! A namespace of a test's own, and what tests do in it.

mod kinds;

use std::{fmt, fs, path::Path, path::PathBuf, pin::pin, thread, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    config::Kubeconfig,
    core::Status,
    runtime::{WatchStreamExt, wait, wait::conditions::is_crd_established, watcher::watch_object},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::control_plane::{ControlPlane, client_of};
use kinds::Kinds;

/// Who owns the fields that a test applies.
pub const FIELD_MANAGER: &str = "tenure-kit";
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);
const CRD_TIMEOUT: Duration = Duration::from_secs(30);

/// A namespace with a name of its own. Its deletion is asked for when it is dropped.
pub struct TestNamespace {
    name: String,
    kubeconfig: Kubeconfig,
    client: Client,
    kinds: Kinds,
    deleted: bool,
}

impl TestNamespace {
    /// Makes a namespace called `prefix-` and five characters of the server's choice.
    pub async fn create(plane: &ControlPlane, prefix: &str) -> Result<Self> {
        let kubeconfig = plane.kubeconfig()?;
        let client = client_of(kubeconfig.clone()).await?;
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some(format!("{prefix}-"));
        let namespace = Api::all(client.clone()).create(&PostParams::default(), &namespace).await;
        let name = namespace.with_context(|| format!("making a namespace {prefix}-…"))?.name_any();
        Ok(Self { name, kubeconfig, kinds: Kinds::new(client.clone()), client, deleted: false })
    }

    /// The namespace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The administrator's client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of a kind: in this namespace if the kind has namespaces, else all.
    ///
    /// # Errors
    /// When the API server does not know the kind.
    pub async fn api(&self, kind: &str) -> Result<Api<DynamicObject>> {
        Ok(self.kinds.named(kind).await?.api(self.client.clone(), &self.name))
    }

    /// Applies every document (server-side, taking over conflicting fields). Objects without a namespace go into this one.
    ///
    /// # Errors
    /// The first refusal; [`refusal`] has the server's words.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.apply(yaml, PatchParams::apply(FIELD_MANAGER).force()).await
    }

    /// As [`Self::apply_yaml`], but nothing is kept: what the server makes of it, or why it refuses it.
    pub async fn dry_run_yaml(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.apply(yaml, PatchParams::apply(FIELD_MANAGER).force().dry_run()).await
    }

    async fn apply(&self, yaml: &str, params: PatchParams) -> Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for object in documents(yaml)? {
            let kind = self.kinds.of(&object).await?;
            let namespace = object.namespace().unwrap_or_else(|| self.name.clone());
            let api = kind.api(self.client.clone(), &namespace);
            let name = object.name_any();
            let result = api.patch(&name, &params, &Patch::Apply(&object)).await;
            applied.push(result.with_context(|| format!("applying {} {name}", kind.name()))?);
        }
        Ok(applied)
    }

    /// Makes or replaces a Secret with these entries.
    pub async fn secret(&self, name: &str, entries: &[(&str, &str)]) -> Result<Secret> {
        let entries: serde_json::Map<String, Value> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": entries,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let secrets = Api::namespaced(self.client.clone(), &self.name);
        secrets
            .patch(name, &params, &Patch::Apply(&secret))
            .await
            .with_context(|| format!("applying Secret {name}"))
    }

    /// An object as it is now.
    pub async fn get(&self, kind: &str, name: &str) -> Result<DynamicObject> {
        self.find(kind, name).await?.ok_or_else(|| anyhow!("there is no {kind} {name} in {}", self.name))
    }

    /// An object as it is now, if it is there.
    pub async fn find(&self, kind: &str, name: &str) -> Result<Option<DynamicObject>> {
        self.api(kind).await?.get_opt(name).await.with_context(|| format!("reading {kind} {name}"))
    }

    /// Asks for an object's deletion. It is no error when it is already gone.
    pub async fn delete_object(&self, kind: &str, name: &str) -> Result<()> {
        let api = self.api(kind).await?;
        unless_gone(api.delete(name, &DeleteParams::default()).await)
            .with_context(|| format!("deleting {kind} {name}"))
    }

    /// Watches an object until it is as wanted, and returns it.
    ///
    /// # Errors
    /// When `limit` is over; the message has the object's last status.
    pub async fn wait_for(
        &self,
        kind: &str,
        name: &str,
        limit: Duration,
        mut wanted: impl FnMut(&DynamicObject) -> bool,
    ) -> Result<DynamicObject> {
        let found = self.wait_until(kind, name, limit, |object| object.is_some_and(&mut wanted)).await?;
        found.ok_or_else(|| anyhow!("{kind} {name} vanished"))
    }

    /// Watches until an object is gone, finalizers and all.
    ///
    /// # Errors
    /// When `limit` is over.
    pub async fn wait_until_gone(&self, kind: &str, name: &str, limit: Duration) -> Result<()> {
        self.wait_until(kind, name, limit, |object| object.is_none()).await.map(drop)
    }

    async fn wait_until(
        &self,
        kind: &str,
        name: &str,
        limit: Duration,
        mut wanted: impl FnMut(Option<&DynamicObject>) -> bool,
    ) -> Result<Option<DynamicObject>> {
        let mut last = Seen::Nothing;
        // With backoff, because the API server may be away for a while: tests kill it.
        let mut stream = pin!(watch_object(self.api(kind).await?, name).default_backoff());
        let watch = async {
            while let Some(event) = stream.next().await {
                match event {
                    Ok(object) if wanted(object.as_ref()) => return Some(object),
                    Ok(object) => last = Seen::Object(object.map(Box::new)),
                    Err(error) => last = Seen::Error(error.to_string()),
                }
            }
            None
        };
        match timeout(limit, watch).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => bail!("the watch of {kind} {name} ended"),
            Err(_) => {
                bail!("{kind} {name} in {} was not as wanted within {limit:?}; last seen: {last}", self.name)
            }
        }
    }

    /// Asks for the namespace's deletion and waits until it is gone, which takes the namespace controller a good five seconds.
    pub async fn delete(mut self, limit: Duration) -> Result<()> {
        self.deleted = true;
        delete_namespace(self.client.clone(), &self.name).await?;
        self.wait_until_gone("Namespace", &self.name, limit).await
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        if self.deleted {
            return;
        }
        let (kubeconfig, name) = (self.kubeconfig.clone(), self.name.clone());
        // On a runtime of its own: ours may be about to end, and a connection lives on the runtime that opened it.
        let deletion = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let delete = async { delete_namespace(client_of(kubeconfig).await?, &name).await };
            runtime.block_on(async { timeout(DELETE_TIMEOUT, delete).await? })
        });
        // Best effort: the API server may have been killed by the test.
        let _: thread::Result<Result<()>> = deletion.join();
    }
}

impl fmt::Debug for TestNamespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TestNamespace").field(&self.name).finish()
    }
}

/// What a watch saw last, for the message of a failed test.
enum Seen {
    Nothing,
    Object(Option<Box<DynamicObject>>),
    Error(String),
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("nothing, the watch had not begun"),
            Self::Error(error) => write!(formatter, "the error {error}"),
            Self::Object(None) => formatter.write_str("no such object"),
            Self::Object(Some(object)) => {
                let metadata = &object.metadata;
                let status = object.data.get("status").unwrap_or(&Value::Null);
                writeln!(formatter, "generation {:?}", metadata.generation)?;
                writeln!(formatter, "deletion timestamp {:?}", metadata.deletion_timestamp)?;
                writeln!(formatter, "finalizers {:?}", metadata.finalizers)?;
                write!(formatter, "status {status:#}")
            }
        }
    }
}

/// Applies the CRDs of a folder and waits until all of them are served.
pub async fn install_crds(plane: &ControlPlane, folder: &Path) -> Result<()> {
    install(plane, crds(folder)?).await
}

/// As [`install_crds`], but leaves alone those that are there already. The names of those that were not.
pub async fn install_absent_crds(plane: &ControlPlane, folder: &Path) -> Result<Vec<String>> {
    let api: Api<CustomResourceDefinition> = Api::all(plane.client().await?);
    let mut absent = Vec::new();
    for crd in crds(folder)? {
        if api.get_metadata_opt(&crd.name_any()).await.context("looking for CRDs")?.is_none() {
            absent.push(crd);
        }
    }
    let names = absent.iter().map(ResourceExt::name_any).collect();
    install(plane, absent).await?;
    Ok(names)
}

fn crds(folder: &Path) -> Result<Vec<DynamicObject>> {
    let mut crds = Vec::new();
    for file in yaml_files(folder)? {
        let yaml = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        crds.extend(documents(&yaml)?);
    }
    Ok(crds)
}

async fn install(plane: &ControlPlane, crds: Vec<DynamicObject>) -> Result<()> {
    let client = plane.client().await?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let kinds = Kinds::new(client);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let mut applied = Vec::new();
    for crd in crds {
        let name = crd.name_any();
        let result = api.patch(&name, &params, &Patch::Apply(&crd)).await;
        applied.push(result.with_context(|| format!("applying {name}"))?);
    }
    let served = async {
        for crd in &applied {
            wait::await_condition(api.clone(), &crd.name_any(), is_crd_established()).await?;
            kinds.until_served(&crd.spec.names.kind).await?;
        }
        Ok(())
    };
    timeout(CRD_TIMEOUT, served).await.context("the CRDs are not served in time")?
}

/// Waits until these kinds are served, whoever has installed their CRDs: that is a moment later.
pub async fn until_served(plane: &ControlPlane, kinds: &[&str]) -> Result<()> {
    let known = Kinds::new(plane.client().await?);
    let served = async {
        for kind in kinds {
            known.until_served(kind).await?;
        }
        Ok(())
    };
    timeout(CRD_TIMEOUT, served).await.context("the kinds are not served in time")?
}

/// The API server's answer in an error of this module, if it was one: its code, reason and message.
#[must_use]
pub fn refusal(error: &anyhow::Error) -> Option<&Status> {
    error.chain().find_map(|cause| match cause.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(&**status),
        _ => None,
    })
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    if files.is_empty() {
        bail!("there is no .yaml file in {}", folder.display());
    }
    Ok(files)
}

fn documents(yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("reading YAML")?;
    let objects = documents.into_iter().filter(|document| !document.is_null());
    objects
        .map(|object| serde_json::from_value(object).context("a document is no Kubernetes object"))
        .collect()
}

async fn delete_namespace(client: Client, name: &str) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client);
    unless_gone(namespaces.delete(name, &DeleteParams::default()).await)
        .with_context(|| format!("deleting {name}"))
}

fn unless_gone<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}
