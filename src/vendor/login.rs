//! What the logins of both vendors have in common.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::wire::Content;
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
    json(&login)
}

/// The JSON of strings, some of which are secret. If it has to move while it grows, what it leaves behind is overwritten.
pub(super) fn json(strings: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut text = Content::from(Vec::new());
    // Strings always serialize.
    serde_json::to_writer(&mut text, strings).map(|()| text.into_bytes()).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use tenure_kit::memory::Planted;

    use super::*;
    use crate::vendor::credentials::{Account, Identity, SecretVersion};

    #[test]
    fn what_a_login_sends_is_overwritten() {
        let planted = Planted::new(4096);
        let account = Account { namespace: String::new(), secret: String::new(), keys: Default::default() };
        let version = SecretVersion { uid: String::new(), resource_version: String::new() };
        let credentials = Credentials {
            identity: Identity { account, version },
            fingerprint: 1,
            username: "admin".into(),
            password: planted.text().into(),
        };
        let body = body(&credentials);
        assert!(planted.pieces() >= 512, "it is there twice");
        drop((credentials, body));
        assert_eq!(planted.pieces(), 0);
    }
}
