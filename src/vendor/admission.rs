//! Which logins may be tried, so that no account is locked out by retries.
//!
//! A refused password is not tried again at the same URL while the Secret stays as it was. And since many appliances may
//! ask one directory: until a password was accepted somewhere only one login with it is under way, and after three URLs
//! have refused it no other is tried.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::credentials::Identity;

/// URLs that may refuse a password before nobody else is asked.
const REFUSALS: usize = 3;

/// Why a login was not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// This URL refused it before.
    Here,
    /// Enough others refused it.
    Elsewhere,
}

/// What is known of every password in use.
#[derive(Debug, Default)]
pub struct Admission {
    passwords: Mutex<HashMap<Identity, Arc<Password>>>,
    /// Refusals older than this do not count any more.
    forget_after: Option<Duration>,
}

/// Resource versions are numbers that grow.
fn age(who: &Identity) -> Option<u64> {
    who.version.resource_version.parse().ok()
}

#[derive(Debug, Default)]
struct Password {
    accepted: AtomicBool,
    refused: Mutex<HashMap<String, Timestamp>>,
    /// URLs that were turned away because others had refused it; true where somebody has asked for a try all the same.
    passes: Mutex<HashMap<String, bool>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Leave to log in once.
#[derive(Debug)]
pub struct Ticket {
    password: Arc<Password>,
    url: String,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Ticket {
    /// The password was accepted.
    pub fn accepted(self) {
        self.password.accepted.store(true, Ordering::Release);
        self.password.refused().remove(&self.url);
    }

    /// The password was refused.
    pub fn refused(self, now: Timestamp) {
        self.password.refused().insert(self.url.clone(), now);
    }
}

impl Password {
    fn refused(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// `forget_after` is for those who want a refused password tried again with time; by default it never is.
    #[must_use]
    pub fn new(forget_after: Option<Duration>) -> Self {
        Self { passwords: Mutex::default(), forget_after }
    }

    /// Waits for leave to log in at a URL.
    pub async fn enter(&self, who: &Identity, url: &str, now: Timestamp) -> Result<Ticket, NotAdmitted> {
        let password = self.password(who);
        let passes = password.passes().get_mut(url).is_some_and(std::mem::take);
        if passes {
            return Ok(Ticket { password, url: url.to_owned(), _turn: None });
        }
        self.check(&password, url, now)?;
        let mut turn = None;
        if !password.accepted.load(Ordering::Acquire) {
            let guard = Arc::clone(&password.turn).lock_owned().await;
            self.check(&password, url, now)?;
            turn = Some(guard).filter(|_| !password.accepted.load(Ordering::Acquire));
        }
        Ok(Ticket { password, url: url.to_owned(), _turn: turn })
    }

    fn check(&self, password: &Password, url: &str, now: Timestamp) -> Result<(), NotAdmitted> {
        let mut refused = password.refused();
        if let Some(limit) = self.forget_after {
            refused.retain(|_, at| now.duration_since(*at).unsigned_abs() < limit);
        }
        if refused.contains_key(url) {
            Err(NotAdmitted::Here)
        } else if refused.len() >= REFUSALS && !password.accepted.load(Ordering::Acquire) {
            drop(refused);
            password.passes().entry(url.to_owned()).or_insert(false);
            Err(NotAdmitted::Elsewhere)
        } else {
            Ok(())
        }
    }

    /// Takes over a refusal that a status remembers.
    pub fn remember(&self, who: &Identity, url: &str, at: Timestamp) {
        self.password(who).refused().insert(url.to_owned(), at);
    }

    /// Lets a URL that refused a password be tried once more.
    pub fn forgive(&self, who: &Identity, url: &str) {
        self.password(who).refused().remove(url);
    }

    /// Lets a URL be tried once more, even where it was turned away because others have refused the password: somebody
    /// asked for it there.
    pub fn insist(&self, who: &Identity, url: &str) {
        let password = self.password(who);
        password.refused().remove(url);
        if let Some(pass) = password.passes().get_mut(url) {
            *pass = true;
        }
    }

    /// When a URL refused a password.
    #[must_use]
    pub fn refused_at(&self, who: &Identity, url: &str) -> Option<Timestamp> {
        self.password(who).refused().get(url).copied()
    }

    fn password(&self, who: &Identity) -> Arc<Password> {
        let mut passwords = self.passwords.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(password) = passwords.get(who) {
            return Arc::clone(password);
        }
        // Older versions of the same Secret are of no use any more; newer ones stay, whoever is still busy with an old one.
        passwords.retain(|other, _| other.version.uid != who.version.uid || age(other) >= age(who));
        Arc::clone(passwords.entry(who.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::super::credentials::SecretVersion;
    use super::*;

    fn identity(version: &str) -> Identity {
        let version = SecretVersion { uid: "u".to_owned(), resource_version: version.to_owned() };
        Identity { version, keys: ("username".to_owned(), "password".to_owned()) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn a_refused_password_is_not_repeated_until_the_secret_changes() {
        let admission = Admission::default();
        admission.enter(&identity("1"), "a", at(0)).await.unwrap().refused(at(0));
        assert_eq!(admission.enter(&identity("1"), "a", at(9)).await.unwrap_err(), NotAdmitted::Here);
        assert!(admission.enter(&identity("2"), "a", at(9)).await.is_ok());
    }

    #[tokio::test]
    async fn three_refusals_end_it_for_all() {
        let admission = Admission::default();
        for url in ["a", "b", "c"] {
            admission.enter(&identity("1"), url, at(0)).await.unwrap().refused(at(0));
        }
        assert_eq!(admission.enter(&identity("1"), "d", at(0)).await.unwrap_err(), NotAdmitted::Elsewhere);
        admission.forgive(&identity("1"), "a");
        admission.enter(&identity("1"), "a", at(0)).await.unwrap().accepted();
        assert!(admission.enter(&identity("1"), "d", at(0)).await.is_ok());
        assert_eq!(admission.enter(&identity("1"), "b", at(0)).await.unwrap_err(), NotAdmitted::Here);
    }

    #[tokio::test]
    async fn an_old_version_does_not_make_a_newer_one_forgotten() {
        let admission = Admission::default();
        for url in ["a", "b", "d"] {
            admission.remember(&identity("1"), url, at(0));
            admission.remember(&identity("2"), url, at(0));
        }
        for url in ["a", "b", "d"] {
            assert_eq!(admission.enter(&identity("2"), url, at(9)).await.unwrap_err(), NotAdmitted::Here);
        }
        assert!(admission.refused_at(&identity("1"), "a").is_none());
        assert!(admission.refused_at(&identity("2"), "a").is_some());
    }

    #[tokio::test]
    async fn who_insists_gets_one_try_although_others_refused() {
        let admission = Admission::default();
        for url in ["a", "b", "c"] {
            admission.enter(&identity("1"), url, at(0)).await.unwrap().refused(at(0));
        }
        // Who asks before anything is known gets no more than others.
        admission.insist(&identity("1"), "d");
        assert_eq!(admission.enter(&identity("1"), "d", at(0)).await.unwrap_err(), NotAdmitted::Elsewhere);
        admission.insist(&identity("1"), "d");
        admission.enter(&identity("1"), "d", at(0)).await.unwrap().refused(at(0));
        assert_eq!(admission.enter(&identity("1"), "d", at(0)).await.unwrap_err(), NotAdmitted::Here);
        assert_eq!(admission.enter(&identity("1"), "e", at(0)).await.unwrap_err(), NotAdmitted::Elsewhere);
    }

    #[tokio::test]
    async fn one_login_at_a_time_until_one_is_accepted() {
        let admission = Admission::default();
        let first = admission.enter(&identity("1"), "a", at(0)).await.unwrap();
        let me = identity("1");
        let mut second = Box::pin(admission.enter(&me, "b", at(0)));
        assert!(poll!(&mut second).is_pending());
        first.accepted();
        let second = second.await.unwrap();
        let third = admission.enter(&me, "c", at(0)).await.unwrap();
        drop((second, third));
    }

    #[tokio::test]
    async fn time_forgives_where_it_is_told_to() {
        let admission = Admission::new(Some(Duration::from_secs(60)));
        admission.enter(&identity("1"), "a", at(0)).await.unwrap().refused(at(0));
        assert!(admission.enter(&identity("1"), "a", at(59)).await.is_err());
        assert!(admission.enter(&identity("1"), "a", at(61)).await.is_ok());
    }
}
