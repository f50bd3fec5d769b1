//! What resources refer to: logins in Secrets, and certificates in Secrets and `ConfigMaps`.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt};
use secrecy::{ExposeSecret as _, SecretString};

use crate::crd::{ALLOWED_ORIGINS, CredentialsRef};
use crate::engine::references::{Named, Unread, no_ca, refuse_type, secret_text};
use crate::engine::verdict::Verdict;
use crate::runtime::secrets::{Age, Secrets};
use crate::vendor::credentials::{Account, Credentials, Identity, SecretVersion};

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

    /// Drops those that are not in use anymore.
    fn purge(&self) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|text| Arc::strong_count(text) > 1);
    }
}

/// Reads Secrets and `ConfigMaps`.
#[derive(Debug)]
pub struct References {
    secrets: Secrets,
    texts: Texts,
    /// The key of passwords' fingerprints: only this process has it.
    fingerprints: RandomState,
}

impl References {
    /// Reads through a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { secrets: Secrets::new(client), texts: Texts::default(), fingerprints: RandomState::new() }
    }

    /// Drops what is not in use anymore. Call it periodically.
    pub fn purge(&self) {
        self.secrets.purge();
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
        refuse_type(secret.type_.as_deref(), name)?;
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
        let found = self.secrets.config_map(namespace, name, age).await;
        let map = found.map_err(|missing| Named::ConfigMap.unread(name, missing))?;
        let value = map.data.as_ref().and_then(|data| data.get(key));
        value.map(|value| self.texts.share(value)).ok_or_else(|| no_ca(name, key).into())
    }

    async fn secret(&self, namespace: &str, name: &str, age: Age) -> Result<Arc<Secret>, Unread> {
        let found = self.secrets.secret(namespace, name, age).await;
        found.map_err(|missing| Named::Secret.unread(name, missing))
    }
}

fn text(secret: &Secret, name: &str, key: &str) -> Result<String, Verdict> {
    secret_text(secret.data.as_ref().and_then(|data| data.get(key)).map(|value| &*value.0), name, key)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::runtime::secrets::IN_USE;

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
