//! Our finalizer on a gateway.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use crate::clock;
use crate::controller::reconcile::Memory;
use crate::crd::{TokenPolicy, X2Gateway};
use crate::engine::backoff::Inconclusive;
use crate::engine::gateway::{Finalizer, NO_POLICY, Phase, Regime, finalizer};
use crate::engine::governance::Governance;
use crate::engine::restoration::SkipReason;
use crate::runtime::object::Key;
use crate::runtime::store::Store;
use crate::runtime::workers::UNDISTURBED;
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, restore};

/// Adds our finalizer if a deletion has to wait for the operator, and releases it if not. Returns the time of the next
/// reconcile if there is nothing else to do. An error means that the API server did not accept that.
pub(super) async fn keep(
    (gateways, policies): (&Arc<Store<X2Gateway>>, &Store<TokenPolicy>),
    gateway: &Arc<X2Gateway>,
    governance: &Governance,
    memory: &mut Memory<X2Gateway>,
) -> Result<Option<Instant>, Inconclusive> {
    let meta = gateway.meta();
    let phase = Phase::of(gateway);
    let deleted = phase != Phase::Alive;
    if memory.has_gone || deleted && !finalizers::has_finalizer(meta) {
        return Ok(Some(clock::instant() + UNDISTURBED));
    }
    let written = match finalizer(&governance.regime, phase, governance.owes_original(gateway)) {
        Finalizer::Add => finalizers::hold(gateways, meta).await,
        Finalizer::Keep => Written::Unchanged,
        Finalizer::Abandon if is_bereft(policies, gateway) => {
            let why =
                restore::skip_reason(gateways.cluster(), meta).await.map_or(NO_POLICY, SkipReason::as_str);
            restore::release(gateways, meta, Some(why)).await
        }
        Finalizer::Remove | Finalizer::Abandon => restore::release(gateways, meta, None).await,
        Finalizer::Wait => {
            let Some(why) = restore::skip_reason(gateways.cluster(), meta).await else { return Ok(None) };
            restore::release(gateways, meta, Some(why.as_str())).await
        }
    };
    match written {
        Written::Failed | Written::Forbidden if deleted => Ok(Some(restore::next_check(meta))),
        Written::Failed => Err(Inconclusive::NotAccepted),
        // Also if no watch has reported a deletion: the answer shows that it is gone.
        written if deleted || written == Written::Gone => {
            memory.has_gone = true;
            Ok(Some(clock::instant() + UNDISTURBED))
        }
        _ => Ok(None),
    }
}

/// Whether the policy that a gateway still obeys is not there anymore.
fn is_bereft(policies: &Store<TokenPolicy>, gateway: &X2Gateway) -> bool {
    let policy = gateway.status.as_ref().and_then(|status| status.policy.as_deref());
    let namespace = gateway.namespace().unwrap_or_default();
    policy.is_some_and(|policy| policies.get(&Key::new(namespace, policy)).is_none())
}

/// What is left for restoring, if a deletion waits for it: the gateway's own, or its policy's.
pub(super) fn time_left(gateway: &X2Gateway, governance: &Governance) -> Option<Duration> {
    let left = matches!(governance.regime, Regime::Left { .. });
    let policy = governance.policy.as_ref().filter(|_| left).map(|policy| policy.object.meta());
    let deleted =
        [Some(gateway.meta()), policy].into_iter().flatten().filter(|meta| finalizers::is_leaving(meta));
    deleted.map(restore::time_left).min()
}
