//! What the statuses of the four kinds have in common.

use crate::crd::{
    Condition, CustomerTokenTtl, CustomerTokenTtlStatus, Kind, KonaServer, KonaServerStatus, Time,
    TokenPolicy, TokenPolicyStatus, X2Gateway, X2GatewayStatus,
};
use crate::runtime::object::Reported;

/// Implements [`Reported`] for a kind whose status has the fields that all kinds have, and these times.
macro_rules! reported {
    (
        $kind:ident: $object:ty, $status:ty,
        times($times_of:ident) = $times:expr,
        proof_and_lifetime($shown_of:ident) = $shown:expr
    ) => {
        impl Reported for $object {
            const KIND: Kind = Kind::$kind;
            type Status = $status;

            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            fn times($times_of: &mut $status) -> [Option<&mut Option<Time>>; 2] {
                $times
            }

            fn proof_and_lifetime($shown_of: &$status) -> (Option<&Time>, Option<u32>) {
                $shown
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

reported!(Gateway: X2Gateway, X2GatewayStatus,
times(status) = [Some(&mut status.last_checked_time), Some(&mut status.last_proven_time)],
proof_and_lifetime(status) = {
    let required = status.policy.is_some();
    (status.last_proven_time.as_ref().filter(|_| required), status.timeout_seconds)
});
reported!(Policy: TokenPolicy, TokenPolicyStatus,
    times(_status) = [None, None],
    proof_and_lifetime(_status) = (None, None));
reported!(Server: KonaServer, KonaServerStatus,
    times(status) = [Some(&mut status.last_checked_time), None],
    proof_and_lifetime(_status) = (None, None));
reported!(Customer: CustomerTokenTtl, CustomerTokenTtlStatus,
times(status) = [Some(&mut status.last_checked_time), Some(&mut status.last_proven_time)],
proof_and_lifetime(status) = {
    let longest = status.access_token_ttl_seconds.max(status.refresh_token_ttl_seconds);
    (status.last_proven_time.as_ref(), longest)
});
