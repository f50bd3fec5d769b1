//! Values in Secrets and `ConfigMaps`, read by `get` of the one name (the operator has no right to list or watch them), one
//! read for all objects that refer to them. Of what was read, only these values are kept.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use kube::core::NamespaceResourceScope;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::single_flight::SingleFlight;
use crate::clock;
use crate::engine::references::Missing;
use crate::engine::schedule::SECRET_POLL;

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// Reads under way at a time: a Secret has up to 1 MiB.
const READS: usize = 16;
/// How long a read value is used if there is no reason to read it again: a little less than a minute, so that one that is
/// searched for every few seconds is no older.
pub(crate) const IN_USE: Duration = Duration::from_secs(55);

/// The maximum age of a read value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// In use: about a minute.
    InUse,
    /// A login is refused, or it was missing: 30 seconds.
    Polled,
    /// A login is due, or something has changed: read now, or share a read that was requested a moment ago.
    Now,
    /// A token was refused, or a user requested a reconcile, at this moment: a value read before it may have been corrected
    /// since, and a wrong password would be tried again.
    Since(Instant),
}

impl Age {
    /// What a reconcile needs: it was requested, something has changed, or neither, in which case `retry` is enough.
    #[must_use]
    pub(crate) fn for_reconcile(asked: bool, changed: bool, retry: Self) -> Self {
        if asked {
            Self::Since(clock::instant())
        } else if changed {
            Self::Now
        } else {
            retry
        }
    }

    /// What the reconcile after this one needs. One that waits for a Secret or `ConfigMap` and reports nothing yet tries
    /// again at once.
    #[must_use]
    pub(crate) fn for_retry(waits: bool, reported: bool) -> Self {
        match (waits, reported) {
            (false, _) => Self::InUse,
            (true, true) => Self::Polled,
            (true, false) => Self::Now,
        }
    }
}

impl Age {
    /// Whether a value read at `read` is new enough for a caller that `came` later.
    fn allows(self, read: Instant, came: Instant) -> bool {
        match self {
            Self::InUse => read.elapsed() < IN_USE,
            // Polls come a little early or late.
            Self::Polled => read.elapsed() < SECRET_POLL.mul_f64(0.9),
            Self::Now => read + Duration::from_secs(1) >= came,
            Self::Since(moment) => read >= moment,
        }
    }
}

/// Recently read values of one kind of object. `Q` says which of an object's values, `V` is what is kept of them.
pub(crate) struct Values<Q, V> {
    client: Client,
    reads: Semaphore,
    cache: SingleFlight<(String, String, Q), Result<V, Missing>>,
}

impl<Q, V> fmt::Debug for Values<Q, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values")
    }
}

impl<Q: Eq + Hash, V: Clone> Values<Q, V> {
    /// Reads through a client.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, reads: Semaphore::new(READS), cache: SingleFlight::default() }
    }

    /// What `extract` takes from an object.
    pub(crate) async fn get<K>(
        &self,
        (namespace, name): (&str, &str),
        which: Q,
        age: Age,
        extract: impl FnOnce(K) -> V,
    ) -> Result<V, Missing>
    where
        K: Clone
            + fmt::Debug
            + DeserializeOwned
            + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let ask = Box::pin(async {
            let api = Api::<K>::namespaced(self.client.clone(), namespace);
            let read = async {
                let _read = self.reads.acquire().await;
                api.get(name).await
            };
            match tokio::time::timeout(API_TIMEOUT, read).await {
                Ok(Ok(object)) => Ok(Ok(extract(object))),
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(Err(Missing::NotFound)),
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(Err(Missing::Forbidden)),
                _ => Err(Missing::NoAnswer),
            }
        });
        let key = (namespace.to_owned(), name.to_owned(), which);
        self.cache.get(key, |answer, came| age.allows(answer.asked, came), ask).await.flatten()
    }

    /// Drops what has not been used for a while, so that no password stays in memory for longer than needed.
    pub(crate) fn purge(&self) {
        self.cache.purge(|answer| answer.asked.elapsed() < IN_USE);
    }
}
