//! The one place that writes to our objects: statuses, only where they say something new, and finalizers.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::context::Context;
use super::store::{self, Entry, Key, Source};
use super::workers::Reconciled;
use crate::clock;
use crate::crd::{Condition, Time};
use crate::engine::verdict::{self, Notes, Verdict};
use crate::leader::fence::Fence;

/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// Writes under way at once: more buys latency, not throughput.
const IN_FLIGHT: usize = 16;
/// Tries before a look gives up on writing its status; the next look comes to the same.
const TRIES: u32 = 4;
/// `lastCheckedTime` is refreshed after this time if nothing else was written.
const REFRESH: Duration = Duration::from_hours(1);

/// A kind whose status we write.
pub trait Reported:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// Its status.
    type Status: Clone + Default + PartialEq + Serialize + Send;
    /// The status as it stands.
    fn status(&self) -> Option<&Self::Status>;
    /// Times that alone are no reason to write: of the last check and of the last proof.
    fn times(status: &mut Self::Status) -> [Option<&mut Option<Time>>; 2];
    /// Generation and conditions that every report sets.
    fn head(status: &mut Self::Status) -> (&mut Option<i64>, &mut Vec<Condition>);
    /// The conditions as they stand.
    fn conditions(status: &Self::Status) -> &[Condition];
    /// The request to reconcile that was carried out last.
    fn handled(status: &mut Self::Status) -> &mut Option<String>;
}

/// Sets what every report sets: conditions, each with the generation they speak of.
pub fn set_verdict<K: Reported>(status: &mut K::Status, object: &K, verdict: &Verdict, notes: &Notes) {
    let generation = object.meta().generation.unwrap_or_default();
    let (observed, conditions) = K::head(status);
    *conditions = verdict::conditions(conditions, verdict, notes, generation, &clock::now());
    *observed = Some(generation);
}

/// Sets what a paused object reports: `Ready` stays as it was.
pub fn set_suspended<K: Reported>(status: &mut K::Status, object: &K, message: &str) {
    let generation = object.meta().generation.unwrap_or_default();
    let (observed, conditions) = K::head(status);
    *conditions = verdict::suspended(conditions, message, generation, &clock::now());
    *observed = Some(generation);
}

/// Writes statuses and finalizers.
#[derive(Debug)]
pub struct Reporter {
    client: ClientHandle,
    in_flight: Semaphore,
    fence: Fence,
}

struct ClientHandle(Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing had changed.
    Unchanged,
    /// Written.
    Written,
    /// The object is gone, or another has taken its name.
    Gone,
    /// The API server did not take it: look again soon.
    Failed,
    /// The operator has no right to write finalizers.
    Forbidden,
}

impl Reporter {
    /// Writes through a client, as long as the fence is open.
    #[must_use]
    pub fn new(client: Client, fence: Fence) -> Self {
        Self { client: ClientHandle(client), in_flight: Semaphore::new(IN_FLIGHT), fence }
    }

    /// The client that it writes with.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.0.clone()
    }

    /// Changes one part of an object by a JSON patch: whole, or not at all where one of its tests fails.
    pub(super) async fn patch<K: Reported>(
        &self,
        key: &Key,
        part: Part,
        operations: Value,
    ) -> Result<Entry<K>, Written> {
        let patch: json_patch::Patch = serde_json::from_value(operations).map_err(|_| Written::Failed)?;
        let api = Api::<DeserializeGuard<K>>::namespaced(self.client(), &key.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Json::<()>(patch));
        for attempt in 0..TRIES {
            let permit = self.in_flight.acquire().await;
            let sending = async {
                match part {
                    Part::Status => api.patch_status(&key.name, &params, &patch).await,
                    Part::Finalizers => api.patch(&key.name, &params, &patch).await,
                }
            };
            let answer = self.fence.within(tokio::time::timeout(API_TIMEOUT, sending)).await;
            drop(permit);
            let Ok(answer) = answer else { return Err(Written::Failed) };
            match answer {
                Ok(Ok(object)) => return Ok(Entry::of(object)),
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Err(Written::Gone),
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 403 | 422) => {
                    return Err(part.refused(key, status.code));
                }
                _ => tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(attempt)).await,
            }
        }
        tracing::warn!(object = %key, "the API server did not accept {}", part.as_str());
        Err(Written::Failed)
    }
}

/// Changes made but not recorded yet.
#[derive(Debug)]
pub struct Owed<C> {
    changes: Vec<C>,
    /// How many of them were in a report that got no answer: it may have been taken.
    told: usize,
}

impl<C> Default for Owed<C> {
    fn default() -> Self {
        Self { changes: Vec::new(), told: 0 }
    }
}

impl<C> std::ops::Deref for Owed<C> {
    type Target = [C];

    fn deref(&self) -> &[C] {
        &self.changes
    }
}

impl<C> Owed<C> {
    /// One more.
    pub fn add(&mut self, change: impl Into<Option<C>>) {
        self.changes.extend(change.into());
    }

    /// A report of all of them got no answer.
    pub fn unanswered(&mut self) {
        self.told = self.changes.len();
    }

    /// They are recorded, or of no interest any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Those that are to be recorded: not what a report without an answer has recorded, as `is_recorded` says.
    pub fn unrecorded(&self, is_recorded: impl Fn(&C) -> bool) -> Vec<&C> {
        let changes = self.changes.iter().enumerate();
        changes
            .filter(|(index, change)| *index >= self.told || !is_recorded(change))
            .map(|(_, change)| change)
            .collect()
    }
}

/// What of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Its status.
    Status,
    /// Its finalizers.
    Finalizers,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Status => "a status",
            Self::Finalizers => "finalizers",
        }
    }

    /// What a refusal means. 422: a test failed, or the object does not fit its schema any more. Of a status only the UID
    /// is tested; finalizers are others' to change, too.
    fn refused(self, key: &Key, code: u16) -> Written {
        if self == Self::Finalizers && code == 422 {
            tracing::debug!(object = %key, "the finalizers have changed in the meantime");
            return Written::Failed;
        }
        tracing::warn!(object = %key, code, "the API server refused {}", self.as_str());
        match code {
            403 if self == Self::Finalizers => Written::Forbidden,
            422 => Written::Gone,
            _ => Written::Failed,
        }
    }
}

/// Writes a status where it says something new, or where its time of the last check is an hour old.
pub async fn write<K: Reconciled>(context: &Arc<Context>, object: &K, status: K::Status) -> Written {
    match send(context, object, status).await {
        Ok(Some(_)) => Written::Written,
        Ok(None) => Written::Unchanged,
        Err(written) => written,
    }
}

/// The same for a reconcile's working copy, which is the object as written from then on.
pub async fn update<K: Reconciled>(
    context: &Arc<Context>,
    object: &mut Arc<K>,
    status: K::Status,
) -> Written {
    match send(context, &**object, status).await {
        Ok(None) => Written::Unchanged,
        Ok(Some(Entry::Valid(now))) => {
            *object = now;
            Written::Written
        }
        // It does not fit the schema any more.
        Ok(Some(Entry::Undecodable(_))) => Written::Gone,
        Err(written) => written,
    }
}

/// The object as it was written; none if there is nothing new to write.
async fn send<K: Reconciled>(
    context: &Arc<Context>,
    object: &K,
    status: K::Status,
) -> Result<Option<Entry<K>>, Written> {
    let old = object.status().cloned().unwrap_or_default();
    if is_old_news::<K>(&old, &status, object) {
        return Ok(None);
    }
    let value = serde_json::to_value(&status).map_err(|_| Written::Failed)?;
    let key = Key::of(object.meta());
    let uid = object.uid().unwrap_or_default();
    // The whole status: we are the only one who writes it.
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": value},
    ]);
    let entry = context.reporter.patch::<K>(&key, Part::Status, operations).await?;
    store::put(context, &entry, Source::OwnWrite);
    Ok(Some(entry))
}

fn is_old_news<K: Reported>(old: &K::Status, new: &K::Status, object: &K) -> bool {
    let (mut old, mut new) = (old.clone(), new.clone());
    let checked =
        |status: &mut K::Status| K::times(status).into_iter().flatten().next().and_then(Option::take);
    let (before, now) = (checked(&mut old), checked(&mut new));
    for time in K::times(&mut old).into_iter().chain(K::times(&mut new)).flatten() {
        *time = None;
    }
    if old != new {
        return false;
    }
    match (before, now) {
        (Some(before), Some(now)) => now.0.duration_since(before.0).unsigned_abs() < spread(object),
        (None, Some(_)) => false,
        _ => true,
    }
}

/// An hour, and up to six minutes more, always the same for one object, so that a fleet's writes spread out.
fn spread(object: &impl ResourceExt) -> Duration {
    let sum = object
        .uid()
        .unwrap_or_default()
        .bytes()
        .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    REFRESH + Duration::from_secs(u64::from(sum % 360))
}

/// Cuts what another system calls something down to one short line of printable text.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(128).collect()
}

/// Characters that change how the text around them looks: zero-width and bidirectional marks.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
