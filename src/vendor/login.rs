//! What the logins of both vendors have in common.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;

/// User name and password as both vendors want them.
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

/// A token's text, never printed.
#[must_use]
pub(crate) fn secret(text: String) -> SecretString {
    SecretString::from(text)
}

/// Whether the answer to a login holds a token that may only finish a further step: that of two-factor authentication, say.
#[must_use]
pub(crate) fn is_first_step(answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Scope {
        scope: Option<String>,
    }
    let scope = serde_json::from_slice(answer).ok().and_then(|Scope { scope }| scope);
    scope.is_some_and(|scope| scope.ends_with("_TOKEN"))
}
