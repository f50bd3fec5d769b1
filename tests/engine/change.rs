//! One change of a value, from the decision to the report: what a refused one takes back, and what a sent one leaves behind.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tenure::crd::{Cause, PendingOutcome};
use tenure::engine::change::{Beside, Change, Ending, Outcome, Recorded, reference, referring, stays_open};
use tenure::engine::reason::Reason;

fn change(from: u32, to: u32, outcome: Outcome) -> Change<u32> {
    Change {
        from,
        found: from,
        to,
        cause: Cause::Policy,
        policy: Some("short".to_owned()),
        reference: None,
        since: Timestamp::UNIX_EPOCH,
        original_before: None,
        outcome,
        is_recorded: false,
    }
}

/// What a change to `to` begins with while `seen` is set: what it replaces, whether an earlier one is closed or taken back.
fn beginning(earlier: Option<&Change<u32>>, seen: u32, to: u32) -> (u32, bool, bool) {
    const KNOWN: u32 = 86_400;
    let begun = Change { original_before: Some(KNOWN), ..change(seen, to, Outcome::Prepared) };
    let begun = begun.following(earlier);
    assert_eq!(begun.from, begun.found);
    let closes = earlier.is_some_and(|earlier| earlier.is_to_be_closed(&seen));
    (begun.from, closes, begun.original_before != Some(KNOWN))
}

#[test]
fn what_a_change_replaces_depends_on_what_became_of_the_one_before() {
    use Outcome::{Applied, Prepared, Refused, Sent};
    assert_eq!(beginning(None, 900, 600), (900, false, false));
    for (outcome, seen, to, expected) in [
        // Nothing came of it: what it brought along is taken back, whatever is set now.
        (Refused, 900, 600, (900, false, true)),
        (Prepared, 7200, 600, (7200, false, true)),
        // It took effect, and something else is required by now.
        (Sent, 600, 700, (600, true, false)),
        (Applied, 600, 700, (600, true, false)),
        // It is tried again: it may have been in force meanwhile.
        (Sent, 900, 600, (900, false, false)),
        (Sent, 7200, 600, (900, false, false)),
        // Whether it ever took effect is not known, and of no interest any more.
        (Sent, 7200, 700, (7200, false, false)),
    ] {
        let earlier = change(900, 600, outcome);
        assert_eq!(beginning(Some(&earlier), seen, to), expected, "{outcome:?}, {seen} set, to {to}");
        let recorded = Change { is_recorded: true, ..earlier };
        assert_eq!(beginning(Some(&recorded), seen, to), (seen, false, false), "the history has it");
    }
}

#[test]
fn a_write_that_never_left_changes_nothing_of_what_is_known() {
    let next = change(900, 700, Outcome::Prepared);
    for outcome in [Outcome::Prepared, Outcome::Sent, Outcome::Refused] {
        let earlier = change(900, 600, outcome);
        assert_eq!(next.clone().after(Outcome::Prepared, Some(earlier.clone())), earlier);
    }
    let sent = change(900, 600, Outcome::Sent);
    assert_eq!(next.clone().after(Outcome::Refused, Some(sent.clone())), sent, "it may still take effect");
    for outcome in [Outcome::Sent, Outcome::Applied] {
        assert_eq!(next.clone().after(outcome, Some(sent.clone())), change(900, 700, outcome));
    }
    let refused = change(900, 600, Outcome::Refused);
    assert_eq!(next.after(Outcome::Refused, Some(refused)), change(900, 700, Outcome::Refused));
}

#[test]
fn a_change_on_record_was_sent_unless_the_status_shows_that_it_was_not() {
    let record = |outcome| Recorded {
        from: Some(900),
        to: 600,
        cause: Some(Cause::Drift),
        since: Timestamp::UNIX_EPOCH,
        outcome,
        reference: Some("CHG-1".to_owned()),
    };
    let beside = |under_way| Beside {
        from: 1,
        found: 1,
        cause: Cause::Policy,
        policy: None,
        under_way,
        original_before: None::<u32>,
        is_recorded: false,
    };
    let remembered = |outcome, under_way| Change::remembered(record(outcome), beside(under_way));
    assert!(!remembered(Some(PendingOutcome::Prepared), false).may_hold());
    // The operator may have ended right after it had written that.
    assert!(remembered(Some(PendingOutcome::Prepared), true).may_hold());
    assert!(remembered(Some(PendingOutcome::Sent), false).holds(&600));
    let known = remembered(Some(PendingOutcome::Sent), false);
    assert_eq!((known.from, known.cause, known.reference.as_deref()), (900, Cause::Drift, Some("CHG-1")));
    // Earlier versions recorded the target and the time only.
    let old = Recorded { from: None, cause: None, ..record(None) };
    let old = Change::remembered(old, beside(false));
    assert_eq!((old.from, old.to, old.cause, old.may_hold()), (1, 600, Cause::Policy, true));
}

#[test]
fn a_change_stays_open_until_it_is_seen_to_its_end() {
    let ending = Ending {
        reason: Reason::Unreachable,
        suspended: false,
        left: false,
        required: true,
        is_set: false,
        failed: true,
    };
    let open = |outcome, ending| stays_open(&change(900, 600, outcome), ending);
    assert!(open(Outcome::Sent, ending) && open(Outcome::Refused, ending));
    let done = Ending { reason: Reason::InSync, ..ending };
    assert!(!open(Outcome::Applied, done));
    assert!(open(Outcome::Applied, Ending { suspended: true, ..done }), "tokens may have to be revoked");
    for reason in [Reason::AwaitingWindow, Reason::AwaitingRollout, Reason::Drifted] {
        let waits = Ending { reason, ..ending };
        assert!(open(Outcome::Refused, waits), "what has failed is counted while it is required");
        assert!(!open(Outcome::Refused, Ending { required: false, ..waits }));
        assert!(!open(Outcome::Prepared, waits), "what was only prepared has come to nothing");
        assert!(open(Outcome::Sent, Ending { is_set: true, failed: false, required: false, ..waits }));
        assert!(!open(Outcome::Sent, Ending { failed: false, ..waits }));
    }
}

#[test]
fn a_reference_is_one_short_line() {
    let annotated = |name: &str, text: &str| ObjectMeta {
        annotations: Some([(name.to_owned(), text.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let of = |text: &str| reference(&annotated("tenure.dev/change-ref", text));
    for text in ["CHG-1", "https://tickets.example.net/42", &"ü".repeat(64)] {
        assert_eq!(of(text).as_deref(), Some(text));
    }
    for text in ["", "two\nlines", "\u{1b}[31m", &"x".repeat(65)] {
        assert_eq!(of(text), None, "{text:?}");
    }
    assert_eq!(reference(&ObjectMeta::default()), None);
    assert_eq!(reference(&annotated("change-ref", "CHG-1")), None);
    assert_eq!(referring("Changed.".to_owned(), Some("CHG-1")), "Changed. Change reference: CHG-1.");
    assert_eq!(referring("Changed.".to_owned(), None), "Changed.");
}
