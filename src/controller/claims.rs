//! Which resources declare the same remote object, across namespaces, and which of them owns it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::crd::Kind;
use crate::engine::ownership::{Claimant, Claimed, Standing, Trial, standing};
use crate::runtime::object::Key;
use crate::runtime::workers::Workers;

/// A claimant: sorts by age, then by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId {
    /// When the resource was created.
    pub created: Timestamp,
    /// Namespace and name.
    pub key: Key,
    /// A resource that was created again is another claimant.
    pub uid: String,
}

impl ClaimId {
    /// A resource as a claimant.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            created: meta.creation_timestamp.as_ref().map(|time| time.0).unwrap_or_default(),
            key: Key::of(meta),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    /// What a resource claims.
    objects: HashMap<Key, String>,
    /// The claimants of an object.
    claimants: HashMap<String, Vec<Claimant<ClaimId>>>,
}

/// All claims of one kind. The rivals that a change concerns are woken.
#[derive(Debug)]
pub struct Claims {
    kind: Kind,
    workers: Workers,
    table: Mutex<Table>,
}

impl Claims {
    /// None yet.
    #[must_use]
    pub(super) fn new(kind: Kind, workers: Workers) -> Self {
        Self { kind, workers, table: Mutex::default() }
    }

    /// A resource claims an object, or nothing anymore. While another replica does the work, statuses show what it knows.
    pub fn set(&self, meta: &ObjectMeta, claimed: Option<Claimed>) {
        let (id, outcome) = (ClaimId::of(meta), claimed.as_ref().map(|claimed| claimed.trial));
        let mut table = self.table();
        let rivals = table.set(&id, claimed);
        if let Some(trial) = outcome.filter(|_| !self.workers.are_started()) {
            table.record(&id, trial);
        }
        drop(table);
        self.wake(rivals);
    }

    /// The standing of a resource.
    #[must_use]
    pub fn standing(&self, meta: &ObjectMeta) -> Standing {
        self.table().standing(&ClaimId::of(meta))
    }

    /// Records the outcome of a resource's attempt.
    pub fn record(&self, meta: &ObjectMeta, trial: Trial) {
        let rivals = self.table().record(&ClaimId::of(meta), trial);
        self.wake(rivals);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, rivals: Vec<Key>) {
        rivals.into_iter().for_each(|rival| self.workers.wake(self.kind, rival));
    }
}

impl Table {
    /// A resource claims an object, or nothing anymore. Returns the rivals that this concerns.
    fn set(&mut self, id: &ClaimId, claimed: Option<Claimed>) -> Vec<Key> {
        let before = self.objects.get(&id.key).cloned();
        let mut concerned = Vec::new();
        let object = claimed.as_ref().map(|claimed| &claimed.object);
        if let Some(before) = before.filter(|before| object != Some(before)) {
            concerned.extend(self.remove(&before, &id.key));
        }
        let Some(Claimed { object, suspended, trial }) = claimed else { return concerned };
        self.objects.insert(id.key.clone(), object.clone());
        let claimants = self.claimants.entry(object).or_default();
        let changed = match claimants.iter_mut().find(|c| c.id == *id) {
            Some(claimant) => std::mem::replace(&mut claimant.suspended, suspended) != suspended,
            None => {
                claimants.retain(|c| c.id.key != id.key);
                claimants.push(Claimant { id: id.clone(), suspended, trial });
                true
            }
        };
        if changed {
            concerned.extend(others(claimants, &id.key));
        }
        concerned
    }

    /// The standing of a resource.
    fn standing(&self, id: &ClaimId) -> Standing {
        let claimants = self.objects.get(&id.key).and_then(|object| self.claimants.get(object));
        claimants.map_or(Standing::Owner, |claimants| standing(claimants, id))
    }

    /// Records the outcome of a resource's attempt. Returns the rivals, if it affects them.
    fn record(&mut self, id: &ClaimId, trial: Trial) -> Vec<Key> {
        let Some(object) = self.objects.get(&id.key) else { return Vec::new() };
        let Some(claimants) = self.claimants.get_mut(object) else { return Vec::new() };
        let Some(claimant) = claimants.iter_mut().find(|c| c.id == *id) else { return Vec::new() };
        // An owner does not lose the object because the remote side is silent for a while.
        if claimant.trial == trial || (claimant.trial == Trial::GotIn && trial == Trial::NoAnswer) {
            return Vec::new();
        }
        claimant.trial = trial;
        others(claimants, &id.key)
    }

    fn remove(&mut self, object: &str, key: &Key) -> Vec<Key> {
        self.objects.remove(key);
        let Some(claimants) = self.claimants.get_mut(object) else { return Vec::new() };
        claimants.retain(|c| c.id.key != *key);
        let rest = others(claimants, key);
        if rest.is_empty() {
            self.claimants.remove(object);
        }
        rest
    }
}

fn others(claimants: &[Claimant<ClaimId>], key: &Key) -> Vec<Key> {
    claimants.iter().filter(|c| c.id.key != *key).map(|c| c.id.key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn claimed(host: u8, trial: Trial) -> Claimed {
        Claimed { object: format!("https://10.20.0.{host}"), suspended: false, trial }
    }

    /// Two claimants of one appliance, the older of which owns it.
    fn contested() -> (Table, [ClaimId; 2]) {
        let id = |name: &str, created| {
            let created = Timestamp::from_second(created).unwrap();
            ClaimId { created, key: Key::new("berlin", name), uid: format!("uid-{name}") }
        };
        let (mut claims, both) = (Table::default(), [id("old", 1), id("new", 2)]);
        for id in &both {
            claims.set(id, Some(claimed(11, Trial::GotIn)));
        }
        (claims, both)
    }

    fn standings(claims: &Table, both: &[ClaimId; 2]) -> [Standing; 2] {
        both.each_ref().map(|id| claims.standing(id))
    }

    #[test]
    fn an_owner_with_another_url_leaves_the_object_to_the_next() {
        let (mut claims, both) = contested();
        assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
        let [old, new] = &both;
        assert_eq!(claims.set(old, Some(claimed(12, Trial::Untried))), from_ref(&new.key));
        assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Owner]);
        // Back again, it is tried like any other before anything is decided.
        assert_eq!(claims.set(old, Some(claimed(11, Trial::Untried))), from_ref(&new.key));
        assert_eq!(standings(&claims, &both), [Standing::TryNow, Standing::Undecided]);
    }

    #[test]
    fn an_owner_that_does_not_answer_keeps_the_object_and_one_that_is_refused_does_not() {
        let (mut claims, both) = contested();
        let [old, new] = &both;
        assert!(claims.record(old, Trial::NoAnswer).is_empty());
        assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
        assert_eq!(claims.record(old, Trial::Refused), from_ref(&new.key));
        assert_eq!(standings(&claims, &both), [Standing::TryNow, Standing::Owner]);
    }
}
