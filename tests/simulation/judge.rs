//! What the API server does to the requests of the replicas.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::api::{Api, Course, Kind, RequestInfo, Verb, Verdict};
use crate::crash::Crash;
use crate::replica::{Stop, process_of};
use crate::time;

/// Longest wait of the operator's clients for an answer.
const API_TIMEOUT: Duration = Duration::from_secs(30);
/// The same of those that watch.
const WATCH_TIMEOUT: Duration = Duration::from_secs(90);

/// So many requests at one time are no accident.
const SPINNING: u32 = 5_000;

/// How the API server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Each request takes up to this long.
    Slow(Duration),
    /// No connection.
    Away,
    /// Each write is refused with this code.
    Refusing(u16),
    /// Each write of a status takes up to this long, and nothing else does.
    SlowStatus(Duration),
    /// A fifth of all requests goes wrong in some way.
    Flaky,
}

/// What admission refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Changes of finalizers.
    Finalizers,
    /// The status of a kind.
    Status(Kind),
}

/// Shared with the API server, which asks it.
#[derive(Clone, Debug)]
pub struct Judge(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    weather: Weather,
    denial: Option<(Denied, u16)>,
    processes: BTreeMap<usize, Crash>,
    requests: u64,
    /// Requests at the same time as the last one, and that time.
    at_once: (Duration, u32),
}

impl Judge {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: fastrand::Rng::with_seed(seed),
            weather: Weather::Fair,
            denial: None,
            processes: BTreeMap::new(),
            requests: 0,
            at_once: (Duration::ZERO, 0),
        })))
    }

    /// Judges what clients ask an API server for.
    pub fn preside(&self, api: &Api) {
        let judge = self.clone();
        api.set_judge(move |request| judge.state().verdict(request));
    }

    /// Lets processes crash when the answer to a request is due, too.
    pub fn attend_answers(&self, api: &Api) {
        let judge = self.clone();
        api.set_listening(move |client| judge.state().hears(client));
    }

    /// A process whose requests count as points at which it may crash.
    pub fn register(&self, number: usize, crash: Crash) {
        self.state().processes.insert(number, crash);
    }

    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    pub fn deny(&self, denial: Option<(Denied, u16)>) {
        self.state().denial = denial;
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while it is held")
    }
}

impl State {
    fn verdict(&mut self, request: &RequestInfo) -> Verdict {
        self.requests += 1;
        let now = time::now();
        self.at_once = if self.at_once.0 == now { (now, self.at_once.1 + 1) } else { (now, 1) };
        let crash = process_of(&request.client).and_then(|number| self.processes.get(&number));
        if let Some(crash) = crash.filter(|_| self.at_once.1 == SPINNING) {
            // Else the time would never go on, and nothing would ever be checked.
            crash.set(0, Stop::Trapped);
        }
        if let Some(crash) = crash.filter(|crash| !crash.passes()) {
            // Half of the calls in which a process dies are carried out.
            if crash.died_now() && self.rng.bool() {
                return Verdict::of(Course::Silence);
            }
            return Verdict { before: Duration::from_hours(24), ..Verdict::of(Course::CutOff) };
        }
        if let Some((_, code)) = self.denial.filter(|(denied, _)| denied.covers(request)) {
            return Verdict::deny(code);
        }
        let mut pause = |most: u64| Duration::from_millis(self.rng.u64(1..=most));
        let (before, after) = (pause(5), pause(5));
        match self.weather {
            Weather::Slow(most) | Weather::SlowStatus(most) if self.weather.slows(request) => {
                let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
                let (before, after) = (pause(most), pause(most));
                Verdict::delayed(before, after)
            }
            Weather::Away => Verdict { before, ..Verdict::of(Course::CutOff) },
            Weather::Refusing(code) if request.verb.writes() => Verdict::refuse(code),
            Weather::Flaky => self.flaky(request, before, after),
            _ => Verdict::delayed(before, after),
        }
    }

    /// Whether a process lives on when the answer to a request is due.
    fn hears(&self, client: &str) -> bool {
        let crash = process_of(client).and_then(|number| self.processes.get(&number));
        crash.is_none_or(|crash| {
            let lives = crash.passes();
            // Its next request does not arrive.
            crash.died_now();
            lives
        })
    }

    fn flaky(&mut self, request: &RequestInfo, before: Duration, after: Duration) -> Verdict {
        // The clients give up by themselves after so long; their timeouts are not part of what is simulated.
        let silence = if request.client.ends_with("watching") { WATCH_TIMEOUT } else { API_TIMEOUT };
        let long = Duration::from_millis(self.rng.u64(500..28_000));
        match self.rng.u8(0..40) {
            0 => Verdict { before, ..Verdict::of(Course::CutOff) },
            1 => Verdict { before, after, course: Course::LoseAnswer },
            2 => Verdict { before, after: silence, course: Course::LoseAnswer },
            8 => Verdict { before: silence, ..Verdict::of(Course::CutOff) },
            3 => Verdict::refuse(500),
            4 => Verdict::refuse(429),
            5 => Verdict::refuse(503),
            6 => Verdict::delayed(long, after),
            7 => Verdict::delayed(before, long),
            _ => Verdict::delayed(before, after),
        }
    }
}

impl Weather {
    fn slows(self, request: &RequestInfo) -> bool {
        match self {
            Self::Slow(_) => true,
            Self::SlowStatus(_) => request.target.status && request.verb.writes(),
            _ => false,
        }
    }
}

impl Denied {
    fn covers(self, request: &RequestInfo) -> bool {
        if request.verb != Verb::Patch && request.verb != Verb::Replace {
            return false;
        }
        match self {
            Self::Finalizers => !request.target.status && Kind::OURS.contains(&request.target.kind),
            Self::Status(kind) => request.target.status && request.target.kind == kind,
        }
    }
}
