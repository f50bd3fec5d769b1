//! What the status of a gateway shows after a reconcile.

use jiff::Timestamp;
use serde_json::json;
use tenure::crd::{Cause, Change, Time, X2GatewayStatus};
use tenure::engine::change::last_set;
use tenure::engine::gateway::{Changes, Found, Regime, found_drift, is_alike, update};
use tenure::engine::lifetime::Target;
use tenure::engine::login::{News, Refusal, SecretVersion};
use tenure::engine::reason::Reason;
use tenure::engine::summary::Summary;

use crate::governance::{changed_by, gateway};

const NOW: Time = Time(Timestamp::UNIX_EPOCH);

fn found(reason: Reason, timeout: Option<u32>) -> Found {
    let summary = Summary { reason, before: None, effective_url: None, news: None };
    Found { summary, timeout, token: None, last_proof: None }
}

fn required(seconds: u32) -> Regime {
    Regime::Enforced { policy: "a".to_owned(), target: Ok(Target::Exact(seconds)), suspended: false }
}

fn refused() -> News {
    let version = SecretVersion { uid: "u".to_owned(), resource_version: "7".to_owned() };
    News::refused(&version, Refusal { time: NOW.0, in_a_row: 2 })
}

fn owing(owed: &Change) -> Changes<'_> {
    Changes { open: None, owed: vec![owed] }
}

#[test]
fn a_change_is_recorded_with_its_original_until_the_gateway_has_left_its_policy() {
    let owed = Change {
        time: NOW,
        from: Some(86_400),
        to: 7200,
        policy: "a".to_owned(),
        cause: Cause::Policy,
        change_ref: None,
    };
    let mut status = X2GatewayStatus::default();
    update(&mut status, &found(Reason::InSync, Some(7200)), &required(7200), owing(&owed), &NOW);
    assert_eq!((status.timeout_seconds, status.original_timeout_seconds), (Some(7200), Some(86_400)));
    assert_eq!((status.history.as_slice(), status.policy.as_deref()), ([owed.clone()].as_slice(), Some("a")));
    let left = Regime::Left { policy: "a".to_owned() };
    let restored = Change { from: Some(7200), to: 86_400, cause: Cause::Restore, ..owed };
    update(&mut status, &found(Reason::Unmanaged, Some(86_400)), &left, owing(&restored), &NOW);
    assert_eq!((status.original_timeout_seconds, status.policy), (None, None));
    assert_eq!(status.history.len(), 2);
}

#[test]
fn a_refused_login_is_remembered_until_a_value_is_read() {
    let mut status = X2GatewayStatus::default();
    let none = || Changes { open: None, owed: Vec::new() };
    let mut refusal = found(Reason::AuthenticationFailed, None);
    refusal.summary.news = Some(refused());
    update(&mut status, &refusal, &required(7200), none(), &NOW);
    let login = status.refused_login.first().unwrap();
    assert_eq!((&*login.secret_uid, &*login.secret_resource_version, login.in_a_row), ("u", "7", Some(2)));
    update(&mut status, &found(Reason::TimedOut, None), &required(7200), none(), &NOW);
    assert_eq!(status.refused_login.len(), 1);
    update(&mut status, &found(Reason::InSync, Some(7200)), &required(7200), none(), &NOW);
    assert!(status.refused_login.is_empty());
}

#[test]
fn a_proof_that_was_not_written_is_shown_by_the_next_write_as_long_as_something_is_proven() {
    let at = |second| Some(Time(Timestamp::from_second(second).unwrap()));
    let none = || Changes { open: None, owed: Vec::new() };
    for (proven, shown, last, then) in [
        (Some(7200), at(1), at(2), at(2)),
        (Some(7200), at(2), at(1), at(2)),
        (Some(7200), at(1), None, at(1)),
        (None, None, at(2), None),
    ] {
        let (proven_timeout_seconds, last_proven_time) = (proven, shown);
        let mut status = X2GatewayStatus { proven_timeout_seconds, last_proven_time, ..Default::default() };
        let found = Found { last_proof: last, ..found(Reason::InSync, Some(7200)) };
        update(&mut status, &found, &required(7200), none(), &NOW);
        assert_eq!(status.last_proven_time, then);
    }
}

#[test]
fn a_value_that_is_still_required_was_set_by_the_last_change() {
    let status = changed_by("a", json!({})).status.unwrap();
    let time = "2026-11-22T22:00:00Z".parse().unwrap();
    let set = |history: &[Change], regime: Regime| {
        let history = history.iter().map(|change| (change.to, change.time.0, change.cause));
        last_set(history, |seconds| regime.requires(seconds))
    };
    assert_eq!(set(&status.history, required(7200)), [(time, Cause::Policy)]);
    assert_eq!(set(&status.history, required(3600)), []);
    assert_eq!(set(&status.history, Regime::Unmanaged), []);
    assert_eq!(set(&[], required(7200)), []);
}

#[test]
fn a_check_that_found_nothing_new_concerns_no_policy() {
    let before = gateway(json!({"status": {"timeoutSeconds": 7200}}));
    let checked = json!({"status": {"timeoutSeconds": 7200, "lastCheckedTime": NOW, "lastProvenTime": NOW}});
    assert!(is_alike(&before, &gateway(checked)));
    for patch in [
        json!({"status": {"timeoutSeconds": 3600}}),
        json!({"metadata": {"labels": {"site": "bonn"}}, "status": {"timeoutSeconds": 7200}}),
        json!({"metadata": {"deletionTimestamp": NOW}, "status": {"timeoutSeconds": 7200}}),
        json!({"spec": {"suspend": true}, "status": {"timeoutSeconds": 7200}}),
    ] {
        assert!(!is_alike(&before, &gateway(patch.clone())), "{patch}");
    }
}

#[test]
fn drift_that_is_left_for_now_is_found_once_it_differs_from_what_was_required() {
    let observed = || Regime::Observed(vec![("a".to_owned(), Target::Exact(7200))]);
    for (regime, before, seen, reason, expected) in [
        (required(7200), Some(7200), Some(3600), Reason::AwaitingWindow, Some(7200)),
        (observed(), Some(7200), Some(3600), Reason::Observed, Some(7200)),
        (required(7200), Some(7200), Some(3600), Reason::InSync, None),
        (required(7200), Some(600), Some(3600), Reason::AwaitingWindow, None),
        (required(7200), Some(7200), Some(7200), Reason::Drifted, None),
        (required(7200), None, Some(3600), Reason::Drifted, None),
        (required(7200), Some(7200), None, Reason::Drifted, None),
        (Regime::Unmanaged, Some(7200), Some(3600), Reason::Drifted, None),
    ] {
        let found = found_drift(&regime, before, seen, reason);
        assert_eq!(found, expected, "{regime:?} {before:?} {seen:?} {reason:?}");
    }
}
