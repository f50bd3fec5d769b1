//! Our finalizer on a gateway, and its end.

use std::sync::Arc;

use kube::Resource as _;
use tokio::time::Instant;

use super::{SOON, change};
use crate::clock;
use crate::controller::context::{Context, UNDISTURBED};
use crate::controller::events::reference;
use crate::controller::governance::{Governance, is_deleted};
use crate::controller::report::Written;
use crate::controller::restore;
use crate::controller::workers::Look;
use crate::crd::X2Gateway;
use crate::engine::gateway::Regime;

/// Puts our finalizer on where a deletion is to wait for us, and takes it off where it need not. Returns the time of the
/// next look where there is nothing else to do before that.
pub(super) async fn keep_hold(
    context: &Arc<Context>,
    gateway: &Arc<X2Gateway>,
    governance: &Governance,
) -> Option<Instant> {
    let meta = gateway.meta();
    let deleted = is_deleted(&**gateway);
    if deleted && !restore::is_held(meta) {
        return Some(clock::instant() + UNDISTURBED);
    }
    let left = matches!(governance.regime, Regime::Left { .. });
    let suspended = gateway.spec.connection.suspend;
    let wanted =
        if deleted { left && !suspended } else { left || change::is_to_be_held(gateway, governance) };
    let written = if !wanted {
        restore::release::<X2Gateway>(context, meta).await
    } else if deleted {
        let why = restore::let_go(context, meta).await?;
        let written = restore::release::<X2Gateway>(context, meta).await;
        if written != Written::Failed {
            restore::skipped(context, reference(&**gateway), why.as_str());
        }
        written
    } else if left {
        // It was put on before the first change, or there is none to be taken back.
        Written::Unchanged
    } else {
        restore::hold::<X2Gateway>(context, meta).await
    };
    match written {
        Written::Failed => Some(clock::instant() + SOON),
        _ if deleted => Some(clock::instant() + UNDISTURBED),
        _ => None,
    }
}

/// Works on a gateway until there is something to report, or until its deletion, which may come meanwhile, does not wait for
/// that any longer.
pub(super) async fn until_let_go<T>(
    context: &Context,
    gateway: &X2Gateway,
    governance: &Governance,
    work: impl Future<Output = Option<T>>,
) -> Option<T> {
    if !restore::is_held(gateway.meta()) && !governance.restores() {
        return work.await;
    }
    tokio::select! {
        done = work => done,
        _ = restore::given_up::<X2Gateway>(context, gateway.meta()) => None,
    }
}

/// While a deletion waits, its end is looked for often; remote systems are asked no more often than otherwise.
pub(super) fn at_the_latest(gateway: &X2Gateway, look: Look) -> Look {
    if !restore::is_leaving(gateway.meta()) {
        return look;
    }
    let latest = restore::next_look(gateway.meta());
    match look {
        Look::NotDue(next) => Look::NotDue(next.min(latest)),
        Look::Done { next, ready } => Look::Done { next: next.min(latest), ready },
    }
}
