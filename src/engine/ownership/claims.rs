//! What all resources of one kind claim, across namespaces.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::claimants::Claimants;
use super::{Claimant, Claimed, Standing, Trial, standing};
use crate::engine::key::Key;
use crate::engine::system::{KeyId, Peer, Via};

/// A claimant: sorts by age, then by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId {
    /// When the resource was created.
    pub created: Timestamp,
    /// Namespace and name.
    pub key: Key,
    /// A resource that was created again is another claimant.
    pub uid: Arc<str>,
}

impl ClaimId {
    /// A resource as a claimant.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            created: meta.creation_timestamp.as_ref().map(|time| time.0).unwrap_or_default(),
            key: Key::of(meta),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
        }
    }
}

/// What a resource claims, and the rest of its id.
#[derive(Debug)]
struct Claim {
    object: Arc<str>,
    created: Timestamp,
    uid: Arc<str>,
}

impl Claim {
    fn id(&self, key: &Key) -> ClaimId {
        ClaimId { created: self.created, key: key.clone(), uid: Arc::clone(&self.uid) }
    }
}

/// The claims of one kind. What happens often to one of many claimants of an object does not go through all of them: it is
/// suspended or resumed, tried, or let in by the peer that is known.
#[derive(Debug, Default)]
pub struct Table {
    claims: HashMap<Key, Claim>,
    contests: HashMap<Arc<str>, Claimants>,
}

impl Table {
    /// A resource claims an object, or nothing anymore. Returns the rivals that this concerns.
    pub fn set(&mut self, id: &ClaimId, claimed: Option<Claimed>) -> Vec<Key> {
        let Some(Claimed { object, suspended, mut trial, via, peer }) = claimed else {
            return self.remove(&id.key);
        };
        let is_elsewhere = self.claims.get(&id.key).is_some_and(|claim| *claim.object != *object);
        let mut concerned = if is_elsewhere { self.remove(&id.key) } else { Vec::new() };
        let object = match self.contests.get_key_value(&*object) {
            Some((object, _)) => Arc::clone(object),
            None => object.into(),
        };
        let claimants = self.contests.entry(Arc::clone(&object)).or_default();
        let claim = Claim { object, created: id.created, uid: Arc::clone(&id.uid) };
        let before = self.claims.insert(id.key.clone(), claim);
        if let Some(known) = claimants.get(id).filter(|known| known.via == via) {
            if known.suspended != suspended {
                concerned.extend(claimants.suspend(id, suspended));
            }
            return concerned;
        }
        let known = before.and_then(|before| claimants.take(&before.id(&id.key)));
        if known.is_some_and(|known| known.id == *id) {
            // It was let in elsewhere, if at all.
            trial = Trial::Untried;
        }
        let (peer, id) = (peer.or_else(|| claimants.met(&via)), id.clone());
        concerned.extend(claimants.others(&id.key));
        claimants.insert(Claimant { id, suspended, trial, via, peer, silent: false, waits: false });
        concerned
    }

    /// The standing of a resource.
    #[must_use]
    pub fn standing(&self, id: &ClaimId) -> Standing {
        let Some(claimants) = self.contest(&id.key) else { return Standing::Owner };
        let tried = claimants.tried();
        match claimants.get(id) {
            Some(mine) if mine.suspended => Standing::Undecided,
            Some(_) if !tried.iter().any(|c| c.id == *id) => Standing::Loser,
            _ => standing(&tried, id),
        }
    }

    /// The peer that a resource reaches, if that is known, and those that were let in there and are not suspended. Until one was
    /// let in, those that may yet be.
    #[must_use]
    pub fn there(&self, id: &ClaimId) -> (Option<Peer>, Vec<Key>) {
        let Some(claimants) = self.contest(&id.key) else { return (None, Vec::new()) };
        let Some(mine) = claimants.get(id) else { return (None, Vec::new()) };
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
        let Some(claimants) = self.contest_mut(&id.key) else { return Vec::new() };
        let Some(claimant) = claimants.get_mut(id) else { return Vec::new() };
        // An owner does not lose the object because the remote side is silent for a while.
        let keeps = claimant.trial == trial || claimant.trial == Trial::GotIn && trial == Trial::NoAnswer;
        let is_silent = trial == Trial::NoAnswer;
        let is_news = std::mem::replace(&mut claimant.silent, is_silent) != is_silent;
        if !keeps {
            claimant.trial = trial;
        } else if !is_news || !claimants.tried().iter().any(|c| c.waits) {
            return Vec::new();
        }
        claimants.others(&id.key)
    }

    /// A resource was let in where it has reached a URL, by a peer that has proven to have a key; none if it has proven nothing,
    /// or nothing was asked this time. Returns the rivals, if it affects them.
    pub fn let_in(&mut self, id: &ClaimId, (url, via): (&str, &Via), key: Option<KeyId>) -> Vec<Key> {
        let is_there = |claim: &&Claim| claim.object.split(' ').next() == Some(url);
        let Some(claim) = self.claims.get(&id.key).filter(is_there) else { return Vec::new() };
        let Some(claimants) = self.contests.get_mut(&claim.object) else { return Vec::new() };
        // The resource may have been edited meanwhile.
        let Some(mine) = claimants.get(id).filter(|mine| mine.via == *via) else { return Vec::new() };
        let known = || mine.peer.clone().unwrap_or_else(|| Peer::Via(via.clone()));
        let peer = key.map_or_else(known, Peer::Key);
        let (is_first, is_met) = (mine.trial != Trial::GotIn, mine.peer.as_ref() == Some(&peer));
        if !is_first && is_met {
            return Vec::new();
        }
        let waits = is_first && claimants.tried().iter().any(|c| mine.awaits(c));
        if !is_met {
            claimants.meet(via, &peer);
        }
        if let Some(mine) = claimants.get_mut(id) {
            (mine.trial, mine.waits) = (Trial::GotIn, waits || mine.waits);
        }
        claimants.others(&id.key)
    }

    /// Whether a resource is to be met again after a restart, so that it is known whether others are at the same system.
    #[must_use]
    pub fn is_awaited(&self, id: &ClaimId) -> bool {
        let Some(claimants) = self.contest(&id.key) else { return false };
        let mine = claimants.get(id);
        mine.is_some_and(|mine| claimants.tried().iter().any(|c| c.awaits(mine)))
    }

    fn contest(&self, key: &Key) -> Option<&Claimants> {
        self.contests.get(&self.claims.get(key)?.object)
    }

    fn contest_mut(&mut self, key: &Key) -> Option<&mut Claimants> {
        self.contests.get_mut(&self.claims.get(key)?.object)
    }

    /// A resource claims nothing anymore. Returns the rivals that this concerns.
    fn remove(&mut self, key: &Key) -> Vec<Key> {
        let Some(claim) = self.claims.remove(key) else { return Vec::new() };
        let Some(claimants) = self.contests.get_mut(&claim.object) else { return Vec::new() };
        claimants.take(&claim.id(key));
        if claimants.is_empty() {
            self.contests.remove(&claim.object);
            return Vec::new();
        }
        claimants.others(key)
    }
}
