//! One schedule's world: the API server, the remote systems, the replicas, and what has happened.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::Duration;

use serde_json::Value;

use crate::api::{Api, Key, Kind};
use crate::depot::Depot;
use crate::history::{History, Line, time_of};
use crate::judge::{Judge, Weather};
use crate::knobs::Knobs;
use crate::log;
use crate::manifest::{self, IN_SCOPE, NAMESPACE};
use crate::oracle::{self, Oracles, Violation};
use crate::plan;
use crate::remote::{Device, Internet, Role, What};
use crate::replica::{Outside, Replica, Stop};
use crate::seed::Seed;
use crate::time;

/// The operator's longest wait after a failure.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(10);

/// The place of a replica, with or without a process.
#[derive(Default)]
pub struct Place {
    pub process: Option<Replica>,
    /// When the next process starts here.
    pub restart: Option<Duration>,
    /// Until when it does not run.
    pub paused: Option<Duration>,
}

/// Everything.
pub struct World {
    pub rng: fastrand::Rng,
    pub knobs: Knobs,
    pub outside: Outside,
    pub api: Api,
    pub judge: Judge,
    pub now: Duration,
    pub history: History,
    pub oracles: Oracles,
    pub places: Vec<Place>,
    /// The right password of each Secret.
    pub secrets: BTreeMap<String, String>,
    pub depot: Depot,
    appliances: usize,
    processes: usize,
    /// Requests to remote systems so far.
    requests: u64,
}

impl World {
    pub fn new(seed: Seed) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed.number);
        let knobs = Knobs::draw(seed, &mut rng);
        Self::with(knobs, rng)
    }

    /// A world in which just this may happen.
    pub fn with(knobs: Knobs, mut rng: fastrand::Rng) -> Self {
        log::begin();
        drop(log::drain());
        time::set_harness(Some(Duration::ZERO));
        let api = Api::new(rng.u64(..), || time::wall(time::now()));
        let internet = Internet::new(rng.u64(..));
        let judge = Judge::new(rng.u64(..));
        judge.preside(&api);
        if knobs.unheard {
            judge.attend_answers(&api);
        }
        let concurrency = [1, 2, 64][rng.usize(0..3)];
        let outside = Outside {
            api: api.clone(),
            internet,
            elected: knobs.replicas,
            concurrency,
            namespaces: Vec::new(),
            selector: knobs.scope.then(|| format!("scope={IN_SCOPE}")),
            judge: judge.clone(),
        };
        let mut oracles = Oracles::default();
        oracles.writes.declared.several = knobs.replicas;
        oracles.terms.elected = knobs.replicas;
        oracles.writes.restores = knobs.restore || knobs.namespaces;
        let places = (0..if knobs.replicas { 2 } else { 1 }).map(|_| Place::default()).collect();
        Self {
            rng,
            knobs,
            outside,
            api,
            judge,
            now: Duration::ZERO,
            history: History::default(),
            oracles,
            places,
            secrets: BTreeMap::new(),
            depot: Depot::default(),
            appliances: 0,
            processes: 0,
            requests: 0,
        }
    }

    /// Notes what the harness does.
    pub fn note(&mut self, what: impl Into<String>) {
        self.history.push(self.now, Line::Harness(what.into()));
    }

    /// How the API server behaves from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.note(format!("the API server is now {weather:?}"));
        self.judge.set_weather(weather);
        let sight = &mut self.oracles.writes.declared.sight;
        sight.slow_statuses = matches!(weather, Weather::SlowStatus(_));
        sight.weather(self.now, !sight.slow_statuses && weather != Weather::Fair);
    }

    pub fn internet_now(&self) -> MutexGuard<'_, crate::remote::State> {
        self.outside.internet.at(self.now)
    }

    pub fn create(&self, object: Value) {
        self.api.create(object).expect("a valid object");
    }

    pub fn add_secret(&mut self, name: &str, password: &str) {
        self.create(manifest::secret(name, plan::user_of(name), password));
        self.secrets.insert(name.to_owned(), password.to_owned());
        self.oracles.planted.push(password.to_owned());
    }

    /// An appliance that lets the operator in with a password.
    pub fn add_appliance(&mut self, url: &str, password: &str) {
        let system = plan::appliance(&mut self.rng, password);
        if let Device::X2(appliance) = &system.device {
            self.oracles.truth.saw(url, appliance.timeout);
        }
        self.internet_now().systems.insert(url.to_owned(), system);
        self.appliances += 1;
    }

    /// The URL of an appliance that is to be added.
    pub fn next_appliance(&self) -> String {
        plan::appliance_url(self.appliances)
    }

    /// Names of the objects of a kind.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        let objects = self.api.all(kind);
        let of_ours = objects.iter().filter(|object| object.text("namespace") == Some(NAMESPACE));
        of_ours.filter_map(|object| object.text("name").map(str::to_owned)).collect()
    }

    /// One of the objects of a kind.
    pub fn pick(&mut self, kind: Kind) -> Option<String> {
        let names = self.names(kind);
        (!names.is_empty()).then(|| names[self.rng.usize(0..names.len())].clone())
    }

    /// Gives the user of a Secret's systems its password, there.
    pub fn let_in(&self, secret: &str, password: &str) {
        let users = |kind: Kind| {
            let objects = self.api.all(kind);
            let with =
                objects.into_iter().filter(|o| o.value["spec"]["credentialsSecretRef"]["name"] == *secret);
            with.filter_map(|o| o.value["spec"]["url"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        if let Some(customer) = secret.strip_prefix(plan::user_secret("").as_str()) {
            self.let_in_user(customer, password);
            return;
        }
        let mut internet = self.internet_now();
        for url in users(Kind::X2Gateway).into_iter().chain(users(Kind::KonaServer)) {
            let Some(system) = internet.systems.get_mut(&url) else { continue };
            match &mut system.device {
                Device::X2(appliance) => appliance.accounts.set(plan::USER, password, Role::Admin),
                Device::Kona(server) => server.accounts.set(plan::USER, password, Role::Admin),
            }
        }
    }

    /// Gives the user of a customer its password, at its server.
    fn let_in_user(&self, customer: &str, password: &str) {
        let Some(customer) = self.api.get(Kind::CustomerTokenTtl, NAMESPACE, customer) else { return };
        let id = customer.value["spec"]["customerId"].as_str().unwrap_or_default().to_owned();
        let user = plan::user_secret(customer.text("name").unwrap_or_default());
        for system in self.internet_now().systems.values_mut() {
            if let Device::Kona(server) = &mut system.device {
                server.accounts.set(&user, password, Role::Customer(id.clone()));
            }
        }
    }

    /// Starts a process at a place.
    pub fn start(&mut self, place: usize) {
        self.processes += 1;
        self.oracles.logins.processes += 1;
        let seen = &self.outside.namespaces;
        self.oracles.writes.declared.sight.started(self.processes, self.now, seen);
        self.note(format!("process {} starts", self.processes));
        let replica = Replica::start(&self.outside, self.processes, self.now, self.rng.u64(..));
        self.places[place] = Place { process: Some(replica), restart: None, paused: None };
    }

    /// Ends a process at once, and starts another in its place after a while.
    pub fn crash(&mut self, place: usize, restart_after: Duration) {
        if let Some(process) = self.places[place].process.take() {
            self.note(format!("process {} crashes", process.index));
            self.oracles.crashes += 1;
            drop(process);
        }
        self.places[place] = Place { process: None, restart: Some(self.now + restart_after), paused: None };
    }

    /// Lets all replicas work until a time. Returns early, with true, if one is interrupted.
    pub fn run_until(&mut self, until: Duration) -> Result<bool, Violation> {
        while self.now < until {
            let next = self.next_stop(until);
            let interrupted = self.slice(next);
            time::set_harness(Some(self.now));
            self.observe()?;
            if interrupted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Until when all replicas can work on their own.
    fn next_stop(&mut self, until: Duration) -> Duration {
        let runs = |place: &&Place| place.process.is_some() || place.restart.is_some_and(|at| at <= self.now);
        let running = self.places.iter().filter(runs).count();
        // Several take turns: within one turn their clocks differ by so much.
        let turn = match self.rng.u8(0..4) {
            _ if running < 2 => Duration::from_mins(1),
            0 => Duration::from_millis(self.rng.u64(10..300)),
            _ => Duration::from_millis(self.rng.u64(1_000..3_000)),
        };
        let wakes = self.places.iter().filter_map(|place| place.restart.or(place.paused));
        wakes.filter(|at| *at > self.now).min().unwrap_or(until).min(until).min(self.now + turn)
    }

    /// Lets each replica work until a time; true if one was interrupted.
    fn slice(&mut self, until: Duration) -> bool {
        let (begin, mut end, mut interrupted) = (self.now, until, false);
        for place in 0..self.places.len() {
            if self.places[place].restart.is_some_and(|at| at <= begin) {
                self.start(place);
            }
            if self.places[place].paused.is_some_and(|at| at > begin) {
                continue;
            }
            let resumes = self.places[place].paused.take().is_some();
            let Some(process) = &mut self.places[place].process else { continue };
            if resumes {
                self.oracles.logins.pauses += 1;
                process.skip_to(begin);
            }
            if process.is_ending() {
                self.oracles.terms.ends(process.index, process.now());
            }
            let stop = process.run_until(until);
            self.now = process.now();
            time::set_harness(Some(self.now));
            match stop {
                Stop::Reached => {}
                Stop::Trapped => (interrupted, end) = (true, end.min(self.now)),
                Stop::Crashed => {
                    end = end.min(self.now);
                    let pause = Duration::from_millis(self.rng.u64(0..40_000));
                    self.crash(place, pause);
                }
                Stop::Ended => {
                    self.note("a process has ended");
                    let pause = Duration::from_millis(self.rng.u64(0..5_000));
                    self.places[place] = Place { process: None, restart: Some(until + pause), paused: None };
                }
            }
        }
        self.now = end.max(begin);
        interrupted
    }

    /// What is not yet as it must be. `since`: when the last fault ended.
    pub fn unmet(&self, since: Duration) -> Vec<String> {
        oracle::unmet(&self.api, &self.internet_now(), |kind, object| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            self.awaits_release(kind, &(text("namespace"), text("name")), since)
        })
    }

    /// Whether our finalizer is still to be removed from an object that is out of scope. If all processes that run now may have
    /// begun when it had left, it may stay; but one that has seen it leave may be in the back-off of its last try.
    fn awaits_release(&self, kind: Kind, key: &Key, since: Duration) -> bool {
        let declared = &self.oracles.writes.declared;
        let mut running = self.places.iter().filter_map(|place| place.process.as_ref());
        self.processes == self.places.len()
            || self.now < since + LONGEST_BACK_OFF
            || running.all(|process| declared.saw_leave(process.index, kind, key))
    }

    /// Takes over what has happened since, and checks it.
    pub fn observe(&mut self) -> Result<(), Violation> {
        let lines = log::drain();
        let seen = self.oracles.check_log(&lines);
        lines.into_iter().for_each(|line| self.history.push(self.now, Line::Log(line)));
        seen?;
        self.api.catch_up();
        self.step_namespaces();
        let entries = std::mem::take(&mut self.internet_now().log);
        let writes = self.api.drain_writes();
        self.requests +=
            entries.iter().filter(|entry| matches!(entry.what, What::Sent { .. })).count() as u64;
        self.oracles.pace.check(self.now, self.requests + self.judge.requests())?;
        for process in self.places.iter().filter_map(|place| place.process.as_ref()) {
            self.oracles.pace.check_parks(process.index, process.now(), process.parks())?;
        }
        let checked = self.oracles.check(&entries, &writes);
        for write in writes.into_iter().filter(|write| write.target.kind != Kind::Lease) {
            self.history.push(time_of(&write), Line::Api(Box::new(write)));
        }
        entries.into_iter().for_each(|entry| self.history.push(entry.at, Line::Remote(entry)));
        checked
    }
}
