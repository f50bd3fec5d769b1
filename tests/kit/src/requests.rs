//! What a simulated server was asked: counts per kind and object, a log in order of arrival, and ways to wait
//! for requests instead of sleeping.

use std::{
    collections::VecDeque,
    ops::Sub,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock;

/// Entries the log keeps; older ones are forgotten, the counts are not.
const LOG_LENGTH: usize = 100_000;

/// How long a test waits for requests that may never come.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A login with a password.
    Login,
    /// An exchange of a refresh token for a new pair.
    Refresh,
    /// A read of the setting or the customer.
    Get,
    /// A write of the setting (PUT) or the customer (POST).
    Write,
    /// `DELETE /api2/tokens`.
    Delete,
    /// Anything else, such as a redirect that was followed.
    Other,
}

/// How many requests of each [`Kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Logins with a password.
    pub login: u64,
    /// Token refreshes.
    pub refresh: u64,
    /// Reads.
    pub get: u64,
    /// Writes.
    pub write: u64,
    /// Logouts.
    pub delete: u64,
    /// Everything else.
    pub other: u64,
}

impl Counts {
    /// The count of one kind.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Login => self.login,
            Kind::Refresh => self.refresh,
            Kind::Get => self.get,
            Kind::Write => self.write,
            Kind::Delete => self.delete,
            Kind::Other => self.other,
        }
    }

    /// All kinds together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.login + self.refresh + self.get + self.write + self.delete + self.other
    }
}

/// What came after an earlier snapshot: `now - before`.
impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            login: self.login - before.login,
            refresh: self.refresh - before.refresh,
            get: self.get - before.get,
            write: self.write - before.write,
            delete: self.delete - before.delete,
            other: self.other - before.other,
        }
    }
}

/// One request in the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position in the order of arrival, from 0.
    pub sequence: u64,
    /// When it arrived.
    pub at: Instant,
    /// The appliance (`x2-0007`) or customer (its id); `None` for a server's own endpoints.
    pub object: Option<Arc<str>>,
    /// What it was for.
    pub kind: Kind,
    /// Method and path with query, such as `PUT /api2/token/timeout`.
    pub line: String,
    /// The `Host` header.
    pub host: Option<String>,
    /// The server name of the TLS handshake (SNI).
    pub server_name: Option<Arc<str>>,
    /// The status answered; `None` while under way, and for ever when the answer was lost.
    pub status: Option<u16>,
    /// The body of a write, as it came.
    pub written: Option<String>,
    /// When it had had its effect and was answered, or its answer was lost.
    pub served_at: Option<Instant>,
}

/// One atomic counter a kind.
#[derive(Default)]
struct Counters([AtomicU64; 6]);

impl Counters {
    fn of(&self, kind: Kind) -> &AtomicU64 {
        let [login, refresh, get, write, delete, other] = &self.0;
        match kind {
            Kind::Login => login,
            Kind::Refresh => refresh,
            Kind::Get => get,
            Kind::Write => write,
            Kind::Delete => delete,
            Kind::Other => other,
        }
    }

    fn snapshot(&self) -> Counts {
        let count = |kind| self.of(kind).load(Relaxed);
        Counts {
            login: count(Kind::Login),
            refresh: count(Kind::Refresh),
            get: count(Kind::Get),
            write: count(Kind::Write),
            delete: count(Kind::Delete),
            other: count(Kind::Other),
        }
    }
}

/// The counts of one object, or of a whole simulator.
#[derive(Default)]
pub(crate) struct Tally {
    arrived: Counters,
    served: Counters,
    in_flight: AtomicU64,
    peak: AtomicU64,
    connections: AtomicU64,
    open_connections: AtomicU64,
}

impl Tally {
    pub(crate) fn counts(&self) -> Counts {
        self.arrived.snapshot()
    }

    fn enter(&self, kind: Kind) {
        self.arrived.of(kind).fetch_add(1, Relaxed);
        let now = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(now, Relaxed);
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

/// What is known of a request when it arrives.
pub(crate) struct Arrival {
    pub(crate) kind: Kind,
    pub(crate) object: Option<Arc<str>>,
    pub(crate) tally: Option<Arc<Tally>>,
    pub(crate) line: String,
    pub(crate) host: Option<String>,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) written: Option<String>,
}

#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    next: u64,
}

/// All requests of one simulator.
pub(crate) struct RequestLog {
    total: Arc<Tally>,
    log: Mutex<Log>,
    changed: watch::Sender<()>,
}

impl RequestLog {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { total: Arc::default(), log: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// Counts a connection that was accepted; it is open until the answer is dropped.
    pub(crate) fn connected(self: &Arc<Self>, tally: &Arc<Tally>) -> OpenConnection {
        for tally in [&self.total, tally] {
            tally.connections.fetch_add(1, Relaxed);
            tally.open_connections.fetch_add(1, Relaxed);
        }
        self.changed.send_replace(());
        OpenConnection { log: Arc::clone(self), tally: Arc::clone(tally) }
    }

    /// Enters a request; the ticket is held for as long as it is under way.
    pub(crate) fn arrive(self: &Arc<Self>, arrival: Arrival) -> Ticket {
        let Arrival { kind, object, tally, line, host, server_name, written } = arrival;
        let at = clock::instant();
        for tally in tally.iter().chain([&self.total]) {
            tally.enter(kind);
        }
        let sequence = {
            let mut log = self.log.lock();
            let sequence = log.next;
            log.next += 1;
            if log.entries.len() == LOG_LENGTH {
                log.entries.pop_front();
            }
            let served_at = None;
            let entry = Entry {
                sequence,
                at,
                object,
                kind,
                line,
                host,
                server_name,
                status: None,
                written,
                served_at,
            };
            log.entries.push_back(entry);
            sequence
        };
        self.changed.send_replace(());
        Ticket { log: Arc::clone(self), tally, kind, sequence }
    }
}

/// One connection that is open.
pub(crate) struct OpenConnection {
    log: Arc<RequestLog>,
    tally: Arc<Tally>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        for tally in [&self.log.total, &self.tally] {
            tally.open_connections.fetch_sub(1, Relaxed);
        }
        self.log.changed.send_replace(());
    }
}

/// One request under way.
pub(crate) struct Ticket {
    log: Arc<RequestLog>,
    tally: Option<Arc<Tally>>,
    kind: Kind,
    sequence: u64,
}

impl Ticket {
    /// The request has had its effect; its answer may be held back.
    pub(crate) fn took_effect(&self) {
        self.log.changed.send_replace(());
    }

    /// The request has had its effect and is answered; `None` when the answer is lost on purpose.
    pub(crate) fn served(self, status: Option<u16>) {
        for tally in self.tally.iter().chain([&self.log.total]) {
            tally.served.of(self.kind).fetch_add(1, Relaxed);
        }
        let mut log = self.log.log.lock();
        let first = log.entries.front().map_or(0, |entry| entry.sequence);
        let place = self.sequence.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let Some(entry) = place.and_then(|place| log.entries.get_mut(place)) {
            entry.status = status;
            entry.served_at = Some(clock::instant());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        for tally in self.tally.iter().chain([&self.log.total]) {
            tally.leave();
        }
        self.log.changed.send_replace(());
    }
}

/// The requests of one object, or of a whole simulator, as a test sees them.
#[derive(Clone)]
pub struct Requests {
    log: Arc<RequestLog>,
    tally: Arc<Tally>,
    object: Option<Arc<str>>,
}

impl Requests {
    pub(crate) fn of_all(log: &Arc<RequestLog>) -> Self {
        Self { log: Arc::clone(log), tally: Arc::clone(&log.total), object: None }
    }

    pub(crate) fn of_object(log: &Arc<RequestLog>, tally: &Arc<Tally>, object: &Arc<str>) -> Self {
        Self { log: Arc::clone(log), tally: Arc::clone(tally), object: Some(Arc::clone(object)) }
    }

    /// Requests that arrived, answered or not.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Requests that had their effect and were answered (or whose answer was lost on purpose).
    #[must_use]
    pub fn served(&self) -> Counts {
        self.tally.served.snapshot()
    }

    /// Requests under way now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.tally.in_flight.load(Relaxed)
    }

    /// The most requests that were ever under way at once.
    #[must_use]
    pub fn peak_in_flight(&self) -> u64 {
        self.tally.peak.load(Relaxed)
    }

    /// Connections accepted so far. A server counts its own, not per customer.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.tally.connections.load(Relaxed)
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.tally.open_connections.load(Relaxed)
    }

    /// The log in order of arrival: the last 100 000 requests of the simulator, of them those of this object.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let log = self.log.log.lock();
        let ours = |entry: &&Entry| self.object.is_none() || entry.object == self.object;
        log.entries.iter().filter(ours).cloned().collect()
    }

    /// The bodies of the writes, in order of arrival.
    #[must_use]
    pub fn written(&self) -> Vec<String> {
        self.entries().into_iter().filter_map(|entry| entry.written).collect()
    }

    /// Waits until at least `count` requests of `kind` were served since the start.
    ///
    /// # Panics
    /// As [`wait_until`](Self::wait_until).
    pub async fn wait_for(&self, kind: Kind, count: u64) {
        self.wait_until(|requests| requests.served().of(kind) >= count).await;
    }

    /// Waits until at least `count` requests of `kind` arrived since the start, answered or not.
    ///
    /// # Panics
    /// As [`wait_until`](Self::wait_until).
    pub async fn wait_arrived(&self, kind: Kind, count: u64) {
        self.wait_until(|requests| requests.counts().of(kind) >= count).await;
    }

    /// Waits until `reached` holds; asked again after every arrival, effect and answer, and every connection
    /// opened or closed.
    ///
    /// # Panics
    /// After two minutes, with the counts so far: a test that would hang says instead what it has seen.
    pub async fn wait_until(&self, reached: impl Fn(&Self) -> bool) {
        let mut changed = self.log.changed.subscribe();
        let reaching = async {
            while !reached(self) {
                // Fails only once the log is gone, which `self` keeps.
                let _ = changed.changed().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reaching).await.is_ok();
        assert!(in_time, "waited {PATIENCE:?}; arrived: {:?}; served: {:?}", self.counts(), self.served());
    }
}
