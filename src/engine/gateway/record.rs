//! What the status of a gateway keeps of changes, and what it shows after a reconcile.

use jiff::SignedDuration;

use super::{Prior, Regime, cause, known_original};
use crate::crd::{Cause, Change, Pending, PendingOutcome, Time, X2Gateway, X2GatewayStatus};
use crate::engine::change::{self, Beside, Ending, Recorded, add_to_history, recorded_as, stays_open};
use crate::engine::lifetime::{Target, proves};
use crate::engine::login::{self, News};
use crate::engine::reason::{EventReason, Reason};
use crate::engine::summary::Summary;
use crate::engine::verdict::ready_reason;

/// A change of an appliance's setting that was begun and is not completed.
pub type OpenChange = change::Change<u32>;

/// A change is dated no earlier than its rollout, which may be dated up to this much ahead.
const DATED_AHEAD: SignedDuration = SignedDuration::from_secs(2);

/// What a reconcile found and did, as far as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it came to.
    pub summary: Summary,
    /// Value of the setting, in seconds, if the reconcile ended with a trustworthy one.
    pub timeout: Option<u32>,
    /// Lifetime of a token issued during the reconcile, in seconds.
    pub token: Option<u32>,
    /// When a login last proved the lifetime. A proof alone is no reason to write a status: the next write shows it.
    pub last_proof: Option<Time>,
}

/// The changes of one object that its status does not show as they are, yet.
pub type Changes<'a> = change::Changes<'a, OpenChange, Change>;

/// What a status remembers of the last reconcile. `open` is the change that is not completed, `owed` are changes that were
/// made and not recorded yet.
#[must_use]
pub fn prior(status: &X2GatewayStatus, open: Option<&OpenChange>, owed: &[Change]) -> Prior {
    let last = owed.last().or_else(|| status.history.first());
    let original = known_original(status, owed);
    Prior {
        timeout: status.timeout_seconds,
        proven: status.proven_timeout_seconds,
        policy: status.policy.clone(),
        unverified: ready_reason(&status.conditions) == Some(Reason::VerificationFailed),
        original,
        wrote: last.map(|last| (last.to, last.cause)),
        pending: open.filter(|open| open.may_hold()).map(|open| open.to),
    }
}

/// The change that a status has on record as open.
#[must_use]
pub fn remembered(status: &X2GatewayStatus, regime: &Regime) -> Option<OpenChange> {
    let pending = status.pending.as_ref()?;
    let last = status.history.first().filter(|last| last.to == pending.to);
    let from = pending
        .from
        .or_else(|| status.timeout_seconds.filter(|before| *before != pending.to))
        .or_else(|| last?.from)
        .unwrap_or(pending.to);
    let is_recorded = last.is_some_and(|last| {
        last.from == Some(from) && last.time.0.duration_since(pending.since.0) >= -DATED_AHEAD
    });
    let restores =
        matches!(regime, Regime::Left { .. }) && status.original_timeout_seconds == Some(pending.to);
    let required = regime.policy().zip(regime.target());
    let why = match (restores, last.filter(|_| is_recorded), required) {
        (true, ..) => Cause::Restore,
        (false, Some(last), _) => last.cause,
        (false, None, Some((policy, target))) => cause(policy, target, &prior(status, None, &[])),
        (false, None, None) => Cause::Policy,
    };
    let beside = Beside {
        from,
        found: from,
        cause: why,
        policy: status.policy.clone(),
        under_way: ready_reason(&status.conditions) == Some(Reason::Progressing),
        // What equals the value replaced was put there by this change.
        original_before: status.original_timeout_seconds.filter(|original| *original != from || is_recorded),
        is_recorded,
    };
    Some(OpenChange::remembered(pending.into(), beside))
}

/// The policy that wrote last and restores the original value one day, as far as that is on record.
#[must_use]
pub fn wrote_last(status: &X2GatewayStatus) -> Option<&str> {
    let sent = status.pending.as_ref().is_some_and(|pending| {
        pending.outcome != Some(PendingOutcome::Prepared)
            || ready_reason(&status.conditions) == Some(Reason::Progressing)
    });
    // Without one, the gateway has left its policy, and was restored or is not to be.
    let in_force = status.policy.as_deref()?;
    let last = status.history.first().filter(|_| !sent);
    Some(last.map_or(in_force, |last| last.policy.as_str()))
}

/// An open change as the history has it, once it took effect.
#[must_use]
pub fn entry(open: &OpenChange, policy: &str, time: Time) -> Change {
    let policy = open.policy.clone().unwrap_or_else(|| policy.to_owned());
    let (cause, change_ref) = (open.cause, open.reference.clone());
    Change { time, from: Some(open.from), to: open.to, policy, cause, change_ref }
}

/// The event about a change that took effect.
#[must_use]
pub fn changed(change: &Change) -> (EventReason, String) {
    let Change { from, to, policy, cause, change_ref, .. } = change;
    let was = from.map_or_else(String::new, |from| format!(" from {from}s"));
    let note = match cause {
        Cause::Policy => format!("Token lifetime changed{was} to {to}s (TokenPolicy {policy})."),
        Cause::Drift => format!("Token lifetime corrected{was} to {to}s (TokenPolicy {policy})."),
        Cause::Restore => {
            format!("Token lifetime restored{was} to {to}s, the value before TokenPolicy {policy}.")
        }
    };
    change::event(*cause, EventReason::TimeoutChanged, note, change_ref.as_deref())
}

/// Puts changes on record that took effect.
pub fn put_on_record(status: &mut X2GatewayStatus, changes: Vec<&Change>) {
    status.original_timeout_seconds =
        status.original_timeout_seconds.or_else(|| changes.iter().find_map(|change| change.from));
    add_to_history(&mut status.history, changes);
}

/// Puts on record that a change is about to be sent.
pub fn prepare(status: &mut X2GatewayStatus, open: &OpenChange, now: Time) {
    status.pending = Some(open.recorded().into());
    status.timeout_seconds = Some(open.from);
    status.original_timeout_seconds = Some(open.original());
    status.last_checked_time = Some(now);
    status.policy.clone_from(&open.policy);
    if open.cause == Cause::Policy {
        // It shows nothing of what is to be proven now, and must not count as drift.
        status.proven_timeout_seconds = None;
    }
}

/// Brings a status up to date, but for its conditions.
pub fn update(
    status: &mut X2GatewayStatus,
    found: &Found,
    regime: &Regime,
    Changes { open, owed }: Changes<'_>,
    now: &Time,
) {
    if let Some(url) = &found.summary.effective_url {
        status.effective_url = Some(url.clone());
    }
    if let Some(timeout) = found.timeout {
        status.timeout_seconds = Some(timeout);
        status.last_checked_time = Some(now.clone());
        login::record(&mut status.refused_login, &News::LetIn);
    }
    if let Some(news) = &found.summary.news {
        login::record(&mut status.refused_login, news);
    }
    if let Some(token) = found.token {
        // A second more or less is no news.
        let known = status.proven_timeout_seconds.filter(|known| proves(token, *known));
        status.proven_timeout_seconds = known.or(Some(token));
        status.last_proven_time = Some(now.clone());
    } else if status.proven_timeout_seconds.is_some() {
        status.last_proven_time = status.last_proven_time.take().max(found.last_proof.clone());
    }
    let left = has_left(regime, found.summary.reason);
    status.policy = regime.policy().filter(|_| !left).map(str::to_owned);
    status.desired_timeout_seconds = regime.desired(status.timeout_seconds);
    if let Some(open) = open.filter(|open| !open.may_hold() && !open.is_recorded) {
        status.original_timeout_seconds = open.original_before;
    }
    let open = open.filter(|open| keeps(open, status, found, regime));
    status.pending = open.map(|open| open.recorded().into());
    put_on_record(status, owed);
    if left {
        // No policy governs it anymore: the next one that changes it finds another original.
        status.original_timeout_seconds = None;
    }
}

/// Whether nothing has changed that policies depend on.
#[must_use]
pub fn is_alike(before: &X2Gateway, after: &X2Gateway) -> bool {
    let without_times = |gateway: &X2Gateway| X2GatewayStatus {
        last_checked_time: None,
        last_proven_time: None,
        ..gateway.status.clone().unwrap_or_default()
    };
    before.spec == after.spec
        && before.metadata.labels == after.metadata.labels
        && before.metadata.deletion_timestamp == after.metadata.deletion_timestamp
        && without_times(before) == without_times(after)
}

/// The value that was as required when it was read last, if a reconcile found that something else has changed it and leaves it
/// for now.
#[must_use]
pub fn found_drift(regime: &Regime, before: Option<u32>, seen: Option<u32>, reason: Reason) -> Option<u32> {
    let (before, seen) = before.zip(seen)?;
    let uncorrected = reason.awaits_permission() || matches!(reason, Reason::Drifted | Reason::Observed);
    let fits_no_more = |target: Target| target.holds(before) && !target.holds(seen);
    let drifted = match regime {
        Regime::Observed(wants) => wants.iter().any(|(_, target)| fits_no_more(*target)),
        regime => regime.target().is_some_and(fits_no_more),
    };
    (uncorrected && drifted).then_some(before)
}

/// Whether the gateway has left its policy, and the original value is restored or is not to be.
fn has_left(regime: &Regime, reason: Reason) -> bool {
    matches!(regime, Regime::Left { .. }) && matches!(reason, Reason::Unmanaged | Reason::Conflict)
}

fn keeps(open: &OpenChange, status: &X2GatewayStatus, found: &Found, regime: &Regime) -> bool {
    let ending = Ending {
        suspended: matches!(regime, Regime::Enforced { suspended: true, .. }),
        left: matches!(regime, Regime::Left { .. }),
        required: regime.requires(open.to),
        is_set: status.timeout_seconds == Some(open.to),
        ..found.summary.ending()
    };
    // What was refused or is in the history is kept only if it was on record before: a rollout counts it.
    stays_open(open, ending) && (open.may_hold() && !open.is_recorded || status.pending.is_some())
}

recorded_as!(Pending, u32);
