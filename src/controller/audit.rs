//! The record of writes to remote systems: one log line each, with who declared it, what was written, and what came of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use crate::crd::{Cause, TtlSeconds};
use crate::engine::change::Outcome;
use crate::engine::text::printable;
use crate::telemetry::AUDIT;
use crate::vendor::login::AccessError;

/// A request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Sets an appliance's token lifetime.
    SetTimeout,
    /// Invalidates the operator's own tokens on an appliance.
    RevokeTokens,
    /// Writes a customer's token lifetimes.
    SetCustomer,
}

impl Operation {
    /// As metrics call it: system and operation.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::SetTimeout => ("x2", "set_timeout"),
            Self::RevokeTokens => ("x2", "revoke_tokens"),
            Self::SetCustomer => ("kona", "set_customer"),
        }
    }

    /// Whether a failed request is this one, and not a login on the way to it.
    fn is(self, method: &str, path: &str) -> bool {
        match self {
            Self::SetTimeout => method == "PUT",
            Self::RevokeTokens => method == "DELETE",
            Self::SetCustomer => method == "POST" && path.starts_with("/api/customer"),
        }
    }
}

/// A resource that asks for a write, and who last changed its spec.
#[derive(Debug)]
struct Declarer {
    name: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    manager: Option<String>,
}

impl Declarer {
    fn of(meta: &ObjectMeta) -> Self {
        let manager = meta.managed_fields.iter().flatten().find_map(|entry| entry.manager.as_deref());
        Self {
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            generation: meta.generation,
            manager: manager.map(printable),
        }
    }
}

/// A write to a remote system. It is logged when this is dropped: however it ends, it is on record.
#[derive(Debug)]
pub(super) struct Write {
    operation: Operation,
    url: String,
    kind: String,
    namespace: Option<String>,
    object: Declarer,
    /// The policy that an appliance is changed for.
    policy: Option<Declarer>,
    customer: Option<String>,
    cause: Option<Cause>,
    change_ref: Option<String>,
    from: Option<String>,
    to: Option<String>,
    outcome: Outcome,
    error: Option<String>,
    proven: Option<(bool, String)>,
}

impl Write {
    /// A write that is about to be sent to the system at a URL for an object.
    pub(super) fn new<K: Resource<DynamicType = ()>>(operation: Operation, url: &str, object: &K) -> Self {
        Self {
            operation,
            url: url.to_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: object.meta().namespace.clone(),
            object: Declarer::of(object.meta()),
            policy: None,
            customer: None,
            cause: None,
            change_ref: None,
            from: None,
            to: None,
            outcome: Outcome::Sent,
            error: None,
            proven: None,
        }
    }

    /// Names the policy that wants it.
    pub(super) fn by(mut self, policy: Option<&ObjectMeta>) -> Self {
        self.policy = policy.map(Declarer::of);
        self
    }

    /// Names the customer that it is about.
    pub(super) fn about(mut self, customer: &str) -> Self {
        self.customer = Some(customer.to_owned());
        self
    }

    /// Adds what the change refers to.
    pub(super) fn referring(mut self, reference: Option<String>) -> Self {
        self.change_ref = reference;
        self
    }

    /// Records what it changes, and why.
    pub(super) fn changing(mut self, from: &impl ToString, to: &impl ToString, cause: Option<Cause>) -> Self {
        (self.from, self.to, self.cause) = (Some(from.to_string()), Some(to.to_string()), cause);
        self
    }

    /// Records the answer.
    pub(super) fn answered<T>(&mut self, answer: &Result<T, AccessError>) {
        let Err(error) = answer else {
            self.outcome = Outcome::Applied;
            return;
        };
        self.outcome = outcome(self.operation, error);
        self.error = Some(error.to_string());
    }

    /// What is known of its effect.
    pub(super) fn effect(&self) -> Outcome {
        self.outcome
    }

    /// Records the observed effect, if it was accepted.
    pub(super) fn proven(&mut self, holds: bool, seen: &impl ToString) {
        if self.outcome == Outcome::Applied {
            self.proven = Some((holds, seen.to_string()));
        }
    }
}

/// What an error shows of a write.
fn outcome(operation: Operation, error: &AccessError) -> Outcome {
    match error {
        AccessError::Remote(remote) if operation.is(remote.method, remote.path) => remote.fault.outcome(),
        AccessError::Stale(_) | AccessError::TokenRefused | AccessError::NotAdmin => Outcome::Refused,
        // A replica that lost its lease may have given it up in the middle.
        AccessError::NotAwaited => Outcome::Sent,
        AccessError::NotSent
        | AccessError::Remote(_)
        | AccessError::Refused
        | AccessError::NotTried(_)
        | AccessError::Half => Outcome::Prepared,
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.outcome == Outcome::Prepared {
            return;
        }
        let (system, operation) = self.operation.words();
        let Declarer { name, uid, generation, manager } = &self.object;
        let (proven, proven_value) = match &self.proven {
            Some((true, value)) => ("yes", Some(value)),
            Some((false, value)) => ("no", Some(value)),
            None => ("unknown", None),
        };
        let policy = self.policy.as_ref();
        tracing::info!(
            target: AUDIT,
            audit = true,
            system,
            operation,
            url = self.url,
            customer = self.customer,
            kind = self.kind,
            namespace = self.namespace,
            name,
            uid,
            generation,
            manager,
            policy = policy.and_then(|policy| policy.name.as_deref()),
            policy_uid = policy.and_then(|policy| policy.uid.as_deref()),
            policy_generation = policy.and_then(|policy| policy.generation),
            policy_manager = policy.and_then(|policy| policy.manager.as_deref()),
            cause = self.cause.map(Cause::as_str),
            change_ref = self.change_ref,
            from = self.from,
            to = self.to,
            outcome = self.outcome.of_write(),
            error = self.error,
            proven,
            proven_value,
            "wrote to a remote system"
        );
    }
}

/// A customer's two lifetimes in a line of the record: access and refresh tokens, in seconds.
pub(super) fn lifetimes(ttl: TtlSeconds) -> String {
    let seconds = |value: Option<u32>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
    format!("{}/{}", seconds(ttl.access_token_ttl_seconds), seconds(ttl.refresh_token_ttl_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::remote::{Broken, Fault, RemoteError};

    #[test]
    fn an_error_shows_no_more_of_a_write_than_it_can() {
        use Operation::{RevokeTokens, SetCustomer, SetTimeout};
        let status = |code| Fault::Status { code, retry_after: None };
        let remote = |method, path, fault| AccessError::Remote(RemoteError { method, path, fault });
        let (timeout, tokens) = ("/api2/token/timeout", "/api2/tokens");
        for (operation, error, expected) in [
            (SetTimeout, remote("PUT", timeout, status(400)), Outcome::Refused),
            (SetTimeout, remote("PUT", timeout, status(503)), Outcome::Sent),
            (SetTimeout, remote("PUT", timeout, Fault::TimedOut), Outcome::Sent),
            (SetTimeout, remote("PUT", timeout, Fault::Unreachable(Broken::Lost)), Outcome::Sent),
            (SetTimeout, AccessError::NotAwaited, Outcome::Sent),
            (SetTimeout, AccessError::NotSent, Outcome::Prepared),
            (SetTimeout, remote("POST", tokens, Fault::TimedOut), Outcome::Prepared),
            (SetTimeout, AccessError::Refused, Outcome::Prepared),
            (SetTimeout, AccessError::TokenRefused, Outcome::Refused),
            (RevokeTokens, remote("DELETE", tokens, Fault::TimedOut), Outcome::Sent),
            (RevokeTokens, remote("POST", tokens, status(500)), Outcome::Prepared),
            (SetCustomer, remote("POST", "/api/customer/", status(409)), Outcome::Refused),
            (SetCustomer, remote("POST", "/api/customer", Fault::Malformed("")), Outcome::Sent),
            (SetCustomer, remote("POST", "/api/auth/login", Fault::TimedOut), Outcome::Prepared),
        ] {
            assert_eq!(outcome(operation, &error), expected, "{operation:?} {error:?}");
        }
    }

    #[test]
    fn lifetimes_are_written_in_order() {
        let ttl = TtlSeconds { access_token_ttl_seconds: Some(3600), refresh_token_ttl_seconds: None };
        assert_eq!(lifetimes(ttl), "3600/none");
    }
}
