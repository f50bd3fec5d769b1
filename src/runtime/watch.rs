//! Fills the stores from the API server and keeps them so.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use futures::TryStreamExt as _;
use kube::client::Body;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::watch as signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::object::{Entry, Key, Reported};
use super::store::{Source, Store};
use super::workers::Trigger;
use crate::clock;
use crate::crd::Kind;

/// Time after which a watch is restarted, in seconds: otherwise a dead connection could go unnoticed.
const WATCH_SECONDS: u32 = 60;

/// A watch is stale if the API server has not answered it for this long: three restarts in a row.
const STALE: Duration = Duration::from_secs(3 * WATCH_SECONDS as u64);

/// Longest wait until all watches are renewed.
const TAKE_OVER: Duration = Duration::from_mins(1);

/// Longest wait for a part of a list while watches are renewed, twice as long each time: its request may have gone out on a
/// connection that had died unnoticed, and is then sent on another.
const PART: Duration = Duration::from_secs(3);

/// Wait after a watch has failed, up to twice as long: the first, and the longest. The end of an outage is not to be missed for
/// long.
const AGAIN: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(15));

/// When a watch that has failed, or was refused, is tried again. kube's own back-off takes its random numbers from elsewhere than
/// `clock`.
#[derive(Debug)]
struct Again(Duration);

impl Iterator for Again {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0.mul_f64(1.0 + clock::random());
        self.0 = (2 * self.0).min(AGAIN.1);
        Some(wait)
    }
}

impl Backoff for Again {
    fn reset(&mut self) {
        self.0 = AGAIN.0;
    }
}

/// What is watched.
#[derive(Clone, Debug)]
pub struct Scope {
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// Only objects with these labels.
    pub selector: Option<String>,
}

impl Scope {
    /// Where resources of one kind in this scope are found.
    #[must_use]
    pub(crate) fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }
}

/// What a watch has brought.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// How often it had been begun when its store last held all there was.
    filled: Option<u64>,
    /// When the API server last began to answer it.
    answered: Option<Instant>,
    /// Whether it has not been answered since it failed.
    failing: bool,
}

/// A read-only view of the state of one watch.
#[derive(Clone, Debug)]
pub(crate) struct View {
    kind: Kind,
    namespace: Option<String>,
    progress: signal::Receiver<Progress>,
}

impl View {
    /// Why the store is not in sync with the API server; none if it is.
    #[must_use]
    pub(crate) fn not_ready(&self) -> Option<String> {
        let Progress { filled, answered, .. } = *self.progress.borrow();
        let scope = self.namespace.as_ref().map_or_else(String::new, |namespace| format!(" in {namespace}"));
        if filled.is_none() {
            return Some(format!("the cache of {}{scope} is not synced yet", self.kind.as_str()));
        }
        let stale = answered.is_some_and(|answered| answered.elapsed() > STALE);
        let kind = self.kind.as_str();
        stale.then(|| format!("the watch of {kind}{scope} is stale: the API server does not answer it"))
    }
}

/// The watches of all kinds in all scopes. They end with the tasks that they run in.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// How often they were begun, shown to each by itself: which of several receivers a channel wakes first is left to chance.
    begun: Vec<signal::Sender<u64>>,
    /// How often they were begun again.
    rounds: u64,
    views: Vec<View>,
}

impl Watches {
    /// Begins to watch one kind in one scope.
    pub(crate) fn add<K: Reported>(
        &mut self,
        store: &Arc<Store<K>>,
        client: &Client,
        scope: &Scope,
        tasks: &mut JoinSet<()>,
    ) {
        let (progress, progresses) = signal::channel(Progress::default());
        self.views.push(View { kind: K::KIND, namespace: scope.namespace.clone(), progress: progresses });
        let (round, begun) = signal::channel(self.rounds);
        self.begun.push(round);
        let (store, scope) = (Arc::clone(store), scope.clone());
        let client = noting(client, answered(&store, &scope, progress.clone()));
        tasks.spawn(watch(store, client, scope, begun, progress));
    }

    /// The state of each.
    #[must_use]
    pub(crate) fn views(&self) -> Vec<View> {
        self.views.clone()
    }

    /// Waits until all stores hold what there was, at the earliest, when the watches were last begun.
    pub(crate) async fn filled(&mut self) {
        let rounds = self.rounds;
        for view in &mut self.views {
            // If the task has ended, the process does.
            let _ = view.progress.wait_for(|progress| progress.filled >= Some(rounds)).await;
        }
    }

    /// Begins them again: what another replica has written up to now is known afterwards, and so is what a watch has missed whose
    /// connection had died unnoticed. A kind that cannot be listed does not hold up the others for long: what was known of it
    /// when it last could is known still.
    pub(crate) async fn renew(&mut self) {
        self.rounds += 1;
        for round in &self.begun {
            round.send_replace(self.rounds);
        }
        if tokio::time::timeout(TAKE_OVER, self.filled()).await.is_err() {
            tracing::warn!(
                "not all watches could be restarted in time: continuing with the last known state"
            );
        }
    }
}

/// The same client; whatever it watches, `answered` is called when the API server begins to answer. kube's watcher reports
/// neither that nor the end of a watch, so a dead watch cannot be distinguished from one without changes.
fn noting(client: &Client, answered: impl Fn() + Clone + Send + 'static) -> Client {
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, answered) = (client.clone(), answered.clone());
        let is_watch = request.uri().query().is_some_and(|query| query.split('&').any(|p| p == "watch=true"));
        async move {
            let answer = client.send(request).await?;
            if is_watch && answer.status().is_success() {
                answered();
            }
            Ok::<_, kube::Error>(answer)
        }
    });
    Client::new(service, namespace)
}

/// Notes that a watch is answered. A watch begins only after a list, so from then on the namespace is readable.
fn answered<K: Reported>(
    store: &Arc<Store<K>>,
    scope: &Scope,
    progress: signal::Sender<Progress>,
) -> impl Fn() + Clone + Send + 'static {
    let (cluster, namespace) = (Arc::clone(store.cluster()), scope.namespace.clone());
    move || {
        let namespace = namespace.as_deref();
        let mut was_failing = false;
        progress.send_modify(|progress| {
            progress.answered = Some(clock::instant());
            was_failing = std::mem::take(&mut progress.failing);
        });
        if was_failing {
            cluster.outages.end();
        }
        cluster.metrics.watched(K::KIND.as_str(), namespace.unwrap_or("*"), clock::now().0.as_second());
        if namespace.is_some_and(|namespace| cluster.namespaces.set_unreadable(namespace, K::KIND, false)) {
            cluster.workers.wake_all(namespace, Trigger::Namespace);
        }
    }
}

/// Watches one kind forever. What may not be listed or watched in a namespace is asked for again by a list, since what happens
/// there meanwhile is not known.
async fn watch<K: Reported>(
    store: Arc<Store<K>>,
    client: Client,
    scope: Scope,
    mut begun: signal::Receiver<u64>,
    progress: signal::Sender<Progress>,
) {
    let api: Api<DeserializeGuard<K>> = scope.api(client);
    let config = watcher::Config { label_selector: scope.selector.clone(), ..watcher::Config::default() };
    let config = config.timeout(WATCH_SECONDS);
    let (mut again, mut patience) = (Again(AGAIN.0), PART);
    loop {
        let (round, since) = (*begun.borrow_and_update(), clock::instant());
        let mut events = Box::pin(watcher(api.clone(), config.clone()).backoff(Again(AGAIN.0)));
        let (mut listed, mut heard) = (Listed::default(), since);
        let pause = loop {
            let is_renewing = round > 0 && progress.borrow().filled < Some(round);
            let event = tokio::select! {
                biased;
                changed = begun.changed() => match changed {
                    Ok(()) => break Duration::ZERO,
                    Err(_) => return,
                },
                event = events.try_next() => event,
                () = tokio::time::sleep_until(heard + patience), if is_renewing => {
                    patience *= 2;
                    break Duration::ZERO;
                }
            };
            heard = clock::instant();
            match event {
                Ok(Some(event)) => {
                    if follow(&store, &scope, event, &mut listed) {
                        patience = PART;
                        progress.send_modify(|progress| {
                            progress.filled = Some(round);
                            // A watch that is never answered becomes stale, too.
                            progress.answered.get_or_insert_with(clock::instant);
                        });
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    complain::<K>(&error, scope.namespace.as_deref());
                    if matches!(code_of(&error), 0 | 500..) {
                        progress.send_modify(|progress| progress.failing = true);
                    }
                    if let Some(namespace) = scope.namespace.as_deref().filter(|_| code_of(&error) == 403) {
                        set_unreadable(&store, namespace);
                        // One that is gone, or whose rights are missing, holds up no other: a refusal is an answer.
                        progress.send_modify(|progress| {
                            (progress.filled, progress.answered) = (Some(round), Some(clock::instant()));
                        });
                        // A list may be allowed where a watch is not: only what has lasted begins again soon.
                        if since.elapsed() > AGAIN.1 {
                            again.reset();
                        }
                        break again.next().unwrap_or(AGAIN.1);
                    }
                }
            }
        };
        // A round that begins meanwhile does not wait.
        let _ = tokio::time::timeout(pause, begun.changed()).await;
    }
}

/// Nothing is done in a namespace where a kind may not be listed or watched.
fn set_unreadable<K: Reported>(store: &Store<K>, namespace: &str) {
    let cluster = store.cluster();
    if cluster.namespaces.set_unreadable(namespace, K::KIND, true) {
        cluster.workers.wake_all(Some(namespace), Trigger::Namespace);
    }
}

/// The status of an answer that the API server gave instead of what a watch asked for; 0 without one.
fn code_of(error: &watcher::Error) -> u16 {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => 0,
    }
}

/// What a list has shown so far.
#[derive(Default)]
struct Listed {
    number: u64,
    keys: HashSet<Key>,
}

/// Applies an event to the store. True if the store now holds all there is.
fn follow<K: Reported>(
    store: &Store<K>,
    scope: &Scope,
    event: Event<DeserializeGuard<K>>,
    listed: &mut Listed,
) -> bool {
    match event {
        Event::Init => {
            *listed = Listed { number: store.begin_list(), keys: HashSet::new() };
        }
        Event::InitApply(object) => {
            let entry = Entry::of(object);
            listed.keys.insert(Key::of(entry.meta()));
            store.put(&entry, Source::List(listed.number));
        }
        Event::InitDone => {
            let Listed { keys, .. } = std::mem::take(listed);
            for key in store.vanished(scope.namespace.as_deref(), &keys) {
                forget(store, key);
            }
            return true;
        }
        Event::Apply(object) => store.put(&Entry::of(object), Source::Watch),
        Event::Delete(object) => forget(store, Key::of(Entry::<K>::of(object).meta())),
    }
    false
}

fn forget<K: Reported>(store: &Store<K>, key: Key) {
    store.remove(&key);
    store.cluster().wake(K::KIND, key, Trigger::Change);
}

/// Reports in our own words what keeps a watch from working; it is tried again.
fn complain<K: Reported>(error: &watcher::Error, namespace: Option<&str>) {
    let kind = K::KIND.as_str();
    let code = code_of(error);
    match code {
        404 => tracing::error!(
            kind,
            "the API server does not know this kind: install the CRDs (kubectl apply -f crds/)"
        ),
        400 => tracing::error!(kind, "the API server refuses the request: check --selector"),
        401 | 403 => {
            tracing::error!(
                kind,
                namespace,
                code,
                "the operator is not allowed to list and watch this kind: check its RBAC rules"
            );
        }
        _ => tracing::warn!(kind, code, "the watch failed and is retried"),
    }
}
