//! A user name and a password, and which version of which Secret they come from.

use secrecy::SecretString;

/// One version of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretVersion {
    /// UID of the Secret.
    pub uid: String,
    /// `resourceVersion` of the Secret.
    pub resource_version: String,
}

/// Which user name and password these are, without being them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The Secret's version.
    pub version: SecretVersion,
    /// Keys of the user name and the password within it.
    pub keys: (String, String),
}

/// What a login needs.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Name of the Secret, for messages.
    pub secret: String,
    /// Where they come from.
    pub identity: Identity,
    /// User name.
    pub username: SecretString,
    /// Password.
    pub password: SecretString,
}
