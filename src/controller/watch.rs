//! Fills the stores from the API server and keeps them so.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use super::context::Context;
use super::store::{self, Entry, Key, Source};
use super::workers::{Reconciled, wake, wake_all};
use crate::clock;
use crate::crd::{CustomerTokenTtl, KonaServer, TokenPolicy, X2Gateway};

/// Time after which a watch is begun anew, in seconds: one whose connection has died unnoticed would tell nothing.
const WATCH_SECONDS: u32 = 60;

/// Longest wait until all watches are renewed.
const TAKE_OVER: Duration = Duration::from_mins(1);

/// Wait after a watch has failed: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(30));

/// When a watch that has failed is tried again. kube's own back-off has the same times, but takes its random numbers from
/// elsewhere than `clock`.
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
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }
}

/// The watches of all kinds in all scopes. They end with the tasks that they run in.
#[derive(Debug)]
pub struct Watches {
    /// How often they were begun, told to each by itself: which of several receivers a channel wakes first is left to chance.
    begun: Vec<signal::Sender<u64>>,
    rounds: u64,
    /// How often they had been begun when a store last held all there was.
    filled: Vec<signal::Receiver<u64>>,
}

impl Watches {
    /// Begins to watch.
    pub fn begin(context: &Arc<Context>, client: &Client, scopes: &[Scope], tasks: &mut JoinSet<()>) -> Self {
        let mut watches = Self { begun: Vec::new(), rounds: 1, filled: Vec::new() };
        for scope in scopes {
            watches.add::<X2Gateway>(context, client, scope, tasks);
            watches.add::<TokenPolicy>(context, client, scope, tasks);
            watches.add::<KonaServer>(context, client, scope, tasks);
            watches.add::<CustomerTokenTtl>(context, client, scope, tasks);
        }
        watches
    }

    fn add<K: Reconciled>(
        &mut self,
        context: &Arc<Context>,
        client: &Client,
        scope: &Scope,
        tasks: &mut JoinSet<()>,
    ) {
        let (filled, filling) = signal::channel(0);
        self.filled.push(filling);
        let (round, begun) = signal::channel(self.rounds);
        self.begun.push(round);
        let (context, client, scope) = (Arc::clone(context), client.clone(), scope.clone());
        tasks.spawn(watch::<K>(context, client, scope, begun, filled));
    }

    /// Waits until all stores hold what there was, at the earliest, when the watches were last begun.
    pub async fn filled(&mut self) {
        let rounds = self.rounds;
        for filling in &mut self.filled {
            // Where the task has ended, the process does.
            let _ = filling.wait_for(|filled| *filled >= rounds).await;
        }
    }

    /// Begins them anew: what another replica has written up to now is known afterwards, and so is what a watch has missed whose
    /// connection had died unnoticed. A kind that cannot be listed does not hold up the others for long: what was known of it
    /// when it last could is known still.
    pub async fn renew(&mut self) {
        self.rounds += 1;
        for round in &self.begun {
            round.send_replace(self.rounds);
        }
        if tokio::time::timeout(TAKE_OVER, self.filled()).await.is_err() {
            tracing::warn!("not all watches could be renewed: the operator works with what they last showed");
        }
    }
}

/// Watches one kind for ever.
async fn watch<K: Reconciled>(
    context: Arc<Context>,
    client: Client,
    scope: Scope,
    mut begun: signal::Receiver<u64>,
    filled: signal::Sender<u64>,
) {
    let api: Api<DeserializeGuard<K>> = scope.api(client);
    let config = watcher::Config { label_selector: scope.selector.clone(), ..watcher::Config::default() };
    let config = config.timeout(WATCH_SECONDS);
    loop {
        let round = *begun.borrow_and_update();
        let mut events = Box::pin(watcher(api.clone(), config.clone()).backoff(Again(AGAIN.0)));
        let mut listed = Listed::default();
        loop {
            let event = tokio::select! {
                biased;
                changed = begun.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                event = events.try_next() => event,
            };
            match event {
                Ok(Some(event)) => {
                    if follow(&context, &scope, event, &mut listed) {
                        filled.send_replace(round);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    complain::<K>(&error, scope.namespace.as_deref());
                    if let Some(namespace) = scope.namespace.as_deref().filter(|_| is_refused(&error)) {
                        // A namespace that is gone, or whose rights are missing, holds up no other.
                        context.namespaces.set_closed(namespace, K::KIND, true);
                        filled.send_replace(round);
                    }
                }
            }
        }
    }
}

/// Whether we may not list what there is.
fn is_refused(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403)
}

/// What a list has shown so far.
#[derive(Default)]
struct Listed {
    number: u64,
    keys: HashSet<Key>,
}

/// Does to the store what an event says. True where the store now holds all there is.
fn follow<K: Reconciled>(
    context: &Arc<Context>,
    scope: &Scope,
    event: Event<DeserializeGuard<K>>,
    listed: &mut Listed,
) -> bool {
    match event {
        Event::Init => {
            *listed = Listed { number: K::store(context).begin_list(), keys: HashSet::new() };
        }
        Event::InitApply(object) => {
            let entry = Entry::of(object);
            listed.keys.insert(Key::of(entry.meta()));
            store::put::<K>(context, &entry, Source::List(listed.number));
        }
        Event::InitDone => {
            for key in K::store(context).vanished(scope.namespace.as_deref(), &listed.keys) {
                forget::<K>(context, key);
            }
            let namespace = scope.namespace.as_deref();
            if namespace.is_some_and(|namespace| context.namespaces.set_closed(namespace, K::KIND, false)) {
                wake_all(context, namespace);
            }
            return true;
        }
        Event::Apply(object) => store::put::<K>(context, &Entry::of(object), Source::Watch),
        Event::Delete(object) => forget::<K>(context, Key::of(Entry::<K>::of(object).meta())),
    }
    false
}

fn forget<K: Reconciled>(context: &Arc<Context>, key: Key) {
    if let Some(entry) = K::store(context).get(&key) {
        context.departures.record::<K>(entry.meta());
    }
    store::remove::<K>(context, &key);
    wake(context, K::KIND, key);
}

/// Says in our own words what keeps a watch from working; it is tried again.
fn complain<K: Reconciled>(error: &watcher::Error, namespace: Option<&str>) {
    let kind = K::KIND.as_str();
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => 0,
    };
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
