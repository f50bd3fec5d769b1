//! What must be in place before a gateway is changed, what is on record after it, and when our finalizer is there.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tenure::crd::{Cause, Change, Time, TokenPolicySpec, X2GatewayStatus};
use tenure::engine::change::Outcome;
use tenure::engine::contest::Contest;
use tenure::engine::gateway::{
    CONFLICT, Conclusion, Finalizer, Intent, OpenChange, Phase, Prior, Regime, awaiting_rollout, drifted,
    finalizer, follow, must_be_durable, not_restored, owes_original, owes_revocation, under_change,
};
use tenure::engine::lifetime::{InvalidTarget, Target};
use tenure::engine::ownership::Standing;
use tenure::engine::reason::Reason;
use tenure::engine::rollout::Wish;
use tenure::engine::verdict::Verdict;

use crate::governance::gateway as gateway_of;

const NOW: Time = Time(Timestamp::UNIX_EPOCH);

fn enforced(target: Result<Target, InvalidTarget>) -> Regime {
    Regime::Enforced { policy: "short".to_owned(), target, suspended: false }
}

fn exact(seconds: u32) -> Regime {
    enforced(Ok(Target::Exact(seconds)))
}

fn left() -> Regime {
    Regime::Left { policy: "short".to_owned() }
}

fn open(outcome: Outcome) -> OpenChange {
    let intent = Intent { from: 86400, to: 28800, cause: Cause::Policy };
    OpenChange { outcome, ..intent.begin("short", Some("CHG-1".to_owned()), NOW.0, Some(86400)) }
}

fn spec(fields: &serde_json::Value) -> TokenPolicySpec {
    let mut spec = json!({"gatewaySelector": {}, "timeoutSeconds": 28800});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn status(fields: serde_json::Value) -> X2GatewayStatus {
    serde_json::from_value(fields).unwrap()
}

#[test]
fn the_finalizer_is_there_while_a_deletion_has_to_wait() {
    let undecodable = enforced(Err(InvalidTarget::Undecodable));
    for (regime, phase, owes, expected) in [
        (exact(28800), Phase::Alive, true, Finalizer::Add),
        (exact(28800), Phase::Alive, false, Finalizer::Remove),
        (Regime::Unmanaged, Phase::Alive, false, Finalizer::Remove),
        (left(), Phase::Alive, false, Finalizer::Keep),
        (undecodable.clone(), Phase::Alive, false, Finalizer::Keep),
        (left(), Phase::Deleted, true, Finalizer::Wait),
        (undecodable, Phase::Deleted, false, Finalizer::Wait),
        (Regime::Unmanaged, Phase::Deleted, true, Finalizer::Abandon),
        (left(), Phase::DeletedSuspended, true, Finalizer::Remove),
    ] {
        assert_eq!(finalizer(&regime, phase, owes), expected, "{regime:?} {phase:?}");
    }
}

#[test]
fn a_suspended_gateway_that_is_deleted_waits_for_nothing() {
    let of = |suspend: bool, deletion: Option<Time>| {
        let gateway = json!({"metadata": {"deletionTimestamp": deletion}, "spec": {"suspend": suspend}});
        Phase::of(&gateway_of(gateway))
    };
    assert_eq!((of(false, None), of(true, None)), (Phase::Alive, Phase::Alive));
    assert_eq!((of(false, Some(NOW)), of(true, Some(NOW))), (Phase::Deleted, Phase::DeletedSuspended));
}

#[test]
fn an_original_value_is_owed_once_something_was_changed_and_until_it_is_restored() {
    let change =
        |cause| json!([{"time": NOW, "from": 86400, "to": 28800, "policy": "short", "cause": cause}]);
    let original = json!({"originalTimeoutSeconds": 86400, "history": change("Policy")});
    assert!(owes_original(&status(original)));
    assert!(!owes_original(&status(json!({"originalTimeoutSeconds": 86400, "history": change("Restore")}))));
    assert!(!owes_original(&status(json!({"history": change("Policy")}))));
    let pending = json!({"originalTimeoutSeconds": 86400, "pending": {"to": 28800, "since": NOW}});
    assert!(owes_original(&status(pending)));
}

#[test]
fn a_rollout_is_asked_for_what_the_write_is() {
    let wish = |from, to, cause| Intent { from, to, cause }.wish(&exact(to));
    let target = Some(Target::Exact(28800));
    assert_eq!(wish(86400, 28800, Cause::Policy), (target, Wish::Change { tightens: true }));
    assert_eq!(wish(600, 28800, Cause::Policy), (target, Wish::Change { tightens: false }));
    assert_eq!(wish(600, 28800, Cause::Drift), (target, Wish::Repair));
    assert_eq!(wish(600, 28800, Cause::Restore), (None, Wish::Restore));
}

#[test]
fn what_must_not_be_forgotten_is_on_record_before_the_write() {
    let durable = |fields, prior: &Prior| must_be_durable(&spec(&fields), prior, 28800, Cause::Policy);
    let fresh = Prior::default();
    assert!(!durable(json!({}), &fresh));
    assert!(durable(json!({"rollout": {}}), &fresh));
    assert!(durable(json!({"revokeTokens": "OnChange"}), &fresh));
    assert!(durable(json!({"deletionPolicy": "Restore"}), &fresh));
    // It is known what the original value is, and that this value is ours.
    let ours = Prior { original: Some(86400), wrote: Some((28800, Cause::Policy)), ..Prior::default() };
    assert!(!durable(json!({"deletionPolicy": "Restore"}), &ours));
    assert!(must_be_durable(&spec(&json!({"deletionPolicy": "Restore"})), &ours, 28800, Cause::Restore));
}

#[test]
fn a_suspended_policy_revokes_nothing() {
    let change = open(Outcome::Applied);
    let owes = |fields| owes_revocation(Some(&spec(&fields)), &change);
    assert!(owes(json!({"revokeTokens": "OnTightening"})));
    assert!(!owes(json!({"revokeTokens": "OnTightening", "suspend": true})));
    assert!(!owes(json!({})));
    assert!(!owes_revocation(None, &change));
}

fn to_record(
    regime: &Regime,
    prior: &Prior,
    reason: Reason,
    timeout: u32,
    open: Option<&mut OpenChange>,
) -> Option<Change> {
    let spec = spec(&json!({}));
    let policy = Some(&spec);
    let conclusion = Conclusion { regime, policy, prior, reason, timeout, reference: None, is_owing: false };
    conclusion.to_record(open, NOW)
}

#[test]
fn a_change_is_recorded_once_and_only_if_it_took_effect() {
    let (regime, prior) = (exact(28800), Prior { timeout: Some(86400), ..Prior::default() });
    for outcome in [Outcome::Sent, Outcome::Applied] {
        let mut change = open(outcome);
        let made = to_record(&regime, &prior, Reason::InSync, 28800, Some(&mut change)).unwrap();
        assert_eq!(
            (made.from, made.to, made.cause, made.policy.as_str()),
            (Some(86400), 28800, Cause::Policy, "short")
        );
        assert_eq!(made.change_ref.as_deref(), Some("CHG-1"));
        assert_eq!(to_record(&regime, &prior, Reason::InSync, 28800, Some(&mut change)), None);
    }
    // It did not take effect, or that is not known yet.
    let sent = || open(Outcome::Sent);
    assert_eq!(to_record(&regime, &prior, Reason::InSync, 86400, Some(&mut sent())), None);
    assert_eq!(to_record(&regime, &prior, Reason::Unreachable, 28800, Some(&mut sent())), None);
    assert!(to_record(&regime, &prior, Reason::VerificationFailed, 28800, Some(&mut sent())).is_some());
    assert!(to_record(&left(), &prior, Reason::Unmanaged, 28800, Some(&mut sent())).is_some());
}

#[test]
fn a_change_that_took_effect_without_any_record_of_it_is_recorded() {
    let prior = Prior { timeout: Some(86400), ..Prior::default() };
    for reason in [Reason::InSync, Reason::VerificationFailed] {
        let made = to_record(&exact(28800), &prior, reason, 28800, None).unwrap();
        assert_eq!((made.from, made.to), (Some(86400), 28800), "{reason:?}");
    }
    assert_eq!(to_record(&exact(28800), &prior, Reason::VerificationFailed, 600, None), None);
    let as_before = Prior { timeout: Some(28800), ..Prior::default() };
    assert_eq!(to_record(&exact(28800), &as_before, Reason::InSync, 28800, None), None);
    assert_eq!(to_record(&Regime::Unmanaged, &prior, Reason::Unmanaged, 28800, None), None);
    let (regime, reason) = (exact(28800), Reason::InSync);
    let owing = Conclusion {
        regime: &regime,
        policy: None,
        prior: &prior,
        reason,
        timeout: 28800,
        reference: None,
        is_owing: true,
    };
    assert_eq!(owing.to_record(None, NOW), None, "it is recorded with this report");
    // A change that had to be on record before it was sent is not on record: something else has set the value.
    for fields in [json!({"deletionPolicy": "Restore"}), json!({"rollout": {}})] {
        let policy = spec(&fields);
        let others = Conclusion { policy: Some(&policy), is_owing: false, ..owing.clone() };
        assert_eq!(others.to_record(None, NOW), None, "{fields}");
    }
}

#[test]
fn a_value_that_something_else_keeps_changing_is_contested_until_something_else_is_required() {
    let hour = Duration::from_hours(1);
    let regime = exact(28800);
    let prior = Prior { policy: Some("short".to_owned()), proven: Some(28800), ..Prior::default() };
    let (mut contest, mut aim) = (Contest::default(), None);
    for _ in 0..5 {
        contest = contest.corrected(hour);
        (contest, aim) = follow(contest, &aim, (&regime, &prior), 86400, hour);
    }
    assert!(contest.is_on() && !contest.may_correct(hour));
    let (other, _) = follow(contest, &aim, (&exact(600), &Prior::default()), 86400, hour);
    assert!(!other.is_on());
    let (held, _) = follow(contest, &aim, (&regime, &prior), 28800, hour + Duration::from_mins(59));
    assert!(held.is_on());
    let (held, _) = follow(contest, &aim, (&regime, &prior), 28800, hour + hour);
    assert!(!held.is_on());
}

#[test]
fn a_gateway_that_waits_for_a_halted_rollout_keeps_showing_its_failure() {
    let verdict =
        |status: Option<X2GatewayStatus>, halted| awaiting_rollout(status.as_ref(), "short", halted);
    assert_eq!(verdict(None, false).reason, Reason::AwaitingRollout);
    assert!(verdict(None, true).message.contains("is halted"));
    let failed = |pending: bool| {
        let mut status = status(json!({"conditions": [{"type": "Ready", "status": "False",
            "reason": "VerificationFailed", "message": "Check it.", "lastTransitionTime": NOW}]}));
        status.pending = pending.then(|| open(Outcome::Sent).recorded().into());
        status
    };
    assert_eq!(verdict(Some(failed(true)), true), Verdict::new(Reason::VerificationFailed, "Check it."));
    assert_eq!(verdict(Some(failed(true)), false).reason, Reason::AwaitingRollout);
    assert_eq!(verdict(Some(failed(false)), true).reason, Reason::AwaitingRollout);
}

#[test]
fn sentences_name_the_value_and_the_policy() {
    let change = open(Outcome::Prepared);
    let message = under_change(&change).message;
    assert_eq!(message, "Setting the token lifetime to 28800s, as required by TokenPolicy short.");
    let message = under_change(&OpenChange { cause: Cause::Restore, ..change }).message;
    assert_eq!(message, "Restoring the token lifetime to 28800s, the value before TokenPolicy short.");
    let note = drifted(28800, 600, &Verdict::new(Reason::Drifted, "It is left."));
    assert_eq!(note, "Something changed the token lifetime from 28800s to 600s. It is left.");
    assert_eq!(Standing::Loser.conflict(&CONFLICT).unwrap().reason, Reason::Conflict);
    assert_eq!(Standing::Undecided.conflict(&CONFLICT).unwrap().reason, Reason::Progressing);
    assert_eq!(Standing::TryNow.conflict(&CONFLICT), None);
}

#[test]
fn what_something_else_has_changed_is_not_restored() {
    let prior = Prior { original: Some(86400), wrote: Some((28800, Cause::Policy)), ..Prior::default() };
    assert_eq!(not_restored(&left(), &prior, 28800), None);
    assert!(not_restored(&left(), &prior, 600).unwrap().contains("something else"));
    assert_eq!(not_restored(&exact(28800), &prior, 600), None);
}
