//! What resources refer to: logins in Secrets, and certificates in Secrets and `ConfigMaps`.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Client, ResourceExt};
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::crd::{ALLOWED_ORIGINS, CaRef, CredentialsRef};
use crate::engine::origin::AllowedOrigins;
use crate::engine::references::{
    LONGEST_CA, LONGEST_PASSWORD, LONGEST_USERNAME, Named, Unread, check_type, large_ca, no_ca, secret_text,
    unusable_ca,
};
use crate::engine::verdict::Verdict;
use crate::runtime::secrets::{Age, Values};
use crate::vendor::ca::Ca;
use crate::vendor::credentials::{Account, Credentials, Identity, SecretVersion};

/// A login as a Secret has it.
#[derive(Clone, Debug)]
pub struct Login {
    /// User name and password.
    pub credentials: Credentials,
    /// Where they may be sent, if the Secret limits that.
    pub allowed: Option<Arc<AllowedOrigins>>,
}

/// The CAs in use, each once however many objects name them: a bundle has up to 256 KiB, and each session holds on to its
/// own.
#[derive(Debug, Default)]
struct Shared(Mutex<HashSet<Arc<Ca>>>);

impl Shared {
    fn share(&self, ca: Ca) -> Arc<Ca> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&ca) {
            return Arc::clone(known);
        }
        let shared = Arc::new(ca);
        all.insert(Arc::clone(&shared));
        shared
    }

    /// Drops those that are not in use anymore.
    fn purge(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|ca| Arc::strong_count(ca) > 1);
    }
}

/// Reads Secrets and `ConfigMaps`.
#[derive(Debug)]
pub struct References {
    /// By the keys of user name and password.
    logins: Values<(String, String), Result<Login, Verdict>>,
    /// By key.
    secrets: Values<String, Result<Arc<Ca>, Verdict>>,
    config_maps: Values<String, Result<Arc<Ca>, Verdict>>,
    shared: Shared,
    /// The key of passwords' fingerprints: only this process has it.
    fingerprints: RandomState,
}

impl References {
    /// Reads through a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            logins: Values::new(client.clone()),
            secrets: Values::new(client.clone()),
            config_maps: Values::new(client),
            shared: Shared::default(),
            fingerprints: RandomState::new(),
        }
    }

    /// Drops what is not in use anymore. Call it periodically.
    pub fn purge(&self) {
        self.logins.purge();
        self.secrets.purge();
        self.config_maps.purge();
        self.shared.purge();
    }

    /// User name and password of a Secret, and where they may be sent.
    pub async fn login(
        &self,
        namespace: &str,
        reference: &CredentialsRef,
        age: Age,
    ) -> Result<Login, Unread> {
        let CredentialsRef { name, username_key, password_key } = reference;
        let keys = (username_key.clone(), password_key.clone());
        let extract = |secret| self.extract_login((namespace, name), &keys, secret);
        let found = self.logins.get((namespace, name), keys.clone(), age, extract).await;
        Ok(found.map_err(|missing| Named::Secret.unread(name, missing))??)
    }

    fn extract_login(
        &self,
        (namespace, name): (&str, &str),
        keys: &(String, String),
        secret: Secret,
    ) -> Result<Login, Verdict> {
        let wiped = Wiped(secret);
        let secret = &wiped.0;
        check_type(secret.type_.as_deref(), name)?;
        let version = SecretVersion {
            uid: secret.uid().unwrap_or_default(),
            resource_version: secret.resource_version().unwrap_or_default(),
        };
        let allowed = secret.annotations().get(ALLOWED_ORIGINS);
        let allowed = allowed.map(|annotation| Arc::new(AllowedOrigins::parse(annotation)));
        let account =
            Account { namespace: namespace.to_owned(), secret: name.to_owned(), keys: keys.clone() };
        let username = SecretString::from(wiped.text((name, &keys.0), LONGEST_USERNAME)?);
        let password = SecretString::from(wiped.text((name, &keys.1), LONGEST_PASSWORD)?);
        let fingerprint = self.fingerprints.hash_one((username.expose_secret(), password.expose_secret()));
        let identity = Identity { account, version };
        Ok(Login { credentials: Credentials { identity, fingerprint, username, password }, allowed })
    }

    /// The CA that a Secret has under a key.
    pub(crate) async fn secret_ca(
        &self,
        namespace: &str,
        CaRef { name, key }: &CaRef,
        age: Age,
    ) -> Result<Arc<Ca>, Unread> {
        let extract = |secret| {
            let wiped = Wiped(secret);
            self.ca(wiped.text((name, key), usize::MAX)?, &format!("Key {key} of Secret {name}"))
        };
        let found = self.secrets.get((namespace, name), key.clone(), age, extract).await;
        Ok(found.map_err(|missing| Named::Secret.unread(name, missing))??)
    }

    /// The CA that a `ConfigMap` has under a key.
    pub(crate) async fn config_map_ca(
        &self,
        namespace: &str,
        CaRef { name, key }: &CaRef,
        age: Age,
    ) -> Result<Arc<Ca>, Unread> {
        let extract = |map: ConfigMap| {
            let pem = map.data.as_ref().and_then(|data| data.get(key)).ok_or_else(|| no_ca(name, key))?;
            self.ca(pem, &format!("Key {key} of ConfigMap {name}"))
        };
        let found = self.config_maps.get((namespace, name), key.clone(), age, extract).await;
        Ok(found.map_err(|missing| Named::ConfigMap.unread(name, missing))??)
    }

    fn ca(&self, pem: &str, what: &str) -> Result<Arc<Ca>, Verdict> {
        if pem.len() > LONGEST_CA {
            return Err(large_ca(what));
        }
        Ca::parse(pem).map(|ca| self.shared.share(ca)).ok_or_else(|| unusable_ca(what))
    }
}

/// A Secret whose values and annotations are overwritten after use: the annotation of `kubectl apply` may contain the values.
struct Wiped(Secret);

impl Wiped {
    fn text(&self, (name, key): (&str, &str), longest: usize) -> Result<&str, Verdict> {
        let value = self.0.data.as_ref().and_then(|data| data.get(key));
        secret_text(value.map(|value| &*value.0), (name, key), longest)
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        let Secret { data, metadata, .. } = &mut self.0;
        data.iter_mut().flat_map(BTreeMap::values_mut).for_each(|value| value.0.zeroize());
        metadata.annotations.iter_mut().flat_map(BTreeMap::values_mut).for_each(String::zeroize);
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use k8s_openapi::ByteString;
    use tenure_kit::memory::Planted;

    use super::*;
    use crate::runtime::secrets::IN_USE;

    const CA: &str = "-----BEGIN CERTIFICATE-----
MIIBcTCCARegAwIBAgIUcRA3CPrDwfkcweHsqKXAmsm1abcwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI5MTI1NTU4WhgPMjEyNjExMDUxMjU1NTha
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAvtlcv+z
gANY/ktTIR0JBLKlAjddImpblkGz5Plf50UzwIhHuMtVRf4Po90CeH2OuoSZ0o92
xwSt2cJuXIndFaNTMFEwHQYDVR0OBBYEFKQTgOsCC+ohqHcdZyZuac5P70ztMB8G
A1UdIwQYMBaAFKQTgOsCC+ohqHcdZyZuac5P70ztMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSAAwRQIhAPQLS+p/IvpFEIP27OtWwGhJ88Bebq/Nh9cPKtl3
lJn5AiB2RxY2q9NurM+p1kBNGzBvJTUefayvV5jb4hV0V+kZzQ==
-----END CERTIFICATE-----";

    #[test]
    fn one_ca_is_kept_once_and_only_while_it_is_in_use() {
        let shared = Shared::default();
        let ca = || shared.share(Ca::parse(CA).unwrap());
        let (one, two) = (ca(), ca());
        assert!(Arc::ptr_eq(&one, &two));
        shared.purge();
        assert!(Arc::ptr_eq(&one, &ca()), "in use");
        drop((one, two));
        shared.purge();
        assert_eq!(shared.0.lock().unwrap().len(), 0);
    }

    /// An API server with one Secret.
    #[derive(Debug, Default)]
    pub(crate) struct OneSecret {
        /// How often it was read.
        reads: AtomicU32,
        /// Its resourceVersion; 0 if it is not there.
        pub version: AtomicU32,
    }

    impl OneSecret {
        fn answer(&self) -> (u16, serde_json::Value) {
            self.reads.fetch_add(1, Ordering::Relaxed);
            match self.version.load(Ordering::Relaxed) {
                0 => (404, serde_json::json!({"kind": "Status", "status": "Failure", "code": 404})),
                version => (
                    200,
                    serde_json::json!({"apiVersion": "v1", "kind": "Secret",
                    "metadata": {"name": "login", "namespace": "a", "uid": "u", "resourceVersion": version.to_string()},
                    "data": {"username": "YWRtaW4=", "password": "YWRtaW4="}}),
                ),
            }
        }
    }

    /// What reads the Secret `login` of namespace `a` in its first version.
    pub fn references() -> (References, Arc<OneSecret>) {
        let secret = Arc::new(OneSecret { version: AtomicU32::new(1), ..OneSecret::default() });
        let served = Arc::clone(&secret);
        let serve = move |_: axum::http::Request<kube::client::Body>| {
            let (code, object) = served.answer();
            let body = kube::client::Body::from(object.to_string().into_bytes());
            let answer = axum::http::Response::builder().status(code).body(body).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        };
        (References::new(Client::new(tower::service_fn(serve), "a")), secret)
    }

    pub fn login() -> CredentialsRef {
        let (username_key, password_key) = ("username".to_owned(), "password".to_owned());
        CredentialsRef { name: "login".to_owned(), username_key, password_key }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_read_once_a_minute_in_use_and_twice_while_it_is_polled() {
        let (references, secret) = references();
        for (age, reads) in [(Age::InUse, 10), (Age::Polled, 20)] {
            secret.reads.store(0, Ordering::Relaxed);
            // A thousand objects that refer to it are checked, spread over ten minutes.
            for _ in 0..1_000 {
                assert!(references.login("a", &login(), age).await.is_ok());
                tokio::time::advance(Duration::from_millis(600)).await;
            }
            let counted = secret.reads.load(Ordering::Relaxed);
            assert!((reads - 1..=reads + 3).contains(&counted), "{age:?}: {counted}");
        }
        // A herd that is about to log in shares one read.
        tokio::time::advance(IN_USE).await;
        secret.reads.store(0, Ordering::Relaxed);
        let reference = login();
        let herd = (0..100).map(|_| references.login("a", &reference, Age::Now));
        assert!(futures::future::join_all(herd).await.iter().all(Result::is_ok));
        assert_eq!(secret.reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_password_is_overwritten_after_use_also_if_its_secret_is_refused() {
        let (references, _) = references();
        let planted = Planted::new(4096);
        for (type_, is_refused) in [("Opaque", false), ("kubernetes.io/tls", true)] {
            let data = [("username", "admin".to_owned()), ("password", planted.text())];
            let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
            let mut secret =
                Secret { data: Some(data.into()), type_: Some(type_.to_owned()), ..Secret::default() };
            secret.annotations_mut().insert("applied".to_owned(), planted.text());
            assert!(planted.pieces() >= 512, "it is there twice");
            let keys = ("username".to_owned(), "password".to_owned());
            let login = references.extract_login(("a", "login"), &keys, secret);
            assert_eq!((login.is_err(), planted.pieces() == 0), (is_refused, is_refused));
            drop(login);
            assert_eq!(planted.pieces(), 0, "{type_}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn equal_logins_have_equal_fingerprints() {
        let (references, _) = references();
        let one = references.login("a", &login(), Age::Now).await.unwrap();
        tokio::time::advance(IN_USE).await;
        let two = references.login("a", &login(), Age::Now).await.unwrap();
        assert_eq!(one.credentials.fingerprint, two.credentials.fingerprint);
    }
}
