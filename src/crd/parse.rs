//! Texts of specs that become parts of paths. An older schema may have let in others, and they must not lead elsewhere: an object
//! with such a text is not understood.

use serde::de::{Deserialize as _, Deserializer, Error, Unexpected};

/// A lower-case UUID.
pub(super) fn customer_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let is_uuid = |text: &str| {
        text.split('-').map(str::len).eq(LENGTHS) && text.split('-').all(|part| part.chars().all(is_hex))
    };
    checked(deserializer, is_uuid, "a lower-case UUID")
}

/// The name of an object: labels of lower-case letters, digits and `-`, separated by dots.
pub(super) fn object_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_label = |label: &str| {
        is_end(label.chars().next())
            && is_end(label.chars().last())
            && label.chars().all(|c| c == '-' || is_end(Some(c)))
    };
    let is_name = |text: &str| text.len() <= 253 && text.split('.').all(is_label);
    checked(deserializer, is_name, "the name of an object")
}

fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    is_valid: impl Fn(&str) -> bool,
    expected: &str,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_valid(&text) {
        return Ok(text);
    }
    Err(D::Error::invalid_value(Unexpected::Other("another text"), &expected))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::crd::{CredentialsRef, CustomerTokenTtlSpec};

    #[test]
    fn what_would_lead_elsewhere_is_not_understood() {
        let reads = |server: &str, id: &str| {
            let spec = json!({
                "serverRef": {"name": server}, "customerId": id,
                "accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 7200,
            });
            serde_json::from_value::<CustomerTokenTtlSpec>(spec).is_ok()
        };
        let id = "1d2b7a10-0f2c-11ee-be56-0242ac120002";
        assert!(reads("kona-eu", id));
        for wrong in [
            "",
            "../tenant/1",
            "1d2b7a10-0f2c-11ee-be56-0242AC120002",
            "1d2b7a10-0f2c-11ee-be56-0242ac12000/",
            "%2e%2e",
        ] {
            assert!(!reads("kona-eu", wrong), "{wrong}");
        }
        let long = "a".repeat(254);
        for wrong in ["", "..", "../x", "a/b", "a..b", "-a", "a-", "A", "a%2fb", "a?b", long.as_str()] {
            assert!(!reads(wrong, id), "{wrong}");
            let reference = json!({"name": wrong});
            assert!(serde_json::from_value::<CredentialsRef>(reference).is_err(), "{wrong}");
        }
        for right in ["a", "a-b.c9", "0", "sh.helm.release.v1.x.v1"] {
            assert!(reads(right, id), "{right}");
        }
    }
}
