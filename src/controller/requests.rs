//! Requests to reconcile objects: what users ask of a policy or a server, and has to be carried out by each of its parts; and
//! what a reconcile asks of another object.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::crd::Kind;
use crate::engine::request;
use crate::runtime::object::{Key, Reported};

/// A request: the object that it is made on, and the value of its annotation.
pub type Request = (Key, String);

/// The request on an object that was not carried out yet.
pub fn open<K: Reported>(object: &K) -> Option<Request> {
    let handled = object.status().and_then(K::last_handled);
    let asked = request::open(object.meta(), handled)?;
    Some((Key::of(object.meta()), asked.to_owned()))
}

/// Which requests on a policy or server were carried out by which of its parts.
#[derive(Debug, Default)]
pub(crate) struct Handled(Mutex<HashMap<(Kind, Key), BTreeSet<Request>>>);

impl Handled {
    /// A part has carried out requests; older ones are of no interest anymore.
    pub fn set(&self, kind: Kind, part: Key, requests: BTreeSet<Request>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.is_empty() {
            parts.remove(&(kind, part));
        } else {
            parts.insert((kind, part), requests);
        }
    }

    /// Whether all these parts have carried out a request. They are in the namespace of what it was made on.
    pub(crate) fn by_all<'a>(
        &self,
        kind: Kind,
        mut parts: impl Iterator<Item = &'a str>,
        request: &Request,
    ) -> bool {
        let handled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.all(|part| {
            let part = (kind, Key::new(request.0.namespace.clone(), part));
            handled.get(&part).is_some_and(|requests| requests.contains(request))
        })
    }
}

/// Objects that are to be reconciled although they are not due.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Mutex<HashSet<Key>>);

impl Alarms {
    /// Requests a reconcile.
    pub(crate) fn raise(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Whether a reconcile was requested. That is answered once.
    pub fn take(&self, key: &Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }
}
