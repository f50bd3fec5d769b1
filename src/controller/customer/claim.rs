//! What a customer's resource claims.

use kube::Resource as _;

use super::{paused, server_of};
use crate::controller::claims::{Claimed, Claims};
use crate::crd::{CustomerTokenTtl, KonaServer};
use crate::engine::verdict::{self, Reason};
use crate::runtime::finalizers;
use crate::runtime::store::Store;
use crate::vendor::endpoint::BaseUrl;

/// Enters what a customer claims: its id on its server's effective URL.
pub(in crate::controller) fn claim(
    claims: &Claims,
    servers: &Store<KonaServer>,
    customer: &CustomerTokenTtl,
) {
    claims.set(customer.meta(), claimed(servers, customer));
}

fn claimed(servers: &Store<KonaServer>, customer: &CustomerTokenTtl) -> Option<Claimed> {
    let meta = customer.meta();
    if meta.deletion_timestamp.is_some() && !finalizers::is_held(meta) {
        // Nothing is written for it anymore. One that is to be restored keeps its claim, so that nothing comes in between.
        return None;
    }
    let server = server_of(servers, customer)?;
    let url = BaseUrl::parse(&server.spec.connection.url).ok()?.to_string();
    let object = format!("{url} {}", customer.spec.customer_id);
    let got_in = customer.status.as_ref().is_some_and(|status| {
        status.effective_url == Some(url)
            && status.last_checked_time.is_some()
            && verdict::ready_reason(&status.conditions) != Some(Reason::Conflict)
    });
    Some(Claimed { object, suspended: paused(customer, Some(&server)).is_some(), got_in })
}
