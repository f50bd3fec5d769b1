//! What is known of namespaces: whether they may be read, and whether they are being deleted.
//!
//! If the operator's rights are in the namespaces themselves, they are deleted together with everything else in a namespace, in no
//! particular order: an object that still has our finalizer then could never be released. So everything is released as soon as the
//! deletion is requested, which is five seconds before the namespace controller deletes anything.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{TryStreamExt as _, future};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{GetParams, PartialObjectMeta, Request, WatchEvent};
use kube::{Api, Client};

use super::single_flight::{Answer, SingleFlight};
use crate::clock;
use crate::crd::Kind;

/// How long the answer about a namespace serves all its objects.
const FRESH: Duration = Duration::from_secs(3);
/// Longest wait for that answer.
const API_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait after a watch that could not be begun, or has ended at once: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The same if we may not watch a namespace, or if there is none.
const REFUSED: Duration = Duration::from_mins(1);
/// A watch that has lasted this long is restarted immediately.
const LASTED: Duration = Duration::from_secs(10);

/// What is known of namespaces.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Which are being deleted, as far as that was asked lately.
    asked: SingleFlight<String, bool>,
    /// Which are being deleted, as far as a watch has shown it.
    terminating: Mutex<HashSet<String>>,
    /// In which a kind may not be read.
    unreadable: Mutex<HashSet<(String, Kind)>>,
}

impl Namespaces {
    fn terminating(&self) -> MutexGuard<'_, HashSet<String>> {
        self.terminating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreadable(&self) -> MutexGuard<'_, HashSet<(String, Kind)>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a watch has shown that a namespace is being deleted. To us, everything in it is gone.
    #[must_use]
    pub(crate) fn is_terminating(&self, name: &str) -> bool {
        self.terminating().contains(name)
    }

    /// A watch shows whether a namespace is being deleted. True if that is news.
    fn set_terminating(&self, name: &str, terminating: bool) -> bool {
        if terminating { self.terminating().insert(name.to_owned()) } else { self.terminating().remove(name) }
    }

    /// Whether some kind may not be read in a namespace: what is known of it is not all there is, so nothing is done there.
    #[must_use]
    pub(crate) fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable().iter().any(|(namespace, _)| namespace == name)
    }

    /// Whether a kind may be read in a namespace has turned out. True if that is news.
    pub(crate) fn set_unreadable(&self, name: &str, kind: Kind, refused: bool) -> bool {
        let entry = (name.to_owned(), kind);
        if refused { self.unreadable().insert(entry) } else { self.unreadable().remove(&entry) }
    }

    /// Whether a namespace is being deleted; false if that cannot be known. One question serves all that ask within a few
    /// seconds.
    pub(crate) async fn ask_terminating(&self, client: &Client, name: &str) -> bool {
        let ask = Box::pin(async {
            let api = Api::<Namespace>::all(client.clone());
            match tokio::time::timeout(API_TIMEOUT, api.get_metadata(name)).await {
                Ok(Ok(namespace)) => Ok(namespace.metadata.deletion_timestamp.is_some()),
                Ok(Err(kube::Error::Api(status))) => Ok(status.code == 404),
                _ => Ok::<_, Infallible>(false),
            }
        });
        let Ok(terminating) = self.asked.get(name.to_owned(), |answer, _| is_fresh(answer), ask).await;
        terminating
    }

    /// Drops what is not fresh anymore; to be called now and then.
    pub(crate) fn purge(&self) {
        self.asked.purge(is_fresh);
    }

    /// Watches these namespaces, each by itself, forever. `changed` is called when the deletion of one has begun, or when another
    /// has come in its place.
    pub(crate) async fn watch(
        &self,
        client: &Client,
        names: impl IntoIterator<Item = &str>,
        changed: impl Fn(String, bool) -> BoxFuture<'static, ()>,
    ) -> Infallible {
        let watch = |namespace| Watch { namespaces: self, client, namespace, changed: &changed }.keep();
        future::join_all(names.into_iter().map(watch)).await;
        future::pending().await
    }
}

fn is_fresh(answer: &Answer<bool>) -> bool {
    answer.answered.elapsed() < FRESH
}

/// The watch of one namespace.
struct Watch<'a, F> {
    namespaces: &'a Namespaces,
    client: &'a Client,
    namespace: &'a str,
    changed: &'a F,
}

impl<F: Fn(String, bool) -> BoxFuture<'static, ()>> Watch<'_, F> {
    async fn keep(self) -> Infallible {
        let (mut wait, mut reported) = (AGAIN.0, false);
        loop {
            let begun = clock::instant();
            let ended = self.follow().await;
            if begun.elapsed() >= LASTED {
                (wait, reported) = (AGAIN.0, false);
                continue;
            }
            let code = match ended {
                Err(kube::Error::Api(status)) => status.code,
                Ok(()) | Err(_) => 0,
            };
            if !std::mem::replace(&mut reported, true) {
                tracing::warn!(
                    namespace = self.namespace,
                    code,
                    "the namespace cannot be watched: if it exists, grant the operator get and watch on it, or its deletion may need `tenure release-finalizers`"
                );
            }
            if code == 403 {
                self.reopen().await;
            }
            let pause = if code == 403 { REFUSED } else { wait };
            tokio::time::sleep(pause.mul_f64(1.0 + clock::random())).await;
            wait = (2 * wait).min(AGAIN.1);
        }
    }

    /// Follows the namespace until the watch ends.
    async fn follow(&self) -> kube::Result<()> {
        // A watch of one object by its path: the other form, a list with a field selector, needs rights in the whole cluster.
        let request = Request::new("/api/v1/watch/namespaces").get(self.namespace, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let mut events = Box::pin(self.client.request_events::<PartialObjectMeta<Namespace>>(request).await?);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(now) | WatchEvent::Modified(now) => {
                    self.set(now.metadata.deletion_timestamp.is_some()).await;
                }
                WatchEvent::Deleted(_) => self.set(false).await,
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(())
    }

    /// A namespace of the same name may have come, and we may read it, though not watch it.
    async fn reopen(&self) {
        if self.namespaces.is_terminating(self.namespace)
            && let Ok(now) = Api::<Namespace>::all(self.client.clone()).get_metadata(self.namespace).await
        {
            self.set(now.metadata.deletion_timestamp.is_some()).await;
        }
    }

    async fn set(&self, terminating: bool) {
        if self.namespaces.set_terminating(self.namespace, terminating) {
            (self.changed)(self.namespace.to_owned(), terminating).await;
        }
    }
}
