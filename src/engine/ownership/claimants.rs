//! The resources that claim one object.

use super::{ClaimId, Claimant};
use crate::engine::key::Key;
use crate::engine::system::{Peer, Via};

/// How many claimants of one object, the oldest, are tried in each namespace: if all were, each outcome would concern all, and
/// one namespace could keep the operator busy.
const TRIED: usize = 8;

/// Sorted by namespace; within one, those that are suspended come last, and otherwise the oldest comes first.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "there may be thousands, and all that follow move when one is added")]
pub(super) struct Claimants(Vec<Box<Claimant<ClaimId>>>);

impl Claimants {
    /// A claimant.
    pub(super) fn get(&self, id: &ClaimId) -> Option<&Claimant<ClaimId>> {
        self.0.get(self.index(id)?).map(|claimant| &**claimant)
    }

    /// A claimant, to change it. Its id and whether it is suspended must stay as they are.
    pub(super) fn get_mut(&mut self, id: &ClaimId) -> Option<&mut Claimant<ClaimId>> {
        let index = self.index(id)?;
        self.0.get_mut(index).map(|claimant| &mut **claimant)
    }

    /// Adds a claimant.
    pub(super) fn insert(&mut self, claimant: Claimant<ClaimId>) {
        let (Ok(index) | Err(index)) = self.find(&claimant.id, claimant.suspended);
        if self.0.is_empty() {
            // One, as a rule: by default there would be room for four.
            self.0.reserve_exact(1);
        }
        self.0.insert(index, Box::new(claimant));
    }

    /// Removes a claimant.
    pub(super) fn take(&mut self, id: &ClaimId) -> Option<Claimant<ClaimId>> {
        self.index(id).map(|index| *self.0.remove(index))
    }

    /// Suspends or resumes a claimant. Returns those that this concerns.
    pub(super) fn suspend(&mut self, id: &ClaimId, suspended: bool) -> Vec<Key> {
        let before = self.others(&id.key);
        if let Some(claimant) = self.take(id) {
            self.insert(Claimant { suspended, ..claimant });
        }
        if suspended { self.others(&id.key) } else { before }
    }

    /// The peer at the end of a way, if one of those that use it has met it.
    pub(super) fn met(&self, via: &Via) -> Option<Peer> {
        self.0.iter().find(|c| c.via == *via).and_then(|c| c.peer.clone())
    }

    /// Records the peer at the end of a way, for all that use it: a renewed certificate does not separate them.
    pub(super) fn meet(&mut self, via: &Via, peer: &Peer) {
        let same = self.0.iter_mut().filter(|c| c.via == *via);
        same.for_each(|c| c.peer = Some(peer.clone()));
    }

    /// The claimants that are tried.
    pub(super) fn tried(&self) -> Vec<&Claimant<ClaimId>> {
        let (mut tried, mut rest) = (Vec::new(), self.0.as_slice());
        while let Some(first) = rest.first() {
            let namespace = &first.id.key.namespace;
            let (own, others) = rest.split_at(rest.partition_point(|c| c.id.key.namespace == *namespace));
            tried.extend(own.iter().take(TRIED).take_while(|c| !c.suspended).map(|c| &**c));
            rest = others;
        }
        tried
    }

    /// Those whose standing a claimant may affect.
    pub(super) fn others(&self, key: &Key) -> Vec<Key> {
        self.tried().into_iter().filter(|c| c.id.key != *key).map(|c| c.id.key.clone()).collect()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Claimant<ClaimId>> {
        self.0.iter().map(|claimant| &**claimant)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn index(&self, id: &ClaimId) -> Option<usize> {
        [false, true].into_iter().find_map(|suspended| self.find(id, suspended).ok())
    }

    fn find(&self, id: &ClaimId, suspended: bool) -> Result<usize, usize> {
        let place = (&id.key.namespace, suspended, id);
        self.0.binary_search_by(|c| (&c.id.key.namespace, c.suspended, &c.id).cmp(&place))
    }
}
