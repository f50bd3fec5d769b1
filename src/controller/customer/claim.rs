//! What a customer's resource claims.

use kube::Resource as _;

use super::{paused, server_of};
use crate::controller::claims::{Claimed, Claims};
use crate::crd::{CustomerTokenTtl, Kind, KonaServer};
use crate::engine::ownership::Trial;
use crate::engine::verdict;
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
    let status = customer.status.as_ref().filter(|status| status.effective_url == Some(url));
    let trial = status.map_or(Trial::Untried, |status| {
        let reason = verdict::ready_reason(&status.conditions);
        Trial::remembered(Kind::Customer, reason, status.last_checked_time.is_some())
    });
    Some(Claimed { object, suspended: paused(customer, Some(&server)).is_some(), trial })
}
