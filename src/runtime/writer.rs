//! The one place that writes to our objects: JSON patches of statuses and finalizers, as long as the fence is open.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::object::{Entry, Key, Reported};
use crate::crd::Kind;
use crate::leader::fence::Fence;

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for other writes.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Writes under way at once: more buys latency, not throughput.
const IN_FLIGHT: usize = 16;
/// Tries before a reconcile gives up on a write; the next one comes to the same.
const TRIES: u32 = 4;

/// Writes statuses and finalizers.
#[derive(Debug)]
pub(crate) struct Writer {
    client: ClientHandle,
    in_flight: Semaphore,
    fence: Fence,
}

struct ClientHandle(Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing had changed.
    Unchanged,
    /// Written.
    Done,
    /// The object is gone, or another has taken its name.
    Gone,
    /// The API server did not take it: to be tried again soon.
    Failed,
    /// The operator has no right to write finalizers.
    Forbidden,
}

impl Writer {
    /// Writes through a client, as long as the fence is open.
    #[must_use]
    pub(crate) fn new(client: Client, fence: Fence) -> Self {
        Self { client: ClientHandle(client), in_flight: Semaphore::new(IN_FLIGHT), fence }
    }

    /// The client that it writes with.
    #[must_use]
    pub(crate) fn client(&self) -> Client {
        self.client.0.clone()
    }

    /// Changes one part of an object by a JSON patch: whole, or not at all if one of its tests fails. None if it names a
    /// version that is not the newest anymore.
    pub(crate) async fn patch<K: Reported>(
        &self,
        meta: &ObjectMeta,
        part: Part,
        operations: Value,
    ) -> Result<Option<Entry<K>>, Written> {
        let patch: json_patch::Patch = serde_json::from_value(operations).map_err(|_| Written::Failed)?;
        let key = Key::of(meta);
        let api = Api::<DeserializeGuard<K>>::namespaced(self.client(), &key.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Json::<()>(patch));
        for attempt in 0..TRIES {
            let turn = tokio::time::timeout(LONGEST_WAIT, self.in_flight.acquire());
            let Ok(turn) = self.fence.within(turn).await else { return Err(Written::Failed) };
            let Ok(permit) = turn else {
                let (kind, ObjectMeta { namespace, name, uid, .. }) = (K::KIND.as_str(), meta);
                let part = part.as_str();
                tracing::warn!(
                    kind,
                    namespace,
                    name,
                    uid,
                    "{part} waited a minute for other writes: the API server is slow"
                );
                return Err(Written::Failed);
            };
            let sending = async {
                match part {
                    Part::Status => api.patch_status(&key.name, &params, &patch).await,
                    Part::Finalizers => api.patch(&key.name, &params, &patch).await,
                }
            };
            let answer = self.fence.within(tokio::time::timeout(API_TIMEOUT, sending)).await;
            drop(permit);
            let Ok(answer) = answer else { return Err(Written::Failed) };
            match answer {
                Ok(Ok(object)) => return Ok(Some(Entry::of(object))),
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Err(Written::Gone),
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => return Ok(None),
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 403 | 422) => {
                    return Err(part.refused(K::KIND, meta, status.code));
                }
                _ => tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(attempt)).await,
            }
        }
        let (kind, ObjectMeta { namespace, name, uid, .. }) = (K::KIND.as_str(), meta);
        tracing::warn!(kind, namespace, name, uid, "the API server did not accept {}", part.as_str());
        Err(Written::Failed)
    }

    /// Reads an object that a write was based on.
    pub(crate) async fn read<K: Reported>(&self, key: &Key) -> Result<Entry<K>, Written> {
        let api = Api::<DeserializeGuard<K>>::namespaced(self.client(), &key.namespace);
        match self.fence.within(tokio::time::timeout(API_TIMEOUT, api.get(&key.name))).await {
            Ok(Ok(Ok(object))) => Ok(Entry::of(object)),
            Ok(Ok(Err(kube::Error::Api(status)))) if status.code == 404 => Err(Written::Gone),
            _ => Err(Written::Failed),
        }
    }
}

/// What of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its status.
    Status,
    /// Its finalizers.
    Finalizers,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Status => "a status",
            Self::Finalizers => "finalizers",
        }
    }

    /// What a refusal means. 422: a test failed, or the object does not fit its schema anymore. Of a status only the UID
    /// is tested; finalizers are others' to change, too.
    fn refused(self, kind: Kind, meta: &ObjectMeta, code: u16) -> Written {
        let (kind, ObjectMeta { namespace, name, uid, .. }) = (kind.as_str(), meta);
        if self == Self::Finalizers && code == 422 {
            tracing::debug!(kind, namespace, name, uid, "the finalizers have changed in the meantime");
            return Written::Failed;
        }
        tracing::warn!(kind, namespace, name, uid, code, "the API server refused {}", self.as_str());
        match code {
            403 if self == Self::Finalizers => Written::Forbidden,
            422 => Written::Gone,
            _ => Written::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::crd::X2Gateway;
    use crate::leader::fence::Term;

    #[tokio::test(start_paused = true)]
    async fn a_write_does_not_wait_for_others_without_end() {
        let never =
            |_: hyper::Request<Body>| std::future::pending::<Result<hyper::Response<Body>, Infallible>>();
        let ((_end, ending), (_, term)) = (watch::channel(false), watch::channel(Term::Endless));
        let writer = Writer::new(Client::new(tower::service_fn(never), "a"), Fence::new(ending, term));
        let _others = writer.in_flight.acquire_many(u32::try_from(IN_FLIGHT).unwrap()).await.unwrap();
        let meta = ObjectMeta::default();
        let write = writer.patch::<X2Gateway>(&meta, Part::Status, json!([]));
        let written = tokio::time::timeout(Duration::from_mins(5), write).await.expect("the wait is bounded");
        assert_eq!(written.err(), Some(Written::Failed));
    }
}
