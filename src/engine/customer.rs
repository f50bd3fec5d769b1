//! What to do with a Kona customer, and how the two lifetimes are merged into its `additionalInfo` without touching
//! anything else.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::contest::Contest;
use super::lifetime::proves;
use super::verdict::{Reason, Verdict};
use crate::crd::{Cause, Mode, TtlSeconds};

/// Key of the access-token lifetime, in seconds (the vendor's page on token lifetimes).
pub const ACCESS: &str = "accessTokenTtlSeconds";
/// Key of the refresh-token lifetime, in seconds (the vendor's page on token lifetimes).
pub const REFRESH: &str = "refreshTokenTtlSeconds";
/// The field of a customer that holds both.
pub const ADDITIONAL_INFO: &str = "additionalInfo";

/// A JSON object whose values are kept as they were written: order, spacing and digits. A key that stands twice is an
/// error, since one of the two would be lost.
#[derive(Clone, Debug, Default)]
pub struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// Reads a JSON object.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value of a key, as it was written.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// The text of a key that holds a JSON string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// Replaces a value where it stands, or appends it.
    fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// The object as JSON.
    #[must_use]
    pub fn to_json(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(self).ok()
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawObject, A::Error> {
                let mut entries = Vec::new();
                let mut names = std::collections::HashSet::new();
                while let Some((key, value)) = access.next_entry::<String, Box<RawValue>>()? {
                    if !names.insert(key.clone()) {
                        return Err(A::Error::custom("a key stands twice"));
                    }
                    entries.push((key, value));
                }
                Ok(RawObject(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The two lifetimes wanted, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ttl {
    /// Lifetime of access tokens.
    pub access: u32,
    /// Lifetime of refresh tokens.
    pub refresh: u32,
}

impl From<Ttl> for TtlSeconds {
    fn from(ttl: Ttl) -> Self {
        Self { access_token_ttl_seconds: Some(ttl.access), refresh_token_ttl_seconds: Some(ttl.refresh) }
    }
}

/// Why an `additionalInfo` cannot hold lifetimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Text that is not JSON.
    #[error("its additionalInfo is free text, which cannot hold token lifetimes")]
    FreeText,
    /// JSON, but not an object.
    #[error("its additionalInfo is not a JSON object, so it cannot hold token lifetimes")]
    NotAnObject,
    /// A key stands twice.
    #[error("its additionalInfo is an object with a key that stands twice, which cannot be kept unchanged")]
    DuplicateKey,
}

/// A customer's `additionalInfo`, ready to be merged into.
#[derive(Clone, Debug, Default)]
pub struct AdditionalInfo(RawObject);

impl AdditionalInfo {
    /// Reads the field in any of the shapes that servers answer with: absent, null, `""`, an object, or an object inside
    /// a string.
    pub fn read(field: Option<&RawValue>) -> Result<Self, Unusable> {
        let text = field.map_or("null", RawValue::get);
        match text.trim_start().bytes().next() {
            Some(b'n') => Ok(Self::default()),
            Some(b'{') => object(text),
            Some(b'"') => {
                let inner: String = serde_json::from_str(text).map_err(|_| Unusable::FreeText)?;
                match inner.trim_start().bytes().next() {
                    None => Ok(Self::default()),
                    Some(b'{') => object(&inner),
                    Some(_) => Err(Unusable::FreeText),
                }
            }
            _ => Err(Unusable::NotAnObject),
        }
    }

    /// The lifetimes as they stand, in seconds; absent where a key is absent or no whole number.
    #[must_use]
    pub fn ttl(&self) -> TtlSeconds {
        let seconds = |key| self.0.get(key).and_then(|value| value.get().parse().ok());
        TtlSeconds { access_token_ttl_seconds: seconds(ACCESS), refresh_token_ttl_seconds: seconds(REFRESH) }
    }

    /// JSON text of each key that is present.
    #[must_use]
    pub fn original(&self) -> BTreeMap<String, String> {
        let text = |key: &str| self.0.get(key).map(|value| (key.to_owned(), value.get().to_owned()));
        [ACCESS, REFRESH].into_iter().filter_map(text).collect()
    }

    /// The same with the two lifetimes set and nothing else changed.
    #[must_use]
    pub fn merged(mut self, ttl: Ttl) -> Self {
        for (key, seconds) in [(ACCESS, ttl.access), (REFRESH, ttl.refresh)] {
            if let Ok(value) = serde_json::value::to_raw_value(&seconds) {
                self.0.set(key, value);
            }
        }
        self
    }

    /// The object as JSON.
    #[must_use]
    pub fn to_json(&self) -> Option<Box<RawValue>> {
        self.0.to_json()
    }
}

fn object(text: &str) -> Result<AdditionalInfo, Unusable> {
    match RawObject::parse(text) {
        Some(object) => Ok(AdditionalInfo(object)),
        None if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => Err(Unusable::DuplicateKey),
        None => Err(Unusable::FreeText),
    }
}

/// The whole customer object, with another `additionalInfo` and everything else as it came.
#[must_use]
pub fn with_additional_info(mut customer: RawObject, info: &AdditionalInfo) -> Option<RawObject> {
    customer.set(ADDITIONAL_INFO, info.to_json()?);
    Some(customer)
}

/// What a resource wants of its customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The lifetimes.
    pub ttl: Ttl,
    /// Put right, or only report.
    pub mode: Mode,
    /// Whether a login of one of the customer's users proves the lifetime.
    pub by_login: bool,
}

/// What the status remembers of the last look, as far as it still speaks of the same server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    /// Lifetimes last read.
    pub read: Option<TtlSeconds>,
    /// Lifetimes last proven.
    pub proven: Option<TtlSeconds>,
    /// The last look ended in `VerificationFailed`.
    pub unverified: bool,
}

/// What this look has found out so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Lifetimes on the server.
    pub ttl: TtlSeconds,
    /// Whether they were read back after a write of this look.
    pub read_back: bool,
    /// Lifetime of an access token of one of the customer's users, issued during this look, in seconds.
    pub token: Option<u32>,
    /// Proving logins spent in this look.
    pub proofs: u8,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Merge the lifetimes into the customer, and read them back.
    Write {
        /// Because of this.
        cause: Cause,
    },
    /// Log in as the customer's user to see which lifetime is in effect.
    Prove,
    /// Nothing more: report.
    Report(Verdict),
}

/// Decides the next step. Total: asked again after its answer was carried out, it comes to a report.
#[must_use]
pub fn decide(wish: Wish, prior: &Prior, seen: Seen, contest: Contest, now: Duration) -> Step {
    let report = |reason, message: String| Step::Report(Verdict { reason, message });
    let Ttl { access, refresh } = wish.ttl;
    if wish.mode == Mode::Observe {
        let message = if seen.ttl == wish.ttl.into() {
            format!("Access tokens live {access} s and refresh tokens {refresh} s, as wanted. Only observed.")
        } else {
            format!(
                "The server has {}; wanted are {access} s and {refresh} s. Only observed: nothing is changed.",
                words(seen.ttl)
            )
        };
        return report(Reason::Observed, message);
    }
    if seen.ttl == wish.ttl.into() {
        return confirm(wish, prior, seen);
    }
    if seen.read_back {
        let message = "The server accepted the token lifetimes but does not show them when read back: check the server.";
        return report(Reason::VerificationFailed, message.to_owned());
    }
    if !contest.may_correct(now) {
        let message = "Somebody keeps changing the customer's token lifetimes. They are put back once an hour until they \
                       stay: find out who changes them.";
        return report(Reason::Contested, message.to_owned());
    }
    Step::Write { cause: cause(wish.ttl, prior) }
}

/// Why a difference exists: drift where the present lifetimes were once proven to hold.
#[must_use]
pub fn cause(wanted: Ttl, prior: &Prior) -> Cause {
    if prior.proven == Some(wanted.into()) { Cause::Drift } else { Cause::Policy }
}

/// Whether a look found that somebody had changed lifetimes which were in order.
#[must_use]
pub fn has_drifted(wish: Wish, prior: &Prior, seen: TtlSeconds) -> bool {
    wish.mode == Mode::Enforce && seen != wish.ttl.into() && cause(wish.ttl, prior) == Cause::Drift
}

/// The lifetimes are as wanted: is that proven? Without a user of the customer, reading them is the proof.
fn confirm(wish: Wish, prior: &Prior, seen: Seen) -> Step {
    let Ttl { access, refresh } = wish.ttl;
    let unchanged = !seen.read_back && prior.read == Some(seen.ttl);
    let remembered = unchanged && prior.proven == Some(seen.ttl) && !prior.unverified;
    let allowed = if prior.unverified { 1 } else { super::gateway::PROOFS };
    let proven = match seen.token {
        _ if !wish.by_login => true,
        Some(token) => proves(token, access),
        None => remembered,
    };
    if proven {
        let how = if wish.by_login { "a fresh login proved it" } else { "read back from the server" };
        let message =
            format!("Access tokens live {access} s and refresh tokens {refresh} s, as wanted; {how}.");
        Step::Report(Verdict { reason: Reason::InSync, message })
    } else if seen.proofs < allowed {
        Step::Prove
    } else {
        let message = "The server shows the token lifetimes wanted, but a fresh login of the customer's user got another: \
                       check that the user of verifyCredentialsSecretRef belongs to this customer.";
        Step::Report(Verdict { reason: Reason::VerificationFailed, message: message.to_owned() })
    }
}

fn words(ttl: TtlSeconds) -> String {
    let seconds =
        |value: Option<u32>| value.map_or_else(|| "none".to_owned(), |seconds| format!("{seconds} s"));
    format!(
        "{} for access and {} for refresh tokens",
        seconds(ttl.access_token_ttl_seconds),
        seconds(ttl.refresh_token_ttl_seconds)
    )
}
