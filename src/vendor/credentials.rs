//! A user name and a password, and which version of which Secret they come from.

use secrecy::SecretString;

pub use crate::engine::login::{Account, Identity, SecretVersion};

/// What a login needs.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Where they come from.
    pub identity: Identity,
    /// Represents user name and password: a hash with a key that only this process has.
    pub fingerprint: u64,
    /// User name.
    pub username: SecretString,
    /// Password.
    pub password: SecretString,
}

impl Credentials {
    /// Name of the Secret, for messages.
    #[must_use]
    pub(crate) fn secret(&self) -> &str {
        &self.identity.account.secret
    }
}
