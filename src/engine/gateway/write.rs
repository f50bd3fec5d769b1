//! A write of an appliance's setting: what must be on record before it, and what goes on record after it.

use jiff::Timestamp;

use super::{OpenChange, Prior, Regime, Restoration, cause, entry, has_drifted, restoration, revokes};
use crate::crd::{Cause, Change, DeletionPolicy, RevokeTokens, Time, TokenPolicySpec, X2GatewayStatus};
use crate::engine::contest::Contest;
use crate::engine::lifetime::Target;
use crate::engine::reason::Reason;
use crate::engine::rollout::Wish;

/// A write that is about to be made, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The value that is set now.
    pub from: u32,
    /// The value to be set.
    pub to: u32,
    /// Why.
    pub cause: Cause,
}

impl Intent {
    /// What the rollout is asked for, and for which target.
    #[must_use]
    pub fn wish(self, regime: &Regime) -> (Option<Target>, Wish) {
        match self.cause {
            Cause::Policy => (regime.target(), Wish::Change { tightens: self.to < self.from }),
            Cause::Drift => (regime.target(), Wish::Repair),
            Cause::Restore => (None, Wish::Restore),
        }
    }

    /// The change that the write begins. `original` is the original value, if it is known.
    #[must_use]
    pub fn begin(
        self,
        policy: &str,
        reference: Option<String>,
        since: Timestamp,
        original: Option<u32>,
    ) -> OpenChange {
        OpenChange {
            policy: Some(policy.to_owned()),
            reference,
            original_before: original,
            ..OpenChange::new((self.from, self.from), self.to, self.cause, since)
        }
    }
}

/// The original value, as far as it is known. `owed` are changes that were made and not recorded yet.
#[must_use]
pub fn known_original(status: &X2GatewayStatus, owed: &[Change]) -> Option<u32> {
    status.original_timeout_seconds.or_else(|| owed.first()?.from)
}

/// Whether a change to a value must be in the status before it is sent.
#[must_use]
pub fn must_be_durable(policy: &TokenPolicySpec, prior: &Prior, to: u32, cause: Cause) -> bool {
    let restores = policy.deletion_policy == DeletionPolicy::Restore;
    // Only what is known to be ours is restored.
    let known = prior.original.is_some() && prior.wrote.is_some_and(|(wrote, _)| wrote == to);
    policy.rollout.is_some()
        || restores && (!known || cause == Cause::Restore)
        || policy.revoke_tokens != RevokeTokens::Never
}

/// Whether the tokens issued before a change are still to be revoked.
#[must_use]
pub fn owes_revocation(policy: Option<&TokenPolicySpec>, change: &OpenChange) -> bool {
    policy
        .filter(|policy| !policy.suspend)
        .is_some_and(|policy| revokes(policy.revoke_tokens, change.from, change.to, change.cause))
}

/// Why the original value is not restored, if the gateway has left its policy.
#[must_use]
pub fn not_restored(regime: &Regime, prior: &Prior, seen: u32) -> Option<&'static str> {
    match (regime, restoration(prior, seen)) {
        (Regime::Left { .. }, Restoration::Skip(why)) => Some(why),
        _ => None,
    }
}

/// A reconcile that comes to its end, as far as it decides what goes into the history.
#[derive(Clone, Debug)]
pub struct Conclusion<'a> {
    /// Who governs the gateway.
    pub regime: &'a Regime,
    /// The policy that does, if there is one.
    pub policy: Option<&'a TokenPolicySpec>,
    /// What the status remembers.
    pub prior: &'a Prior,
    /// What is reported.
    pub reason: Reason,
    /// The value that is set now, in seconds.
    pub timeout: u32,
    /// The change reference of the policy.
    pub reference: Option<String>,
    /// Whether changes that were made are not recorded yet: they are recorded with this report.
    pub is_owing: bool,
}

impl Conclusion<'_> {
    /// What goes into the history: the open change if it took effect, else one that took effect without any record of it.
    #[must_use]
    pub fn to_record(&self, open: Option<&mut OpenChange>, now: Time) -> Option<Change> {
        let policy = self.regime.policy()?;
        let left = matches!(self.regime, Regime::Left { .. });
        let is_others = open.as_ref().is_some_and(|open| open.policy.as_deref() != Some(policy));
        let known = left || is_others || self.is_in_place();
        match open.filter(|open| open.holds(&self.timeout)) {
            _ if !known => None,
            Some(open) if open.is_recorded || open.from == self.timeout => None,
            Some(open) => {
                open.is_recorded = true;
                Some(entry(open, policy, now))
            }
            None => self.unrecorded(policy, now),
        }
    }

    /// Whether the reconcile has ended with a value to be proven, whatever the proof has shown.
    fn is_in_place(&self) -> bool {
        matches!(self.reason, Reason::InSync | Reason::VerificationFailed)
    }

    /// A change that took effect without being recorded: the operator stopped before it could report it. One that had to be
    /// on record first would be there: the value was changed by something else.
    fn unrecorded(&self, policy: &str, now: Time) -> Option<Change> {
        let from = self.prior.timeout.filter(|before| *before != self.timeout && !self.is_owing)?;
        let target = self.regime.target()?;
        let cause = cause(policy, target, self.prior);
        let is_ours = self.policy.is_none_or(|spec| !must_be_durable(spec, self.prior, self.timeout, cause));
        let moved = self.is_in_place() && target.holds(self.timeout) && !target.holds(from) && is_ours;
        moved.then(|| Change {
            time: now,
            from: Some(from),
            to: self.timeout,
            policy: policy.to_owned(),
            cause,
            change_ref: self.reference.clone(),
        })
    }
}

/// What a policy requires of a gateway: if it changes, the contest starts over.
pub type Aim = Option<(String, Target)>;

/// The contest over a value after it was read. `before` is what was required when it was read last.
#[must_use]
pub fn follow(
    contest: Contest,
    before: &Aim,
    (regime, prior): (&Regime, &Prior),
    seen: u32,
    now: std::time::Duration,
) -> (Contest, Aim) {
    let aim = regime.policy().map(str::to_owned).zip(regime.target());
    let contest = if *before != aim && before.is_some() { Contest::default() } else { contest };
    let contest = if has_drifted(regime, prior, seen) {
        contest.undone()
    } else if aim.as_ref().is_some_and(|(_, target)| target.holds(seen)) {
        contest.stood(now)
    } else {
        contest
    };
    (contest, aim)
}
