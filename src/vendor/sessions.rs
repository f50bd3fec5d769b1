//! Tokens, in memory only: one per remote system and Secret, one login at a time, reused for 90 % of their lifetime.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::credentials::{Account, Identity, SecretVersion};
use super::endpoint::{Endpoint, Transport};
use crate::clock;
use crate::engine::access::{AccessError, Serial};
use crate::engine::system::KeyId;

/// Longest time that a token is used for, whatever it states.
const LONGEST: Duration = Duration::from_hours(30 * 24);
/// How long an expired session is kept for the sake of its refresh token.
const RENEWABLE: Duration = Duration::from_hours(24);
/// Most that the tokens of a namespace take, in bytes, besides those in use. Those of 10,000 systems take 3 MB, as a rule.
const EACH: usize = 16 * 1024 * 1024;
/// Most that all tokens take, in bytes, besides those in use.
const ALL: usize = 64 * 1024 * 1024;

/// What a token belongs to: with any other URL, transport or Secret it is not used.
#[derive(Clone, Debug)]
pub(crate) struct SessionKey {
    url: String,
    account: Account,
    terms: Terms,
}

/// What the tokens of many systems have in common: the version of the Secret, and how connections are made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Terms {
    version: SecretVersion,
    transport: Transport,
}

impl SessionKey {
    /// The key of a login at an endpoint.
    #[must_use]
    pub(crate) fn new(endpoint: &Endpoint, identity: &Identity) -> Self {
        let Identity { account, version } = identity.clone();
        let terms = Terms { version, transport: endpoint.transport.clone() };
        Self { url: endpoint.base.to_string(), account, terms }
    }
}

/// A token that was issued to us.
#[derive(Debug)]
pub(crate) struct Session {
    /// The token.
    pub(crate) token: SecretString,
    /// Its whole lifetime, in seconds.
    pub(crate) lifetime: u32,
    /// What it can be renewed with.
    pub(crate) refresh: Option<SecretString>,
    /// Which one it is.
    pub(crate) serial: Serial,
    /// The key of the peer that issued it, if it has proven one: the token is sent to no other.
    pub(crate) issuer: Option<KeyId>,
    renew_at: Instant,
}

impl Session {
    /// A token asked for at `asked`, with its lifetime in seconds.
    #[must_use]
    pub(crate) fn new(
        token: SecretString,
        lifetime: u32,
        refresh: Option<SecretString>,
        issuer: Option<KeyId>,
        asked: Instant,
    ) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(0);
        let serial = Serial(SERIALS.fetch_add(1, Ordering::Relaxed));
        let renew_at = asked + Duration::from_secs(lifetime.into()).min(LONGEST).mul_f64(0.9);
        Self { token, lifetime, refresh, serial, issuer, renew_at }
    }

    /// What its tokens take, in bytes.
    fn size(&self) -> usize {
        let refresh = self.refresh.as_ref().map_or(0, |token| token.expose_secret().len());
        self.token.expose_secret().len() + refresh
    }

    /// Whether the token may be used: 90 % of its lifetime have not passed yet.
    #[must_use]
    pub(crate) fn is_living(&self) -> bool {
        self.renew_at > clock::instant()
    }
}

type Place = Arc<tokio::sync::Mutex<Held>>;

/// The state of one key.
#[derive(Debug, Default)]
struct Held {
    session: Option<Arc<Session>>,
    /// When the last attempt to open one failed, and why.
    failed: Option<Box<(Instant, AccessError)>>,
}

impl Held {
    fn living(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|session| session.is_living())
    }
}

/// All tokens.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    accounts: BTreeMap<Account, Owned>,
    /// What the tokens of each namespace take at most, in bytes: those that are gone count until it is found out again.
    sizes: HashMap<String, usize>,
}

impl Kept {
    /// A token was issued. If those of its namespace take too much, the newest ones are dropped: the next check of their systems
    /// logs in again. If all do, it is the namespace that has most.
    fn add(&mut self, namespace: &str, size: usize) {
        let own = self.sizes.entry(namespace.to_owned()).or_default();
        *own += size;
        if *own > EACH {
            self.shrink(namespace, EACH);
        }
        if self.all() > ALL {
            let namespaces: Vec<String> = self.sizes.keys().cloned().collect();
            namespaces.iter().for_each(|namespace| self.shrink(namespace, EACH));
        }
        while self.all() > ALL
            && let Some((most, size)) = self.sizes.iter().max_by_key(|(_, size)| **size)
        {
            let (most, size) = (most.clone(), *size);
            // Some more than that, so that this is not done for each.
            self.shrink(&most, size - size / 16);
        }
    }

    fn all(&self) -> usize {
        self.sizes.values().sum()
    }

    /// Finds out what the tokens of a namespace take, and drops the newest ones that do not fit. One that is in use right now
    /// does not count.
    fn shrink(&mut self, namespace: &str, most: usize) {
        let owned = self.accounts.iter().filter(|(account, _)| account.namespace == namespace);
        let places = owned.flat_map(|(_, owned)| owned.places.values()).flat_map(HashMap::values);
        let mut all: Vec<_> = places.filter_map(|place| place.try_lock().ok()).collect();
        all.sort_by_key(|held| held.session.as_ref().map(|session| session.serial));
        let mut taken = 0;
        for held in &mut all {
            let size = held.session.as_ref().map_or(0, |session| session.size());
            if taken + size <= most {
                taken += size;
            } else {
                held.session = None;
            }
        }
        drop(all);
        self.sizes.insert(namespace.to_owned(), taken);
    }
}

/// The tokens of one account.
#[derive(Debug, Default)]
struct Owned {
    /// The newest version of its Secret.
    current: Option<SecretVersion>,
    /// By terms, then by URL: the systems of a fleet differ in the URL alone.
    places: HashMap<Terms, HashMap<String, Place>>,
}

impl Owned {
    /// A version of the Secret was seen.
    fn renew(&mut self, version: &SecretVersion) {
        if self.current.as_ref().is_none_or(|current| current != version && !version.is_older_than(current)) {
            self.current = Some(version.clone());
            self.places.retain(|terms, _| terms.version == *version);
        }
    }
}

/// Which session is acceptable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Acceptable {
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
    pub(crate) async fn get(
        &self,
        key: &SessionKey,
        acceptable: Acceptable,
        open: impl AsyncFnOnce(Option<Arc<Session>>) -> Result<Session, AccessError>,
    ) -> Result<Arc<Session>, AccessError> {
        let came = clock::instant();
        let place = self.place(key);
        let mut held = place.lock().await;
        if let Some(session) = held.living() {
            let will_do = match acceptable {
                Acceptable::Living => true,
                Acceptable::Not(refused) => refused != session.serial,
                Acceptable::Fresh => false,
            };
            if will_do {
                return Ok(Arc::clone(session));
            }
        }
        if let Some(failed) = held.failed.as_ref().filter(|failed| failed.0 > came) {
            return Err(failed.1.clone());
        }
        let old = held.session.clone();
        // Should this be dropped half-way, an expired or refused session is not tried again.
        if !matches!(acceptable, Acceptable::Fresh) {
            held.session = None;
        }
        match open(old.clone()).await {
            Ok(session) => {
                let session = Arc::new(session);
                *held = Held { session: Some(Arc::clone(&session)), failed: None };
                // One that is in use does not count.
                drop(held);
                self.kept().add(&key.account.namespace, session.size());
                Ok(session)
            }
            Err(error) => {
                // A system that does not answer has not refused the refresh token of an expired session.
                let is_away = matches!(&error, AccessError::Remote(failed) if failed.fault.is_silence());
                held.session = held.session.take().or(old.filter(|old| is_away && !old.is_living()));
                held.failed = Some(Box::new((clock::instant(), error.clone())));
                Err(error)
            }
        }
    }

    /// The current session, whether or not it is due for renewal; none while one is being opened.
    pub(crate) fn latest(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.place(key).try_lock().ok()?.session.clone()
    }

    /// Whether there is a valid session.
    pub(crate) async fn is_living(&self, key: &SessionKey) -> bool {
        self.place(key).lock().await.living().is_some()
    }

    /// Forgets a session, so that the next reconcile logs in again.
    pub(crate) async fn forget(&self, key: &SessionKey) {
        *self.place(key).lock().await = Held::default();
    }

    /// Drops tokens that nothing can use anymore: of Secrets that were replaced, of systems that no object of the account logs
    /// in to (`in_use` has those that one does), and expired ones. To be called twice a minute.
    pub(crate) fn purge(&self, in_use: &BTreeMap<Account, BTreeSet<String>>) {
        let renewable = |s: &Session| s.refresh.is_some() && s.renew_at.elapsed() < RENEWABLE;
        let lives = |held: &Held| held.session.as_ref().is_some_and(|s| s.is_living() || renewable(s));
        let mut kept = self.kept();
        kept.accounts.retain(|account, owned| {
            let systems = in_use.get(account);
            owned.places.retain(|terms, places| {
                let is_current = owned.current.as_ref() == Some(&terms.version);
                places.retain(|url, place| {
                    let is_used = systems.is_some_and(|systems| systems.contains(url));
                    let is_held = Arc::strong_count(place) > 1;
                    is_held || (is_current && is_used && place.try_lock().is_ok_and(|held| lives(&held)))
                });
                !places.is_empty()
            });
            !owned.places.is_empty()
        });
        let Kept { accounts, sizes } = &mut *kept;
        let namespaces: BTreeSet<_> = accounts.keys().map(|account| &account.namespace).collect();
        sizes.retain(|namespace, _| namespaces.contains(namespace));
    }

    /// The accounts that there may be tokens of, in their order.
    pub(crate) fn accounts(&self) -> Vec<Account> {
        self.kept().accounts.keys().cloned().collect()
    }

    /// An account's Secret was read: drops the tokens of older versions, or all if there is no login in it anymore.
    pub(crate) fn keep(&self, account: &Account, version: Option<&SecretVersion>) {
        let accounts = &mut self.kept().accounts;
        match version {
            None => drop(accounts.remove(account)),
            Some(version) => accounts.entry(account.clone()).or_default().renew(version),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, key: &SessionKey) -> Place {
        let SessionKey { url, account, terms } = key;
        let mut kept = self.kept();
        let owned = kept.accounts.entry(account.clone()).or_default();
        owned.renew(&terms.version);
        Arc::clone(owned.places.entry(terms.clone()).or_default().entry(url.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::url::BaseUrl;

    impl Sessions {
        /// Logs in for a day.
        pub(crate) async fn log_in(&self, system: &str, identity: &Identity) {
            log_in(self, &key_of(system, identity), 86_400).await;
        }

        /// How many systems and Secrets there may be a token for.
        pub(crate) fn count(&self) -> usize {
            self.kept().accounts.values().flat_map(|owned| owned.places.values()).map(HashMap::len).sum()
        }
    }

    fn key(system: &str, version: u32) -> SessionKey {
        let keys = ("username".to_owned(), "password".to_owned());
        let account = Account { namespace: "a".to_owned(), secret: "login".to_owned(), keys };
        let version = SecretVersion { uid: "u".to_owned(), resource_version: version.to_string() };
        key_of(system, &Identity { account, version })
    }

    fn key_of(system: &str, identity: &Identity) -> SessionKey {
        SessionKey::new(&Endpoint::of(system), identity)
    }

    async fn log_in(sessions: &Sessions, key: &SessionKey, lifetime: u32) {
        let open =
            async |_| Ok(Session::new(SecretString::from("token"), lifetime, None, None, clock::instant()));
        sessions.get(key, Acceptable::Living, open).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_goes_with_its_secret_its_objects_and_its_time() {
        let sessions = Sessions::default();
        let systems: Vec<String> = (0..100).map(|index| format!("https://x2-{index}.example.net")).collect();
        for system in &systems {
            log_in(&sessions, &key(system, 1), 86_400).await;
        }
        let account = key("https://x2", 1).account;
        let urls =
            |systems: &[String]| systems.iter().map(|s| BaseUrl::parse(s).unwrap().to_string()).collect();
        let mut in_use = BTreeMap::from([(account.clone(), urls(&systems))]);
        sessions.purge(&in_use);
        assert_eq!(sessions.count(), 100);
        // The Secret is replaced a thousand times: one version's tokens are held.
        for version in 2..1_000 {
            log_in(&sessions, &key(&systems[0], version), 86_400).await;
        }
        assert_eq!(sessions.count(), 1);
        // A check that still uses an older version brings it back until the next purge.
        log_in(&sessions, &key(&systems[1], 5), 86_400).await;
        sessions.purge(&in_use);
        assert_eq!(sessions.count(), 1);
        assert!(sessions.is_living(&key(&systems[0], 999)).await);
        // Tokens that have expired are dropped, and so are those of objects that are gone.
        log_in(&sessions, &key(&systems[2], 999), 600).await;
        assert_eq!(sessions.count(), 2);
        tokio::time::advance(Duration::from_mins(10)).await;
        sessions.purge(&in_use);
        assert_eq!(sessions.count(), 1);
        log_in(&sessions, &key(&systems[3], 999), u32::MAX).await;
        assert_eq!(sessions.count(), 2);
        tokio::time::advance(LONGEST).await;
        sessions.purge(&in_use);
        assert_eq!(sessions.count(), 0, "what a server states is not believed forever");
        log_in(&sessions, &key(&systems[0], 999), 86_400).await;
        in_use.insert(account, urls(&systems[1..]));
        sessions.purge(&in_use);
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test]
    async fn tokens_that_take_too_much_are_dropped_of_the_namespace_that_has_most() {
        let sessions = Sessions::default();
        let log_in = async |namespace: &str, number: usize, length: usize| {
            let mut key = key(&format!("https://x2-{number}.example.net"), 1);
            namespace.clone_into(&mut key.account.namespace);
            let token = SecretString::from("T".repeat(length));
            let open = async |_| Ok(Session::new(token, 86_400, None, None, clock::instant()));
            sessions.get(&key, Acceptable::Fresh, open).await.unwrap();
            key
        };
        let taken = |namespace: &str| {
            let kept = sessions.kept();
            let owned = kept.accounts.iter().filter(|(account, _)| account.namespace == namespace);
            let places = owned.flat_map(|(_, owned)| owned.places.values()).flat_map(HashMap::values);
            places.filter_map(|place| Some(place.try_lock().ok()?.session.as_ref()?.size())).sum::<usize>()
        };
        let (length, fits) = (8_000, EACH / 8_000);
        // Those that are issued again and again take no more than once.
        for number in 0..3 * fits {
            log_in("a", number % (fits - 10), length).await;
        }
        let whole = (fits - 10) * length;
        assert_eq!(taken("a"), whole);
        let oldest = log_in("b", 0, length).await;
        for number in 1..fits + 100 {
            log_in("b", number, length).await;
            assert!(taken("b") <= EACH);
        }
        assert!(taken("b") > EACH - length && sessions.is_living(&oldest).await, "the surplus is not kept");
        assert_eq!(taken("a"), whole, "one namespace drives out no token of another");
        for namespace in ["c", "d", "e"] {
            for number in 0..fits - 100 {
                log_in(namespace, number, length).await;
            }
        }
        let small = log_in("f", 0, length).await;
        assert!(["a", "b", "c", "d", "e", "f"].map(taken).iter().sum::<usize>() <= ALL);
        assert!(sessions.is_living(&small).await);
    }
}
