//! What one reconcile of a customer works with, has come to know, and may end with.

use std::sync::Arc;
use std::time::Duration;

use kube::Resource as _;

use super::CustomerController;
use crate::controller::access;
use crate::controller::audit::Write;
use crate::controller::reconcile::Working;
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

/// Everything that one reconcile works with.
pub(super) struct Examination<'a, 'w> {
    pub(super) controller: &'a CustomerController,
    pub(super) server: &'a KonaServer,
    pub(super) customer: &'a mut Working<'w, CustomerTokenTtl>,
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

impl Examination<'_, '_> {
    /// Whether a write is permitted at this moment: what the reconcile began with still holds, and a window is open. Asked
    /// last, when nothing but the bytes of the write is left to be sent. What is restored waits for no window.
    pub(super) fn permitted(&self) -> bool {
        let CustomerController { servers, claims, .. } = self.controller;
        let then = self.server.meta();
        let owns = |now: &Arc<CustomerTokenTtl>| claims.standing(now.meta()) == Standing::Owner;
        self.customer.current().is_some_and(|now| owns(&now))
            && servers
                .valid(&Key::of(then))
                .is_some_and(|now| now.meta().uid == then.uid && now.meta().generation == then.generation)
            && (self.task.is_some() || self.closed_window().is_none())
    }

    /// What keeps a change from being made now, if the resource has windows.
    pub(super) fn closed_window(&self) -> Option<Closed> {
        // As it is now: the annotation that opens one manually may have come while an answer was awaited.
        let now = self.customer.current()?;
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
