//! What the API server holds, as far as we watch it: one store per kind, fed by watches and by the answers to our own
//! writes, whichever is newer.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::cluster::Cluster;
use super::object::{Entry, Key, Reported};
use super::out_of_scope::OutOfScope;
use super::workers::Trigger;
use crate::engine::conditions;
use crate::engine::reason::{ConditionType, Reason};
use crate::engine::restoration::has_finalizer;
use crate::metrics::Shown;

/// What is done when an object has appeared, changed or gone: it is called with the object before and after that.
type Changed<K> = Box<dyn Fn(Option<&Entry<K>>, Option<&Entry<K>>) + Send + Sync>;

/// The objects of one kind, and what it takes to change them.
pub(crate) struct Store<K> {
    objects: Objects<K>,
    out_of_scope: OutOfScope,
    /// Locked while an object changes and until the call has returned. The answer to a write and the end of the object may come
    /// at the same time: the last call is about what there is.
    changed: Mutex<Changed<K>>,
    cluster: Arc<Cluster>,
}

impl<K> fmt::Debug for Store<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl<K: Reported> Store<K> {
    /// An empty store. `changed` is called when an object has appeared, changed or gone, with the object before and after that.
    #[must_use]
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        changed: impl Fn(Option<&Entry<K>>, Option<&Entry<K>>) + Send + Sync + 'static,
    ) -> Self {
        let (objects, out_of_scope) = (Objects::default(), OutOfScope::default());
        Self { objects, out_of_scope, changed: Mutex::new(Box::new(changed)), cluster }
    }

    /// What all kinds share.
    #[must_use]
    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Objects that have left.
    #[must_use]
    pub(crate) fn out_of_scope(&self) -> &OutOfScope {
        &self.out_of_scope
    }

    /// One object.
    #[must_use]
    pub(crate) fn get(&self, key: &Key) -> Option<Entry<K>> {
        self.objects.get(key)
    }

    /// One object, if it was understood.
    #[must_use]
    pub(crate) fn valid(&self, key: &Key) -> Option<Arc<K>> {
        self.get(key)?.valid().cloned()
    }

    /// All objects of a namespace, by name.
    #[must_use]
    pub(crate) fn namespace(&self, namespace: &str) -> Vec<Entry<K>> {
        self.objects.namespace(namespace)
    }

    /// The keys of all objects.
    #[must_use]
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.objects.keys()
    }

    /// A list of what there is begins. Returns its number.
    pub(crate) fn begin_list(&self) -> u64 {
        self.objects.begin_list()
    }

    /// Keys of a namespace (or of all of them) that are not among `seen`: a watch that began again did not list them.
    pub(crate) fn vanished(&self, namespace: Option<&str>, seen: &HashSet<Key>) -> Vec<Key> {
        let in_scope = |key: &Key| namespace.is_none_or(|ns| key.namespace == ns);
        self.keys().into_iter().filter(|key| in_scope(key) && !seen.contains(key)).collect()
    }

    /// Puts an object in, unless a newer one is there.
    pub(crate) fn put(&self, entry: &Entry<K>, source: Source) {
        let changed = self.changed();
        let (before, newer) = self.objects.put(entry, source);
        if newer {
            self.count(before.as_ref(), Some(entry));
            changed(before.as_ref(), Some(entry));
        }
    }

    /// Takes an object out. If it had our finalizer by then, it has left with it.
    pub(crate) fn remove(&self, key: &Key) {
        let changed = self.changed();
        if let Some(before) = self.objects.remove(key) {
            if has_finalizer(before.meta()) {
                self.out_of_scope.record(before.meta());
            }
            self.count(Some(&before), None);
            changed(Some(&before), None);
        }
    }

    fn changed(&self) -> MutexGuard<'_, Changed<K>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object is out of scope and may have our finalizer: it is released once the object is not reconciled anymore.
    pub(crate) fn left(&self, meta: &ObjectMeta) {
        self.out_of_scope.record(meta);
        self.cluster.wake(K::KIND, Key::of(meta), Trigger::Change);
    }

    /// Counts what an object shows now, and not anymore what it showed before.
    fn count(&self, before: Option<&Entry<K>>, after: Option<&Entry<K>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        self.cluster.metrics.observe(K::KIND, namespace, before.map(shown), after.map(shown));
    }
}

/// Objects by namespace and name.
#[derive(Debug)]
struct Objects<K> {
    objects: RwLock<BTreeMap<String, BTreeMap<String, Stored<K>>>>,
    /// How many lists have begun.
    lists: AtomicU64,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { objects: RwLock::default(), lists: AtomicU64::new(0) }
    }
}

#[derive(Debug)]
struct Stored<K> {
    entry: Entry<K>,
    /// How many lists had begun when we wrote it; none if a watch has brought it.
    written: u64,
}

impl<K: ResourceExt> Objects<K> {
    fn get(&self, key: &Key) -> Option<Entry<K>> {
        let all = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        Some(all.get(&key.namespace)?.get(&key.name)?.entry.clone())
    }

    fn namespace(&self, namespace: &str) -> Vec<Entry<K>> {
        let all = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        all.get(namespace)
            .map(|objects| objects.values().map(|one| one.entry.clone()).collect())
            .unwrap_or_default()
    }

    fn keys(&self) -> Vec<Key> {
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
        let accepted = match &before {
            Some(before) => {
                is_newer(entry.meta(), before.meta())
                    || is_restored(entry.meta(), before.meta(), written, source)
            }
            None => source != Source::OwnWrite,
        };
        if accepted {
            let lists = self.lists.load(Ordering::Acquire);
            let written = if source == Source::OwnWrite { lists } else { 0 };
            objects.insert(key.name, Stored { entry: entry.clone(), written });
        }
        (before, accepted)
    }

    fn begin_list(&self) -> u64 {
        self.lists.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn remove(&self, key: &Key) -> Option<Entry<K>> {
        let mut all = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let objects = all.get_mut(&key.namespace)?;
        let removed = objects.remove(&key.name);
        if objects.is_empty() {
            all.remove(&key.namespace);
        }
        removed.map(|one| one.entry)
    }
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A watch: it shows what there is.
    Watch,
    /// The list with this number: it shows what there was when it began, or later.
    List(u64),
    /// The answer to a write of ours: by now the object may have been deleted, and must not come back.
    OwnWrite,
}

/// What metrics count of an object.
fn shown<K: Reported>(entry: &Entry<K>) -> Shown {
    let reason = shown_reason(entry);
    let (proof, lifetime) = entry.valid().map(|object| object.proof_and_lifetime()).unwrap_or_default();
    let proof = proof.filter(|_| reason != ConditionType::Suspended.as_str());
    Shown { reason, proven: proof.map(|time| time.0.as_second()), lifetime }
}

/// The reason of the condition Ready, as metrics count it: a paused object keeps the one from before.
fn shown_reason<K: Reported>(entry: &Entry<K>) -> &'static str {
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

/// Whether `new` was written after `old`. Resource versions are numbers that grow; if they are not, the later one to
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
    use std::sync::mpsc;
    use std::time::Duration;

    use kube::Client;
    use tokio::sync::watch;

    use super::*;
    use crate::crd::{Kind, X2Gateway};
    use crate::leader::fence::{Fence, Term};
    use crate::metrics::Metrics;
    use crate::runtime::deletions::Deletions;
    use crate::runtime::events::Events;
    use crate::runtime::namespaces::Namespaces;
    use crate::runtime::outages::Outages;
    use crate::runtime::workers::{Kinds, Work, Workers};
    use crate::runtime::writer::Writer;

    /// Nothing is reconciled.
    struct NoKinds;

    impl Kinds for NoKinds {
        fn new_work(&self, _: Kind) -> Box<dyn Work> {
            unreachable!("the workers are not started")
        }

        fn objects(&self, _: Option<&str>) -> Vec<(Kind, Key)> {
            Vec::new()
        }
    }

    fn cluster() -> Cluster {
        let ((_, ending), (_, term)) = (watch::channel(false), watch::channel(Term::Endless));
        let serve = |_: axum::http::Request<kube::client::Body>| {
            std::future::pending::<Result<axum::http::Response<kube::client::Body>, std::io::Error>>()
        };
        let (client, fence) = (Client::new(tower::service_fn(serve), "a"), Fence::new(ending, term));
        let metrics = Arc::new(Metrics::new(false));
        let (events, _) = Events::new(client.clone(), String::new(), fence.clone(), Arc::clone(&metrics));
        Cluster {
            writer: Writer::new(client, fence.clone()),
            events,
            namespaces: Namespaces::default(),
            deletions: Deletions::default(),
            outages: Outages::default(),
            workers: Workers::new(Box::new(NoKinds), 1, fence.ending()),
            metrics,
            fence,
        }
    }

    #[tokio::test]
    async fn the_last_call_about_an_object_is_about_what_there_is() {
        let (begun, has_begun) = mpsc::channel();
        let (gone, is_gone) = mpsc::channel();
        let (calls, is_gone) = (Arc::<Mutex<Vec<bool>>>::default(), Mutex::new(is_gone));
        let all = Arc::clone(&calls);
        let store = Arc::new(Store::new(Arc::new(cluster()), move |_, after: Option<&Entry<X2Gateway>>| {
            if after.is_some() {
                begun.send(()).unwrap();
                // It is removed by now, unless that waits.
                let _ = is_gone.lock().unwrap().recv_timeout(Duration::from_millis(100));
            }
            all.lock().unwrap().push(after.is_some());
            let _ = gone.send(());
        }));
        let writes = Arc::clone(&store);
        let writes = std::thread::spawn(move || writes.put(&entry("5"), Source::Watch));
        has_begun.recv().unwrap();
        store.remove(&Key::new("berlin", "x2"));
        writes.join().unwrap();
        assert_eq!(*calls.lock().unwrap(), [true, false]);
    }

    fn entry(version: &str) -> Entry<X2Gateway> {
        let meta = ObjectMeta {
            namespace: Some("berlin".to_owned()),
            name: Some("x2".to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        };
        Entry::Undecodable(Arc::new(meta))
    }

    fn version(store: &Objects<X2Gateway>) -> String {
        store.get(&Key::new("berlin", "x2")).unwrap().meta().resource_version.clone().unwrap()
    }

    #[test]
    fn a_watch_brings_nothing_older_than_what_we_wrote() {
        let store = Objects::default();
        store.put(&entry("5"), Source::Watch);
        store.put(&entry("7"), Source::OwnWrite);
        assert!(!store.put(&entry("6"), Source::Watch).1);
        assert_eq!(version(&store), "7");
    }

    #[test]
    fn a_list_begun_after_our_last_write_brings_back_what_a_backup_holds() {
        let store = Objects::default();
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
        let store = Objects::default();
        store.put(&entry("5"), Source::Watch);
        let list = store.begin_list();
        store.put(&entry("7"), Source::OwnWrite);
        assert!(!store.put(&entry("5"), Source::List(list)).1);
        assert_eq!(version(&store), "7");
    }
}
