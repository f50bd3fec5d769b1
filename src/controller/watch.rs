//! Fills the stores from the API server and keeps them so.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::context::Context;
use super::store::{self, Entry, Key, Source};
use super::workers::{Reconciled, wake};

/// Objects that are read at once.
const PAGE: u32 = 500;

/// Longest wait for them.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after which a watch is begun anew, in seconds: one whose connection has died unnoticed would tell nothing.
const WATCH_SECONDS: u32 = 60;

/// What is watched.
#[derive(Clone, Debug)]
pub struct Scope {
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// Only objects with these labels.
    pub selector: Option<String>,
}

/// Watches one kind for ever. Says on `filled` when the store holds all there is.
pub async fn watch<K: Reconciled>(
    context: Arc<Context>,
    client: Client,
    scope: Scope,
    filled: mpsc::Sender<()>,
) {
    let api = api::<K>(client, &scope);
    let config = watcher::Config { label_selector: scope.selector, ..watcher::Config::default() };
    let config = config.timeout(WATCH_SECONDS);
    let mut events = Box::pin(watcher(api, config).default_backoff());
    let mut listed = HashSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(object))) => {
                let entry = Entry::of(object);
                listed.insert(Key::of(entry.meta()));
                store::put::<K>(&context, &entry, Source::Watch);
            }
            Ok(Some(Event::InitDone)) => {
                for key in K::store(&context).vanished(scope.namespace.as_deref(), &listed) {
                    store::remove::<K>(&context, &key);
                    wake(&context, K::KIND, key);
                }
                // Only the first time somebody waits for it.
                let _ = filled.try_send(());
            }
            Ok(Some(Event::Apply(object))) => store::put::<K>(&context, &Entry::of(object), Source::Watch),
            Ok(Some(Event::Delete(object))) => {
                let key = Key::of(Entry::<K>::of(object).meta());
                store::remove::<K>(&context, &key);
                wake(&context, K::KIND, key);
            }
            Ok(None) => return,
            Err(error) => complain::<K>(&error),
        }
    }
}

/// Reads once more all there is of one kind, so that no object that is known is older than this moment: another replica may
/// have written it just now.
pub async fn catch_up<K: Reconciled>(context: &Arc<Context>, client: Client, scope: &Scope) -> bool {
    let api: Api<DeserializeGuard<K>> = api(client, scope);
    let mut params = ListParams { label_selector: scope.selector.clone(), ..ListParams::default() };
    params.limit = Some(PAGE);
    loop {
        let page = match tokio::time::timeout(LIST_TIMEOUT, api.list(&params)).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                complain::<K>(&watcher::Error::InitialListFailed(error));
                return false;
            }
            Err(_) => {
                tracing::warn!(
                    kind = K::KIND.as_str(),
                    "the API server does not answer a list: it is tried again"
                );
                return false;
            }
        };
        for object in page.items {
            // What is not known is new, and comes by the watch.
            store::put::<K>(context, &Entry::of(object), Source::OwnWrite);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return true,
        }
    }
}

fn api<K: Reconciled>(client: Client, scope: &Scope) -> Api<DeserializeGuard<K>> {
    match &scope.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Says in our own words what keeps a watch from working; it is tried again.
fn complain<K: Reconciled>(error: &watcher::Error) {
    let kind = K::KIND.as_str();
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => 0,
    };
    match code {
        404 => tracing::error!(
            kind,
            "the API server does not know this kind: install the CRDs (kubectl apply -f crds/)"
        ),
        400 => tracing::error!(kind, "the API server refuses the request: check --selector"),
        401 | 403 => {
            tracing::error!(
                kind,
                code,
                "the operator may not list and watch this kind: check its RBAC rules"
            );
        }
        _ => tracing::warn!(kind, code, "the watch broke and is tried again"),
    }
}
