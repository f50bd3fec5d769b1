//! What keeps an object whose remote value is to be restored when it goes: our finalizer, and how long it may stay.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::context::Context;
use super::events::Happening;
use super::report::{Part, Written};
use super::store::{self, Key, Source};
use super::workers::{Kind, Reconciled};
use crate::clock;
use crate::crd::{RESTORE, SKIP_RESTORE};
use crate::engine::reason::EventReason;
use crate::engine::restoration::{self, LetGo};
use crate::engine::verdict::{Reason, Verdict};

/// Time between two looks whether the deletion of an object still waits: the end of its namespace may be told by nobody.
const LOOK: Duration = Duration::from_secs(5);
/// How long the answer about a namespace serves all its objects.
const FRESH: Duration = Duration::from_secs(3);
/// Longest wait for that answer.
const API_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether an object has our finalizer.
#[must_use]
pub fn is_held(meta: &ObjectMeta) -> bool {
    finalizers(meta).iter().any(|finalizer| finalizer == RESTORE)
}

/// Whether the deletion of an object waits for us.
#[must_use]
pub fn is_leaving(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && is_held(meta)
}

/// Whether an object is being deleted and does not wait for us: whoever else keeps it from going, it is nobody's any more.
#[must_use]
pub fn is_let_go(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && !is_held(meta)
}

/// Puts our finalizer on an object, so that it does not go before its remote value was restored. One that is being deleted,
/// or whose namespace is, takes no finalizer any more: to us it is gone.
pub async fn hold<K: Reconciled>(context: &Arc<Context>, meta: &ObjectMeta) -> Written {
    if is_held(meta) {
        return Written::Unchanged;
    }
    if meta.deletion_timestamp.is_some()
        || context.namespaces.ends(meta.namespace.as_deref().unwrap_or_default())
    {
        return Written::Gone;
    }
    let mut wanted = finalizers(meta).to_vec();
    wanted.push(RESTORE.to_owned());
    write::<K>(context, meta, &wanted).await
}

/// The same for a reconcile's working copy, which has the finalizer from then on.
pub async fn hold_working<K: Reconciled>(context: &Arc<Context>, object: &mut Arc<K>) -> Written {
    let written = hold::<K>(context, object.meta()).await;
    if written == Written::Written {
        let now = K::store(context).valid(&Key::of(object.meta()));
        let Some(now) = now.filter(|now| now.meta().uid == object.meta().uid) else { return Written::Gone };
        *object = now;
    }
    written
}

/// Takes our finalizer off an object. `Gone` where it was the last one of an object that is being deleted: from then on the
/// store holds it as one whose deletion does not wait for us, until the watch reports that it is gone.
pub async fn release<K: Reconciled>(context: &Arc<Context>, meta: &ObjectMeta) -> Written {
    if !is_held(meta) {
        return Written::Unchanged;
    }
    let wanted: Vec<String> = finalizers(meta).iter().filter(|f| *f != RESTORE).cloned().collect();
    write::<K>(context, meta, &wanted).await
}

/// What to report of an object that our finalizer cannot be put on.
#[must_use]
pub fn forbidden<K: Reconciled>() -> Verdict {
    let message = format!(
        "deletionPolicy is Restore, but the operator is not allowed to add its finalizer to a {}, so nothing is changed: grant it the verb patch on that kind.",
        K::KIND.as_str()
    );
    Verdict::new(Reason::Forbidden, message)
}

/// Why a deletion does not wait for the remote value any longer, if so. Asks for the namespace, so it is for objects whose
/// deletion waits for us.
pub async fn let_go(context: &Context, meta: &ObjectMeta) -> Option<LetGo> {
    let deleted = meta.deletion_timestamp.as_ref()?.0;
    let annotation = meta.annotations.as_ref().and_then(|all| all.get(SKIP_RESTORE));
    let asked = annotation.is_some_and(|value| value == "true");
    let known = restoration::let_go(deleted, asked, false, context.departures.time_of(meta, deleted));
    if known.is_some() {
        return known;
    }
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let ends = context.namespaces.is_ending(&context.reporter.client(), namespace).await;
    restoration::let_go(deleted, asked, ends, context.departures.time_of(meta, deleted))
}

/// Waits until a deletion does not wait for the remote value any longer, to be raced against work on it. None where the
/// object has gone meanwhile.
pub async fn given_up<K: Reconciled>(context: &Context, meta: &ObjectMeta) -> Option<LetGo> {
    let key = Key::of(meta);
    loop {
        let entry = K::store(context).get(&key).filter(|now| now.meta().uid == meta.uid)?;
        if let Some(why) = let_go(context, entry.meta()).await {
            return Some(why);
        }
        tokio::time::sleep_until(next_look(entry.meta())).await;
    }
}

/// When an object whose deletion waits, or may come, is looked at again, at the latest.
#[must_use]
pub fn next_look(meta: &ObjectMeta) -> Instant {
    let left = Some(time_left(meta)).filter(|left| !left.is_zero());
    clock::instant() + left.map_or(LOOK, |left| left.min(LOOK))
}

/// The time that is left for restoring; none where the object is not being deleted.
#[must_use]
pub fn time_left(meta: &ObjectMeta) -> Duration {
    let deleted = meta.deletion_timestamp.as_ref();
    deleted.map_or(Duration::ZERO, |deleted| restoration::time_left(deleted.0, clock::now().0))
}

/// Tells that an object went, or was changed, without its remote value being restored. `why` is a clause.
pub fn skipped(context: &Context, object: ObjectReference, why: &str) {
    let note = format!("The original value was not restored: {why}.");
    let (kind, namespace, name) = (&object.kind, &object.namespace, &object.name);
    tracing::warn!(kind, namespace, name, "{note}");
    context.events.publish(Happening {
        object,
        reason: EventReason::RestoreSkipped,
        note,
        warning: true,
        policy: None,
    });
}

fn finalizers(meta: &ObjectMeta) -> &[String] {
    meta.finalizers.as_deref().unwrap_or_default()
}

/// Replaces the finalizers, if they still are what we know of them: others have theirs, and none of them may be lost.
async fn write<K: Reconciled>(context: &Arc<Context>, meta: &ObjectMeta, wanted: &[String]) -> Written {
    // A test for null holds where there is nothing.
    let present = Some(finalizers(meta)).filter(|present| !present.is_empty());
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": meta.uid},
        {"op": "test", "path": "/metadata/finalizers", "value": present},
        {"op": "add", "path": "/metadata/finalizers", "value": wanted},
    ]);
    match context.reporter.patch::<K>(&Key::of(meta), Part::Finalizers, operations).await {
        Ok(entry) => {
            // Its deletion may be news: the watch can be behind.
            store::put(context, &entry, Source::OwnWrite);
            let gone = entry.meta().deletion_timestamp.is_some() && finalizers(entry.meta()).is_empty();
            if gone { Written::Gone } else { Written::Written }
        }
        Err(written) => written,
    }
}

type Asked = Arc<tokio::sync::Mutex<Option<(Instant, bool)>>>;

/// What is known of namespaces.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Which are being deleted, as far as that was asked lately.
    asked: Mutex<HashMap<String, Asked>>,
    /// Which are being deleted, as far as a watch has told.
    ending: Mutex<HashSet<String>>,
    /// In which a kind may not be read.
    closed: Mutex<HashSet<(String, Kind)>>,
}

impl Namespaces {
    /// Whether a watch has told that a namespace is being deleted. Nothing in it is anybody's any more.
    #[must_use]
    pub fn ends(&self, name: &str) -> bool {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// A watch tells whether a namespace is being deleted. True where that is news.
    pub fn set_ending(&self, name: &str, ends: bool) -> bool {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        if ends { ending.insert(name.to_owned()) } else { ending.remove(name) }
    }

    /// Whether some kind may not be read in a namespace: what is known of it is not all there is, so nothing is done there.
    #[must_use]
    pub fn is_closed(&self, name: &str) -> bool {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.iter().any(|(namespace, _)| namespace == name)
    }

    /// Whether a kind may be read in a namespace has turned out. True where that is news.
    pub fn set_closed(&self, name: &str, kind: Kind, refused: bool) -> bool {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = (name.to_owned(), kind);
        if refused { closed.insert(entry) } else { closed.remove(&entry) }
    }

    /// Whether a namespace is being deleted; false where that cannot be known. One question serves all who ask within a few
    /// seconds.
    async fn is_ending(&self, client: &Client, name: &str) -> bool {
        let place = {
            let mut places = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry(name.to_owned()).or_default())
        };
        let mut last = place.lock().await;
        if let Some((_, ending)) = last.filter(|(asked, _)| asked.elapsed() < FRESH) {
            return ending;
        }
        let api = Api::<Namespace>::all(client.clone());
        let ending = match tokio::time::timeout(API_TIMEOUT, api.get_metadata(name)).await {
            Ok(Ok(namespace)) => namespace.metadata.deletion_timestamp.is_some(),
            Ok(Err(kube::Error::Api(status))) => status.code == 404,
            _ => false,
        };
        *last = Some((clock::instant(), ending));
        ending
    }

    /// Drops what is not fresh any more; to be called now and then.
    pub fn purge(&self) {
        let mut places = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| {
            Arc::strong_count(place) > 1
                || place.try_lock().is_ok_and(|last| last.is_some_and(|(asked, _)| asked.elapsed() < FRESH))
        });
    }
}
