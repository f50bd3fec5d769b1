//! When an object is reconciled next, and what is reported of failures.

use std::time::Duration;

use proptest::prelude::*;
use tenure::engine::backoff::{Attempt, Backoff, Inconclusive};
use tenure::engine::reason::Reason;
use tenure::engine::schedule::{CAP, SECRET_POLL};

const NOW: Duration = Duration::from_hours(1000);
const INTERVAL: Duration = Duration::from_secs(30);

fn attempt(reason: Reason) -> Attempt {
    Attempt { reason, retry_after: None, interval: INTERVAL, was_ready: false, polls: false }
}

fn wait(backoff: &Backoff<Duration>) -> Duration {
    backoff.due().unwrap().checked_sub(NOW).unwrap()
}

#[test]
fn a_healthy_object_is_reported_at_the_third_failure_within_a_minute() {
    let ready = |reason| Attempt { was_ready: true, ..attempt(reason) };
    let mut backoff = Backoff::default();
    let mut passed = Duration::ZERO;
    for reported in [false, false, true] {
        assert_eq!(backoff.attempted(NOW, 1.0, ready(Reason::Unreachable)), reported);
        passed += if reported { Duration::ZERO } else { wait(&backoff) };
    }
    assert!(passed < Duration::from_mins(1), "{passed:?}");
    // Tries that take long, as with a long requestTimeout, leave no time for a third one.
    let mut slow = Backoff::default();
    assert!(!slow.attempted(NOW, 1.0, ready(Reason::TimedOut)));
    assert!(slow.attempted(NOW + Duration::from_mins(5), 1.0, ready(Reason::TimedOut)));
    // One that is new, or has changed, is reported at once, and so is what time does not repair.
    assert!(Backoff::default().attempted(NOW, 0.5, attempt(Reason::Unreachable)));
    assert!(Backoff::default().attempted(NOW, 0.5, ready(Reason::AuthenticationFailed)));
}

#[test]
fn a_reference_that_is_replaced_leaves_its_objects_ready() {
    let missing = Attempt { was_ready: true, polls: true, ..attempt(Reason::SecretNotFound) };
    let mut backoff = Backoff::default();
    let mut passed = Duration::ZERO;
    for reported in [false, false, true] {
        assert_eq!(backoff.attempted(NOW, 1.0, missing), reported);
        passed += if reported { Duration::ZERO } else { wait(&backoff) };
    }
    assert!(passed < Duration::from_mins(1), "{passed:?}");
    assert_eq!(wait(&backoff), SECRET_POLL);
}

#[test]
fn waiting_for_a_reference_slows_nothing_down() {
    let mut backoff = Backoff::default();
    for _ in 0..20 {
        backoff.attempted(NOW, 0.5, Attempt { polls: true, ..attempt(Reason::SecretNotFound) });
        assert_eq!(wait(&backoff), SECRET_POLL);
    }
    backoff.attempted(NOW, 1.0, attempt(Reason::Unreachable));
    assert!(wait(&backoff) <= Duration::from_secs(5), "{:?}", wait(&backoff));
}

#[test]
fn a_healthy_object_is_reported_at_once_if_the_next_try_is_far_away() {
    let limited = |wait| Attempt {
        was_ready: true,
        retry_after: Some(Duration::from_secs(wait)),
        ..attempt(Reason::RateLimited)
    };
    assert!(Backoff::default().attempted(NOW, 0.5, limited(600)));
    assert!(!Backoff::default().attempted(NOW, 0.5, limited(5)));
}

#[test]
fn failures_slow_down_to_ten_minutes_and_a_success_forgives() {
    let mut backoff = Backoff::default();
    for _ in 0..20 {
        backoff.attempted(NOW, 0.0, attempt(Reason::TimedOut));
        assert!(wait(&backoff) <= CAP);
    }
    assert!(wait(&backoff) >= CAP / 2);
    backoff.attempted(NOW, 0.5, attempt(Reason::InSync));
    assert!(wait(&backoff) <= INTERVAL && wait(&backoff) >= INTERVAL.mul_f64(0.9));
    backoff.attempted(NOW, 1.0, attempt(Reason::TimedOut));
    assert!(wait(&backoff) <= Duration::from_secs(5));
}

#[test]
fn what_only_a_person_repairs_is_checked_slowly() {
    let mut backoff = Backoff::default();
    backoff.attempted(NOW, 0.0, attempt(Reason::TlsFailed));
    assert!(wait(&backoff) >= CAP);
    let rare = Attempt { interval: Duration::from_hours(2), ..attempt(Reason::Conflict) };
    backoff.attempted(NOW, 0.0, rare);
    assert!(wait(&backoff) >= Duration::from_hours(2));
    // Its references, and a refused password's Secret, are read twice a minute.
    for reason in [Reason::SecretNotFound, Reason::AuthenticationFailed, Reason::OriginNotAllowed] {
        backoff.attempted(NOW, 0.5, Attempt { polls: true, ..attempt(reason) });
        assert_eq!(wait(&backoff), SECRET_POLL);
    }
}

#[test]
fn the_remote_system_may_ask_for_more_time() {
    let mut backoff = Backoff::default();
    let retry_after = Some(Duration::from_mins(7));
    backoff.attempted(NOW, 0.5, Attempt { retry_after, ..attempt(Reason::RateLimited) });
    assert_eq!(wait(&backoff), Duration::from_mins(7));
}

#[test]
fn after_a_restart_a_failed_object_is_tried_once_within_ten_minutes() {
    let mut backoff = Backoff::default();
    backoff.postpone(Reason::Unreachable, NOW, 0.9);
    assert_eq!(wait(&backoff), CAP.mul_f64(0.9));
    backoff.attempted(NOW, 0.0, attempt(Reason::Unreachable));
    assert!(wait(&backoff) >= CAP / 2);
}

#[test]
fn after_a_restart_a_changed_secret_is_noticed_within_thirty_seconds() {
    let mut backoff = Backoff::default();
    backoff.postpone(Reason::AuthenticationFailed, NOW, 1.0);
    assert_eq!(wait(&backoff), SECRET_POLL);
}

#[test]
fn what_comes_to_nothing_is_reported_from_the_third_time_on_and_says_what_to_do() {
    let mut backoff = Backoff::default();
    let reported: Vec<bool> = (0..5).map(|_| backoff.inconclusive(NOW, 0.5)).collect();
    assert_eq!(reported, [false, false, true, true, true]);
    backoff.attempted(NOW, 0.5, attempt(Reason::InSync));
    assert!(!backoff.inconclusive(NOW, 0.5), "in a row");
    for why in [Inconclusive::Unanswered, Inconclusive::NotAccepted, Inconclusive::Outdated] {
        let verdict = why.verdict();
        assert!(!verdict.reason.is_ready());
        assert!(verdict.message.contains("Check") || verdict.message.contains("Find out"), "{verdict:?}");
    }
}

proptest! {
    #[test]
    fn the_next_time_is_ahead_and_what_fails_waits_ten_minutes_at_most(
        steps in prop::collection::vec((0..4_u8, 0.0..1.0), 1..40),
    ) {
        let mut backoff = Backoff::default();
        for (step, random) in steps {
            match step {
                0 => { backoff.inconclusive(NOW, random); }
                1 => backoff.not_written(NOW, random),
                2 => backoff.postpone(Reason::Unreachable, NOW, random),
                _ => { backoff.attempted(NOW, random, attempt(Reason::Unreachable)); }
            }
            let due = backoff.due().unwrap();
            prop_assert!(due >= NOW && due <= NOW + CAP);
            backoff.not_later_than(due + INTERVAL);
            prop_assert_eq!(backoff.due(), Some(due), "it is only brought forward");
        }
    }

    #[test]
    fn what_comes_to_nothing_waits_ever_longer(random in 0.0..1.0_f64) {
        let mut backoff = Backoff::default();
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            backoff.inconclusive(NOW, random);
            prop_assert!(wait(&backoff) >= last);
            last = wait(&backoff);
        }
        prop_assert!(last >= CAP / 2);
    }
}
