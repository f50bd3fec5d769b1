//! How many passwords one namespace may try for a user of a system: replacing Secrets neither guesses a password nor locks
//! an account.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{NotTried, Outcome, SecretVersion};

/// Passwords that a namespace may have refused within [`WITHIN`].
const MOST: usize = 10;
/// The same where only users of other namespaces have been let in.
const MOST_OF_GUESTS: usize = 3;
/// Users of one namespace whose passwords are being tried, or were refused within [`WITHIN`]. One counts once for each system.
const MOST_USERS: usize = 4096;
const WITHIN: Duration = Duration::from_hours(1);

/// A user of a system, as one namespace has it in its Secrets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Namespace of the Secrets.
    pub namespace: String,
    /// Effective URL of the system.
    pub system: String,
    /// Represents the name of the user.
    pub name: u64,
}

/// The passwords that are being tried, or were refused not long ago. Times are monotonic.
#[derive(Debug, Default)]
pub struct Guesses(BTreeMap<User, Vec<Guess>>);

#[derive(Debug)]
struct Guess {
    version: SecretVersion,
    at: Duration,
    refused: bool,
}

impl Guess {
    fn counts(&self, now: Duration) -> bool {
        now < self.at + WITHIN
    }
}

impl Guesses {
    /// Permits a password to be tried: it then counts until the try has ended. How often one and the same is tried is not
    /// decided here. `is_guest`: whether only users of other namespaces have been let in at this system.
    ///
    /// # Errors
    /// Too many passwords of this user, or those of too many users of the namespace, were refused or are being tried.
    pub fn may_try(
        &mut self,
        user: &User,
        version: &SecretVersion,
        is_guest: impl FnOnce() -> bool,
        now: Duration,
    ) -> Result<(), NotTried> {
        if !self.0.contains_key(user) && self.users_of(&user.namespace) >= MOST_USERS {
            return Err(NotTried::TooManyUsers);
        }
        let tried = self.0.entry(user.clone()).or_default();
        tried.retain(|guess| guess.counts(now));
        if tried.iter().any(|guess| guess.version == *version) {
            return Ok(());
        }
        if tried.len() >= MOST || tried.len() >= MOST_OF_GUESTS && is_guest() {
            return Err(NotTried::TooMany);
        }
        tried.push(Guess { version: version.clone(), at: now, refused: false });
        Ok(())
    }

    fn users_of(&self, namespace: &str) -> usize {
        let first = User { namespace: namespace.to_owned(), system: String::new(), name: 0 };
        self.0.range(first..).take_while(|(user, _)| user.namespace == namespace).count()
    }

    /// A try has ended.
    pub fn ended(&mut self, user: &User, version: &SecretVersion, outcome: Outcome, now: Duration) {
        let Some(tried) = self.0.get_mut(user) else { return };
        match outcome {
            Outcome::Accepted => tried.clear(),
            Outcome::Unsent | Outcome::Unknown => {
                tried.retain(|guess| guess.refused || guess.version != *version);
            }
            Outcome::Refused => {
                if let Some(guess) = tried.iter_mut().find(|guess| guess.version == *version) {
                    (guess.at, guess.refused) = (now, true);
                }
            }
        }
        if tried.is_empty() {
            self.0.remove(user);
        }
    }

    /// Drops what no longer counts. Call it periodically.
    pub fn purge(&mut self, now: Duration) {
        self.0.retain(|_, tried| tried.iter().any(|guess| guess.counts(now)));
    }
}
