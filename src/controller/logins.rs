//! What the vendors are shown of the logins of objects, and what is kept of one that failed.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use super::references::References;
use crate::clock;
use crate::crd::{CredentialsRef, Kind};
use crate::engine::access::AccessError;
use crate::engine::login::{Holder, LogsIn};
use crate::engine::references::Unread;
use crate::engine::schedule;
use crate::runtime::object::{Entry, Reported};
use crate::runtime::secrets::Age;
use crate::vendor::admission::Admission;
use crate::vendor::credentials::{Account, Credentials, Identity};
use crate::vendor::endpoint::Endpoint;
use crate::vendor::remotes::Remotes;
use crate::vendor::sessions::{SessionKey, Sessions};

/// Secrets that are read again at a time: most of the reads that there may be at once are left for checks.
const AT_ONCE: usize = 4;

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
pub(crate) async fn take_requests(
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

/// Reads the Secrets again that there are tokens of, and drops the tokens of those that were replaced or are gone. To be called
/// every few seconds: each Secret is read once a minute, also for those whose next check is a day away.
pub(crate) async fn recheck(sessions: &Sessions, references: &References) {
    let recheck = async |account: Account| {
        let (username_key, password_key) = account.keys.clone();
        let reference = CredentialsRef { name: account.secret.clone(), username_key, password_key };
        match references.login(&account.namespace, &reference, Age::InUse).await {
            Ok(login) => sessions.keep(&account, Some(&login.credentials.identity.version)),
            Err(Unread::Refused(_)) => sessions.keep(&account, None),
            Err(Unread::Silence) => {}
        }
    };
    stream::iter(sessions.accounts()).for_each_concurrent(AT_ONCE, recheck).await;
}

/// A refusal that another user may end: until the next check is due, only the Secret is checked.
#[derive(Clone, Debug)]
pub(crate) struct Barred {
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
    pub(crate) fn error_for(&self, credentials: &Credentials) -> Option<AccessError> {
        let applies = self.identity == credentials.identity && clock::instant() < self.until;
        applies.then(|| self.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::references::tests::{login, references};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens_go_within_a_minute_of_their_secret() {
        let (references, secret) = references();
        let sessions = Sessions::default();
        let minute = async || {
            for _ in 0..12 {
                tokio::time::advance(Duration::from_secs(5)).await;
                recheck(&sessions, &references).await;
            }
        };
        for version in [2, 0] {
            let identity = references.login("a", &login(), Age::Now).await.unwrap().credentials.identity;
            sessions.log_in("https://x2.example.net", &identity).await;
            minute().await;
            assert_eq!(sessions.count(), 1);
            secret.version.store(version, Ordering::Relaxed);
            minute().await;
            assert_eq!(sessions.count(), 0);
        }
    }
}
