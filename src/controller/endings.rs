//! The end of namespaces, where the operator's rights are in the namespaces themselves.
//!
//! They go with all else in a namespace that is deleted, in no certain order: whoever still has our finalizer then could
//! never be let go. So nothing waits for us from the moment in which the deletion is asked for, which is five seconds before
//! its controller takes anything away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{TryStreamExt as _, future};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{GetParams, PartialObjectMeta, Request, WatchEvent};

use super::context::Context;
use super::report::Written;
use super::restore;
use super::store::Key;
use super::workers::{Reconciled, wake};
use crate::clock;
use crate::crd::{CustomerTokenTtl, KonaServer, TokenPolicy, X2Gateway};

/// Wait after a watch that ended or could not be begun; up to twice as long.
const AGAIN: Duration = Duration::from_secs(2);
/// The same where we may not watch a namespace, or where there is none.
const REFUSED: Duration = Duration::from_mins(1);
/// Wait after a finalizer that could not be taken off.
const RETRY: Duration = Duration::from_millis(500);
/// Tries to take it off: as long as our rights may last.
const TRIES: u32 = 10;

/// Watches these namespaces, each by itself, for ever.
pub async fn watch(context: &Arc<Context>, client: &Client, namespaces: &[String]) -> Infallible {
    let mut each = Vec::new();
    for namespace in namespaces {
        each.push(async move {
            let mut told = false;
            loop {
                let wait = match follow(context, client, namespace).await {
                    Err(kube::Error::Api(status)) if status.code == 403 => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(
                                namespace,
                                "the operator may not watch its namespace, whose deletion may have to wait for `tenure \
                                 release-finalizers`: grant it get and watch on namespaces in its Role there"
                            );
                        }
                        REFUSED
                    }
                    Ok(()) | Err(_) => AGAIN,
                };
                tokio::time::sleep(wait.mul_f64(1.0 + clock::random())).await;
            }
        });
    }
    future::join_all(each).await;
    future::pending().await
}

/// Follows one namespace until the watch ends.
async fn follow(context: &Arc<Context>, client: &Client, namespace: &str) -> kube::Result<()> {
    // A watch of one object by its path: the other form, a list with a field selector, needs rights in the whole cluster.
    let request = Request::new("/api/v1/watch/namespaces").get(namespace, &GetParams::default());
    let request = request.map_err(kube::Error::BuildRequest)?;
    let mut events = Box::pin(client.request_events::<PartialObjectMeta<Namespace>>(request).await?);
    while let Some(event) = events.try_next().await? {
        let ends = match event {
            WatchEvent::Added(now) | WatchEvent::Modified(now) => now.metadata.deletion_timestamp.is_some(),
            WatchEvent::Deleted(_) => false,
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        };
        if !context.namespaces.set_ending(namespace, ends) {
            continue;
        }
        if ends {
            let released = let_all_go(context, namespace).await;
            tracing::warn!(
                namespace,
                released,
                "the namespace is being deleted: what its resources have set is left as it is"
            );
        } else {
            // Another has its name.
            wake_all::<TokenPolicy>(context, namespace);
            wake_all::<X2Gateway>(context, namespace);
            wake_all::<KonaServer>(context, namespace);
            wake_all::<CustomerTokenTtl>(context, namespace);
        }
    }
    Ok(())
}

/// Takes our finalizer off everything in a namespace; tells of how many.
async fn let_all_go(context: &Arc<Context>, namespace: &str) -> usize {
    let mut released = 0;
    for _ in 0..TRIES {
        let rounds = [
            let_go::<TokenPolicy>(context, namespace).await,
            let_go::<X2Gateway>(context, namespace).await,
            let_go::<CustomerTokenTtl>(context, namespace).await,
        ];
        released += rounds.iter().map(|(done, _)| done).sum::<usize>();
        if rounds.iter().all(|(_, failed)| *failed == 0) {
            break;
        }
        tokio::time::sleep(RETRY).await;
    }
    released
}

fn wake_all<K: Reconciled>(context: &Arc<Context>, namespace: &str) {
    for entry in K::store(context).namespace(namespace) {
        wake(context, K::KIND, Key::of(entry.meta()));
    }
}

/// How many of a kind were let go, and how many were not.
async fn let_go<K: Reconciled>(context: &Arc<Context>, namespace: &str) -> (usize, usize) {
    let held =
        K::store(context).namespace(namespace).into_iter().filter(|entry| restore::is_held(entry.meta()));
    let (mut done, mut failed) = (0, 0);
    let written =
        future::join_all(held.map(|entry| async move { restore::release::<K>(context, entry.meta()).await }));
    for written in written.await {
        match written {
            Written::Failed | Written::Forbidden => failed += 1,
            Written::Unchanged | Written::Written | Written::Gone => done += 1,
        }
    }
    (done, failed)
}
