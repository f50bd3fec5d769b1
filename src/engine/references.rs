//! What Secrets and `ConfigMaps` that a resource refers to have to be.

use super::text::printable;
use super::verdict::{Reason, Verdict};

/// Secret types that serve as logins.
const LOGIN_TYPES: [&str; 3] = ["Opaque", "kubernetes.io/basic-auth", "tenure.dev/login"];
/// Longest user name, in bytes.
pub const LONGEST_USERNAME: usize = 256;
/// Longest password, in bytes.
pub(crate) const LONGEST_PASSWORD: usize = 4 * 1024;
/// Most that a CA's certificates may have, in bytes.
pub(crate) const LONGEST_CA: usize = 256 * 1024;

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
pub fn check_type(kind: Option<&str>, name: &str) -> Result<(), Verdict> {
    let Some(kind) = kind.filter(|kind| !kind.is_empty() && !LOGIN_TYPES.contains(kind)) else {
        return Ok(());
    };
    let (kind, types) = (printable(kind), LOGIN_TYPES.join(", "));
    let message = format!(
        "Secret {name} is of type {kind}, which is not allowed for logins. Use a Secret of one of these types: {types}."
    );
    Err(Verdict::new(Reason::SecretTypeRefused, message))
}

/// Reads the value of a Secret's key as text of at most `longest` bytes.
pub fn secret_text<'a>(
    value: Option<&'a [u8]>,
    (name, key): (&str, &str),
    longest: usize,
) -> Result<&'a str, Verdict> {
    let wrong = |message: String| Verdict::new(Reason::SecretKeyMissing, message);
    let missing = |what| {
        wrong(format!("Secret {name} {what} {key}: add the value under this key, or correct the key."))
    };
    match value {
        None => Err(missing("has no key")),
        Some([]) => Err(missing("has an empty value for key")),
        Some(value) if value.len() > longest => Err(wrong(format!(
            "Secret {name} has more than {longest} bytes for key {key}. Shorten the value, or correct the key."
        ))),
        Some(value) => str::from_utf8(value).map_err(|_| missing("does not have UTF-8 text for key")),
    }
}

/// A `ConfigMap` lacks the key of a CA's certificate.
#[must_use]
pub(crate) fn no_ca(name: &str, key: &str) -> Verdict {
    let message = format!(
        "ConfigMap {name} has no key {key}. Add the CA's certificate under this key, or correct the key."
    );
    Verdict::new(Reason::CaUnusable, message)
}

/// What a Secret or `ConfigMap` has under a key is too large for a CA's certificates.
#[must_use]
pub(crate) fn large_ca(what: &str) -> Verdict {
    let message = format!("{what} has more than 256 KiB. Store only the CA's certificates there.");
    Verdict::new(Reason::CaUnusable, message)
}

/// What a Secret or `ConfigMap` has under a key is no CA's certificate.
#[must_use]
pub(crate) fn unusable_ca(what: &str) -> Verdict {
    let message = format!("{what} contains no usable PEM certificate. Store the CA's certificate there.");
    Verdict::new(Reason::CaUnusable, message)
}
