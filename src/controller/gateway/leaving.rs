//! Our finalizer on a gateway, and its end.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use crate::clock;
use crate::controller::context::Context;
use crate::controller::governance::{self, Governance, is_deleted};
use crate::controller::reconcile::Memory;
use crate::crd::{DeletionPolicy, X2Gateway};
use crate::engine::gateway::Regime;
use crate::engine::lifetime::InvalidTarget;
use crate::engine::restoration::LetGo;
use crate::runtime::events::reference;
use crate::runtime::object::Key;
use crate::runtime::workers::UNDISTURBED;
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, restore};

/// Wait after our finalizer could not be changed.
const SOON: Duration = Duration::from_secs(2);

/// Puts our finalizer on where a deletion is to wait for us, and takes it off where it need not. Returns the time of the
/// next look where there is nothing else to do before that.
pub(super) async fn keep_hold(
    context: &Arc<Context>,
    gateway: &Arc<X2Gateway>,
    governance: &Governance,
    memory: &mut Memory<X2Gateway>,
) -> Option<Instant> {
    let meta = gateway.meta();
    let deleted = is_deleted(&**gateway);
    if memory.has_gone || deleted && !finalizers::is_held(meta) {
        return Some(clock::instant() + UNDISTURBED);
    }
    let left = matches!(governance.regime, Regime::Left { .. });
    // What its policy wants is not known; it may be understood again in time.
    let unclear =
        matches!(governance.regime, Regime::Enforced { target: Err(InvalidTarget::Undecodable), .. });
    let suspended = gateway.spec.connection.suspend;
    let wanted = if deleted {
        (left || unclear) && !suspended
    } else {
        left || unclear || is_to_be_held(gateway, governance)
    };
    let written = if !wanted {
        // Its policy was let go before it.
        let why = if deleted && !suspended && is_bereft(context, gateway) {
            Some(
                restore::skip_reason(&context.cluster, meta)
                    .await
                    .map_or("its policy is gone", LetGo::as_str),
            )
        } else {
            None
        };
        release(context, gateway, why).await
    } else if deleted {
        let why = restore::skip_reason(&context.cluster, meta).await?;
        release(context, gateway, Some(why.as_str())).await
    } else if left || unclear {
        // It was put on before the first change, or there is none to be taken back.
        Written::Unchanged
    } else {
        finalizers::hold(&context.gateways, meta).await
    };
    match written {
        Written::Failed => Some(clock::instant() + SOON),
        Written::Forbidden if deleted => Some(restore::next_check(meta)),
        // Also if no watch has reported a deletion: the answer shows that it is gone.
        written if deleted || written == Written::Gone => {
            memory.has_gone = true;
            Some(clock::instant() + UNDISTURBED)
        }
        _ => None,
    }
}

/// Whether a gateway needs our finalizer: something of it was changed that is to be restored one day.
fn is_to_be_held(gateway: &X2Gateway, governance: &Governance) -> bool {
    let restores = governance
        .restorer
        .as_ref()
        .is_some_and(|policy| policy.spec.deletion_policy == DeletionPolicy::Restore);
    let status = gateway.status.as_ref();
    restores
        && status
            .is_some_and(|status| status.original_timeout_seconds.is_some() && governance::is_changed(status))
}

/// Takes our finalizer off; where something was left unrestored for that, says why.
async fn release(context: &Arc<Context>, gateway: &X2Gateway, why: Option<&str>) -> Written {
    let written = finalizers::release(&context.gateways, gateway.meta()).await;
    if let Some(why) = why.filter(|_| !matches!(written, Written::Failed | Written::Forbidden)) {
        restore::report_skipped(&context.cluster, reference(gateway), why);
    }
    written
}

/// Whether the policy that a gateway still obeys is not there any more.
fn is_bereft(context: &Context, gateway: &X2Gateway) -> bool {
    let policy = gateway.status.as_ref().and_then(|status| status.policy.as_deref());
    let namespace = gateway.namespace().unwrap_or_default();
    policy.is_some_and(|policy| context.policies.get(&Key::new(namespace, policy)).is_none())
}

/// What is left for restoring, where a deletion waits for it: the gateway's own, or its policy's.
pub(super) fn time_left(gateway: &X2Gateway, governance: &Governance) -> Option<Duration> {
    let left = matches!(governance.regime, Regime::Left { .. });
    let policy = governance.policy.as_ref().filter(|_| left).map(|policy| policy.meta());
    let deleted =
        [Some(gateway.meta()), policy].into_iter().flatten().filter(|meta| finalizers::is_leaving(meta));
    deleted.map(restore::time_left).min()
}
