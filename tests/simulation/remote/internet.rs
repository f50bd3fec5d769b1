//! All remote systems, what is under way to them, and the log of what was sent and what has changed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tenure::engine::system::KeyId;

use super::call::{Call, Effect, Reply};
use super::fields::Fields;
use super::kona::{Server, id_of, token_ttls};
use super::mood::{Course, Fate, Mood};
use super::x2::Appliance;

/// What stands at a URL.
#[derive(Debug)]
pub enum Device {
    X2(Appliance),
    Kona(Server),
}

impl Device {
    fn serve(&mut self, call: &Call, now: Duration) -> (Reply, Effect) {
        match self {
            Self::X2(appliance) => appliance.serve(call, now),
            Self::Kona(server) => server.serve(call, now),
        }
    }
}

/// A remote system.
#[derive(Debug)]
pub struct System {
    pub device: Device,
    pub mood: Mood,
}

/// Something that has happened at a remote system.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Duration,
    pub url: String,
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A replica has sent a request.
    Sent { exchange: u64, replica: usize, method: &'static str, path: String, asked: Asked, fate: Fate },
    /// A request was carried out, perhaps after the replica had given up.
    CarriedOut { exchange: u64, replica: usize, status: u16, effect: Effect },
    /// Somebody else has changed something.
    Foreign(Effect),
}

/// What a request is to change.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// A login.
    Login,
    /// The tokens of the caller are to end.
    Revoke,
    /// This lifetime, in seconds.
    Timeout(u32),
    /// This customer is to be replaced, with these lifetimes.
    Customer { id: String, ttls: (Option<u64>, Option<u64>) },
}

impl Asked {
    fn of(call: &Call) -> Self {
        let customer = || {
            let sent = Fields::parse(std::str::from_utf8(&call.body).ok()?)?;
            Some(Self::Customer { id: id_of(&sent)?, ttls: token_ttls(&sent) })
        };
        let timeout = || {
            let sent: serde_json::Value = serde_json::from_slice(&call.body).ok()?;
            Some(Self::Timeout(u32::try_from(sent["timeout_seconds"].as_u64()?).ok()?))
        };
        let asked = match (call.method, call.path.as_str()) {
            ("POST", "/api2/tokens" | "/api/auth/login") => Some(Self::Login),
            ("DELETE", _) => Some(Self::Revoke),
            ("PUT", _) => timeout(),
            ("POST", "/api/customer" | "/api/customer/") => customer(),
            _ => None,
        };
        asked.unwrap_or(Self::Nothing)
    }
}

#[derive(Debug)]
struct Waiting {
    exchange: u64,
    replica: usize,
    url: String,
    call: Call,
    course: Course,
}

/// State shared by all replicas and the harness.
#[derive(Debug)]
pub struct State {
    pub systems: BTreeMap<String, System>,
    /// Whose key a system has, if not one of its own.
    pub keys: BTreeMap<String, String>,
    pub log: Vec<Entry>,
    pub rng: fastrand::Rng,
    waiting: BTreeMap<(Duration, u64), Waiting>,
    replies: BTreeMap<u64, Reply>,
    exchanges: u64,
}

/// All remote systems.
#[derive(Clone, Debug)]
pub struct Internet(Arc<Mutex<State>>);

impl Internet {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            systems: BTreeMap::new(),
            keys: BTreeMap::new(),
            log: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            waiting: BTreeMap::new(),
            replies: BTreeMap::new(),
            exchanges: 0,
        })))
    }

    /// The state, with everything carried out that was due by then.
    pub fn at(&self, now: Duration) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().expect("no panic while it is held");
        state.catch_up(now);
        state
    }
}

impl State {
    /// A request leaves a replica. Returns its number and its fate.
    pub fn send(&mut self, replica: usize, url: &str, call: Call, now: Duration) -> (u64, Fate) {
        self.exchanges += 1;
        let exchange = self.exchanges;
        let mood = self.systems.get(url).map_or(Mood::Away, |system| system.mood);
        let fate = mood.fate(&mut self.rng);
        let (method, path) = (call.method, call.path.clone());
        let asked = Asked::of(&call);
        let what = What::Sent { exchange, replica, method, path, asked, fate: fate.clone() };
        self.log.push(Entry { at: now, url: url.to_owned(), what });
        let course = fate.course.clone();
        let carried_out = matches!(
            course,
            Course::Served | Course::AnswerLost | Course::Spoilt(_) | Course::Silent { carried_out: true }
        );
        if carried_out {
            let waiting = Waiting { exchange, replica, url: url.to_owned(), call, course };
            self.waiting.insert((now + fate.before, exchange), waiting);
        }
        (exchange, fate)
    }

    /// The key that a system proves to have, if it has TLS.
    pub fn key(&self, url: &str) -> Option<KeyId> {
        let owner = self.keys.get(url).map_or(url, String::as_str);
        let hash = |part: u8| BuildHasherDefault::<DefaultHasher>::default().hash_one((owner, part));
        let key = [hash(0), hash(1)].map(u64::to_be_bytes).concat();
        key.try_into().ok().filter(|_| url.starts_with("https:"))
    }

    /// The answer to an exchange that was carried out.
    pub fn take_reply(&mut self, exchange: u64) -> Option<Reply> {
        self.replies.remove(&exchange)
    }

    /// A request that has not left the machine, since it was given up at once.
    pub fn recall(&mut self, exchange: u64) {
        self.waiting.retain(|(_, waiting), _| *waiting != exchange);
    }

    /// Somebody else changes something.
    pub fn foreign(&mut self, url: &str, now: Duration, change: impl FnOnce(&mut Device) -> Effect) {
        let Some(system) = self.systems.get_mut(url) else { return };
        let effect = change(&mut system.device);
        self.log.push(Entry { at: now, url: url.to_owned(), what: What::Foreign(effect) });
    }

    fn catch_up(&mut self, now: Duration) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            let at = entry.key().0;
            let Waiting { exchange, replica, url, mut call, course } = entry.remove();
            let Some(system) = self.systems.get_mut(&url) else { continue };
            call.wall += i64::try_from(at.as_secs()).expect("an hour or two");
            let (reply, effect) = system.device.serve(&call, at);
            let status = reply.status;
            if matches!(course, Course::Served) {
                self.replies.insert(exchange, reply);
            }
            let what = What::CarriedOut { exchange, replica, status, effect };
            self.log.push(Entry { at, url, what });
        }
    }
}
