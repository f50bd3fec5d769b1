//! What all resources of one kind claim, across namespaces.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Claimant, Claimed, Standing, Trial, standing};
use crate::engine::key::Key;
use crate::engine::system::{KeyId, Peer, Via};

/// How many claimants of one object, the oldest, are tried in each namespace: if all were, each outcome would concern all, and
/// one namespace could keep the operator busy.
const TRIED: usize = 8;

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
    /// The claimants of an object, oldest first.
    claimants: HashMap<String, Vec<Claimant<ClaimId>>>,
}

impl Table {
    /// A resource claims an object, or nothing anymore. Returns the rivals that this concerns.
    pub fn set(&mut self, id: &ClaimId, claimed: Option<Claimed>) -> Vec<Key> {
        let object = claimed.as_ref().map(|claimed| &claimed.object);
        let before = self.objects.get(&id.key).filter(|before| object != Some(before)).cloned();
        let mut concerned = before.map(|before| self.remove(&before, &id.key)).unwrap_or_default();
        let Some(Claimed { object, suspended, mut trial, via, peer }) = claimed else { return concerned };
        self.objects.insert(id.key.clone(), object.clone());
        // One, as a rule: by default there would be room for four.
        let claimants = self.claimants.entry(object).or_insert_with(|| Vec::with_capacity(1));
        let changed = match claimants.iter_mut().find(|c| c.id == *id) {
            Some(claimant) if claimant.via == via => {
                std::mem::replace(&mut claimant.suspended, suspended) != suspended
            }
            known => {
                if known.is_some() {
                    // It was let in elsewhere, if at all.
                    trial = Trial::Untried;
                }
                claimants.retain(|c| c.id.key != id.key);
                let met = || claimants.iter().find(|c| c.via == via).and_then(|c| c.peer.clone());
                let (peer, id) = (peer.or_else(met), id.clone());
                let at = claimants.partition_point(|c| c.id < id);
                let claimant = Claimant { id, suspended, trial, via, peer, silent: false, waits: false };
                claimants.insert(at, claimant);
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
        let Some(claimants) = claimants else { return Standing::Owner };
        if claimants.len() <= TRIED {
            return standing(claimants, id);
        }
        let is_left_out = |c: &Claimant<ClaimId>| c.id == *id && !c.suspended;
        let tried: Vec<_> = tried(claimants).cloned().collect();
        if claimants.iter().any(is_left_out) && !tried.iter().any(is_left_out) {
            return Standing::Loser;
        }
        standing(&tried, id)
    }

    /// The peer that a resource reaches, if that is known, and those that were let in there and are not suspended. Until one was
    /// let in, those that may yet be.
    #[must_use]
    pub fn there(&self, id: &ClaimId) -> (Option<Peer>, Vec<Key>) {
        let claimants = self.objects.get(&id.key).and_then(|object| self.claimants.get(object));
        let claimants = claimants.map_or(&[][..], Vec::as_slice);
        let Some(mine) = claimants.iter().find(|c| c.id == *id) else { return (None, Vec::new()) };
        let there = |is: fn(Trial) -> bool| -> Vec<_> {
            let there = claimants.iter().filter(|c| is(c.trial) && !c.suspended && c.is_at(mine));
            there.map(|c| c.id.key.clone()).collect()
        };
        let mut found = there(|trial| trial == Trial::GotIn);
        if found.is_empty() {
            found = there(|trial| trial != Trial::Refused);
        }
        (mine.peer.clone(), found)
    }

    /// Records the outcome of a resource's attempt. Returns the rivals, if it affects them.
    pub fn record(&mut self, id: &ClaimId, trial: Trial) -> Vec<Key> {
        let Some(object) = self.objects.get(&id.key) else { return Vec::new() };
        let Some(claimants) = self.claimants.get_mut(object) else { return Vec::new() };
        let Some(claimant) = claimants.iter_mut().find(|c| c.id == *id) else { return Vec::new() };
        // An owner does not lose the object because the remote side is silent for a while.
        let keeps = claimant.trial == trial || claimant.trial == Trial::GotIn && trial == Trial::NoAnswer;
        let is_silent = trial == Trial::NoAnswer;
        let is_news = std::mem::replace(&mut claimant.silent, is_silent) != is_silent;
        if !keeps {
            claimant.trial = trial;
        } else if !is_news || !claimants.iter().any(|c| c.waits) {
            return Vec::new();
        }
        others(claimants, &id.key)
    }

    /// A resource was let in where it has reached a URL, by a peer that has proven to have a key; none if it has proven nothing,
    /// or nothing was asked this time. Returns the rivals, if it affects them.
    pub fn let_in(&mut self, id: &ClaimId, (url, via): (&str, &Via), key: Option<KeyId>) -> Vec<Key> {
        let is_there = |object: &&String| object.split(' ').next() == Some(url);
        let Some(object) = self.objects.get(&id.key).filter(is_there) else { return Vec::new() };
        let Some(claimants) = self.claimants.get_mut(object) else { return Vec::new() };
        // The resource may have been edited meanwhile.
        let is_mine = |c: &Claimant<ClaimId>| c.id == *id && c.via == *via;
        let Some(me) = claimants.iter().position(is_mine) else { return Vec::new() };
        let Some(mine) = claimants.get(me) else { return Vec::new() };
        let known = || mine.peer.clone().unwrap_or_else(|| Peer::Via(mine.via.clone()));
        let peer = Some(key.map_or_else(known, Peer::Key));
        let is_first = mine.trial != Trial::GotIn;
        if !is_first && mine.peer == peer {
            return Vec::new();
        }
        let waits = is_first && claimants.iter().any(|c| mine.awaits(c));
        // What one of them has met, all have that reach it in the same way: a certificate that is renewed parts nothing.
        claimants.iter_mut().filter(|c| c.via == *via).for_each(|c| c.peer.clone_from(&peer));
        if let Some(mine) = claimants.get_mut(me) {
            (mine.trial, mine.waits) = (Trial::GotIn, waits || mine.waits);
        }
        others(claimants, &id.key)
    }

    /// Whether a resource is to be met again after a restart, so that it is known whether others are at the same system.
    #[must_use]
    pub fn is_awaited(&self, id: &ClaimId) -> bool {
        let Some(claimants) = self.objects.get(&id.key).and_then(|object| self.claimants.get(object)) else {
            return false;
        };
        let mine = claimants.iter().find(|c| c.id == *id);
        mine.is_some_and(|mine| claimants.iter().any(|c| !c.suspended && c.awaits(mine)))
    }

    /// Returns those that still claim the object.
    fn remove(&mut self, object: &str, key: &Key) -> Vec<Key> {
        self.objects.remove(key);
        let Some(claimants) = self.claimants.get_mut(object) else { return Vec::new() };
        claimants.retain(|c| c.id.key != *key);
        let rest = others(claimants, key);
        if claimants.is_empty() {
            self.claimants.remove(object);
        }
        rest
    }
}

/// The claimants that are tried.
fn tried(claimants: &[Claimant<ClaimId>]) -> impl Iterator<Item = &Claimant<ClaimId>> {
    let mut namespaces: HashMap<&str, usize> = HashMap::new();
    claimants.iter().filter(move |claimant| {
        let count = namespaces.entry(&claimant.id.key.namespace).or_default();
        *count += usize::from(!claimant.suspended);
        !claimant.suspended && *count <= TRIED
    })
}

/// Those whose standing a claimant may affect.
fn others(claimants: &[Claimant<ClaimId>], key: &Key) -> Vec<Key> {
    tried(claimants).filter(|c| c.id.key != *key).map(|c| c.id.key.clone()).collect()
}
