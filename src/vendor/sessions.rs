//! Tokens, in memory only: one per remote system and Secret, one login at a time, reused for 90 % of their lifetime.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::credentials::Identity;
use super::endpoint::{Endpoint, Transport};
use super::login::AccessError;
use crate::clock;

/// How long an expired session is kept for the sake of its refresh token.
const RENEWABLE: Duration = Duration::from_hours(24);

/// What a token belongs to: with any other URL, transport or Secret it is not used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    url: String,
    transport: Transport,
    identity: Identity,
}

impl SessionKey {
    /// The key of a login at an endpoint.
    #[must_use]
    pub fn new(endpoint: &Endpoint, identity: &Identity) -> Self {
        Self {
            url: endpoint.base.to_string(),
            transport: endpoint.transport.clone(),
            identity: identity.clone(),
        }
    }
}

/// A token that was issued to us.
#[derive(Debug)]
pub struct Session {
    /// The token.
    pub token: SecretString,
    /// Its whole lifetime, in seconds.
    pub lifetime: u32,
    /// What it can be renewed with.
    pub refresh: Option<SecretString>,
    /// Which one it is.
    pub serial: Serial,
    renew_at: Instant,
}

/// Identifies a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial(u64);

impl Session {
    /// A token asked for at `asked`, with its lifetime in seconds.
    #[must_use]
    pub fn new(token: SecretString, lifetime: u32, refresh: Option<SecretString>, asked: Instant) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let renew_at = asked + Duration::from_secs(lifetime.into()).mul_f64(0.9);
        let serial = Serial(SERIAL.fetch_add(1, Ordering::Relaxed));
        Self { token, lifetime, refresh, serial, renew_at }
    }

    /// Whether the token may be used: 90 % of its lifetime have not passed yet.
    #[must_use]
    pub fn is_living(&self) -> bool {
        self.renew_at > clock::instant()
    }
}

type Place = Arc<tokio::sync::Mutex<Held>>;

/// The state of one key.
#[derive(Debug, Default)]
struct Held {
    session: Option<Arc<Session>>,
    /// When the last attempt to open one failed, and why.
    failed: Option<(Instant, AccessError)>,
}

impl Held {
    fn living(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|session| session.is_living())
    }
}

/// All tokens.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<SessionKey, Place>>);

/// Which session is acceptable.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// Any that is still valid.
    Living,
    /// Any that is still valid except this one, which was refused.
    Not(Serial),
    /// Always a new one.
    Fresh,
}

impl Sessions {
    /// The session of a key. `open` is called if there is no acceptable one, with the one that is not; concurrent callers wait
    /// for its result, and share its failure: behind a silent server they would otherwise wait for one timeout after the
    /// other.
    pub async fn get(
        &self,
        key: &SessionKey,
        wanted: Wanted,
        open: impl AsyncFnOnce(Option<Arc<Session>>) -> Result<Session, AccessError>,
    ) -> Result<Arc<Session>, AccessError> {
        let came = clock::instant();
        let place = self.place(key);
        let mut held = place.lock().await;
        if let Some(session) = held.living() {
            let will_do = match wanted {
                Wanted::Living => true,
                Wanted::Not(refused) => refused != session.serial,
                Wanted::Fresh => false,
            };
            if will_do {
                return Ok(Arc::clone(session));
            }
        }
        if let Some((_, error)) = held.failed.as_ref().filter(|(at, _)| *at > came) {
            return Err(error.clone());
        }
        let old = held.session.clone();
        // Should this fail or be dropped half-way, an expired or refused session is not tried again.
        if !matches!(wanted, Wanted::Fresh) {
            held.session = None;
        }
        match open(old).await {
            Ok(session) => {
                let session = Arc::new(session);
                *held = Held { session: Some(Arc::clone(&session)), failed: None };
                Ok(session)
            }
            Err(error) => {
                held.failed = Some((clock::instant(), error.clone()));
                Err(error)
            }
        }
    }

    /// The current session, whether or not it is due for renewal; none while one is being opened.
    pub fn latest(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.place(key).try_lock().ok()?.session.clone()
    }

    /// Whether there is a valid session.
    pub async fn is_living(&self, key: &SessionKey) -> bool {
        self.place(key).lock().await.living().is_some()
    }

    /// Forgets a session, so that the next reconcile logs in again.
    pub async fn forget(&self, key: &SessionKey) {
        *self.place(key).lock().await = Held::default();
    }

    fn place(&self, key: &SessionKey) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(key) {
            return Arc::clone(place);
        }
        // Expired sessions are removed now and then: checking all of them for each new one would be quadratic.
        if places.len().is_power_of_two() {
            let renewable = |s: &Session| s.refresh.is_some() && s.renew_at.elapsed() < RENEWABLE;
            let of_use = |held: &Held| {
                held.living().is_some() || held.session.as_ref().is_some_and(|session| renewable(session))
            };
            places.retain(|_, place| {
                Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|held| of_use(&held))
            });
        }
        Arc::clone(places.entry(key.clone()).or_default())
    }
}
