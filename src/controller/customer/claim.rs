//! What a customer's resource claims.

use std::sync::Arc;

use kube::{Resource as _, ResourceExt as _};

use super::examine::Progress;
use super::server_of;
use crate::controller::claims::ClaimId;
use crate::controller::context::Context;
use crate::controller::restore;
use crate::controller::store::Key;
use crate::controller::workers::{Kind, wake};
use crate::crd::CustomerTokenTtl;
use crate::engine::ownership::Trial;
use crate::engine::verdict::{self, Reason};
use crate::vendor::endpoint::BaseUrl;

/// Enters what a customer claims: its id on its server's effective URL.
pub(in crate::controller) fn claim(context: &Arc<Context>, customer: &CustomerTokenTtl) {
    let meta = customer.meta();
    if meta.deletion_timestamp.is_some() && !restore::is_held(meta) {
        // Nothing is written for it any more. One that is to be restored keeps its claim, so that nobody comes in between.
        return release(context, customer);
    }
    let url = server_of(context, customer).and_then(|s| BaseUrl::parse(&s.spec.connection.url).ok());
    let claimed = url.as_ref().map(|url| format!("{url} {}", customer.spec.customer_id));
    let status = customer.status.as_ref();
    let got_in = status.is_some_and(|status| {
        status.effective_url == url.as_ref().map(ToString::to_string)
            && status.last_checked_time.is_some()
            && verdict::ready_reason(&status.conditions) != Some(Reason::Conflict)
    });
    let suspended = customer.spec.suspend
        || server_of(context, customer).is_some_and(|server| server.spec.connection.suspend);
    let rivals = context.customer_claims.set(&claim_id(customer), claimed, suspended, got_in);
    for rival in rivals {
        wake(context, Kind::Customer, rival);
    }
}

pub(super) fn release(context: &Arc<Context>, customer: &CustomerTokenTtl) {
    let rivals = context.customer_claims.set(&claim_id(customer), None, false, false);
    for rival in rivals {
        wake(context, Kind::Customer, rival);
    }
}

pub(super) fn claim_id(customer: &CustomerTokenTtl) -> ClaimId {
    ClaimId {
        created: customer.creation_timestamp().map(|t| t.0).unwrap_or_default(),
        key: Key::of(customer.meta()),
        uid: customer.uid().unwrap_or_default(),
    }
}

/// Keeps in mind how the try to get in went, and where the resource stands after it.
pub(super) fn record(
    context: &Arc<Context>,
    customer: &CustomerTokenTtl,
    trial: Trial,
    progress: &mut Progress,
) {
    let id = claim_id(customer);
    let rivals = context.customer_claims.record(&id, trial);
    progress.standing = context.customer_claims.standing(&id);
    for rival in rivals {
        wake(context, Kind::Customer, rival);
    }
}
