//! `tenure release-finalizers`: removes the operator's finalizer from resources, before it is uninstalled.

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::Write as _;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

use super::scope;
use crate::crd::{CustomerTokenTtl, KonaServer, RESTORE, TokenPolicy, X2Gateway};

/// Longest wait for the operator's Pods to end: a Pod on a lost node never does.
const PATIENCE: Duration = Duration::from_mins(2);
/// Page size of list requests.
const PAGE: u32 = 500;
/// Maximum number of concurrent writes.
const IN_FLIGHT: usize = 8;
/// Attempts if something else changes finalizers at the same time.
const TRIES: u32 = 5;

/// Options of `tenure release-finalizers`.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    scope: scope::Selection,
    /// Deployment of an operator to stop first: while it runs, it adds its finalizers again.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = named)]
    stop_deployment: Option<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    namespace: String,
    name: String,
}

fn named(text: &str) -> Result<Place, &'static str> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(Place { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("must be NAMESPACE/NAME"),
    }
}

pub(super) fn release_finalizers(options: &Options) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(release_all(options))
}

async fn release_all(options: &Options) -> anyhow::Result<()> {
    let client = super::client(super::cluster().await?.0)?;
    if let Some(deployment) = &options.stop_deployment {
        stop(&client, deployment).await?;
    }
    // All of them, even if one kind fails.
    let released = [
        release::<TokenPolicy>(&client, options).await,
        release::<X2Gateway>(&client, options).await,
        release::<CustomerTokenTtl>(&client, options).await,
        release::<KonaServer>(&client, options).await,
    ];
    let count: usize = released.into_iter().sum::<anyhow::Result<usize>>()?;
    say(&format!("Finalizers released: {count}. Nothing was restored."))
}

/// Scales a Deployment to zero and waits for the end of its Pods.
async fn stop(client: &Client, Place { namespace, name }: &Place) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let scale = match deployments.patch_scale(name, &PatchParams::default(), &none).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return say(&format!("There is no Deployment {namespace}/{name} to stop."));
        }
        answer => {
            answer.with_context(|| format!("Deployment {namespace}/{name} cannot be scaled to zero"))?
        }
    };
    // An empty selector would match every Pod.
    let selector = scale.status.and_then(|status| status.selector).filter(|selector| !selector.is_empty());
    let selector = selector.with_context(|| format!("Deployment {namespace}/{name} has no selector"))?;
    let pods = Api::namespaced(client.clone(), namespace);
    match timeout(PATIENCE, until_ended(pods, &selector)).await {
        Ok(ended) => {
            ended.with_context(|| format!("the Pods of {namespace}/{name} cannot be watched"))?;
            say(&format!("Deployment {namespace}/{name} is stopped."))
        }
        Err(_) => say(&format!(
            "Pods of Deployment {namespace}/{name} have not ended after {PATIENCE:?}; not waiting any longer."
        )),
    }
}

async fn until_ended(pods: Api<PartialObjectMeta<Pod>>, selector: &str) -> Result<(), watcher::Error> {
    // An evicted Pod runs nothing.
    let alive = "status.phase!=Succeeded,status.phase!=Failed";
    let config = watcher::Config::default().labels(selector).fields(alive);
    let mut events = pin!(watcher(pods, config));
    let (mut present, mut all_known) = (HashSet::new(), false);
    while let Some(event) = events.try_next().await? {
        match event {
            Event::Init => present.clear(),
            Event::InitApply(pod) | Event::Apply(pod) => {
                present.insert(pod.name_any());
            }
            Event::Delete(pod) => {
                present.remove(&pod.name_any());
            }
            Event::InitDone => all_known = true,
        }
        if all_known && present.is_empty() {
            break;
        }
    }
    Ok(())
}

trait Held:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug
{
}

impl<K> Held for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug
{
}

/// Releases all objects of a kind, and returns how many.
async fn release<K: Held>(client: &Client, options: &Options) -> anyhow::Result<usize> {
    let kind = K::kind(&());
    let mut released = 0;
    for _ in 0..TRIES {
        let pass = pass::<K>(client, options).await;
        let Some((done, changed)) =
            pass.with_context(|| format!("the finalizers of kind {kind} cannot be released"))?
        else {
            say(&format!("The API server does not know the kind {kind}."))?;
            return Ok(0);
        };
        released += done;
        if changed == 0 {
            return Ok(released);
        }
    }
    bail!("something keeps changing the finalizers of kind {kind}: stop it, and try again")
}

/// Processes every object of a kind once: how many were released, and how many were changed concurrently. None if there is
/// no such kind.
async fn pass<K: Held>(client: &Client, options: &Options) -> anyhow::Result<Option<(usize, usize)>> {
    let (mut done, mut changed) = (0, 0);
    for scope in options.scope.scopes() {
        let api: Api<K> = scope.api(client.clone());
        let mut params = ListParams { label_selector: scope.selector, ..ListParams::default() };
        params.limit = Some(PAGE);
        loop {
            let page = match api.list_metadata(&params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                page => page?,
            };
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            let mut outcomes = stream::iter(page.items)
                .map(|object| release_one(client, object))
                .buffer_unordered(IN_FLIGHT);
            while let Some(outcome) = outcomes.try_next().await? {
                done += usize::from(outcome == Outcome::Released);
                changed += usize::from(outcome == Outcome::Changed);
            }
            if params.continue_token.is_none() {
                break;
            }
        }
    }
    Ok(Some((done, changed)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Released,
    NotHeld,
    Changed,
}

/// Removes our finalizer from an object, and keeps those of others.
async fn release_one<K: Held>(client: &Client, object: PartialObjectMeta<K>) -> anyhow::Result<Outcome> {
    let Some(index) = object.finalizers().iter().position(|finalizer| finalizer == RESTORE) else {
        return Ok(Outcome::NotHeld);
    };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let place = format!("/metadata/finalizers/{index}");
    let operations =
        json!([{"op": "test", "path": place, "value": RESTORE}, {"op": "remove", "path": place}]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations)?);
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    match api.patch_metadata(&name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::NotHeld),
        Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => Ok(Outcome::Changed),
        answer => {
            answer.with_context(|| format!("{namespace}/{name}"))?;
            say(&format!("{} {namespace}/{name} is released.", K::kind(&())))?;
            Ok(Outcome::Released)
        }
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("cannot write to standard output")
}
