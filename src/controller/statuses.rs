//! What the statuses of the four kinds have in common.

use crate::crd::{
    Condition, CustomerTokenTtl, CustomerTokenTtlStatus, Kind, KonaServer, KonaServerStatus, Time,
    TokenPolicy, TokenPolicyStatus, TtlSeconds, X2Gateway, X2GatewayStatus,
};
use crate::runtime::object::Reported;

/// When a lifetime was last verified, and the longest lifetime that was read.
type ProofAndLifetime<'a> = (Option<&'a Time>, Option<u32>);

/// Implements [`Reported`] for a kind whose status has the fields that all kinds have, and these times.
macro_rules! reported {
    ($kind:ident: $object:ty, $status:ty, times($times_of:ident) = $times:expr, $proof_and_lifetime:expr) => {
        impl Reported for $object {
            const KIND: Kind = Kind::$kind;
            type Status = $status;

            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            fn times($times_of: &mut $status) -> [Option<&mut Option<Time>>; 2] {
                $times
            }

            fn proof_and_lifetime(&self) -> ProofAndLifetime<'_> {
                self.status.as_ref().map($proof_and_lifetime).unwrap_or_default()
            }

            fn head(status: &mut $status) -> (&mut Option<i64>, &mut Vec<Condition>) {
                (&mut status.observed_generation, &mut status.conditions)
            }

            fn observed_generation(status: &$status) -> Option<i64> {
                status.observed_generation
            }

            fn conditions(status: &$status) -> &[Condition] {
                &status.conditions
            }

            fn last_handled(status: &$status) -> Option<&str> {
                status.last_handled_reconcile_at.as_deref()
            }

            fn handled(status: &mut $status) -> &mut Option<String> {
                &mut status.last_handled_reconcile_at
            }
        }
    };
}

reported!(Gateway: X2Gateway, X2GatewayStatus, times(status) =
    [Some(&mut status.last_checked_time), Some(&mut status.last_proven_time)], of_gateway);
reported!(Policy: TokenPolicy, TokenPolicyStatus, times(_status) = [None, None], of_neither);
reported!(Server: KonaServer, KonaServerStatus, times(status) =
    [Some(&mut status.last_checked_time), None], of_neither);
reported!(Customer: CustomerTokenTtl, CustomerTokenTtlStatus, times(status) =
    [Some(&mut status.last_checked_time), Some(&mut status.last_proven_time)], of_customer);

/// Of a gateway that no policy governs, no lifetime is required.
fn of_gateway(status: &X2GatewayStatus) -> ProofAndLifetime<'_> {
    (status.last_proven_time.as_ref().filter(|_| status.policy.is_some()), status.timeout_seconds)
}

/// Reading the lifetimes that were verified confirms them. While they differ, nothing is proven.
fn of_customer(status: &CustomerTokenTtlStatus) -> ProofAndLifetime<'_> {
    let read = TtlSeconds {
        access_token_ttl_seconds: status.access_token_ttl_seconds,
        refresh_token_ttl_seconds: status.refresh_token_ttl_seconds,
    };
    let proof = status.last_checked_time.as_ref().filter(|_| status.proven == Some(read));
    (proof, read.access_token_ttl_seconds.max(read.refresh_token_ttl_seconds))
}

fn of_neither<S>(_: &S) -> ProofAndLifetime<'_> {
    (None, None)
}
