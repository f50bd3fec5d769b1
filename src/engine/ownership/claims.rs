//! What all resources of one kind claim, across namespaces.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Claimant, Claimed, Standing, Trial, standing};
use crate::engine::key::Key;

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

/// The claims of one kind.
#[derive(Debug, Default)]
pub struct Table {
    /// What a resource claims.
    objects: HashMap<Key, String>,
    /// The claimants of an object.
    claimants: HashMap<String, Vec<Claimant<ClaimId>>>,
}

impl Table {
    /// A resource claims an object, or nothing anymore. Returns the rivals that this concerns.
    pub fn set(&mut self, id: &ClaimId, claimed: Option<Claimed>) -> Vec<Key> {
        let object = claimed.as_ref().map(|claimed| &claimed.object);
        let before = self.objects.get(&id.key).filter(|before| object != Some(before)).cloned();
        let mut concerned = before.map(|before| self.remove(&before, &id.key)).unwrap_or_default();
        let Some(Claimed { object, suspended, trial }) = claimed else { return concerned };
        self.objects.insert(id.key.clone(), object.clone());
        // One, as a rule: by default there would be room for four.
        let claimants = self.claimants.entry(object).or_insert_with(|| Vec::with_capacity(1));
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
    #[must_use]
    pub fn standing(&self, id: &ClaimId) -> Standing {
        let claimants = self.objects.get(&id.key).and_then(|object| self.claimants.get(object));
        claimants.map_or(Standing::Owner, |claimants| standing(claimants, id))
    }

    /// Records the outcome of a resource's attempt. Returns the rivals, if it affects them.
    pub fn record(&mut self, id: &ClaimId, trial: Trial) -> Vec<Key> {
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

    /// Returns those that still claim the object.
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
