//! What a customer's resource claims.

use std::sync::Arc;

use kube::{Resource as _, ResourceExt as _};

use super::{paused, server_of};
use crate::controller::claims::ClaimId;
use crate::controller::context::Context;
use crate::crd::{CustomerTokenTtl, Kind};
use crate::engine::verdict::{self, Reason};
use crate::runtime::finalizers;
use crate::runtime::object::Key;
use crate::vendor::endpoint::BaseUrl;

/// Enters what a customer claims: its id on its server's effective URL.
pub(in crate::controller) fn claim(context: &Arc<Context>, customer: &CustomerTokenTtl) {
    let meta = customer.meta();
    if meta.deletion_timestamp.is_some() && !finalizers::is_held(meta) {
        // Nothing is written for it any more. One that is to be restored keeps its claim, so that nothing comes in between.
        return release_claim(context, customer);
    }
    let server = server_of(context, customer);
    let url = server.as_deref().and_then(|s| BaseUrl::parse(&s.spec.connection.url).ok());
    let claimed = url.as_ref().map(|url| format!("{url} {}", customer.spec.customer_id));
    let got_in = customer.status.as_ref().is_some_and(|status| {
        status.effective_url == url.as_ref().map(ToString::to_string)
            && status.last_checked_time.is_some()
            && verdict::ready_reason(&status.conditions) != Some(Reason::Conflict)
    });
    let suspended = paused(customer, server.as_deref()).is_some();
    let rivals = context.customer_claims.set(&claim_id(customer), claimed, suspended, got_in);
    rivals.into_iter().for_each(|rival| context.cluster.wake(Kind::Customer, rival));
}

pub(super) fn release_claim(context: &Arc<Context>, customer: &CustomerTokenTtl) {
    let rivals = context.customer_claims.set(&claim_id(customer), None, false, false);
    rivals.into_iter().for_each(|rival| context.cluster.wake(Kind::Customer, rival));
}

pub(super) fn claim_id(customer: &CustomerTokenTtl) -> ClaimId {
    ClaimId {
        created: customer.creation_timestamp().map(|t| t.0).unwrap_or_default(),
        key: Key::of(customer.meta()),
        uid: customer.uid().unwrap_or_default(),
    }
}
