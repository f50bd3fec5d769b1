//! What identifies a password without containing it: where it is kept, and which version that is.

/// One version of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretVersion {
    /// UID of the Secret.
    pub uid: String,
    /// `resourceVersion` of the Secret.
    pub resource_version: String,
}

impl SecretVersion {
    /// Whether this is known to be an earlier version of the same Secret: resource versions are numbers that grow.
    #[must_use]
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        let number = |version: &Self| version.resource_version.parse::<u64>().ok();
        self.uid == other.uid && number(self).zip(number(other)).is_some_and(|(a, b)| a < b)
    }
}

/// Where a user name and a password are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// Keys of the user name and of the password within it.
    pub keys: (String, String),
}

/// Identifies a user name and password without containing them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Where they are kept.
    pub account: Account,
    /// The Secret's version.
    pub version: SecretVersion,
}
