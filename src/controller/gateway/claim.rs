//! What a gateway claims.

use kube::{Resource as _, ResourceExt as _};

use crate::controller::claims::ClaimId;
use crate::crd::X2Gateway;
use crate::engine::verdict::{self, Reason};
use crate::runtime::finalizers;
use crate::runtime::object::Key;
use crate::vendor::endpoint::BaseUrl;

/// What a gateway claims: its effective URL.
pub(super) fn claim(gateway: &X2Gateway) -> Option<String> {
    let connection = &gateway.spec.connection;
    if finalizers::is_released(gateway.meta()) {
        // Somebody else keeps it from going.
        return None;
    }
    BaseUrl::parse(&connection.url).ok().map(|url| url.to_string())
}

pub(super) fn claim_id(gateway: &X2Gateway) -> ClaimId {
    ClaimId {
        created: gateway.creation_timestamp().map(|t| t.0).unwrap_or_default(),
        key: Key::of(gateway.meta()),
        uid: gateway.uid().unwrap_or_default(),
    }
}

/// Whether the status shows that a gateway's credential was accepted at its URL, and that the URL was its own.
pub(super) fn has_got_in(gateway: &X2Gateway, claimed: Option<&str>) -> bool {
    gateway.status.as_ref().is_some_and(|status| {
        status.effective_url.as_deref() == claimed
            && status.timeout_seconds.is_some()
            && verdict::ready_reason(&status.conditions) != Some(Reason::Conflict)
    })
}
