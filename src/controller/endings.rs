//! The end of namespaces, where the operator's rights are in the namespaces themselves.
//!
//! These are deleted together with everything else in a namespace, in no particular order: an object that still has our
//! finalizer then could never be released. So everything is released as soon as the deletion is requested, which is five
//! seconds before the namespace controller deletes anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{TryStreamExt as _, future};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{GetParams, ObjectMeta, PartialObjectMeta, Request, WatchEvent};
use kube::{Api, Client};
use tokio::time::Instant;

use super::context::{Context, UNDISTURBED};
use super::report::Written;
use super::restore;
use super::watch::Scope;
use super::workers::{Reconciled, wake_all};
use crate::clock;
use crate::crd::{CustomerTokenTtl, TokenPolicy, X2Gateway};

/// Wait after a watch that could not be begun, or has ended at once: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The same where we may not watch a namespace, or where there is none.
const REFUSED: Duration = Duration::from_mins(1);
/// A watch that has lasted this long is restarted immediately.
const LASTED: Duration = Duration::from_secs(10);
/// Wait after a finalizer that could not be taken off: our rights may last a few seconds more.
const RETRY: Duration = Duration::from_secs(2);

/// Watches the namespaces of these scopes, each by itself, forever.
pub async fn watch(context: &Arc<Context>, client: &Client, scopes: &[Scope]) -> Infallible {
    let namespaces = scopes.iter().filter_map(|scope| scope.namespace.as_deref());
    future::join_all(namespaces.map(|namespace| keep_watching(context, client, namespace))).await;
    future::pending().await
}

async fn keep_watching(context: &Arc<Context>, client: &Client, namespace: &str) -> Infallible {
    let (mut wait, mut told) = (AGAIN.0, false);
    loop {
        let begun = clock::instant();
        let ended = follow(context, client, namespace).await;
        if begun.elapsed() >= LASTED {
            (wait, told) = (AGAIN.0, false);
            continue;
        }
        let code = match ended {
            Err(kube::Error::Api(status)) => status.code,
            Ok(()) | Err(_) => 0,
        };
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(
                namespace,
                code,
                "the namespace cannot be watched: if it exists, grant the operator get and watch on it, or its deletion may need `tenure release-finalizers`"
            );
        }
        if code == 403 {
            reopen(context, client, namespace).await;
        }
        let pause = if code == 403 { REFUSED } else { wait };
        tokio::time::sleep(pause.mul_f64(1.0 + clock::random())).await;
        wait = (2 * wait).min(AGAIN.1);
    }
}

/// Follows one namespace until the watch ends.
async fn follow(context: &Arc<Context>, client: &Client, namespace: &str) -> kube::Result<()> {
    // A watch of one object by its path: the other form, a list with a field selector, needs rights in the whole cluster.
    let request = Request::new("/api/v1/watch/namespaces").get(namespace, &GetParams::default());
    let request = request.map_err(kube::Error::BuildRequest)?;
    let mut events = Box::pin(client.request_events::<PartialObjectMeta<Namespace>>(request).await?);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(now) | WatchEvent::Modified(now) => {
                turn(context, namespace, now.metadata.deletion_timestamp.is_some()).await;
            }
            WatchEvent::Deleted(_) => turn(context, namespace, false).await,
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}

/// A namespace of the same name may have come, and we may read it, though not watch it.
async fn reopen(context: &Arc<Context>, client: &Client, namespace: &str) {
    if context.namespaces.ends(namespace)
        && let Ok(now) = Api::<Namespace>::all(client.clone()).get_metadata(namespace).await
    {
        turn(context, namespace, now.metadata.deletion_timestamp.is_some()).await;
    }
}

/// A namespace is being deleted, or is not.
async fn turn(context: &Arc<Context>, namespace: &str, ends: bool) {
    if !context.namespaces.set_ending(namespace, ends) {
        return;
    }
    if ends {
        tracing::warn!(namespace, "the namespace is being deleted: original values are not restored");
        // A task may be in the middle of a reconcile.
        tokio::join!(
            let_all_go::<TokenPolicy>(context, namespace),
            let_all_go::<X2Gateway>(context, namespace),
            let_all_go::<CustomerTokenTtl>(context, namespace),
        );
    }
    wake_all(context, Some(namespace));
}

async fn let_all_go<K: Reconciled>(context: &Arc<Context>, namespace: &str) {
    let objects = K::store(context).namespace(namespace);
    future::join_all(objects.iter().map(|entry| let_go::<K>(context, entry.meta()))).await;
}

/// Removes our finalizer from an object whose namespace is ending. Returns when to try again.
pub async fn let_go<K: Reconciled>(context: &Arc<Context>, meta: &ObjectMeta) -> Instant {
    match restore::release::<K>(context, meta).await {
        Written::Failed | Written::Forbidden => clock::instant() + RETRY,
        Written::Unchanged | Written::Written | Written::Gone => clock::instant() + UNDISTURBED,
    }
}
