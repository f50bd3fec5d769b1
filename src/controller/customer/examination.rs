//! What one reconcile of a customer works with, has come to know, and may end with.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};

use super::CustomerController;
use crate::controller::access;
use crate::controller::audit::Write;
use crate::crd::{CustomerTokenTtl, KonaServer};
use crate::engine::connection::ValidConnection;
use crate::engine::customer::{Prior, Reading, Task, Wish};
use crate::engine::ownership::Standing;
use crate::engine::window::Closed;
use crate::runtime::object::Key;

/// What a reconcile has come to know so far. It is reported however the reconcile ends.
#[derive(Default)]
pub(super) struct Progress {
    /// What was read last.
    pub(super) read: Option<Reading>,
    /// The window that a change waits for.
    pub(super) closed: Option<Closed>,
    /// The last write, until it is known what came of it.
    pub(super) write: Option<Write>,
    /// Writes that were tried.
    pub(super) tries: u8,
    /// Whether a write was sent: what follows it is made although the operator is shutting down.
    pub(super) sent: bool,
}

/// What a reconcile began with.
#[derive(Clone)]
pub(super) struct Basis<'a> {
    pub(super) controller: &'a CustomerController,
    pub(super) server: &'a KonaServer,
    pub(super) uid: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) key: Key,
}

/// Everything that one reconcile works with.
pub(super) struct Examination<'a> {
    pub(super) basis: Basis<'a>,
    /// The working copy: as it was read, or as this reconcile has written it.
    pub(super) customer: &'a mut Arc<CustomerTokenTtl>,
    pub(super) wish: Wish,
    pub(super) prior: Prior,
    /// The server that is asked.
    pub(super) connection: ValidConnection,
    pub(super) url: String,
    pub(super) progress: Progress,
    /// What is to be restored, if the resource is being deleted.
    pub(super) task: Option<Task>,
    pub(super) interval: Duration,
    pub(super) asked: bool,
}

/// Why a reconcile came to an early end.
pub(super) type Stop = access::Stop<CustomerTokenTtl>;

impl Basis<'_> {
    /// Whether what the reconcile began with still holds: a wait may lie between, and yesterday's decision must not be
    /// carried out.
    pub(super) fn still_holds(&self) -> bool {
        let customer = self.controller.customers.valid(&self.key);
        let server = self.controller.servers.valid(&Key::of(self.server.meta()));
        let then = self.server.meta();
        customer.is_some_and(|now| {
            let owns = self.controller.claims.standing(now.meta()) == Standing::Owner;
            owns && now.uid() == self.uid && now.meta().generation == self.generation
        }) && server.is_some_and(|now| now.meta().uid == then.uid && now.meta().generation == then.generation)
    }

    /// What keeps a change from being made now, if the resource has windows.
    pub(super) fn closed_window(&self) -> Option<Closed> {
        // As it is now: the annotation that opens one manually may have come while an answer was awaited.
        let now = self.controller.customers.valid(&self.key)?;
        self.controller.windows.closed(&now.spec.windows, now.meta())
    }
}

impl Progress {
    /// Puts on record what was seen of the last write's effect.
    pub(super) fn saw(&mut self, holds: bool, seen: &String) {
        if let Some(write) = &mut self.write {
            write.proven(holds, seen);
        }
    }
}
