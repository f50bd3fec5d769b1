//! The record of writes to remote systems: what the line about one of them says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::access::AccessError;
use super::annotation;
use super::change::Outcome;
use super::text::printable;
use crate::crd::{APPROVE, Approval, Cause, Kind, TokenPolicy, TtlSeconds};

/// The spec, in the managed fields of an object.
pub const SPEC: &str = "/f:spec";
/// The annotation that approves a rollout, likewise.
pub const APPROVAL: &str = "/f:metadata/f:annotations/f:tenure.dev~1approve";

/// A request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets an appliance's token lifetime.
    SetTimeout,
    /// Invalidates the operator's own tokens on an appliance.
    RevokeTokens,
    /// Writes a customer's token lifetimes.
    SetCustomer,
}

impl Operation {
    /// As metrics call it: system and operation.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::SetTimeout => ("x2", "set_timeout"),
            Self::RevokeTokens => ("x2", "revoke_tokens"),
            Self::SetCustomer => ("kona", "set_customer"),
        }
    }

    /// What a failure shows of it.
    #[must_use]
    pub fn outcome(self, error: &AccessError) -> Outcome {
        match error {
            AccessError::Remote(remote) if self.is(remote.method, remote.path) => remote.fault.outcome(),
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Declarer {
    pub name: Option<String>,
    pub uid: Option<String>,
    pub generation: Option<i64>,
    pub manager: Option<String>,
}

impl Declarer {
    /// A resource as one that asks for a write.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            generation: meta.generation,
            manager: manager(meta, SPEC),
        }
    }
}

/// The manager that last changed a field, of an object whose managed fields are trimmed.
fn manager(meta: &ObjectMeta, field: &str) -> Option<String> {
    let mut entries = meta.managed_fields.iter().flatten();
    let entry = entries.find(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0 == field))?;
    entry.manager.as_deref().map(printable)
}

/// The manager that approved the rollout of a policy, if that required approval and has it.
#[must_use]
pub fn approver(policy: &TokenPolicy) -> Option<String> {
    let canary = policy.spec.rollout.as_ref()?.canary.as_ref()?;
    let hash = &*policy.status.as_ref()?.rollout.as_ref()?.target_hash;
    let is_approved =
        canary.approval == Approval::Required && annotation::value(&policy.metadata, APPROVE) == Some(hash);
    is_approved.then(|| manager(&policy.metadata, APPROVAL)).flatten()
}

/// What is known of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is asked.
    pub operation: Operation,
    /// The system that is asked.
    pub url: String,
    /// Kind of the object that it is asked for.
    pub kind: Kind,
    /// The object's namespace.
    pub namespace: Option<String>,
    /// The object.
    pub object: Declarer,
    /// The policy that an appliance is changed for.
    pub policy: Option<Declarer>,
    /// Who approved the policy's rollout, if it required that.
    pub approved_by: Option<String>,
    /// The customer that is changed.
    pub customer: Option<String>,
    /// Why.
    pub cause: Option<Cause>,
    /// What the change refers to.
    pub change_ref: Option<String>,
    /// The value that is replaced.
    pub from: Option<String>,
    /// The value that is set.
    pub to: Option<String>,
    /// What is known of its effect. One that was not sent is not on record.
    pub outcome: Outcome,
    /// Why it has failed.
    pub error: Option<String>,
    /// Whether the value was seen in effect, and what was seen.
    pub proven: Option<(bool, String)>,
}

impl Line {
    /// A write that is about to be sent to the system at a URL for an object.
    #[must_use]
    pub fn new(operation: Operation, url: &str, kind: Kind, object: &ObjectMeta) -> Self {
        Self {
            operation,
            url: url.to_owned(),
            kind,
            namespace: object.namespace.clone(),
            object: Declarer::of(object),
            policy: None,
            approved_by: None,
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

    /// Takes note of what it changes, and why.
    #[must_use]
    pub fn changing(self, from: &impl ToString, to: &impl ToString, cause: Cause) -> Self {
        Self { from: Some(from.to_string()), to: Some(to.to_string()), cause: Some(cause), ..self }
    }

    /// Takes note of the answer.
    pub fn answered<T>(&mut self, answer: &Result<T, AccessError>) {
        let error = answer.as_ref().err();
        self.outcome = error.map_or(Outcome::Applied, |error| self.operation.outcome(error));
        self.error = error.map(ToString::to_string);
    }

    /// Takes note of what was seen of its effect, if it was accepted.
    pub fn saw(&mut self, holds: bool, seen: &impl ToString) {
        if self.outcome == Outcome::Applied {
            self.proven = Some((holds, seen.to_string()));
        }
    }

    /// Whether the value is in effect, in a word, and what was seen.
    #[must_use]
    pub fn proof(&self) -> (&'static str, Option<&str>) {
        match &self.proven {
            Some((true, value)) => ("yes", Some(value)),
            Some((false, value)) => ("no", Some(value)),
            None => ("unknown", None),
        }
    }
}

/// A customer's two lifetimes in such a line: access and refresh tokens, in seconds.
#[must_use]
pub fn lifetimes(ttl: TtlSeconds) -> String {
    let seconds = |value: Option<u32>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
    format!("{}/{}", seconds(ttl.access_token_ttl_seconds), seconds(ttl.refresh_token_ttl_seconds))
}
