//! What Secrets and `ConfigMaps` that a resource refers to have to be.

use super::verdict::{Reason, Verdict};

/// Secret types that are credentials of Kubernetes itself.
const REFUSED_TYPES: [&str; 4] = [
    "kubernetes.io/service-account-token",
    "kubernetes.io/tls",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
];

/// What a resource refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A login, or a CA's certificate.
    Secret,
    /// A CA's certificate.
    ConfigMap,
}

impl Named {
    /// The kind, and the reason to report if there is no such object.
    fn words(self) -> (&'static str, Reason) {
        match self {
            Self::Secret => ("Secret", Reason::SecretNotFound),
            Self::ConfigMap => ("ConfigMap", Reason::ConfigMapNotFound),
        }
    }

    /// Why the object of this name cannot be used.
    #[must_use]
    pub fn unread(self, name: &str, missing: Missing) -> Unread {
        let (kind, reason) = self.words();
        let message = match missing {
            Missing::NotFound => {
                format!("{kind} {name} does not exist in this namespace: create it, or correct its name.")
            }
            Missing::Forbidden => format!(
                "The operator is not allowed to get {kind} {name}. Grant the operator the verb get on this {kind}."
            ),
            Missing::NoAnswer => return Unread::Silence,
        };
        Verdict::new(reason, message).into()
    }
}

/// Why an object could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is none.
    NotFound,
    /// The operator may not read it.
    Forbidden,
    /// The API server did not answer: that is not cached, since it shows nothing about the object.
    NoAnswer,
}

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

/// Refuses a Secret that is no login by its type.
pub fn refuse_type(kind: Option<&str>, name: &str) -> Result<(), Verdict> {
    let Some(kind) = kind.filter(|kind| REFUSED_TYPES.contains(kind)) else { return Ok(()) };
    let message = format!(
        "Secret {name} is of type {kind}, which is not allowed for logins. Use a Secret of type Opaque."
    );
    Err(Verdict::new(Reason::SecretTypeRefused, message))
}

/// Reads the value of a Secret's key as text.
pub fn secret_text(value: Option<&[u8]>, name: &str, key: &str) -> Result<String, Verdict> {
    let missing = |what| {
        let message =
            format!("Secret {name} {what} {key}: add the value under this key, or correct the key.");
        Verdict::new(Reason::SecretKeyMissing, message)
    };
    match value {
        None => Err(missing("has no key")),
        Some([]) => Err(missing("has an empty value for key")),
        Some(value) => {
            String::from_utf8(value.to_vec()).map_err(|_| missing("does not have UTF-8 text for key"))
        }
    }
}

/// A `ConfigMap` lacks the key of a CA's certificate.
#[must_use]
pub fn no_ca(name: &str, key: &str) -> Verdict {
    let message = format!(
        "ConfigMap {name} has no key {key}. Add the CA's certificate under this key, or correct the key."
    );
    Verdict::new(Reason::CaUnusable, message)
}

/// What a Secret or `ConfigMap` has under a key is no CA's certificate.
#[must_use]
pub fn unusable_ca(what: &str) -> Verdict {
    let message = format!("{what} contains no usable PEM certificate. Store the CA's certificate there.");
    Verdict::new(Reason::CaUnusable, message)
}
