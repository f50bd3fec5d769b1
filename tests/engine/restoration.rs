//! How long a deletion waits: never longer than promised, whatever is asked in which order.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tenure::engine::restoration::{PATIENCE, SkipReason, skip_reason, time_left};

fn deleted() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn after(seconds: i64) -> Timestamp {
    deleted() + SignedDuration::from_secs(seconds)
}

#[test]
fn ten_minutes_an_annotation_or_the_end_of_the_namespace() {
    for (asked, ends, seconds, expected) in [
        (false, false, 0, None),
        (false, false, 599, None),
        (false, false, 600, Some(SkipReason::TooLate)),
        (false, false, 1_000_000, Some(SkipReason::TooLate)),
        (true, false, 0, Some(SkipReason::Asked)),
        (true, true, 700, Some(SkipReason::Asked)),
        (false, true, 0, Some(SkipReason::NamespaceEnds)),
        (false, true, 600, Some(SkipReason::TooLate)),
        // The API server's clock is ahead of ours.
        (false, false, -30, None),
        (false, true, -30, Some(SkipReason::NamespaceEnds)),
    ] {
        assert_eq!(skip_reason(deleted(), asked, ends, after(seconds)), expected, "{asked} {ends} {seconds}");
    }
}

#[test]
fn an_event_says_why() {
    assert!(SkipReason::Asked.as_str().contains("tenure.dev/skip-restore"));
    assert!(SkipReason::TooLate.as_str().contains("ten minutes"));
    assert!(SkipReason::NamespaceEnds.as_str().contains("namespace"));
}

proptest! {
    #[test]
    fn who_waits_for_the_time_left_is_let_go(seconds in -100_000..100_000_i64, asked: bool, ends: bool) {
        let now = after(seconds);
        let left = time_left(deleted(), now);
        prop_assert!(left <= PATIENCE);
        prop_assert_eq!(skip_reason(deleted(), asked, ends, now).is_some(), asked || ends || left == Duration::ZERO);
        let then = deleted().max(now) + SignedDuration::try_from(left).unwrap();
        prop_assert!(skip_reason(deleted(), asked, ends, then).is_some());
        // Who was let go once stays so.
        if skip_reason(deleted(), asked, ends, now).is_some() {
            prop_assert!(skip_reason(deleted(), asked, ends, now + SignedDuration::from_secs(1)).is_some());
        }
    }
}
