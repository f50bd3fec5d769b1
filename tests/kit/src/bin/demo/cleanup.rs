//! What the demo has made in a cluster that is not its own, and how it goes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::config::Kubeconfig;
use kube::core::GroupVersionKind;
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use tenure_kit::control_plane::client_of;

use crate::screen::Screen;

/// How long a namespace may take to go.
const GONE_TIMEOUT: Duration = Duration::from_mins(2);

/// Filled as things are made, so that it is complete wherever the demo is interrupted.
#[derive(Default)]
pub(crate) struct Cleanup {
    /// The cluster, if it was given; with our own everything goes anyway.
    pub(crate) kubeconfig: Option<Kubeconfig>,
    pub(crate) namespace: Option<String>,
    /// CRDs that were absent.
    pub(crate) crds: Vec<String>,
    pub(crate) files: Vec<PathBuf>,
}

impl Cleanup {
    /// Removes everything.
    ///
    /// # Errors
    /// When the cluster does not do it; the message says what is left.
    pub(crate) async fn run(self, screen: &Screen) -> Result<()> {
        for file in &self.files {
            // It goes with a control plane of our own.
            let _ = fs::remove_file(file);
        }
        let Some(kubeconfig) = self.kubeconfig else { return Ok(()) };
        let client = client_of(kubeconfig).await?;
        if let Some(name) = &self.namespace {
            screen.item("removing", &format!("namespace {name} …"));
            let deleted = delete_namespace(client.clone(), name).await;
            deleted.with_context(|| format!("the namespace {name} is left, delete it yourself"))?;
        }
        for name in &self.crds {
            let removed =
                remove_crd(client.clone(), name).await.with_context(|| format!("the CRD {name} is left"))?;
            screen.item(
                if removed { "removed" } else { "kept" },
                &format!("CRD {name}{}", if removed { "" } else { ": it is in use" }),
            );
        }
        Ok(())
    }
}

async fn delete_namespace(client: Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client);
    let Some(found) = api.get_opt(name).await? else { return Ok(()) };
    let uid = found.metadata.uid.ok_or_else(|| anyhow!("a namespace without a uid"))?;
    match api.delete(name, &DeleteParams::default()).await {
        // It is on its way already.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        other => drop(other?),
    }
    let gone = await_condition(api, name, is_deleted(&uid));
    tokio::time::timeout(GONE_TIMEOUT, gone)
        .await
        .map_err(|_| anyhow!("it is not gone after {GONE_TIMEOUT:?}"))??;
    Ok(())
}

/// Removes a CRD unless somebody has begun to use it meanwhile: its objects would go with it.
async fn remove_crd(client: Client, name: &str) -> Result<bool> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let Some(crd) = api.get_opt(name).await? else { return Ok(true) };
    let kind = GroupVersionKind::gvk(&crd.spec.group, "v1alpha1", &crd.spec.names.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &crd.spec.names.plural);
    let objects: Api<DynamicObject> = Api::all_with(client, &resource);
    let used = !objects.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty();
    if !used {
        api.delete(name, &DeleteParams::default()).await?;
    }
    Ok(!used)
}
