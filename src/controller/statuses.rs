//! What the statuses of the four kinds have in common.

use crate::crd::{
    Condition, CustomerTokenTtl, CustomerTokenTtlStatus, Kind, KonaServer, KonaServerStatus, Time,
    TokenPolicy, TokenPolicyStatus, X2Gateway, X2GatewayStatus,
};
use crate::runtime::object::Reported;

impl Reported for X2Gateway {
    const KIND: Kind = Kind::Gateway;
    type Status = X2GatewayStatus;

    fn status(&self) -> Option<&X2GatewayStatus> {
        self.status.as_ref()
    }

    fn times(status: &mut X2GatewayStatus) -> [Option<&mut Option<Time>>; 2] {
        [Some(&mut status.last_checked_time), Some(&mut status.last_proven_time)]
    }

    fn head(status: &mut X2GatewayStatus) -> (&mut Option<i64>, &mut Vec<Condition>) {
        (&mut status.observed_generation, &mut status.conditions)
    }

    fn conditions(status: &X2GatewayStatus) -> &[Condition] {
        &status.conditions
    }

    fn handled(status: &mut X2GatewayStatus) -> &mut Option<String> {
        &mut status.last_handled_reconcile_at
    }
}

impl Reported for TokenPolicy {
    const KIND: Kind = Kind::Policy;
    type Status = TokenPolicyStatus;

    fn status(&self) -> Option<&TokenPolicyStatus> {
        self.status.as_ref()
    }

    fn times(_: &mut TokenPolicyStatus) -> [Option<&mut Option<Time>>; 2] {
        [None, None]
    }

    fn head(status: &mut TokenPolicyStatus) -> (&mut Option<i64>, &mut Vec<Condition>) {
        (&mut status.observed_generation, &mut status.conditions)
    }

    fn conditions(status: &TokenPolicyStatus) -> &[Condition] {
        &status.conditions
    }

    fn handled(status: &mut TokenPolicyStatus) -> &mut Option<String> {
        &mut status.last_handled_reconcile_at
    }
}

impl Reported for KonaServer {
    const KIND: Kind = Kind::Server;
    type Status = KonaServerStatus;

    fn status(&self) -> Option<&KonaServerStatus> {
        self.status.as_ref()
    }

    fn times(status: &mut KonaServerStatus) -> [Option<&mut Option<Time>>; 2] {
        [Some(&mut status.last_checked_time), None]
    }

    fn head(status: &mut KonaServerStatus) -> (&mut Option<i64>, &mut Vec<Condition>) {
        (&mut status.observed_generation, &mut status.conditions)
    }

    fn conditions(status: &KonaServerStatus) -> &[Condition] {
        &status.conditions
    }

    fn handled(status: &mut KonaServerStatus) -> &mut Option<String> {
        &mut status.last_handled_reconcile_at
    }
}

impl Reported for CustomerTokenTtl {
    const KIND: Kind = Kind::Customer;
    type Status = CustomerTokenTtlStatus;

    fn status(&self) -> Option<&CustomerTokenTtlStatus> {
        self.status.as_ref()
    }

    fn times(status: &mut CustomerTokenTtlStatus) -> [Option<&mut Option<Time>>; 2] {
        [Some(&mut status.last_checked_time), Some(&mut status.last_proven_time)]
    }

    fn head(status: &mut CustomerTokenTtlStatus) -> (&mut Option<i64>, &mut Vec<Condition>) {
        (&mut status.observed_generation, &mut status.conditions)
    }

    fn conditions(status: &CustomerTokenTtlStatus) -> &[Condition] {
        &status.conditions
    }

    fn handled(status: &mut CustomerTokenTtlStatus) -> &mut Option<String> {
        &mut status.last_handled_reconcile_at
    }
}
