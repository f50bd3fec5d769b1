//! The two times of a token that we need. The rest of an X2 token's payload, which holds the password, is wiped.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
}

/// From which claim a token's lifetime counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// `nbf`, as in X2 tokens.
    NotBefore,
    /// `iat`, as in Kona tokens.
    IssuedAt,
}

/// A token's lifetime in seconds: `exp` less its beginning. A difference, so that the other side's clock does not
/// matter.
#[must_use]
pub(crate) fn lifetime(token: &str, since: Since) -> Option<u32> {
    let payload = token.split('.').nth(1)?;
    let payload = Zeroizing::new(BASE64URL.decode(payload).ok()?);
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    let beginning = match since {
        Since::NotBefore => claims.nbf?,
        Since::IssuedAt => claims.iat?,
    };
    let seconds = (claims.exp - beginning).round();
    // The cast is exact: a whole number between 1 and u32::MAX.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (1.0..=f64::from(u32::MAX)).contains(&seconds).then_some(seconds as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token that the vendor's page on tokens shows.
    const SAMPLE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE1NjUzNDMwODksImhvc3RuYW1lIjoiIiwibmJmIjoxNTY1MjU2Njg5LCJwYXNzd29yZCI6IlF3ZXJ0eTEyMyIsInBvcnQiOiIwIiwicm9sZSI6ImFkbWluIiwic2VjcmV0IjoiIiwidXNlcm5hbWUiOiJkZW5pcyJ9.KpPHV_j3ZZKJNDAxSJEf8rkibGcOfEpGszcay1VUMsc";

    #[test]
    fn reads_the_vendors_sample() {
        assert_eq!(lifetime(SAMPLE, Since::NotBefore), Some(86_400));
        assert_eq!(lifetime(SAMPLE, Since::IssuedAt), None);
    }

    #[test]
    fn nonsense_has_no_lifetime() {
        for token in ["", "a", "a.b.c", "a.e30.c", "a.eyJleHAiOjF9.c", "..", "a.eyJleHAiOjEsIm5iZiI6Mn0.c"] {
            assert_eq!(lifetime(token, Since::NotBefore), None, "{token}");
        }
    }
}
