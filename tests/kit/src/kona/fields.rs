//! A JSON object as its text has it: keys in order, every value the bytes it was sent with. Numbers such as `1.10`
//! or `1e400` have no faithful form in a number type.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// An ordered map of raw values.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Reads a JSON object; `None` when the text is anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The raw value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }

    /// The raw value of a field, if it is there and not null.
    pub(super) fn present(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|raw| *raw != "null")
    }

    /// Replaces a field where it stands, or appends it.
    pub(super) fn set(&mut self, name: &str, raw: &str) {
        let value = RawValue::from_string(raw.to_owned()).expect("a raw JSON value");
        self.insert(name.to_owned(), value);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// The object's text, without white space between its fields.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("{");
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(key).expect("a string"));
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        text
    }

    /// Of a key that comes twice the last value counts, as in the relative's JSON reader.
    fn insert(&mut self, name: String, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some((key, value)) = map.next_entry()? {
                    fields.insert(key, value);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The token lifetimes in an `additionalInfo`, in seconds: `(access, refresh)`, each where it is set. The setting
/// is found in an object and in an object inside a string, since the vendor's page shows both.
pub(super) fn token_ttls(additional_info: Option<&str>) -> (Option<u64>, Option<u64>) {
    let raw = additional_info.unwrap_or("null");
    let inner = serde_json::from_str::<String>(raw).ok();
    let Some(info) = Fields::parse(inner.as_deref().unwrap_or(raw)) else {
        return (None, None);
    };
    let seconds = |name| info.get(name).and_then(|raw| raw.parse().ok()).filter(|seconds| *seconds > 0);
    (seconds("accessTokenTtlSeconds"), seconds("refreshTokenTtlSeconds"))
}

/// Whether the server's filter takes this `additionalInfo` for an attack: something like a tag in any key or text.
pub(super) fn looks_like_markup(additional_info: &str) -> bool {
    let text = additional_info.replace("\\u003c", "<").replace("\\u003C", "<");
    let mut following = text.split('<').skip(1).filter_map(|rest| rest.chars().next());
    following.any(|next| next.is_ascii_alphabetic() || matches!(next, '/' | '!' | '?'))
}

#[cfg(test)]
mod tests {
    use super::{Fields, looks_like_markup, token_ttls};

    #[test]
    fn values_keep_their_bytes() {
        let text = r#"{"a":1.10,"b":1e400,"c":12345678901234567890123,"d":"\u00e9é","e":{"x": [1 ,2]}}"#;
        assert_eq!(Fields::parse(text).unwrap().text(), text);
    }

    #[test]
    fn ttls_are_found_in_an_object_and_in_a_string() {
        let cases = [
            (None, (None, None)),
            (Some("null"), (None, None)),
            (Some(r#""""#), (None, None)),
            (Some(r#""free text""#), (None, None)),
            (Some("[1]"), (None, None)),
            (Some(r#"{"accessTokenTtlSeconds":3600}"#), (Some(3600), None)),
            (Some(r#""{\"refreshTokenTtlSeconds\": 7200}""#), (None, Some(7200))),
            (Some(r#"{"accessTokenTtlSeconds":"3600","refreshTokenTtlSeconds":0}"#), (None, None)),
        ];
        for (info, expected) in cases {
            assert_eq!(token_ttls(info), expected, "{info:?}");
        }
    }

    #[test]
    fn markup_is_something_like_a_tag() {
        for text in [r#"{"a":"<b>x</b>"}"#, r#"{"<script>":1}"#, r#""a \u003cimg src=x>""#] {
            assert!(looks_like_markup(text), "{text}");
        }
        for text in [r#"{"a":"1 < 2"}"#, r#""a <""#, "null"] {
            assert!(!looks_like_markup(text), "{text}");
        }
    }
}
