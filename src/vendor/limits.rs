//! How hard one remote system is asked: requests under way at once, and requests begun per second.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::credentials::Account;
use crate::clock;
use crate::crd::Kind;
use crate::engine::system::{Peer, Via};

/// A pause of this length is waited for; a longer one is reported.
const WAITED_FOR: Duration = Duration::from_secs(5);
/// Limits of one URL that are kept while nothing uses them, and peers that one limit is known by. A server may prove a new key
/// at each login.
const IDLE_PEERS: usize = 16;
/// Systems whose limits are kept whether anything uses them or not.
const IDLE_SYSTEMS: usize = 64;
/// What a timer may be late by.
const TICK: Duration = Duration::from_millis(2);

/// Bounds of one remote system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests under way at once.
    pub in_flight: u32,
    /// Requests begun per second; none for no bound.
    pub per_second: Option<u32>,
}

impl Bounds {
    /// One request at a time, as fast as they are answered.
    pub const ONE_AT_A_TIME: Self = Self { in_flight: 1, per_second: None };

    /// Least time between the beginnings of two requests.
    fn spacing(self) -> Option<Duration> {
        self.per_second.map(|per_second| Duration::from_secs(1) / per_second.max(1))
    }
}

/// What bounds requests to one remote system, shared by all that ask it.
#[derive(Debug)]
pub struct Limit {
    bounds: Bounds,
    in_flight: Arc<Semaphore>,
    /// Where claimants wait, so that an owner finds one of them in its queue at most.
    claimants: Semaphore,
    /// Where those wait who are not in a hurry, so that the others find a short queue.
    door: Semaphore,
    /// Where those wait for their moment who are not in a hurry.
    starting: Semaphore,
    next_start: Mutex<Option<Instant>>,
    memory: Mutex<Memory>,
}

/// What is known of a remote system, whatever its bounds.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    heard: Option<Instant>,
    pause: Option<Pause>,
}

/// A pause that a remote system asked for.
#[derive(Clone, Copy, Debug)]
struct Pause {
    status: u16,
    until: Instant,
}

/// A remote system has asked not to be asked for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paused {
    /// The status that it answered with.
    pub status: u16,
    /// How long that still lasts.
    pub left: Duration,
}

impl Limit {
    fn new(bounds: Bounds, memory: Memory) -> Self {
        let in_flight = Arc::new(Semaphore::new(bounds.in_flight.max(1) as usize));
        Self {
            bounds,
            in_flight,
            claimants: Semaphore::new(1),
            door: Semaphore::new(1),
            starting: Semaphore::new(1),
            next_start: Mutex::new(None),
            memory: Mutex::new(memory),
        }
    }

    /// Waits until one more request may begin, unless the remote system asked for a longer pause. Dropping the pass ends the request. A write and what follows it is `urgent`:
    /// it passes all that only ask, so that nothing old is written.
    ///
    /// # Errors
    /// While the system is left alone for longer than some seconds.
    pub async fn enter(self: &Arc<Self>, urgent: bool) -> Result<Pass, Paused> {
        self.paused().filter(|paused| paused.left > WAITED_FOR).map_or(Ok(()), Err)?;
        let door = if urgent { None } else { self.door.acquire().await.ok() };
        let permit = Arc::clone(&self.in_flight).acquire_owned().await.ok();
        drop(door);
        while let Some(paused) = self.paused() {
            if paused.left > WAITED_FOR {
                return Err(paused);
            }
            tokio::time::sleep(paused.left).await;
        }
        self.start(urgent).await;
        Ok(Pass { limit: Arc::clone(self), _permit: permit })
    }

    /// The same for one that may not be the owner, and only tries to log in: it waits for others like it first.
    ///
    /// # Errors
    /// See [`Limit::enter`].
    pub async fn enter_as_claimant(self: &Arc<Self>) -> Result<Pass, Paused> {
        let _first = self.claimants.acquire().await.ok();
        self.enter(false).await
    }

    /// Leaves the system alone for a while, as its answer with this status asked for.
    pub fn pause(&self, status: u16, time: Duration) {
        let until = clock::instant() + time;
        let mut memory = self.memory();
        if memory.pause.is_none_or(|pause| pause.until < until) {
            memory.pause = Some(Pause { status, until });
        }
    }

    /// The pause that the system asked for, as long as it lasts.
    fn paused(&self) -> Option<Paused> {
        let Pause { status, until } = self.memory().pause?;
        let left = until.saturating_duration_since(clock::instant());
        (!left.is_zero()).then_some(Paused { status, left })
    }

    /// Whether a request is under way, or the system is left alone.
    fn is_in_use(&self) -> bool {
        self.in_flight.available_permits() < self.bounds.in_flight.max(1) as usize || self.paused().is_some()
    }

    /// Takes down that the system gave a good answer.
    pub(crate) fn heard(&self) {
        self.memory().heard = Some(clock::instant());
    }

    /// Takes down that the system did not answer: what it last answered shows nothing anymore.
    pub(crate) fn silent(&self) {
        self.memory().heard = None;
    }

    /// When the system last gave a good answer, if it has answered since.
    #[must_use]
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        self.memory().heard
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more request may begin under the bound per second. One that is `urgent` takes the next moment.
    async fn start(&self, urgent: bool) {
        let Some(spacing) = self.bounds.spacing() else { return };
        let _first = if urgent { None } else { self.starting.acquire().await.ok() };
        while let Some(later) = self.not_before(spacing) {
            tokio::time::sleep_until(later).await;
        }
    }

    /// Takes this moment, or returns when the next one is.
    fn not_before(&self, spacing: Duration) -> Option<Instant> {
        let now = clock::instant();
        let mut next = self.next_start.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(later) = next.filter(|at| *at > now) {
            return Some(later);
        }
        // Late by a tick of the timer, the next one is not: the rate is kept.
        let begun = next.filter(|at| now - *at < TICK).unwrap_or(now);
        *next = Some(begun + spacing);
        None
    }
}

/// Permission to make a request, released when dropped.
#[derive(Debug)]
pub struct Pass {
    limit: Arc<Limit>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pass {
    /// Least time between the beginnings of two requests.
    pub(crate) fn spacing(&self) -> Duration {
        self.limit.bounds.spacing().unwrap_or_default()
    }

    /// Waits until one more request may begin: no longer than the bound per second demands between any two.
    pub(crate) async fn again(&self) {
        self.limit.start(true).await;
    }
}

/// What has a limit of its own.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Of the objects that are a remote system.
    pub kind: Kind,
    /// Effective URL.
    pub url: String,
    /// How it is reached.
    pub via: Via,
    /// Who is there, if that is known. Those share a limit that reach the same peer, else those that come the same way.
    pub peer: Option<Peer>,
}

/// The limits of remote systems.
#[derive(Debug, Default)]
pub struct Limits(Mutex<Systems>);

#[derive(Debug, Default)]
struct Systems {
    /// By kind and URL. What was used last is the last one.
    known: HashMap<(Kind, String), Vec<Known>>,
    /// How many were left when idle appliances were last dropped.
    left: usize,
}

impl Systems {
    /// What is known of a system. When their number has doubled, idle appliances are dropped. Servers stay: it counts when they
    /// were last heard.
    fn of(&mut self, kind: Kind, url: String) -> &mut Vec<Known> {
        if self.known.len() >= 2 * self.left.max(IDLE_SYSTEMS) {
            self.retain(|kind, _, known| kind != Kind::Gateway || !known.is_idle());
            self.left = self.known.len();
        }
        self.known.entry((kind, url)).or_default()
    }

    fn retain(&mut self, keeps: impl Fn(Kind, &String, &Known) -> bool) {
        self.known.retain(|(kind, url), all| {
            all.retain(|known| keeps(*kind, url, known));
            !all.is_empty()
        });
    }
}

/// A limit, and the peers that it is known by: those that were met on one way were one system so far.
#[derive(Debug)]
struct Known {
    peers: Vec<Peer>,
    limit: Arc<Limit>,
}

impl Known {
    /// Takes down that it was used for a peer. The way that leads to it stays known, whatever keys are met there.
    fn used(&mut self, peer: Peer) {
        self.peers.retain(|known| *known != peer);
        self.peers.push(peer);
        if self.peers.len() > IDLE_PEERS
            && let Some(oldest) = self.peers.iter().position(|peer| matches!(peer, Peer::Key(_)))
        {
            self.peers.remove(oldest);
        }
    }

    /// Whether nothing uses it.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.limit) == 1 && !self.limit.is_in_use()
    }
}

impl Limits {
    /// The limit of a remote system; a new one if its bounds have changed.
    pub fn of(&self, lane: Lane, bounds: Bounds) -> Arc<Limit> {
        let Lane { kind, url, via, peer } = lane;
        let way = Peer::Via(via);
        let peer = peer.unwrap_or_else(|| way.clone());
        let mut systems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = systems.of(kind, url);
        let position = |peer| all.iter().position(|known| known.peers.contains(peer));
        // Those that were under way before the peer was met count on.
        let mut known = position(&peer).or_else(|| position(&way)).map(|index| all.remove(index));
        let memory = known.as_ref().map(|known| *known.limit.memory()).unwrap_or_default();
        if let Some(other) = known.take_if(|known| known.limit.bounds != bounds) {
            let peers: Vec<_> = other.peers.into_iter().filter(|known| *known != peer).collect();
            if !peers.is_empty() {
                all.push(Known { peers, ..other });
            }
        }
        let new = || Known { peers: Vec::new(), limit: Arc::new(Limit::new(bounds, memory)) };
        let mut known = known.unwrap_or_else(new);
        known.used(peer);
        let limit = Arc::clone(&known.limit);
        all.push(known);
        while all.len() > IDLE_PEERS
            && let Some(oldest) = all.iter().position(Known::is_idle)
        {
            all.remove(oldest);
        }
        limit
    }

    /// Drops those of systems that no object logs in to; `in_use` has those that one does. To be called now and then.
    pub(crate) fn purge(&self, in_use: &BTreeMap<Account, BTreeSet<String>>) {
        let declared: BTreeSet<&String> = in_use.values().flatten().collect();
        let mut systems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        systems.retain(|_, url, known| declared.contains(url) || known.limit.is_in_use());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many limits are kept, and how many peers.
    fn kept(limits: &Limits) -> (usize, usize) {
        let systems = limits.0.lock().unwrap();
        let all: Vec<_> = systems.known.values().flatten().collect();
        (all.len(), all.iter().map(|known| known.peers.len()).sum())
    }

    #[tokio::test]
    async fn what_is_known_of_a_system_goes_with_its_last_object() {
        let limits = Limits::default();
        let of = |number, peer| {
            let url = format!("https://x2-{number}.example.net");
            limits.of(Lane { kind: Kind::Gateway, url, via: Via::Direct, peer }, Bounds::ONE_AT_A_TIME)
        };
        for number in 0..100 {
            assert!(Arc::ptr_eq(&of(number, None), &of(number, Some(Peer::Key([0; 16])))));
        }
        let under_way = of(100, None).enter(false).await.unwrap();
        of(101, None).pause(429, Duration::from_mins(1));
        let keys = ("username".to_owned(), "password".to_owned());
        let account = Account { namespace: "a".to_owned(), secret: "login".to_owned(), keys };
        let in_use = BTreeMap::from([(account, BTreeSet::from(["https://x2-7.example.net".to_owned()]))]);
        limits.purge(&in_use);
        assert_eq!(kept(&limits), (3, 4));
        drop(under_way);
        limits.purge(&in_use);
        assert_eq!(kept(&limits), (2, 3));
    }

    #[tokio::test]
    async fn of_idle_appliances_little_is_kept() {
        let limits = Limits::default();
        let of = |kind, number| {
            let url = format!("https://{number}.example.net");
            limits.of(Lane { kind, url, via: Via::Direct, peer: None }, Bounds::ONE_AT_A_TIME)
        };
        let (server, held) = (Arc::downgrade(&of(Kind::Server, 0)), of(Kind::Gateway, 1));
        let under_way = of(Kind::Gateway, 2).enter(false).await.unwrap();
        of(Kind::Gateway, 3).pause(429, Duration::from_mins(1));
        for number in 4..10_000 {
            of(Kind::Gateway, number);
        }
        assert!(kept(&limits).0 <= 2 * IDLE_SYSTEMS, "{:?}", kept(&limits));
        assert!(server.strong_count() > 0, "a server");
        assert!(Arc::ptr_eq(&held, &of(Kind::Gateway, 1)), "a reconcile holds it");
        assert!(Arc::ptr_eq(&under_way.limit, &of(Kind::Gateway, 2)), "a request is under way");
        assert!(of(Kind::Gateway, 3).paused().is_some(), "it is to be left alone");
    }

    #[tokio::test]
    async fn a_server_that_proves_a_new_key_each_time_fills_no_memory() {
        let limits = Limits::default();
        let of = |name: &str, key: Option<u8>| {
            let (url, via) = ("https://kona.example.net".to_owned(), Via::Name(name.into()));
            let peer = key.map(|key| Peer::Key([key; 16]));
            limits.of(Lane { kind: Kind::Server, url, via, peer }, Bounds::ONE_AT_A_TIME)
        };
        let (under_way, held) = (of("a", None).enter(false).await.unwrap(), of("b", Some(0)));
        for key in 1..=u8::MAX {
            of("a", None);
            of("a", Some(key));
        }
        assert_eq!(kept(&limits), (2, IDLE_PEERS + 1));
        for number in 0..=u8::MAX {
            of(&number.to_string(), None);
        }
        assert_eq!(kept(&limits), (IDLE_PEERS, IDLE_PEERS - 2 + IDLE_PEERS + 1));
        assert!(Arc::ptr_eq(&under_way.limit, &of("a", None)), "a request is under way");
        assert!(Arc::ptr_eq(&held, &of("b", Some(0))), "a reconcile holds it");
    }
}
