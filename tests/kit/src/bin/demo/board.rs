//! The four kinds as the API server shows them: every change is a line as it happens.

mod row;

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use futures::StreamExt as _;
use k8s_openapi::api::events::v1::Event;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tenure_kit::clock;
use tenure_kit::namespace::TestNamespace;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) use row::{Kind, Row, is_ready, reason, status};

use crate::screen::{Look, Screen};

/// Events that say what the table shows anyway.
const SHOWN_BY_ROWS: [&str; 2] = ["TimeoutChanged", "TtlChanged"];

/// What the API server has told.
pub(crate) struct Board<'a> {
    screen: &'a Screen,
    objects: BTreeMap<(Kind, String), DynamicObject>,
    printed: BTreeMap<(Kind, String), Row>,
    happened: Vec<Happened>,
    known: HashSet<String>,
    changes: mpsc::Receiver<Change>,
    since: Instant,
    /// Whether events, messages and policies without gateways are shown, too.
    talkative: bool,
    _watches: JoinSet<()>,
}

/// An event of the operator.
pub(crate) struct Happened {
    pub(crate) object: String,
    pub(crate) reason: String,
    pub(crate) note: String,
}

enum Change {
    Applied(Kind, Box<DynamicObject>),
    Deleted(Kind, String),
    Happened(Box<Event>),
}

impl<'a> Board<'a> {
    /// Begins to watch a namespace.
    ///
    /// # Errors
    /// When the API server does not know a kind.
    pub(crate) async fn watch(namespace: &TestNamespace, screen: &'a Screen) -> Result<Self> {
        let (send, changes) = mpsc::channel(1024);
        let mut watches = JoinSet::new();
        for kind in Kind::ALL {
            watches.spawn(watch_kind(namespace.api(kind.name()).await?, kind, send.clone()));
        }
        let events: Api<Event> = Api::namespaced(namespace.client(), namespace.name());
        watches.spawn(watch_events(events, send));
        Ok(Self {
            screen,
            objects: BTreeMap::new(),
            printed: BTreeMap::new(),
            happened: Vec::new(),
            known: HashSet::new(),
            changes,
            since: clock::instant(),
            talkative: false,
            _watches: watches,
        })
    }

    /// Shows more from here on: the examples are in place, and what comes now is the user's doing.
    pub(crate) fn talk(&mut self) {
        self.talkative = true;
    }

    /// Counts times from here.
    pub(crate) fn restart(&mut self) {
        self.since = clock::instant();
    }

    /// Prints the table's head.
    pub(crate) fn head(&self) {
        self.screen.line(self.screen.paint(Look::Dim, &row::head()));
    }

    /// Time since [`restart`](Self::restart).
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Takes the next change in, and prints it if it is worth a line.
    ///
    /// # Errors
    /// When there is nobody left who watches.
    pub(crate) async fn step(&mut self) -> Result<()> {
        match self.changes.recv().await.ok_or_else(|| anyhow!("the watches have ended"))? {
            Change::Applied(kind, object) => self.applied(kind, *object),
            Change::Deleted(kind, name) => {
                self.objects.remove(&(kind, name.clone()));
                if self.printed.remove(&(kind, name.clone())).is_some() {
                    self.print(&format!("{}/{name}", kind.short()), "deleted");
                }
            }
            Change::Happened(event) => self.happened(*event),
        }
        Ok(())
    }

    fn applied(&mut self, kind: Kind, object: DynamicObject) {
        let key = (kind, object.name_any());
        let target = |policy: &str| Some(row::target(self.objects.get(&(Kind::Policy, policy.to_owned()))?));
        // The examples have policies before their gateways: that there are none yet is no news.
        let is_news = self.talkative || reason(&object) != "NoGatewaysMatch";
        let row = Row::of(kind, &object, target).filter(|_| is_news);
        self.objects.insert(key.clone(), object);
        let Some(row) = row.filter(|row| self.printed.get(&key) != Some(row)) else { return };
        self.screen.line(row.line(self.since.elapsed(), self.screen));
        if let Some(message) = row.message.as_ref().filter(|_| self.talkative) {
            self.screen.item("", message);
        }
        self.printed.insert(key, row);
    }

    fn happened(&mut self, event: Event) {
        if !self.known.insert(event.uid().unwrap_or_default()) {
            return;
        }
        let object = event.regarding.unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|kind| object.kind.as_deref() == Some(kind.name()));
        let name = object.name.unwrap_or_default();
        let happened = Happened {
            object: name.clone(),
            reason: event.reason.unwrap_or_default(),
            note: event.note.unwrap_or_default(),
        };
        // A warning says what the row's message says.
        let news =
            event.type_.as_deref() != Some("Warning") && !SHOWN_BY_ROWS.contains(&happened.reason.as_str());
        if let Some(kind) = kind.filter(|_| self.talkative && news) {
            self.print(&format!("{}/{name}", kind.short()), &happened.reason);
            self.screen.item("", &happened.note);
        }
        self.happened.push(happened);
    }

    fn print(&self, object: &str, what: &str) {
        self.screen.line(row::note(self.since.elapsed(), object, what, self.screen));
    }

    /// Takes changes in until it is as wanted.
    ///
    /// # Errors
    /// When `limit` is over: what was expected, and what every object shows.
    pub(crate) async fn until(
        &mut self,
        expected: &str,
        limit: Duration,
        reached: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let waiting = async {
            while !reached(self) {
                self.step().await?;
            }
            anyhow::Ok(())
        };
        match timeout(limit, waiting).await {
            Ok(done) => done,
            Err(_) => bail!("expected {expected} within {} s, seen:\n{}", limit.as_secs(), self.seen()),
        }
    }

    /// An object as it was last seen.
    pub(crate) fn get(&self, kind: Kind, name: &str) -> Result<&DynamicObject> {
        let found = self.objects.get(&(kind, name.to_owned()));
        found.ok_or_else(|| anyhow!("expected a {} {name}, seen none", kind.name()))
    }

    /// Whether something holds of an object.
    pub(crate) fn has(&self, kind: Kind, name: &str, wanted: impl Fn(&DynamicObject) -> bool) -> bool {
        self.get(kind, name).is_ok_and(wanted)
    }

    /// The first event with this reason about an object.
    pub(crate) fn event(&self, object: &str, reason: &str) -> Option<&Happened> {
        self.happened.iter().find(|happened| happened.object == object && happened.reason == reason)
    }

    fn seen(&self) -> String {
        let line = |((kind, name), object): (&(Kind, String), &DynamicObject)| {
            let short = kind.short();
            let seen = json!({"generation": object.metadata.generation, "status": status(object)});
            format!("  {short}/{name} {seen}")
        };
        self.objects.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Whether a request was carried out.
pub(crate) fn has_handled(object: &DynamicObject, value: &str) -> bool {
    status(object).get("lastHandledReconcileAt").and_then(Value::as_str) == Some(value)
}

async fn watch_kind(api: Api<DynamicObject>, kind: Kind, send: mpsc::Sender<Change>) {
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                Change::Applied(kind, Box::new(object))
            }
            Ok(watcher::Event::Delete(object)) => Change::Deleted(kind, object.name_any()),
            // The watch begins again by itself.
            Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => continue,
        };
        if send.send(change).await.is_err() {
            return;
        }
    }
}

async fn watch_events(api: Api<Event>, send: mpsc::Sender<Change>) {
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        if send.send(Change::Happened(Box::new(event))).await.is_err() {
            return;
        }
    }
}
