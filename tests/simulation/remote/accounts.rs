//! The users of a remote system, and the tokens it issues.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// What a user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Admin,
    /// Not the settings.
    Viewer,
    /// A user of this customer of a Kona server.
    Customer(String),
}

impl Role {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer | Self::Customer(_) => "viewer",
        }
    }
}

/// Users with their passwords.
#[derive(Debug, Default)]
pub struct Accounts {
    users: BTreeMap<String, (String, Role)>,
    /// Wrong passwords in a row, by user: what a lock-out counts.
    pub wrong: BTreeMap<String, u32>,
}

impl Accounts {
    /// Adds a user, or gives one another password.
    pub fn set(&mut self, user: &str, password: &str, role: Role) {
        self.users.insert(user.to_owned(), (password.to_owned(), role));
    }

    /// Gives a user another role.
    pub fn assign(&mut self, user: &str, role: Role) {
        if let Some((_, its_role)) = self.users.get_mut(user) {
            *its_role = role;
        }
    }

    /// The role of a user whose password this is.
    pub fn check(&mut self, user: &str, password: &str) -> Option<Role> {
        match self.users.get(user).filter(|(right, _)| right == password) {
            Some((_, role)) => {
                self.wrong.remove(user);
                Some(role.clone())
            }
            None => {
                *self.wrong.entry(user.to_owned()).or_default() += 1;
                None
            }
        }
    }

    pub fn role(&self, user: &str) -> Option<Role> {
        self.users.get(user).map(|(_, role)| role.clone())
    }
}

/// A token with these claims, as the operator reads it; its signature is none.
pub fn jwt(claims: &Value) -> String {
    let part = |value: &str| URL_SAFE_NO_PAD.encode(value);
    format!("{}.{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()), part("signature"))
}
