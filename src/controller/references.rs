//! Secrets and `ConfigMaps`, read by `get` of the one name (the operator has no right to list or watch them), one read
//! for all objects that refer to them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::clock;
use crate::crd::{ALLOWED_ORIGINS, CredentialsRef};
use crate::engine::schedule::SECRET_POLL;
use crate::engine::verdict::{Reason, Verdict};
use crate::vendor::credentials::{Account, Credentials, Identity, SecretVersion};

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a read value is used if there is no reason to read it again.
const IN_USE: Duration = Duration::from_mins(1);
/// Secret types that are credentials of Kubernetes itself.
const REFUSED_TYPES: [&str; 4] = [
    "kubernetes.io/service-account-token",
    "kubernetes.io/tls",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
];

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
    /// What a reconcile needs: it was requested, something has changed, or it waits for a Secret or `ConfigMap`.
    #[must_use]
    pub fn for_look(asked: bool, changed: bool, polls: bool) -> Self {
        if asked {
            Self::Since(clock::instant())
        } else if changed {
            Self::Now
        } else if polls {
            Self::Polled
        } else {
            Self::InUse
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

type Read<K> = Option<(Instant, Result<Arc<K>, Missing>)>;
type Place<K> = Arc<tokio::sync::Mutex<Read<K>>>;

/// Why a reference cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The API server did not answer: nothing is known about it.
    Silence,
    /// What to report.
    Refused(Verdict),
}

impl From<Verdict> for Unread {
    fn from(verdict: Verdict) -> Self {
        Self::Refused(verdict)
    }
}

/// Why an object could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    NotFound,
    Forbidden,
    NoAnswer,
}

/// Recently read objects of one kind.
#[derive(Debug)]
struct Cache<K>(Mutex<HashMap<(String, String), Place<K>>>);

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Cache<K>
where
    K: Clone
        + std::fmt::Debug
        + DeserializeOwned
        + kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    async fn read(&self, client: &Client, namespace: &str, name: &str, age: Age) -> Result<Arc<K>, Missing> {
        let place = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry((namespace.to_owned(), name.to_owned())).or_default())
        };
        let came = clock::instant();
        let mut last = place.lock().await;
        if let Some((_, found)) = last.as_ref().filter(|(asked, _)| age.allows(*asked, came)) {
            return found.clone();
        }
        let asked = clock::instant();
        let answer =
            tokio::time::timeout(API_TIMEOUT, Api::<K>::namespaced(client.clone(), namespace).get(name))
                .await;
        let found = match answer {
            Ok(Ok(object)) => Ok(Arc::new(object)),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Missing::NotFound),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Missing::Forbidden),
            _ => Err(Missing::NoAnswer),
        };
        // A missing answer says nothing about the object, and is not cached.
        *last = Some((asked, found.clone())).filter(|(_, found)| !matches!(found, Err(Missing::NoAnswer)));
        found
    }

    /// Drops what has not been used for a while, so that no password stays in memory for longer than needed.
    fn purge(&self) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| {
            place.try_lock().map_or(true, |read| {
                read.as_ref().is_some_and(|(asked, _)| asked.elapsed() < IN_USE)
                    || Arc::strong_count(place) > 1
            })
        });
    }
}

/// The CA certificates in use, each once however many objects name them: a bundle has up to 256 KiB, and each session holds
/// on to its own.
#[derive(Debug, Default)]
struct Texts(Mutex<HashSet<Arc<str>>>);

impl Texts {
    fn share(&self, text: &str) -> Arc<str> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = texts.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = Arc::from(text);
        texts.insert(Arc::clone(&shared));
        shared
    }

    /// Drops those that are not in use any more.
    fn purge(&self) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|text| Arc::strong_count(text) > 1);
    }
}

/// Reads Secrets and `ConfigMaps`.
#[derive(Debug)]
pub struct References {
    client: ClientHandle,
    secrets: Cache<Secret>,
    config_maps: Cache<ConfigMap>,
    texts: Texts,
    /// The key of passwords' fingerprints: only this process has it.
    fingerprints: RandomState,
}

struct ClientHandle(Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl References {
    /// Reads through a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client: ClientHandle(client),
            secrets: Cache::default(),
            config_maps: Cache::default(),
            texts: Texts::default(),
            fingerprints: RandomState::new(),
        }
    }

    /// Drops what is not in use any more; to be called now and then.
    pub fn purge(&self) {
        self.secrets.purge();
        self.config_maps.purge();
        self.texts.purge();
    }

    /// User name and password of a Secret, and the origins that it allows, if it limits them.
    pub async fn credentials(
        &self,
        namespace: &str,
        reference: &CredentialsRef,
        age: Age,
    ) -> Result<(Credentials, Option<String>), Unread> {
        let CredentialsRef { name, username_key, password_key } = reference;
        let secret = self.secret(namespace, name, age).await?;
        if let Some(kind) = secret.type_.as_deref().filter(|kind| REFUSED_TYPES.contains(kind)) {
            let message = format!(
                "Secret {name} is of type {kind}, which is not allowed for logins. Use a Secret of type Opaque."
            );
            return Err(Verdict::new(Reason::SecretTypeRefused, message).into());
        }
        let version = SecretVersion {
            uid: secret.uid().unwrap_or_default(),
            resource_version: secret.resource_version().unwrap_or_default(),
        };
        let keys = (username_key.clone(), password_key.clone());
        let account = Account { namespace: namespace.to_owned(), secret: name.clone(), keys };
        let username = SecretString::from(text(&secret, name, username_key)?);
        let password = SecretString::from(text(&secret, name, password_key)?);
        let fingerprint = self.fingerprints.hash_one((username.expose_secret(), password.expose_secret()));
        let identity = Identity { account, version };
        let credentials = Credentials { identity, fingerprint, username, password };
        Ok((credentials, secret.annotations().get(ALLOWED_ORIGINS).cloned()))
    }

    /// One key of a Secret as text.
    pub async fn secret_text(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
        age: Age,
    ) -> Result<Arc<str>, Unread> {
        let secret = self.secret(namespace, name, age).await?;
        Ok(self.texts.share(&text(&secret, name, key)?))
    }

    /// One key of a `ConfigMap` as text.
    pub async fn config_map_text(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
        age: Age,
    ) -> Result<Arc<str>, Unread> {
        let found = self.config_maps.read(&self.client.0, namespace, name, age).await;
        let map = found.map_err(|missing| unread(missing, "ConfigMap", name, Reason::ConfigMapNotFound))?;
        let value = map.data.as_ref().and_then(|data| data.get(key));
        value.map(|value| self.texts.share(value)).ok_or_else(|| {
            let message = format!("ConfigMap {name} has no key {key}. Add the CA's certificate under this key, or correct the key.");
            Verdict::new(Reason::CaUnusable, message).into()
        })
    }

    async fn secret(&self, namespace: &str, name: &str, age: Age) -> Result<Arc<Secret>, Unread> {
        let found = self.secrets.read(&self.client.0, namespace, name, age).await;
        found.map_err(|missing| unread(missing, "Secret", name, Reason::SecretNotFound))
    }
}

fn unread(missing: Missing, kind: &str, name: &str, reason: Reason) -> Unread {
    let message = match missing {
        Missing::NotFound => {
            format!("{kind} {name} does not exist in this namespace: create it, or correct its name.")
        }
        Missing::Forbidden => {
            format!("The operator is not allowed to get {kind} {name}. Grant it the verb get on it.")
        }
        Missing::NoAnswer => return Unread::Silence,
    };
    Verdict::new(reason, message).into()
}

fn text(secret: &Secret, name: &str, key: &str) -> Result<String, Verdict> {
    let missing = |what| {
        let message =
            format!("Secret {name} {what} {key}: add the value under this key, or correct the key.");
        Verdict::new(Reason::SecretKeyMissing, message)
    };
    let value = secret.data.as_ref().and_then(|data| data.get(key)).ok_or_else(|| missing("has no key"))?;
    if value.0.is_empty() {
        return Err(missing("has an empty value for key"));
    }
    String::from_utf8(value.0.clone()).map_err(|_| missing("does not have UTF-8 text for key"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_ca_is_kept_once_and_only_while_it_is_in_use() {
        let texts = Texts::default();
        let (one, two) = (texts.share("ca"), texts.share("ca"));
        assert!(Arc::ptr_eq(&one, &two));
        texts.purge();
        assert!(Arc::ptr_eq(&one, &texts.share("ca")), "in use");
        drop((one, two));
        texts.purge();
        assert_eq!(texts.0.lock().unwrap().len(), 0);
    }

    /// Secrets behind an API server that counts how often they are read.
    fn references() -> (References, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let serve = move |_: axum::http::Request<kube::client::Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let secret = serde_json::json!({"apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "login", "namespace": "a", "uid": "u", "resourceVersion": "1"},
                "data": {"username": "YWRtaW4=", "password": "YWRtaW4="}});
            let body = kube::client::Body::from(secret.to_string().into_bytes());
            std::future::ready(Ok::<_, std::convert::Infallible>(axum::http::Response::new(body)))
        };
        (References::new(Client::new(tower::service_fn(serve), "a")), count)
    }

    fn login() -> CredentialsRef {
        let (username_key, password_key) = ("username".to_owned(), "password".to_owned());
        CredentialsRef { name: "login".to_owned(), username_key, password_key }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_read_once_a_minute_in_use_and_twice_while_it_is_polled() {
        let (references, count) = references();
        for (age, reads) in [(Age::InUse, 10), (Age::Polled, 20)] {
            count.store(0, Ordering::Relaxed);
            // A thousand objects that refer to it are checked, spread over ten minutes.
            for _ in 0..1_000 {
                assert!(references.credentials("a", &login(), age).await.is_ok());
                tokio::time::advance(Duration::from_millis(600)).await;
            }
            let counted = count.load(Ordering::Relaxed);
            assert!((reads - 1..=reads + 3).contains(&counted), "{age:?}: {counted}");
        }
        // A herd that is about to log in shares one read.
        tokio::time::advance(IN_USE).await;
        count.store(0, Ordering::Relaxed);
        let reference = login();
        let herd = (0..100).map(|_| references.credentials("a", &reference, Age::Now));
        assert!(futures::future::join_all(herd).await.iter().all(Result::is_ok));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn equal_logins_have_equal_fingerprints() {
        let (references, _) = references();
        let (one, _) = references.credentials("a", &login(), Age::Now).await.unwrap();
        tokio::time::advance(IN_USE).await;
        let (two, _) = references.credentials("a", &login(), Age::Now).await.unwrap();
        assert_eq!(one.fingerprint, two.fingerprint);
    }
}
