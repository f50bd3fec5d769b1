//! Which kinds the API server knows, asked once and again only for one that is new.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, WatchParams},
    discovery::{ApiGroup, Discovery, Scope},
};
use tokio::{sync::RwLock, time::sleep};

const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) struct Kinds {
    client: Client,
    known: RwLock<Option<Discovery>>,
}

#[derive(Clone)]
pub(super) struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

impl Kinds {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: RwLock::new(None) }
    }

    /// A kind by its name alone; the core group goes before others that have a kind of this name.
    pub(super) async fn named(&self, kind: &str) -> Result<Kind> {
        self.find(|resource| resource.kind == kind)
            .await?
            .ok_or_else(|| anyhow!("the API server knows no kind {kind}"))
    }

    /// The kind of an object, by its `apiVersion` and `kind`.
    pub(super) async fn of(&self, object: &DynamicObject) -> Result<Kind> {
        let types = object.types.clone().context("an object without apiVersion and kind")?;
        let same =
            |resource: &ApiResource| resource.kind == types.kind && resource.api_version == types.api_version;
        self.find(same)
            .await?
            .ok_or_else(|| anyhow!("the API server knows no kind {} of {}", types.kind, types.api_version))
    }

    /// A CRD is Established a moment before its objects are served, and they are a moment before they can be watched
    /// (until then a watch is answered 429, and whoever began one comes back a second late).
    pub(super) async fn until_served(&self, kind: &str) -> Result<()> {
        let params = WatchParams::default().timeout(1);
        loop {
            if let Some(kind) = self.find(|resource| resource.kind == kind).await? {
                let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind.resource);
                if api.watch(&params, "0").await.is_ok() {
                    return Ok(());
                }
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn find(&self, same: impl Fn(&ApiResource) -> bool) -> Result<Option<Kind>> {
        if let Some(kind) = self.known.read().await.as_ref().and_then(|known| search(known, &same)) {
            return Ok(Some(kind));
        }
        let discovery = Discovery::new(self.client.clone()).run_aggregated().await;
        let discovery = discovery.context("asking the API server for its kinds")?;
        let kind = search(&discovery, &same);
        *self.known.write().await = Some(discovery);
        Ok(kind)
    }
}

impl Kind {
    pub(super) fn name(&self) -> &str {
        &self.resource.kind
    }

    pub(super) fn api(&self, client: Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }
}

fn search(known: &Discovery, same: impl Fn(&ApiResource) -> bool) -> Option<Kind> {
    // The core group's name is empty, so it comes first.
    let groups = known.groups_alphabetical().into_iter();
    let mut resources = groups.flat_map(ApiGroup::resources_by_stability);
    let (resource, capabilities) = resources.find(|(resource, _)| same(resource))?;
    Some(Kind { namespaced: capabilities.scope == Scope::Namespaced, resource })
}
