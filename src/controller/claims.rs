//! Which resources declare the same remote object, across namespaces, and which of them owns it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::crd::Kind;
use crate::engine::ownership::{ClaimId, Claimed, Standing, Table, Trial};
use crate::engine::system::Peer;
use crate::runtime::object::Key;
use crate::runtime::workers::{Trigger, Workers};
use crate::vendor::endpoint::Endpoint;

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

    /// A resource was let in at an endpoint.
    pub fn let_in(&self, meta: &ObjectMeta, endpoint: &Endpoint) {
        let ((url, via), key) = (endpoint.place(), endpoint.answered.key());
        let rivals = self.table().let_in(&ClaimId::of(meta), (&url, &via), key);
        self.wake(rivals);
    }

    /// Whether it is to be found out at once which peer a resource is let in by.
    #[must_use]
    pub fn is_awaited(&self, meta: &ObjectMeta) -> bool {
        self.table().is_awaited(&ClaimId::of(meta))
    }

    /// The peer that a resource reaches, if that is known, and those whose limits count there.
    #[must_use]
    pub fn there(&self, meta: &ObjectMeta) -> (Option<Peer>, Vec<Key>) {
        self.table().there(&ClaimId::of(meta))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, rivals: Vec<Key>) {
        if self.kind == Kind::Server {
            // They share what they ask, and none waits for another.
            return;
        }
        rivals.into_iter().for_each(|rival| self.workers.wake(self.kind, rival, Trigger::Related));
    }
}
