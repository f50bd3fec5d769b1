//! What calls for a reconcile of a customer at once.

use crate::crd::{CustomerTokenTtl, KonaServer};
use crate::engine::annotation;
use crate::engine::reason::Reason;
use crate::engine::verdict::ready_reason;
use crate::engine::window::override_annotation;

/// What, when it changes, is a reason to reconcile at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    generation: Option<i64>,
    /// Annotations that are too long: the report names them.
    ignored: Vec<&'static str>,
    /// UID and generation of the server.
    server: Option<(Option<String>, Option<i64>)>,
    /// Whether the server is known not to be ready. That it has come to be ready is a reason for those that wait for it.
    server_fails: bool,
    /// The annotation that opens change windows manually. It counts for those that wait for one.
    by_hand: Option<String>,
}

impl Inputs {
    /// Those of a customer and its server.
    #[must_use]
    pub fn of(customer: &CustomerTokenTtl, server: Option<&KonaServer>) -> Self {
        let status = server.and_then(|server| server.status.as_ref());
        let reason = status.and_then(|status| ready_reason(&status.conditions));
        Self {
            generation: customer.metadata.generation,
            ignored: annotation::ignored(&customer.metadata),
            server: server.map(|server| (server.metadata.uid.clone(), server.metadata.generation)),
            server_fails: reason.is_some_and(|reason| !reason.is_ready()),
            by_hand: override_annotation(&customer.metadata).map(str::to_owned),
        }
    }

    /// Takes over from `now` what is no reason for a customer that reports this.
    pub fn overlook(&mut self, now: &Self, reported: Option<Reason>) {
        // A server that comes and goes shortens no wait after a failure of the customer itself.
        if reported != Some(Reason::ServerNotReady) || now.server_fails {
            self.server_fails = now.server_fails;
        }
        if reported != Some(Reason::AwaitingWindow) {
            self.by_hand.clone_from(&now.by_hand);
        }
    }
}
