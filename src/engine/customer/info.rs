//! A customer's `additionalInfo`: how two keys get into it, and out of it again, with every other byte as it came.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Ttl;
use crate::crd::TtlSeconds;

/// Key of the access-token lifetime, in seconds (the vendor's page on token lifetimes).
pub const ACCESS: &str = "accessTokenTtlSeconds";
/// Key of the refresh-token lifetime, in seconds (the vendor's page on token lifetimes).
pub const REFRESH: &str = "refreshTokenTtlSeconds";
/// The field of a customer that holds both.
pub const ADDITIONAL_INFO: &str = "additionalInfo";

/// Keys of an object that is read: more take many times the size of their text.
const KEYS: usize = 4096;
/// The two of ours come to them, so that what was written can be read.
const OURS: [&str; 2] = [ACCESS, REFRESH];

/// A JSON object whose values are kept as they were written: order, spacing and digits.
#[derive(Clone, Debug, Default)]
pub struct RawObject(Vec<(String, Box<RawValue>)>);

/// Why a text is not read as an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not JSON, or no object.
    NotAnObject,
    /// It has a duplicate key: one of the two would be lost.
    DuplicateKey,
    /// It has too many keys.
    TooManyKeys,
}

impl Unread {
    /// What to report if it is a customer.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::NotAnObject => "it is not a JSON object; check that the URL is a Kona server's",
            Self::DuplicateKey => "it has a duplicate key, which cannot be preserved",
            Self::TooManyKeys => "it has more than 4096 keys",
        }
    }
}

impl RawObject {
    /// Reads a JSON object.
    pub fn parse(text: &str) -> Result<Self, Unread> {
        let Entries { entries, more } = serde_json::from_str(text).map_err(|_| Unread::NotAnObject)?;
        if more {
            return Err(Unread::TooManyKeys);
        }
        let mut names: Vec<&str> = entries.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        if names.array_windows().any(|[one, next]| one == next) {
            return Err(Unread::DuplicateKey);
        }
        Ok(Self(entries))
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

    /// Replaces a value in place, or appends it.
    fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Takes a key out.
    fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
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

/// The first entries of an object.
struct Entries {
    entries: Vec<(String, Box<RawValue>)>,
    /// Whether there are more.
    more: bool,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while entries.len() < KEYS + OURS.len() {
                    let Some(entry) = access.next_entry()? else { break };
                    entries.push(entry);
                }
                let mut more = false;
                while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    more = true;
                }
                Ok(Entries { entries, more })
            }
        }
        deserializer.deserialize_map(Object)
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
    /// A duplicate key.
    #[error("its additionalInfo has a duplicate key, which cannot be preserved")]
    DuplicateKey,
    /// Too many keys.
    #[error("its additionalInfo has more than 4096 keys")]
    TooManyKeys,
}

/// Original JSON text of each of the two keys; a key without an entry was absent.
pub type Original = BTreeMap<String, String>;

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
                    Some(_) if serde_json::from_str::<IgnoredAny>(&inner).is_ok() => {
                        Err(Unusable::NotAnObject)
                    }
                    Some(_) => Err(Unusable::FreeText),
                }
            }
            _ => Err(Unusable::NotAnObject),
        }
    }

    /// The current lifetimes, in seconds; absent if a key is absent or not a whole number.
    #[must_use]
    pub fn ttl(&self) -> TtlSeconds {
        let seconds = |key| self.0.get(key).and_then(|value| value.get().parse().ok());
        TtlSeconds { access_token_ttl_seconds: seconds(ACCESS), refresh_token_ttl_seconds: seconds(REFRESH) }
    }

    /// JSON text of each key that is present.
    #[must_use]
    pub fn original(&self) -> Original {
        let text = |key: &str| self.0.get(key).map(|value| (key.to_owned(), value.get().to_owned()));
        OURS.into_iter().filter_map(text).collect()
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

    /// The same with each of the two keys as it was originally, or without it, and nothing else changed. An object stays an
    /// object, even where the field was absent, null or empty text before: to the server that is the same. None where the
    /// original is no JSON.
    #[must_use]
    pub fn restored(mut self, original: &Original) -> Option<Self> {
        for key in OURS {
            match original.get(key) {
                Some(text) => self.0.set(key, RawValue::from_string(text.clone()).ok()?),
                None => self.0.remove(key),
            }
        }
        Some(self)
    }

    /// Whether the two keys hold what they did originally: the same values, in whatever spelling the server gives them.
    #[must_use]
    pub fn is_as(&self, original: &Original) -> bool {
        OURS.into_iter().all(|key| match (self.0.get(key), original.get(key)) {
            (None, None) => true,
            (Some(value), Some(text)) => is_same(value.get(), text),
            _ => false,
        })
    }

    /// The object as JSON.
    #[must_use]
    pub fn to_json(&self) -> Option<Box<RawValue>> {
        self.0.to_json()
    }
}

/// Whether two JSON texts have the same value. Servers may write `7.2e3` as `7200.0`.
fn is_same(one: &str, other: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    one == other
        || value(one).zip(value(other)).is_some_and(|(one, other)| {
            one == other
                || one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| one.total_cmp(&other).is_eq())
        })
}

fn object(text: &str) -> Result<AdditionalInfo, Unusable> {
    let object = RawObject::parse(text).map_err(|why| match why {
        Unread::NotAnObject => Unusable::FreeText,
        Unread::DuplicateKey => Unusable::DuplicateKey,
        Unread::TooManyKeys => Unusable::TooManyKeys,
    })?;
    let others = object.0.iter().filter(|(key, _)| !OURS.contains(&&**key)).count();
    if others > KEYS { Err(Unusable::TooManyKeys) } else { Ok(AdditionalInfo(object)) }
}

/// The whole customer object, with another `additionalInfo` and everything else as it came.
#[must_use]
pub fn with_additional_info(mut customer: RawObject, info: &AdditionalInfo) -> Option<RawObject> {
    customer.set(ADDITIONAL_INFO, info.to_json()?);
    Some(customer)
}
