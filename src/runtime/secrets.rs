//! Secrets and `ConfigMaps`, read by `get` of the one name (the operator has no right to list or watch them), one read
//! for all objects that refer to them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::single_flight::{Answer, SingleFlight};
use crate::clock;
use crate::engine::references::Missing;
use crate::engine::schedule::SECRET_POLL;

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a read value is used if there is no reason to read it again.
pub(crate) const IN_USE: Duration = Duration::from_mins(1);

/// The maximum age of a read value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// In use: a minute.
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

/// Recently read objects of one kind, by namespace and name.
type Cache<K> = SingleFlight<(String, String), Result<Arc<K>, Missing>>;

/// Reads Secrets and `ConfigMaps`.
pub(crate) struct Secrets {
    client: Client,
    opaque: Cache<Secret>,
    config_maps: Cache<ConfigMap>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Reads through a client.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, opaque: Cache::default(), config_maps: Cache::default() }
    }

    /// A Secret.
    pub(crate) async fn secret(&self, namespace: &str, name: &str, age: Age) -> Result<Arc<Secret>, Missing> {
        read(&self.client, &self.opaque, (namespace, name), age).await
    }

    /// A `ConfigMap`.
    pub(crate) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
        age: Age,
    ) -> Result<Arc<ConfigMap>, Missing> {
        read(&self.client, &self.config_maps, (namespace, name), age).await
    }

    /// Drops what has not been used for a while, so that no password stays in memory for longer than needed.
    pub(crate) fn purge(&self) {
        self.opaque.purge(is_in_use);
        self.config_maps.purge(is_in_use);
    }
}

fn is_in_use<V>(answer: &Answer<V>) -> bool {
    answer.asked.elapsed() < IN_USE
}

async fn read<K>(
    client: &Client,
    cache: &Cache<K>,
    (namespace, name): (&str, &str),
    age: Age,
) -> Result<Arc<K>, Missing>
where
    K: Clone
        + std::fmt::Debug
        + DeserializeOwned
        + kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    let ask = Box::pin(async {
        let api = Api::<K>::namespaced(client.clone(), namespace);
        match tokio::time::timeout(API_TIMEOUT, api.get(name)).await {
            Ok(Ok(object)) => Ok(Ok(Arc::new(object))),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(Err(Missing::NotFound)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(Err(Missing::Forbidden)),
            _ => Err(Missing::NoAnswer),
        }
    });
    let key = (namespace.to_owned(), name.to_owned());
    cache.get(key, |answer, came| age.allows(answer.asked, came), ask).await.flatten()
}
