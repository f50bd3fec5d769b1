//! What a kind with a remote system supplies to its reconciles, and what these keep and find.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use super::working::Working;
use crate::clock;
use crate::controller::claims::Claims;
use crate::controller::connection::Connections;
use crate::controller::logins::Barred;
use crate::controller::requests::{Handled, Request};
use crate::crd::Cause;
use crate::engine::backoff::{Backoff, Inconclusive};
use crate::engine::change::{Change, Changes};
use crate::engine::contest::Contest;
use crate::engine::login::{LogsIn, News};
use crate::engine::owed::Owed;
use crate::engine::ownership::{Claimed, Standing, Trial};
use crate::engine::summary::Summary;
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::metrics::{Counted, Whole};
use crate::runtime::object::{Entry, Key, Reported};
use crate::runtime::reconcile::Reconcile;
use crate::runtime::secrets::Age;
use crate::runtime::store::Store;

/// A kind whose objects represent something in a remote system: what is gathered, found and kept of one.
pub trait Managed: Reported + LogsIn {
    /// What is gathered from the cluster: who governs the object.
    type Parents: Send + Sync;
    /// What, when it changes, is a reason to reconcile at once.
    type Inputs: Clone + std::fmt::Debug + PartialEq + Send + Sync;
    /// The remote value.
    type Value: Clone + std::fmt::Debug + PartialEq + Send + Sync;
    /// What the status keeps of the original value.
    type Original: Clone + std::fmt::Debug + Send + Sync;
    /// A change that was made, as the history has it.
    type Record: Clone + std::fmt::Debug + Send + Sync;
    /// What a reconcile has found beyond what all kinds have in common.
    type Found: std::fmt::Debug + Default + Send + Sync;
    /// What is kept in memory beyond that.
    type Extra: std::fmt::Debug + Default + Send;

    /// If a status sums up other objects: it is written at most once in this time for their sake.
    const SPACING: Option<Duration> = None;

    /// Puts into a status what a reconcile has found, but for the conditions.
    fn update(status: &mut Self::Status, report: &Report<'_, Self>, memory: &mut Memory<Self>);
    /// A reconcile begins (none), or has ended with this reason. One that came to nothing does not end.
    fn progress(given: &Given<Self>, ended: Option<Reason>) {
        let _ = (given, ended);
    }
    /// Drops from the status of an object that is paused what only counts while it is not.
    fn pausing(status: &mut Self::Status) {
        let _ = status;
    }
    /// Takes over from `now` what is no reason to reconcile.
    fn overlook(before: &mut Self::Inputs, now: &Self::Inputs, reason: Option<Reason>) {
        let _ = (before, now, reason);
    }
}

/// A change of the remote value that was begun and is not completed.
pub type ChangeOf<K> = Change<<K as Managed>::Value, <K as Managed>::Original>;

/// The controller of such a kind: what it supplies to its reconciles.
pub trait Controller: Send + Sync + 'static {
    /// The kind.
    type Object: Managed;
    /// Whether others of its namespace wait for it.
    const URGENT: bool = false;
    /// What its metrics count the parts of, if its objects sum up others.
    const WHOLE: Option<Whole> = None;
    /// Whether all objects that declare one remote object work with it: else only one of them does.
    const SHARES: bool = false;
    /// The objects.
    fn store(&self) -> &Arc<Store<Self::Object>>;
    /// What connections to remote systems are made of.
    fn connections(&self) -> &Connections;
    /// Which requests were carried out.
    fn handled(&self) -> &Handled;
    /// Which objects declare which remote object.
    fn claims(&self) -> &Claims;
    /// The remote object that an object declares.
    fn claimed(&self, object: &Self::Object) -> Option<Claimed>;
    /// What else to reconcile when an object has appeared, changed or gone.
    fn changed(&self, before: Option<&Entry<Self::Object>>, after: Option<&Entry<Self::Object>>);
    /// An object is gone.
    fn gone(&self, key: &Key) {
        let _ = key;
    }
    /// Gathers the state of the cluster that concerns an object.
    fn gather(&self, object: &Self::Object, memory: &mut Memory<Self::Object>) -> Given<Self::Object>;
    /// Adds or removes our finalizer, and finishes deletions. Some if there is nothing else to do.
    fn finalize(
        &self,
        object: &Arc<Self::Object>,
        given: &Given<Self::Object>,
        memory: &mut Memory<Self::Object>,
    ) -> impl Future<Output = Result<Option<Reconcile>, Inconclusive>> + Send {
        let _ = (object, given, memory);
        std::future::ready(Ok(None))
    }
    /// Whether something calls for a reconcile now although the inputs are the same. May bring the next one forward.
    fn is_called(
        &self,
        object: &Self::Object,
        given: &Given<Self::Object>,
        memory: &mut Memory<Self::Object>,
    ) -> bool {
        let _ = (object, given, memory);
        false
    }
    /// Reads the remote system, decides and acts, until nothing is left to do.
    fn examine(
        &self,
        working: &mut Working<'_, Self::Object>,
        given: &Given<Self::Object>,
        memory: &mut Memory<Self::Object>,
    ) -> impl Future<Output = Result<Findings<Self::Object>, Inconclusive>> + Send;
    /// Finishes a deletion that waited for what was found. Some if there is nothing to report.
    fn conclude(
        &self,
        object: &Self::Object,
        memory: &mut Memory<Self::Object>,
    ) -> impl Future<Output = Option<Reconcile>> + Send {
        let _ = (object, memory);
        std::future::ready(None)
    }
    /// Publishes what was done and found, once the status is written. A worse or better condition is published by the driver.
    fn announce(&self, report: &Report<'_, Self::Object>, memory: &Memory<Self::Object>) {
        let _ = (report, memory);
    }
    /// The policy that events about the object refer to.
    fn policy(&self, object: &Self::Object, given: &Given<Self::Object>) -> Option<ObjectReference> {
        let _ = (object, given);
        None
    }
    /// A request was carried out: those that wait for it are woken.
    fn carried_out(&self, object: &Self::Object) {
        let _ = object;
    }
    /// Brings up to date what a status shows of other objects.
    fn sum_up(&self, object: &Self::Object, status: &mut <Self::Object as Reported>::Status) {
        let _ = (object, status);
    }
    /// Whether the other objects that a request covers have carried it out, too.
    fn is_handled(&self, object: &Self::Object, request: &str) -> bool {
        let _ = (object, request);
        true
    }
}

/// The state of the cluster that concerns an object.
pub struct Given<K: Managed> {
    /// Who governs it.
    pub parents: K::Parents,
    /// What is a reason to reconcile at once.
    pub inputs: K::Inputs,
    /// Its standing among the objects that declare the same remote object.
    pub standing: Standing,
    /// Whether it is to be found out at once which remote system it is let in at.
    pub is_awaited: bool,
    /// Requests to reconcile now: its own, and those of its parents.
    pub requests: BTreeSet<Request>,
    /// Why nothing is done for now.
    pub paused: Option<String>,
    /// Time between two checks.
    pub interval: Duration,
    /// What is left for restoring if a deletion waits for it.
    pub time_left: Option<Duration>,
    /// Whether a deletion may come to wait for this reconcile.
    pub holds: bool,
    /// When what is still desired was set, and why: newest first, up to what set something else.
    pub last_set: Vec<(Timestamp, Cause)>,
}

impl<K: Managed> Given<K> {
    /// Whether a request to reconcile now was not carried out yet.
    #[must_use]
    pub(crate) fn is_asked(&self, memory: &Memory<K>) -> bool {
        !self.requests.is_subset(&memory.handled)
    }

    /// Time to the next check after a try to log in.
    #[must_use]
    pub fn pace(&self, trial: Trial) -> Duration {
        self.standing.pace(trial, self.interval)
    }
}

/// What is kept in memory of an object between reconciles.
#[derive(Debug)]
pub struct Memory<K: Managed> {
    /// The inputs of the last reconcile.
    pub inputs: Option<(K::Inputs, Standing)>,
    /// Its requests, if it was inconclusive.
    pub(super) inconclusive: Option<BTreeSet<Request>>,
    /// Its requests, if the remote system is to be left alone for a while: they are carried out after that.
    pub(super) deferred: Option<BTreeSet<Request>>,
    /// When the next one is due.
    pub backoff: Backoff<Instant>,
    /// Whether something else keeps overwriting the value.
    pub contest: Contest,
    /// Requests that were carried out.
    pub handled: BTreeSet<Request>,
    /// The URL that the change and what is owed are about.
    pub url: Option<String>,
    /// The change that was begun and is not completed.
    pub change: Option<Box<ChangeOf<K>>>,
    /// Changes made but not yet reported.
    pub owed: Owed<K::Record>,
    /// When the status was last written with what it sums up.
    pub(super) summed_up: Option<Instant>,
    /// How old what is read of Secrets and `ConfigMaps` may be next time, unless something has changed.
    pub age: Age,
    /// A refusal that another user may end.
    pub barred: Option<Box<Barred>>,
    /// The last reason that was a warning since the object was ready.
    pub warned: Option<Reason>,
    /// The standing that the last reconcile has acted on.
    pub acted_on: Option<Standing>,
    /// Counts the object while its last reconcile has failed.
    pub(super) in_backoff: Option<Counted>,
    /// Our finalizer was removed from the deleted object; the watch has not shown it yet.
    pub has_gone: bool,
    /// What else the kind keeps.
    pub extra: K::Extra,
}

impl<K: Managed> Default for Memory<K> {
    fn default() -> Self {
        Self {
            inputs: None,
            inconclusive: None,
            deferred: None,
            backoff: Backoff::default(),
            contest: Contest::default(),
            handled: BTreeSet::new(),
            url: None,
            change: None,
            owed: Owed::default(),
            summed_up: None,
            age: Age::InUse,
            barred: None,
            warned: None,
            acted_on: None,
            in_backoff: None,
            has_gone: false,
            extra: K::Extra::default(),
        }
    }
}

impl<K: Managed> Memory<K> {
    /// Whether something that counts has changed since the last conclusive reconcile.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.inputs.is_none() || self.inconclusive.is_some() || self.backoff.due().is_none()
    }

    /// The open change, and those that a history does not have yet.
    pub fn changes(&self, is_recorded: impl Fn(&K::Record) -> bool) -> Changes<'_, ChangeOf<K>, K::Record> {
        Changes { open: self.change.as_deref(), owed: self.owed.unrecorded(is_recorded) }
    }

    /// When the status may be written again for the sake of what it sums up, if not now.
    #[must_use]
    pub(super) fn spaced(&self) -> Option<Instant> {
        let next = self.summed_up? + K::SPACING?;
        Some(next).filter(|next| *next > clock::instant())
    }
}

/// What a reconcile has found and done.
#[derive(Debug)]
pub struct Findings<K: Managed> {
    /// What is reported.
    pub verdict: Verdict,
    /// What is unprotected or risky.
    pub notes: Notes,
    /// Where it was found.
    pub effective_url: Option<String>,
    /// What is new about the login.
    pub news: Option<News>,
    /// How the try to log in has failed, if it has.
    pub trial: Option<Trial>,
    /// How long the remote system asked the operator to wait.
    pub retry_after: Option<Duration>,
    /// Whether it was not asked because of that: a request to reconcile is not carried out yet.
    pub deferred: bool,
    /// Whether a Secret or `ConfigMap` may bring the change.
    pub polls: bool,
    /// When the change window opens that a change waits for.
    pub opens: Option<Timestamp>,
    /// What else the kind has found.
    pub found: K::Found,
}

impl<K: Managed> From<Verdict> for Findings<K> {
    fn from(verdict: Verdict) -> Self {
        Self {
            polls: verdict.reason.awaits_reference(),
            verdict,
            notes: Notes::default(),
            effective_url: None,
            news: None,
            trial: None,
            retry_after: None,
            deferred: false,
            opens: None,
            found: K::Found::default(),
        }
    }
}

impl<K: Managed> Findings<K> {
    /// What to report if it cannot be read where the remote system is, or who logs in.
    pub(in crate::controller) fn without_login(verdict: Verdict) -> Self {
        // The Secret may come to list the port.
        let may_be_allowed = verdict.reason == Reason::AddressRefused;
        let findings = Self::from(verdict);
        Self { trial: Some(Trial::Refused), polls: findings.polls || may_be_allowed, ..findings }
    }
}

/// What is about to be reported.
pub struct Report<'a, K: Managed> {
    /// The working copy.
    pub object: &'a K,
    /// What the reconcile began with.
    pub given: &'a Given<K>,
    /// What it came to.
    pub findings: &'a Findings<K>,
    /// The reason that the object showed when the reconcile began.
    pub before: Option<Reason>,
    /// Whether the verdict is shown: a failure that may pass leaves Ready as it is, even if something else is written.
    pub shown: bool,
}

impl<K: Managed> Report<'_, K> {
    /// What the reconcile came to.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let Findings { verdict, effective_url, news, .. } = self.findings;
        let (effective_url, news) = (effective_url.clone(), news.clone());
        Summary { reason: verdict.reason, before: self.before, effective_url, news }
    }
}
