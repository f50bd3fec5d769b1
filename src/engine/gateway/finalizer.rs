//! Our finalizer on a gateway: it is there as long as a deletion has to wait for the original value to be restored.

use super::Regime;
use crate::crd::{Cause, X2Gateway, X2GatewayStatus};
use crate::engine::lifetime::InvalidTarget;

/// What is to be done about the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalizer {
    /// A deletion has to wait from now on.
    Add,
    /// It stays as it is.
    Keep,
    /// No deletion has to wait.
    Remove,
    /// The gateway is being deleted, and nothing restores its value.
    Abandon,
    /// The gateway is being deleted, and its value is restored first.
    Wait,
}

/// What a gateway is, as far as its finalizer depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is not being deleted.
    Alive,
    /// It is being deleted.
    Deleted,
    /// It is being deleted and is suspended.
    DeletedSuspended,
}

impl Phase {
    /// That of a gateway.
    #[must_use]
    pub fn of(gateway: &X2Gateway) -> Self {
        match (gateway.metadata.deletion_timestamp.is_some(), gateway.spec.connection.suspend) {
            (false, _) => Self::Alive,
            (true, false) => Self::Deleted,
            (true, true) => Self::DeletedSuspended,
        }
    }
}

/// Decides what is to be done about the finalizer. `owes`: whether [`owes_original`], and the policy restores.
#[must_use]
pub fn finalizer(regime: &Regime, phase: Phase, owes: bool) -> Finalizer {
    let left = matches!(regime, Regime::Left { .. });
    // What its policy requires is not known; it may be understood again in time.
    let unclear = matches!(regime, Regime::Enforced { target: Err(InvalidTarget::Undecodable), .. });
    match phase {
        Phase::Deleted if left || unclear => Finalizer::Wait,
        Phase::Deleted => Finalizer::Abandon,
        // It was added before the first change, or there is none to be restored.
        Phase::Alive if left || unclear => Finalizer::Keep,
        Phase::Alive if owes => Finalizer::Add,
        Phase::Alive | Phase::DeletedSuspended => Finalizer::Remove,
    }
}

/// Whether the value of a gateway may be one that the operator has set, as far as that is on record. A restored one is not.
#[must_use]
pub fn is_changed(status: &X2GatewayStatus) -> bool {
    status.pending.is_some() || status.history.first().is_some_and(|last| last.cause != Cause::Restore)
}

/// Whether a gateway was changed and its original value is known.
#[must_use]
pub fn owes_original(status: &X2GatewayStatus) -> bool {
    status.original_timeout_seconds.is_some() && is_changed(status)
}
