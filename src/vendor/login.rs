//! What the logins of both vendors have in common.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use crate::engine::remote::Malformed;

/// Longest token that is kept, in bytes.
const LONGEST: usize = 8 * 1024;

/// User name and password as both vendors require them.
#[must_use]
pub(crate) fn body(credentials: &Credentials) -> Zeroizing<Vec<u8>> {
    #[derive(Serialize)]
    struct Login<'a> {
        username: &'a str,
        password: &'a str,
    }
    let login = Login {
        username: credentials.username.expose_secret(),
        password: credentials.password.expose_secret(),
    };
    // Two strings always serialize.
    Zeroizing::new(serde_json::to_vec(&login).unwrap_or_default())
}

/// A token's text, never printed, unless it is too long to be kept.
pub(crate) fn secret(text: String) -> Result<SecretString, Malformed> {
    let token = SecretString::from(text);
    if token.expose_secret().len() <= LONGEST { Ok(token) } else { Err(Malformed::LongToken) }
}

/// Whether the answer to a login holds a token that may only finish a further step, such as two-factor authentication.
#[must_use]
pub(crate) fn is_first_step(answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Scope {
        scope: Option<String>,
    }
    let scope = serde_json::from_slice(answer).ok().and_then(|Scope { scope }| scope);
    scope.is_some_and(|scope| scope.ends_with("_TOKEN"))
}
