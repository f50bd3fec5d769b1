//! When an object is looked at next.

use std::time::Duration;

use proptest::prelude::*;
use tenure::engine::schedule::{CAP, UNMANAGED, after_restart, backoff, jittered, parse, stalled};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn failures_double_the_wait_up_to_ten_minutes() {
    let longest = [5, 10, 20, 40, 80, 160, 320, 600, 600];
    for (failures, wait) in (1..).zip(longest) {
        assert_eq!(backoff(failures, 1.0), seconds(wait), "{failures}");
        assert_eq!(backoff(failures, 0.0), seconds(wait) / 2, "{failures}");
    }
    for failures in [32, 33, 64, 1000, u32::MAX] {
        assert_eq!(backoff(failures, 1.0), seconds(600), "{failures}");
    }
    assert!(backoff(1, 1.0) + backoff(2, 1.0) < seconds(60), "three tries fit into a minute");
}

#[test]
fn what_no_policy_selects_is_read_every_ten_minutes() {
    assert_eq!((jittered(UNMANAGED, 0.0), jittered(UNMANAGED, 1.0)), (seconds(600), seconds(540)));
}

#[test]
fn durations_are_read_as_users_write_them() {
    for (text, expected) in [
        ("10m", Some(600)),
        ("1h30m", Some(5400)),
        ("90s", Some(90)),
        ("1h1m1s", Some(3661)),
        ("24h", Some(86_400)),
        ("00m090s", Some(90)),
        ("0s", Some(0)),
        ("99999h99999m99999s", Some(99_999 * 3661)),
        ("", None),
        ("10", None),
        ("m", None),
        ("1m30", None),
        ("30s1m", None),
        ("1m1m", None),
        ("1.5h", None),
        ("-1s", None),
        ("+1s", None),
        ("1 s", None),
        ("1d", None),
        ("1ms", None),
        ("100000s", None),
        ("٣s", None),
    ] {
        assert_eq!(parse(text), expected.map(seconds), "{text:?}");
    }
}

proptest! {
    #[test]
    fn checks_come_up_to_a_tenth_sooner(interval in 30..86_401_u64, random in 0.0..1.0) {
        let interval = seconds(interval);
        let wait = jittered(interval, random);
        prop_assert!(wait <= interval && wait >= interval.mul_f64(0.899_999), "{:?}", wait);
    }

    #[test]
    fn repairs_by_people_are_awaited_ten_minutes_or_the_interval(interval in 30..86_401_u64, random in 0.0..1.0) {
        let interval = seconds(interval);
        let wait = stalled(interval, random);
        let base = interval.max(seconds(600));
        prop_assert!(wait >= base && wait <= base.mul_f64(1.100_001), "{:?}", wait);
    }

    #[test]
    fn waits_after_failures_are_random_and_bounded(failures: u32, random in 0.0..1.0) {
        let wait = backoff(failures, random);
        prop_assert!(wait >= Duration::from_millis(2500) && wait <= seconds(600), "{:?}", wait);
        let first = after_restart(CAP, random);
        prop_assert!(first <= seconds(600));
        prop_assert!((first.as_secs_f64() - 600.0 * random).abs() < 0.001, "any moment within the cap");
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,20}") {
        let _any = parse(&text);
    }

    #[test]
    fn written_durations_are_read(h in 0..100_000_u64, m in 0..100_000_u64, s in 0..100_000_u64) {
        prop_assert_eq!(parse(&format!("{h}h{m}m{s}s")), Some(seconds(h * 3600 + m * 60 + s)));
        prop_assert_eq!(parse(&format!("{m}m")), Some(seconds(m * 60)));
        prop_assert_eq!(parse(&format!("{h}h{s}s")), Some(seconds(h * 3600 + s)));
    }
}
