//! What the vendors are shown of the logins of objects, and what is kept of one that failed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use crate::clock;
use crate::crd::Kind;
use crate::engine::access::AccessError;
use crate::engine::login::{Holder, LogsIn};
use crate::engine::schedule;
use crate::runtime::object::{Entry, Reported};
use crate::vendor::admission::Admission;
use crate::vendor::credentials::{Credentials, Identity};
use crate::vendor::endpoint::Endpoint;
use crate::vendor::remotes::Remotes;
use crate::vendor::sessions::SessionKey;

/// An object as one that logs in.
#[must_use]
pub fn holder(kind: Kind, meta: &ObjectMeta) -> Holder {
    let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
    Holder { kind, namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
}

/// Takes over what an object and its status show of logins, or that it is gone.
pub fn observe<K: LogsIn + Reported>(admission: &Admission, meta: &ObjectMeta, object: Option<&Entry<K>>) {
    let state = object.and_then(Entry::valid).and_then(|object| object.login_state());
    admission.observe(&holder(K::KIND, meta), state);
}

/// Handles requests for a new login: from a user, or to decide whether other systems may try the password.
pub async fn heed(
    remotes: &Remotes,
    holder: &Holder,
    asked: bool,
    endpoint: &Endpoint,
    credentials: &Credentials,
) {
    if asked {
        remotes.admission.requested(credentials, &endpoint.base.to_string());
    }
    if remotes.admission.take_call(holder) {
        remotes.sessions.forget(&SessionKey::new(endpoint, &credentials.identity)).await;
    }
}

/// A refusal that another user may end: until the next check is due, only the Secret is checked.
#[derive(Clone, Debug)]
pub struct Barred {
    identity: Identity,
    error: AccessError,
    until: Instant,
}

impl Barred {
    /// What a failed check with a login leaves behind; `interval` is the time between two checks.
    #[must_use]
    pub fn after(error: &AccessError, credentials: &Credentials, interval: Duration) -> Option<Self> {
        let identity = credentials.identity.clone();
        let until = clock::instant() + schedule::stalled(interval, clock::random());
        let barred = error.awaits_secret() && !error.is_refusal();
        barred.then(|| Self { identity, error: error.clone(), until })
    }

    /// The refusal, if it still counts for a login and it is not time to try again.
    #[must_use]
    pub fn error_for(&self, credentials: &Credentials) -> Option<AccessError> {
        let applies = self.identity == credentials.identity && clock::instant() < self.until;
        applies.then(|| self.error.clone())
    }
}
