//! What the API server holds, as far as we watch it: one store a kind, fed by watches and by the answers to our own
//! writes, whichever is newer.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::core::DeserializeGuard;

use super::audit;
use super::context::Context;
use super::workers::Reconciled;
use crate::engine::conditions;
use crate::engine::reason::{ConditionType, Reason};

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object as it was last seen.
#[derive(Debug)]
pub enum Entry<K> {
    /// Decoded.
    Valid(Arc<K>),
    /// Accepted by the API server under another schema, and not understood by this one.
    Undecodable(Arc<ObjectMeta>),
}

impl<K> Clone for Entry<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Valid(object) => Self::Valid(Arc::clone(object)),
            Self::Undecodable(meta) => Self::Undecodable(Arc::clone(meta)),
        }
    }
}

impl<K: ResourceExt> Entry<K> {
    /// Takes an object from a watch.
    #[must_use]
    pub fn of(guard: DeserializeGuard<K>) -> Self {
        match guard.0 {
            Ok(mut object) => {
                audit::keep_manager(object.meta_mut());
                Self::Valid(Arc::new(object))
            }
            Err(mut invalid) => {
                audit::keep_manager(&mut invalid.metadata);
                Self::Undecodable(Arc::new(invalid.metadata))
            }
        }
    }

    /// The object's metadata.
    #[must_use]
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Valid(object) => object.meta(),
            Self::Undecodable(meta) => meta,
        }
    }

    /// The object, where it was understood.
    #[must_use]
    pub fn valid(&self) -> Option<&Arc<K>> {
        match self {
            Self::Valid(object) => Some(object),
            Self::Undecodable(_) => None,
        }
    }
}

/// All objects of one kind.
#[derive(Debug)]
pub struct Store<K> {
    objects: RwLock<BTreeMap<String, BTreeMap<String, Stored<K>>>>,
    /// How many lists have begun.
    lists: AtomicU64,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { objects: RwLock::default(), lists: AtomicU64::new(0) }
    }
}

#[derive(Debug)]
struct Stored<K> {
    entry: Entry<K>,
    /// How many lists had begun when we wrote it; none where a watch has brought it.
    written: u64,
}

impl<K: ResourceExt> Store<K> {
    /// One object.
    pub fn get(&self, key: &Key) -> Option<Entry<K>> {
        let all = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        Some(all.get(&key.namespace)?.get(&key.name)?.entry.clone())
    }

    /// One object, where it was understood.
    pub fn valid(&self, key: &Key) -> Option<Arc<K>> {
        self.get(key)?.valid().cloned()
    }

    /// All objects of a namespace, by name.
    pub fn namespace(&self, namespace: &str) -> Vec<Entry<K>> {
        let all = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        all.get(namespace)
            .map(|objects| objects.values().map(|one| one.entry.clone()).collect())
            .unwrap_or_default()
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<Key> {
        let all = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .flat_map(|(ns, objects)| objects.keys().map(|name| Key::new(ns.clone(), name.clone())))
            .collect()
    }

    /// Puts an object in, unless a newer one is there. Returns the one before it, and whether it was put in.
    fn put(&self, entry: &Entry<K>, source: Source) -> (Option<Entry<K>>, bool) {
        let key = Key::of(entry.meta());
        let mut all = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let objects = all.entry(key.namespace).or_default();
        let (before, written) = objects.get(&key.name).map(|one| (one.entry.clone(), one.written)).unzip();
        let wanted = match &before {
            Some(before) => {
                is_newer(entry.meta(), before.meta())
                    || is_restored(entry.meta(), before.meta(), written, source)
            }
            None => source != Source::OwnWrite,
        };
        if wanted {
            let lists = self.lists.load(Ordering::Acquire);
            let written = if source == Source::OwnWrite { lists } else { 0 };
            objects.insert(key.name, Stored { entry: entry.clone(), written });
        }
        (before, wanted)
    }

    /// A list of what there is begins. Returns its number.
    pub fn begin_list(&self) -> u64 {
        self.lists.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Takes an object out.
    pub fn remove(&self, key: &Key) -> Option<Entry<K>> {
        let mut all = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let objects = all.get_mut(&key.namespace)?;
        let removed = objects.remove(&key.name);
        if objects.is_empty() {
            all.remove(&key.namespace);
        }
        removed.map(|one| one.entry)
    }

    /// Keys of a namespace (or of all of them) that are not among `seen`: a watch that began anew did not list them.
    pub fn vanished(&self, namespace: Option<&str>, seen: &HashSet<Key>) -> Vec<Key> {
        let in_scope = |key: &Key| namespace.is_none_or(|ns| key.namespace == ns);
        self.keys().into_iter().filter(|key| in_scope(key) && !seen.contains(key)).collect()
    }
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A watch: it says what there is.
    Watch,
    /// The list with this number: it says what there was when it began, or later.
    List(u64),
    /// The answer to a write of ours: by now the object may have been deleted, and must not come back.
    OwnWrite,
}

/// Puts an object into its store and wakes whom that concerns.
pub fn put<K: Reconciled>(context: &Arc<Context>, entry: &Entry<K>, source: Source) {
    let (before, newer) = K::store(context).put(entry, source);
    if newer {
        stands(context, before.as_ref(), Some(entry));
        K::changed(context, before.as_ref(), Some(entry));
    }
}

/// Takes an object out of its store and wakes whom that concerns.
pub fn remove<K: Reconciled>(context: &Arc<Context>, key: &Key) {
    if let Some(before) = K::store(context).remove(key) {
        stands(context, Some(&before), None);
        K::changed(context, Some(&before), None);
    }
}

/// Counts how an object stands, and not any more how it stood.
fn stands<K: Reconciled>(context: &Context, before: Option<&Entry<K>>, after: Option<&Entry<K>>) {
    let Some(meta) = after.or(before).map(Entry::meta) else { return };
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    context.metrics.stands(K::KIND.as_str(), namespace, before.map(standing), after.map(standing));
}

/// The reason of the condition Ready, as far as it counts: an object that is paused stands as it stood before.
fn standing<K: Reconciled>(entry: &Entry<K>) -> &'static str {
    let Some(object) = entry.valid() else { return Reason::InvalidSpec.as_str() };
    let conditions = object.status().map(K::conditions).unwrap_or_default();
    if conditions::find(conditions, ConditionType::Suspended).is_some() {
        return ConditionType::Suspended.as_str();
    }
    conditions::ready_reason(conditions).map_or("Unknown", Reason::as_str)
}

/// Whether a list shows another version although an object was not written since the list began: the API server has lost
/// what was newer, since its database was restored from a backup.
fn is_restored(new: &ObjectMeta, old: &ObjectMeta, written: Option<u64>, source: Source) -> bool {
    matches!(source, Source::List(list) if written.unwrap_or_default() < list)
        && new.resource_version != old.resource_version
}

/// Whether `new` was written after `old`. Resource versions are numbers that grow; where they are not, the later one to
/// arrive counts.
fn is_newer(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
    match (version(new), version(old)) {
        (Some(new), Some(old)) => new > old,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::X2Gateway;

    fn entry(version: &str) -> Entry<X2Gateway> {
        let meta = ObjectMeta {
            namespace: Some("berlin".to_owned()),
            name: Some("x2".to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        };
        Entry::Undecodable(Arc::new(meta))
    }

    fn version(store: &Store<X2Gateway>) -> String {
        store.get(&Key::new("berlin", "x2")).unwrap().meta().resource_version.clone().unwrap()
    }

    #[test]
    fn a_watch_brings_nothing_older_than_what_we_wrote() {
        let store = Store::default();
        store.put(&entry("5"), Source::Watch);
        store.put(&entry("7"), Source::OwnWrite);
        assert!(!store.put(&entry("6"), Source::Watch).1);
        assert_eq!(version(&store), "7");
    }

    #[test]
    fn a_list_begun_after_our_last_write_brings_back_what_a_backup_holds() {
        let store = Store::default();
        store.put(&entry("5"), Source::Watch);
        store.put(&entry("7"), Source::OwnWrite);
        let list = store.begin_list();
        assert!(store.put(&entry("3"), Source::List(list)).1);
        assert_eq!(version(&store), "3");
        assert!(!store.put(&entry("3"), Source::List(list)).1, "the same again is no news");
        assert!(store.put(&entry("4"), Source::Watch).1);
    }

    #[test]
    fn a_list_begun_before_our_last_write_does_not_undo_it() {
        let store = Store::default();
        store.put(&entry("5"), Source::Watch);
        let list = store.begin_list();
        store.put(&entry("7"), Source::OwnWrite);
        assert!(!store.put(&entry("5"), Source::List(list)).1);
        assert_eq!(version(&store), "7");
    }
}
