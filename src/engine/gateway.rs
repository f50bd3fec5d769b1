//! What to do with an X2 gateway.

mod finalizer;
mod record;
mod verdicts;
mod write;

use std::time::Duration;

pub use self::finalizer::{Finalizer, Phase, finalizer, is_changed, owes_original};
pub use self::record::{
    Changes, Found, OpenChange, changed, entry, found_drift, is_alike, prepare, prior, put_on_record,
    remembered, update, wrote_last,
};
pub use self::verdicts::{
    CONFLICT, MOVED, NO_POLICY, REVOKED, RIVAL, awaiting_rollout, drifted, under_change,
};
pub use self::write::{
    Aim, Conclusion, Intent, follow, known_original, must_be_durable, not_restored, owes_revocation,
};
use super::contest::Contest;
use super::lifetime::{InvalidTarget, Target, proves};
use super::verdict::{Reason, Verdict};
use crate::crd::{Cause, RevokeTokens};

/// Logins that may be spent on proving a change before it counts as failed.
pub const PROOFS: u8 = 3;
/// Policies that a message names.
const NAMES: usize = 3;
/// Wait between two of them: three fit into five seconds.
pub(crate) const BETWEEN_PROOFS: Duration = Duration::from_secs(2);

/// Which policy governs a gateway, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Regime {
    /// No policy selects it.
    Unmanaged,
    /// Only policies in Observe mode select it: each with its target.
    Observed(Vec<(String, Target)>),
    /// An Enforce policy governs it.
    Enforced {
        /// The policy's name.
        policy: String,
        /// The target that it requires.
        target: Result<Target, InvalidTarget>,
        /// Nothing is changed for now.
        suspended: bool,
    },
    /// The policy that was in force restores the original value.
    Left {
        /// The policy's name.
        policy: String,
    },
}

impl Regime {
    /// The policy in force, or the one that is left.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::Enforced { policy, .. } | Self::Left { policy } => Some(policy),
            Self::Unmanaged | Self::Observed(_) => None,
        }
    }

    /// The target of the policy in force, if it is valid.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        match self {
            Self::Enforced { target, .. } => target.clone().ok(),
            Self::Unmanaged | Self::Observed(_) | Self::Left { .. } => None,
        }
    }

    /// Whether a value, in seconds, is one that the policy in force requires.
    #[must_use]
    pub fn requires(&self, seconds: u32) -> bool {
        self.target().is_some_and(|target| target.holds(seconds))
    }

    /// `desiredTimeoutSeconds` of the status, in seconds: absent if the value is within the policy's range.
    #[must_use]
    pub fn desired(&self, observed: Option<u32>) -> Option<u32> {
        match (self.target()?, observed) {
            (Target::Exact(exact), _) => Some(exact),
            (target, Some(observed)) => {
                Some(target.nearest(observed)).filter(|required| *required != observed)
            }
            (Target::Range { .. }, None) => None,
        }
    }
}

/// What the status shows of the last reconcile, as far as it is about the same appliance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    /// Value last read, in seconds.
    pub timeout: Option<u32>,
    /// Lifetime last proven by a fresh token, in seconds.
    pub proven: Option<u32>,
    /// Policy that was in force.
    pub policy: Option<String>,
    /// The last reconcile ended in `VerificationFailed`.
    pub unverified: bool,
    /// Value found before our first write, in seconds.
    pub original: Option<u32>,
    /// Value that we wrote last, in seconds, and why.
    pub wrote: Option<(u32, Cause)>,
    /// Value of a change that was begun and not recorded, in seconds.
    pub pending: Option<u32>,
}

/// What there is to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoration {
    /// Nothing: nothing was ever changed, or the original value is set.
    Nothing,
    /// The current value is not ours to change; with a clause that explains why.
    Skip(&'static str),
    /// This value, in seconds.
    To(u32),
}

/// What is to be restored where `seen` seconds are set now. Only what we wrote ourselves is taken back.
#[must_use]
pub fn restoration(prior: &Prior, seen: u32) -> Restoration {
    let wrote = prior.wrote.filter(|(_, cause)| *cause != Cause::Restore).map(|(to, _)| to);
    if wrote.is_none() && prior.pending.is_none() {
        return Restoration::Nothing;
    }
    match prior.original {
        None => Restoration::Skip("the original value is unknown"),
        Some(original) if original == seen => Restoration::Nothing,
        Some(original) if wrote == Some(seen) || prior.pending == Some(seen) => Restoration::To(original),
        Some(_) => Restoration::Skip("the value was changed by something else in the meantime"),
    }
}

/// What this reconcile has found out so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Value of the setting, in seconds.
    pub timeout: u32,
    /// Whether it was set during this reconcile: what was proven before does not prove it.
    pub written: bool,
    /// Whether it was read after that: until then it is the value that was sent.
    pub read_back: bool,
    /// Lifetime of a token issued during this reconcile, after the last change, in seconds.
    pub token: Option<u32>,
    /// Proving logins spent in this reconcile.
    pub proofs: u8,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set the value, in seconds.
    Write {
        /// To this.
        to: u32,
        /// Because of this.
        cause: Cause,
    },
    /// Log in afresh to see which lifetime is in effect.
    Prove,
    /// Read the value that was set: no login proves it.
    Read,
    /// Nothing more: report.
    Report(Verdict),
}

/// Decides the next step. Total: asked again after its answer was carried out, it comes to a report.
#[must_use]
pub fn decide(regime: &Regime, prior: &Prior, seen: Seen, contest: Contest, now: Duration) -> Step {
    match aim(regime, prior, seen, contest, now) {
        Step::Write { to, .. } if seen.written => {
            report(Reason::VerificationFailed, not_in_effect(to, seen.timeout))
        }
        step => step,
    }
}

fn aim(regime: &Regime, prior: &Prior, seen: Seen, contest: Contest, now: Duration) -> Step {
    let (policy, target, suspended) = match regime {
        Regime::Unmanaged => return report(Reason::Unmanaged, unmanaged(seen.timeout)),
        Regime::Observed(wants) => return report(Reason::Observed, observed(wants, seen.timeout)),
        Regime::Left { policy } => return restore(policy, prior, seen),
        Regime::Enforced { policy, target: Err(why), .. } => {
            return report(
                Reason::InvalidSpec,
                format!("TokenPolicy {policy} is invalid: {why}. Correct its spec."),
            );
        }
        Regime::Enforced { policy, target: Ok(target), suspended } => (policy, *target, *suspended),
    };
    let required = target.nearest(seen.timeout);
    if required == seen.timeout {
        return confirm(policy, target, prior, seen);
    }
    if suspended {
        let message = format!(
            "The token lifetime differs from TokenPolicy {policy}. The policy is suspended, so nothing is changed."
        );
        return report(Reason::Drifted, message);
    }
    if !contest.may_correct(now) {
        return report(Reason::Contested, contested(policy));
    }
    Step::Write { to: required, cause: cause(policy, target, prior) }
}

/// The gateway has left its policy: the original value is restored and proven, or left alone for good.
fn restore(policy: &str, prior: &Prior, seen: Seen) -> Step {
    match restoration(prior, seen.timeout) {
        Restoration::To(to) => Step::Write { to, cause: Cause::Restore },
        // Also if an earlier reconcile has restored it and has not proven it.
        Restoration::Nothing if seen.written || prior.pending == Some(seen.timeout) => {
            match confirm(policy, Target::Exact(seen.timeout), prior, seen) {
                Step::Report(Verdict { reason: Reason::InSync, .. }) => {
                    report(Reason::Unmanaged, unmanaged(seen.timeout))
                }
                Step::Report(_) => report(
                    Reason::VerificationFailed,
                    "The appliance reports the original token lifetime, but newly issued tokens have a different one. Check the appliance."
                        .to_owned(),
                ),
                other => other,
            }
        }
        Restoration::Nothing | Restoration::Skip(_) => report(Reason::Unmanaged, unmanaged(seen.timeout)),
    }
}

/// Why a difference from the target exists: drift where the present target was once proven to hold.
#[must_use]
pub fn cause(policy: &str, target: Target, prior: &Prior) -> Cause {
    let held = prior.policy.as_deref() == Some(policy)
        && prior.proven.is_some_and(|proven| target.is_proven_by(proven));
    if held { Cause::Drift } else { Cause::Policy }
}

/// Whether tokens issued before a proven change are to be invalidated. A mere repair is no change that the policy asked
/// for; one of a lifetime that was made longer by something else is a tightening.
#[must_use]
pub fn revokes(required: RevokeTokens, from: u32, to: u32, cause: Cause) -> bool {
    match (required, cause) {
        (RevokeTokens::Never, _) | (_, Cause::Restore) => false,
        (RevokeTokens::OnChange, Cause::Policy) => from != to,
        (RevokeTokens::OnTightening, Cause::Policy) | (_, Cause::Drift) => to < from,
    }
}

/// Whether a reconcile found that something else had changed a value which was in sync.
#[must_use]
pub fn has_drifted(regime: &Regime, prior: &Prior, seen: u32) -> bool {
    regime
        .policy()
        .zip(regime.target())
        .is_some_and(|(policy, target)| !target.holds(seen) && cause(policy, target, prior) == Cause::Drift)
}

/// The setting is as required: is that proven?
fn confirm(policy: &str, target: Target, prior: &Prior, seen: Seen) -> Step {
    let remembered = !seen.written
        && prior.timeout == Some(seen.timeout)
        && prior.proven.is_some_and(|p| proves(p, seen.timeout));
    let allowed = if prior.unverified { 1 } else { PROOFS };
    match seen.token {
        Some(token) if proves(token, seen.timeout) => report(Reason::InSync, in_sync(policy, target)),
        None if remembered => report(Reason::InSync, in_sync(policy, target)),
        _ if seen.proofs < allowed => Step::Prove,
        // Something other than the appliance may have answered the write.
        _ if seen.written && !seen.read_back => Step::Read,
        token => report(Reason::VerificationFailed, unproven(policy, seen.timeout, token)),
    }
}

fn report(reason: Reason, message: String) -> Step {
    Step::Report(Verdict { reason, message })
}

fn unproven(policy: &str, required: u32, got: Option<u32>) -> String {
    let got = got.map_or_else(|| "a different one".to_owned(), |got| format!("one of {got}s"));
    format!(
        "The appliance reports a token lifetime of {required}s, as required by TokenPolicy {policy}, but newly issued tokens have {got}. Check the appliance."
    )
}

fn not_in_effect(required: u32, seen: u32) -> String {
    format!(
        "The appliance accepted a token lifetime of {required}s, but reports {seen}s, and newly issued tokens have another lifetime. Check the appliance."
    )
}

fn in_sync(policy: &str, target: Target) -> String {
    match target {
        Target::Exact(exact) => {
            format!(
                "The token lifetime is {exact}s, as required by TokenPolicy {policy} (verified by a new login)."
            )
        }
        Target::Range { least, most } => {
            format!(
                "The token lifetime is between {least}s and {most}s, as required by TokenPolicy {policy} (verified by a new login)."
            )
        }
    }
}

fn unmanaged(timeout: u32) -> String {
    format!("No TokenPolicy is in force for this gateway. Its token lifetime is {timeout}s.")
}

fn contested(policy: &str) -> String {
    format!(
        "Something keeps overwriting the token lifetime set by TokenPolicy {policy}, so it is corrected only once an hour. Find out what changes it."
    )
}

fn observed(wants: &[(String, Target)], timeout: u32) -> String {
    let differing = || wants.iter().filter(|(_, target)| !target.holds(timeout));
    let named: Vec<String> = differing()
        .take(NAMES)
        .map(|(policy, target)| format!("TokenPolicy {policy} would set {}s", target.nearest(timeout)))
        .collect();
    let more = match differing().count() - named.len() {
        0 => String::new(),
        more => format!(", and {more} more would change it"),
    };
    if named.is_empty() {
        format!("The token lifetime is {timeout}s, as required by the policies in Observe mode.")
    } else {
        format!(
            "The token lifetime is {timeout}s; {}{more}. Observe mode: nothing is changed.",
            named.join(", ")
        )
    }
}
