//! What the status of a customer keeps of a change: its original values, how far it came, and what is taken back.

use jiff::Timestamp;
use serde_json::json;
use tenure::crd::{
    Cause, CustomerTokenTtlStatus, Mode, PendingOutcome, RefusedLogin, Time, TtlChange, TtlPending,
    TtlSeconds,
};
use tenure::engine::change::{Outcome, last_set};
use tenure::engine::customer::{
    Changes, Found, Made, OpenChange, Original, Prior, Reading, Ttl, Wish, known_original, made, prepare,
    put_on_record, remembered, unrecorded, update, written,
};
use tenure::engine::login::News;
use tenure::engine::reason::Reason;
use tenure::engine::summary::Summary;

const WISH: Wish = Wish { ttl: Ttl { access: 3600, refresh: 86_400 }, mode: Mode::Enforce, by_login: false };
const NOW: Time = Time(Timestamp::UNIX_EPOCH);

fn wanted() -> TtlSeconds {
    WISH.ttl.into()
}

fn access(seconds: u32) -> TtlSeconds {
    TtlSeconds { access_token_ttl_seconds: Some(seconds), refresh_token_ttl_seconds: None }
}

fn text(access: &str) -> Original {
    Original::from([("accessTokenTtlSeconds".to_owned(), access.to_owned())])
}

/// A change that took effect from an access lifetime of some seconds.
fn from(seconds: u32, to: TtlSeconds, cause: Cause) -> Made {
    let change = TtlChange { time: NOW, from: access(seconds), to, cause, change_ref: None };
    Made { change, original: text(&seconds.to_string()) }
}

/// A change from a customer that holds `found` to what is wanted.
fn change(found: &str, outcome: Outcome) -> OpenChange {
    OpenChange {
        from: found.parse().map(access).unwrap_or_default(),
        found: text(found),
        to: wanted(),
        cause: Cause::Policy,
        policy: None,
        reference: None,
        since: Timestamp::UNIX_EPOCH,
        original_before: None,
        outcome,
        is_recorded: false,
    }
}

fn found(reason: Reason, read: Option<TtlSeconds>) -> Found {
    let read = read.map(|ttl| Reading { title: None, ttl });
    let summary = Summary { reason, before: None, effective_url: None, news: None };
    Found { summary, read, proven: None }
}

fn updated(before: &CustomerTokenTtlStatus, open: &OpenChange, found: &Found) -> CustomerTokenTtlStatus {
    let mut status = before.clone();
    update(&mut status, found, WISH, Changes { open: Some(open), owed: Vec::new() }, &NOW);
    status
}

fn outcome(status: &CustomerTokenTtlStatus) -> Option<PendingOutcome> {
    status.pending.as_ref().and_then(|pending| pending.outcome)
}

#[test]
fn a_prepared_change_is_on_record_with_the_original_and_a_refused_one_takes_both_back() {
    let mut prepared = CustomerTokenTtlStatus::default();
    prepare(&mut prepared, &change("\"7200\"", Outcome::Prepared), None);
    assert_eq!(
        (outcome(&prepared), &prepared.original),
        (Some(PendingOutcome::Prepared), &Some(text("\"7200\"")))
    );
    for came_to in [Outcome::Refused, Outcome::Prepared] {
        for reason in [Reason::AdditionalInfoUnusable, Reason::AwaitingWindow, Reason::Unreachable] {
            let status = updated(&prepared, &change("\"7200\"", came_to), &found(reason, None));
            assert_eq!((&status.pending, &status.original), (&None, &None), "{came_to:?} {reason:?}");
        }
    }
    for came_to in [Outcome::Sent, Outcome::Applied] {
        let status = updated(&prepared, &change("\"7200\"", came_to), &found(Reason::TimedOut, None));
        assert_eq!(
            (outcome(&status), &status.original),
            (Some(PendingOutcome::Sent), &Some(text("\"7200\"")))
        );
    }
}

#[test]
fn a_sent_change_is_shown_also_where_nothing_was_prepared_and_outlasts_a_restart() {
    let sent = OpenChange { cause: Cause::Drift, ..change("\"7200\"", Outcome::Sent) };
    let status = updated(&CustomerTokenTtlStatus::default(), &sent, &found(Reason::Unreachable, None));
    assert_eq!(remembered(&status, WISH), Some(sent.clone()));
    // While it is tried again it may still take effect.
    let mut again = status.clone();
    prepare(&mut again, &change("\"7200\"", Outcome::Prepared), Some(&sent));
    assert_eq!(again.pending, status.pending);
    // Not in effect, and no longer required.
    let status = updated(&status, &sent, &found(Reason::Observed, Some(access(7200))));
    assert_eq!(status.pending, None);
}

#[test]
fn what_was_prepared_when_the_operator_ended_may_have_been_sent() {
    let pending = |from, cause, outcome| {
        Some(TtlPending { from, to: wanted(), cause, since: NOW, outcome, change_ref: None })
    };
    let first = CustomerTokenTtlStatus {
        original: Some(text("7.2e3")),
        pending: pending(Some(access(7200)), Some(Cause::Drift), Some(PendingOutcome::Prepared)),
        ..CustomerTokenTtlStatus::default()
    };
    let open = remembered(&first, WISH).unwrap();
    assert_eq!((open.outcome, open.from, open.cause), (Outcome::Sent, access(7200), Cause::Drift));
    assert_eq!((open.original_before.clone(), open.original()), (None, text("7.2e3")));
    // Earlier versions recorded the target and the time only.
    let old = CustomerTokenTtlStatus { pending: pending(None, None, None), ..first.clone() };
    let open = remembered(&old, WISH).unwrap();
    assert_eq!((open.outcome, open.from, open.cause), (Outcome::Sent, TtlSeconds::default(), Cause::Policy));
    // With a history the original was known before this change.
    let history =
        vec![TtlChange { time: NOW, from: access(1), to: access(2), cause: Cause::Policy, change_ref: None }];
    let later = CustomerTokenTtlStatus { history, ..first };
    assert_eq!(remembered(&later, WISH).unwrap().original_before, Some(text("7.2e3")));
    assert_eq!(remembered(&CustomerTokenTtlStatus::default(), WISH), None);
}

#[test]
fn an_original_is_known_since_the_first_change_or_never() {
    let mut status = CustomerTokenTtlStatus::default();
    let first = made(&change("900", Outcome::Applied), NOW);
    assert_eq!(known_original(&status, std::slice::from_ref(&first)), Some(text("900")));
    put_on_record(&mut status, [&first, &from(60, wanted(), Cause::Drift)]);
    assert_eq!((status.original.take(), status.history.len()), (Some(text("900")), 2));
    // It was lost: what the keys hold now may be ours.
    put_on_record(&mut status, [&first]);
    prepare(&mut status, &change("60", Outcome::Prepared), None);
    assert_eq!((&status.original, known_original(&status, &[first])), (&None, None));
}

#[test]
fn what_took_effect_without_any_record_of_it_is_recorded_unless_it_would_be_on_record() {
    let spec = |mode: &str, deletion_policy: &str| {
        serde_json::from_value(json!({
            "serverRef": {"name": "kona"}, "customerId": "1d2b7a10-0000-4000-8000-000000000000", "accessTokenTtlSeconds": 3600,
            "refreshTokenTtlSeconds": 86_400, "mode": mode, "deletionPolicy": deletion_policy,
        }))
        .unwrap()
    };
    let found = |mode, deletion_policy, before, seen| {
        let prior = Prior { read: before, ..Prior::default() };
        unrecorded(&spec(mode, deletion_policy), &prior, seen, (NOW, None))
    };
    let (before, made) = (Some(access(60)), from(60, wanted(), Cause::Policy));
    assert_eq!(found("Enforce", "Retain", before, wanted()), Some(made));
    for (mode, deletion_policy, before, seen) in [
        ("Observe", "Retain", before, wanted()),
        ("Enforce", "Restore", before, wanted()),
        ("Enforce", "Retain", before, access(70)),
        ("Enforce", "Retain", Some(wanted()), wanted()),
        ("Enforce", "Retain", None, wanted()),
    ] {
        assert_eq!(found(mode, deletion_policy, before, seen), None, "{mode} {deletion_policy} {before:?}");
    }
}

#[test]
fn only_what_may_have_been_set_is_ours_to_take_back() {
    let nothing = CustomerTokenTtlStatus::default();
    let ours = |open: &OpenChange, owed: &[Made]| written(Some(&nothing), Some(open), owed);
    assert_eq!(ours(&change("900", Outcome::Refused), &[]), []);
    assert_eq!(ours(&change("900", Outcome::Prepared), &[]), []);
    assert_eq!(ours(&change("900", Outcome::Sent), &[]), [wanted()]);
    let restored = OpenChange { cause: Cause::Restore, ..change("900", Outcome::Sent) };
    assert_eq!(ours(&restored, &[]), []);
    let last = from(60, access(70), Cause::Policy);
    assert_eq!(ours(&restored, &[last]), [access(70)]);
}

#[test]
fn a_refused_login_of_the_customers_user_is_remembered_as_long_as_it_is_to_prove_something() {
    let refused = RefusedLogin {
        secret_uid: "u".to_owned(),
        secret_resource_version: "1".to_owned(),
        time: NOW,
        in_a_row: Some(1),
    };
    let remembered = |wish: Wish, news: Option<News>| {
        let refused_login = vec![refused.clone()];
        let mut status = CustomerTokenTtlStatus { refused_login, ..CustomerTokenTtlStatus::default() };
        let mut found = found(Reason::InSync, None);
        found.summary.news = news;
        update(&mut status, &found, wish, Changes { open: None, owed: Vec::new() }, &NOW);
        status.refused_login.len()
    };
    let proves = Wish { by_login: true, ..WISH };
    assert_eq!(remembered(proves, None), 1);
    assert_eq!(remembered(proves, Some(News::LetIn)), 0);
    assert_eq!(remembered(WISH, None), 0, "verifyCredentialsSecretRef is removed");
    assert_eq!(remembered(Wish { mode: Mode::Observe, ..proves }, None), 0, "nothing is changed any more");
}

#[test]
fn lifetimes_that_are_still_desired_were_set_by_the_last_change() {
    let made = |to| TtlChange { time: NOW, from: access(60), to, cause: Cause::Drift, change_ref: None };
    let last_set = |history: &[TtlChange]| {
        let history = history.iter().map(|change| (change.to, change.time.0, change.cause));
        last_set(history, |ttl| WISH.requires(ttl))
    };
    let set = (NOW.0, Cause::Drift);
    assert_eq!(last_set(&[made(wanted()), made(wanted()), made(access(60))]), [set, set]);
    assert_eq!(last_set(&[made(access(60)), made(wanted())]), []);
    assert_eq!(last_set(&[]), []);
}
