//! What the server keeps: the objects of each kind, what has changed lately, and who watches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::faults::Write;
use super::refusal::Refusal;
use super::resource::{Kind, Query, Resource, Target, Verb};
use super::selector::Selection;
use super::watch::Watcher;

/// Changes of a kind that are kept for watches that resume.
const KEPT: usize = 1024;

/// The version of a server that has just been started: what was before is not known.
const BEGINNING: u64 = 1000;

/// Namespace (empty if the kind has none) and name.
pub type Key = (String, String);

/// One version of an object.
#[derive(Debug)]
pub struct Stored {
    pub value: Value,
    pub version: u64,
    json: OnceLock<Bytes>,
}

impl Stored {
    /// Stamps an object with its version.
    pub fn new(mut value: Value, version: u64) -> Arc<Self> {
        value["metadata"]["resourceVersion"] = json!(version.to_string());
        Arc::new(Self { value, version, json: OnceLock::new() })
    }

    /// Serialized once, at the first request.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| Bytes::from(written_out(&self.value))).clone()
    }

    /// What of it was asked for.
    pub fn json_as(&self, form: Form) -> Bytes {
        match form {
            Form::Full => self.json(),
            Form::Metadata => {
                let part = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": self.value["metadata"],
                });
                Bytes::from(written_out(&part))
            }
        }
    }

    pub fn text(&self, field: &str) -> Option<&str> {
        self.value["metadata"][field].as_str()
    }
}

/// In which form objects are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Full,
    Metadata,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub key: Key,
    pub before: Option<Arc<Stored>>,
    pub after: Option<Arc<Stored>>,
}

/// All of one kind.
#[derive(Debug)]
pub struct Table {
    pub objects: BTreeMap<Key, Arc<Stored>>,
    changes: VecDeque<Change>,
    /// The changes up to this version are not known any more.
    forgotten: u64,
    pub watchers: Vec<Watcher>,
}

impl Table {
    fn new(version: u64) -> Self {
        Self { objects: BTreeMap::new(), changes: VecDeque::new(), forgotten: version, watchers: Vec::new() }
    }

    /// What has changed after a version.
    pub fn since(&self, version: u64) -> Result<impl DoubleEndedIterator<Item = &Change>, Refusal> {
        if version < self.forgotten {
            return Err(Refusal::expired(version, self.forgotten));
        }
        let known = self.changes.partition_point(|change| change.version <= version);
        Ok(self.changes.range(known..))
    }

    /// Forgets what has changed up to now, so that no watch or list can go on from an earlier version.
    pub fn forget(&mut self, version: u64) {
        self.changes.clear();
        self.forgotten = version;
    }

    /// The objects as they were at a version.
    fn at(&self, version: u64) -> Result<BTreeMap<Key, Arc<Stored>>, Refusal> {
        let mut objects = self.objects.clone();
        for change in self.since(version)?.rev() {
            match &change.before {
                Some(before) => drop(objects.insert(change.key.clone(), Arc::clone(before))),
                None => drop(objects.remove(&change.key)),
            }
        }
        Ok(objects)
    }
}

/// Everything.
#[derive(Debug)]
pub struct State {
    pub version: u64,
    tables: BTreeMap<Kind, Table>,
    /// The clients and kinds whose watches are held back.
    pub held: BTreeSet<(Arc<str>, Kind)>,
    pub writes: Vec<Write>,
    seed: u64,
}

/// Who does something, and when.
#[derive(Clone, Debug)]
pub struct Origin {
    pub sent: Timestamp,
    pub time: Timestamp,
    pub client: Arc<str>,
    pub verb: Verb,
    pub target: Target,
    /// Who is noted in `metadata.managedFields`.
    pub manager: String,
    /// What admission answers.
    pub denial: Option<Refusal>,
}

impl Origin {
    /// Whether admission lets it pass.
    pub fn is_admitted(&self) -> Result<(), Refusal> {
        self.denial.clone().map_or(Ok(()), Err)
    }
}

impl State {
    pub fn new(seed: u64) -> Self {
        Self {
            version: BEGINNING,
            tables: Kind::ALL.into_iter().map(|kind| (kind, Table::new(BEGINNING))).collect(),
            held: BTreeSet::new(),
            writes: Vec::new(),
            seed,
        }
    }

    pub fn table(&self, kind: Kind) -> &Table {
        &self.tables[&kind]
    }

    pub fn table_mut(&mut self, kind: Kind) -> &mut Table {
        self.tables.get_mut(&kind).expect("there is a table for each kind")
    }

    pub fn get(&self, kind: Kind, key: &Key) -> Option<&Arc<Stored>> {
        self.table(kind).objects.get(key)
    }

    /// The object that a request names.
    pub fn named(&self, target: &Target) -> Result<(Key, Arc<Stored>), Refusal> {
        let key = (target.namespace.clone().unwrap_or_default(), target.name.clone().unwrap_or_default());
        match self.get(target.kind, &key) {
            Some(stored) => Ok((key, Arc::clone(stored))),
            None => Err(Refusal::not_found(target.kind.resource(), &key.1)),
        }
    }

    /// Keeps a new version of an object, or removes it, and notifies its watches.
    pub fn commit(&mut self, origin: &Origin, key: Key, value: Option<Value>) -> Arc<Stored> {
        self.version += 1;
        let version = self.version;
        let kind = origin.target.kind;
        let table = self.table_mut(kind);
        let before = table.objects.get(&key).cloned();
        let (stored, after) = match value {
            Some(value) => {
                let stored = Stored::new(value, version);
                table.objects.insert(key.clone(), Arc::clone(&stored));
                (Arc::clone(&stored), Some(stored))
            }
            None => {
                let last = table.objects.remove(&key).expect("only what is there is removed");
                (Stored::new(last.value.clone(), version), None)
            }
        };
        let change = Change { version, key: key.clone(), before: before.clone(), after: after.clone() };
        table.watchers.retain(|watcher| watcher.notify(&change));
        table.changes.push_back(change);
        if table.changes.len() > KEPT
            && let Some(oldest) = table.changes.pop_front()
        {
            table.forgotten = oldest.version;
        }
        // A lease is renewed every two seconds; what matters is who has it.
        let holder =
            |stored: &Option<Arc<Stored>>| Some(stored.as_ref()?.value["spec"]["holderIdentity"].clone());
        if kind != Kind::Lease || holder(&before) != holder(&after) {
            let Origin { sent, time, client, verb, target, .. } = origin.clone();
            self.writes.push(Write { sent, time, client, verb, target, key, before, after });
        }
        stored
    }

    /// A number that no other object gets; the same in each run with this seed.
    pub fn mint(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A list, whole or one page of it.
    pub fn list(&self, target: &Target, query: &Query, form: Form) -> Result<Bytes, Refusal> {
        let table = self.table(target.kind);
        let selection = Selection::of(target, query)?;
        let (version, after, snapshot) = match query.get("continue") {
            Some(token) => {
                let (version, after) = read_token(token)?;
                (version, Some(after), Some(table.at(version)?))
            }
            None => (self.version, None, None),
        };
        let objects = snapshot.as_ref().unwrap_or(&table.objects);
        let mut found = objects
            .iter()
            .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
            .filter(|(_, stored)| selection.holds(&stored.value));
        let limit =
            query.number("limit").and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let page: Vec<_> = found.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
        let left = found.count();
        let mut meta = json!({"resourceVersion": version.to_string()});
        if left > 0
            && let Some(((namespace, name), _)) = page.last()
        {
            meta["continue"] = json!(format!("{version}:{namespace}/{name}"));
            if !selection.is_filtered() {
                meta["remainingItemCount"] = json!(left);
            }
        }
        let items = page.into_iter().map(|(_, stored)| stored.json_as(form));
        Ok(written(target.kind.resource(), form, &meta, items))
    }
}

/// The same as its `Display`, by a shorter way.
fn written_out(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value is JSON")
}

fn read_token(token: &str) -> Result<(u64, Key), Refusal> {
    let read = || {
        let (version, key) = token.split_once(':')?;
        let (namespace, name) = key.split_once('/')?;
        Some((version.parse().ok()?, (namespace.to_owned(), name.to_owned())))
    };
    read().ok_or_else(|| Refusal::bad_request("continue key is not valid"))
}

fn written(resource: &Resource, form: Form, meta: &Value, items: impl Iterator<Item = Bytes>) -> Bytes {
    let (kind, version) = match form {
        Form::Full => (format!("{}List", resource.kind), resource.api_version.as_str()),
        Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
    };
    let mut text =
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{meta},\"items\":[")
            .into_bytes();
    for (at, item) in items.enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&item);
    }
    text.extend_from_slice(b"]}");
    text.into()
}
