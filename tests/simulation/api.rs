//! A Kubernetes API server in memory, for virtual time: what the operator asks for, and what its users and tests do, answered
//! as kube-apiserver 1.36 answers. `conformance.rs` runs the same cases against this one and the real one.
//!
//! ```ignore
//! let api = Api::new(seed, clock);                   // shared by all replicas, and survives their runtimes
//! api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}))?;
//! api.set_judge(|request| match request.verb {       // asked about each request of a client
//!     Verb::Patch => Verdict::of(Course::LoseAnswer),
//!     _ => Verdict::PASS,
//! });
//! runtime.block_on(async { operate(api.client("replica-1")).await });
//! for write in api.drain_writes() { … }              // what has changed, which client did it, and how
//! ```
//!
//! - [`Api::client`] is called within the runtime that uses the client. `Api` itself is free of runtimes; delays and the ends
//!   of watches are in the time of the runtime that waits for them, and the events of a watch arrive at once, across runtimes.
//! - [`Api::create`], [`merge`](Api::merge), [`edit`](Api::edit), [`delete`](Api::delete) and so on act for a user, at once
//!   and without being judged. [`Api::set_judge`]'s callback may use them too: a foreign writer in the middle of a request.
//! - [`Api::hold`] keeps a client's watches of a kind from hearing anything (stale caches), [`Api::break_watches`] ends them,
//!   [`Api::compact`] makes them list again (410).
//! - A delayed write is applied when it is due, even if the client has given up or crashed: [`Api::catch_up`] applies those,
//!   also each request does. [`Api::next_due`] says when that is.
//! - [`Api::step_namespaces`] is one pass of the namespace controller.
//! - Objects are validated by their schemas, without the CEL rules: [`Api::set_validator`] adds rules, and [`Api::plant`] gets
//!   round all of them.

mod faults;
mod meta;
mod patch;
mod refusal;
mod resource;
mod schema;
mod selector;
mod serve;
mod store;
mod users;
mod watch;
mod write;

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde_json::Value;

pub use faults::{Break, Course, RequestInfo, Verdict, Write};
pub use refusal::Refusal;
pub use resource::{Kind, Target, Verb};
use serve::Request;
use store::State;
pub use store::{Key, Stored};

/// Says what is wrong with an object that is about to be kept, given the one before it.
pub type Validator = dyn Fn(Kind, &Value, Option<&Value>) -> Option<String> + Send + Sync;
type Judge = dyn FnMut(&RequestInfo) -> Verdict + Send;
type Listening = dyn Fn(&str) -> bool + Send + Sync;

/// The server.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    judge: Mutex<Box<Judge>>,
    listening: Mutex<Arc<Listening>>,
    validator: Mutex<Arc<Validator>>,
    /// Requests whose clients have given up before they were applied, and when they will be.
    late: Mutex<Vec<(Timestamp, Request)>>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Api {
    /// An empty server. `seed` makes uids and generated names, `clock` the times that it writes.
    pub fn new(seed: u64, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::new(seed)),
            judge: Mutex::new(Box::new(|_| Verdict::PASS)),
            listening: Mutex::new(Arc::new(|_| true)),
            validator: Mutex::new(Arc::new(|_, _, _| None)),
            late: Mutex::default(),
            clock: Box::new(clock),
        }))
    }

    /// A client by this name, for the calling runtime.
    pub fn client(&self, name: &str) -> kube::Client {
        let (api, name) = (self.clone(), Arc::from(name));
        let service =
            tower::service_fn(move |request| serve::answer(api.clone(), Arc::clone(&name), request));
        kube::Client::new(service, "default")
    }

    /// Decides about each request that comes from now on.
    pub fn set_judge(&self, judge: impl FnMut(&RequestInfo) -> Verdict + Send + 'static) {
        *self.0.judge.lock().unwrap() = Box::new(judge);
    }

    /// Decides whether a client is still there when an answer is due that was on its way to it.
    pub fn set_listening(&self, listening: impl Fn(&str) -> bool + Send + Sync + 'static) {
        *self.0.listening.lock().unwrap() = Arc::new(listening);
    }

    /// Adds rules for what is kept.
    pub fn set_validator(
        &self,
        validator: impl Fn(Kind, &Value, Option<&Value>) -> Option<String> + Send + Sync + 'static,
    ) {
        *self.0.validator.lock().unwrap() = Arc::new(validator);
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        (self.0.clock)()
    }

    /// The version of the last write.
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// What was changed since this was last asked; of leases only who has them.
    pub fn drain_writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.state().writes)
    }

    /// Holds back what a client's watches of a kind would hear, or lets it go.
    pub fn hold(&self, client: &str, kind: Kind, held: bool) {
        let mut state = self.state();
        let place = (Arc::from(client), kind);
        if held {
            state.held.insert(place);
        } else {
            state.held.remove(&place);
        }
        let watchers = state.table(kind).watchers.iter();
        watchers.filter(|watcher| *watcher.client == *client).for_each(|watcher| watcher.set_held(held));
    }

    /// Ends a client's watches of a kind.
    pub fn break_watches(&self, client: &str, kind: Kind, how: Break) {
        let state = self.state();
        let watchers = state.table(kind).watchers.iter();
        watchers.filter(|watcher| *watcher.client == *client).for_each(|watcher| watcher.end(how));
    }

    /// Forgets all earlier versions of a kind: a watch that resumes from one of them gets a 410, and so does a list.
    pub fn compact(&self, kind: Kind) {
        let mut state = self.state();
        let version = state.version;
        state.table_mut(kind).forget(version);
    }

    /// Applies the requests that are due and whose clients have given up.
    pub fn catch_up(&self) {
        let now = self.now();
        let mut due: Vec<_> = self.0.late.lock().unwrap().extract_if(.., |(due, _)| *due <= now).collect();
        due.sort_by_key(|(due, _)| *due);
        for (_, request) in due {
            // The client has given up; there is no one to answer.
            let _ = request.apply(self);
        }
    }

    /// When the next request is applied whose client has given up.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.0.late.lock().unwrap().iter().map(|(due, _)| *due).min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn is_listening(&self, client: &str) -> bool {
        let listening = Arc::clone(&self.0.listening.lock().unwrap());
        listening(client)
    }

    fn validator(&self) -> Arc<Validator> {
        Arc::clone(&self.0.validator.lock().unwrap())
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}
