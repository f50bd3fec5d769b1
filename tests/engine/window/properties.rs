//! What holds for windows whatever they are.

use jiff::Timestamp;
use proptest::prelude::*;
use tenure::crd::Window;
use tenure::engine::window::{State, Windows, override_until};

use super::{at, window};

fn schedules() -> impl Strategy<Value = Window> {
    let field = |values: &'static [&'static str]| proptest::sample::select(values);
    let fields = (
        field(&["0", "30", "*", "*/20", "15-45/10"]),
        field(&["0", "2", "22", "*", "*/5", "9-17"]),
        field(&["*", "*", "1", "29", "31", "*/2", "1-7"]),
        field(&["*", "*", "2", "MAR,OCT", "*/3"]),
        field(&["*", "*", "SAT", "MON-FRI", "7"]),
    );
    let duration = field(&["1m", "90s", "10m", "45m", "1h", "5h", "24h", "168h"]);
    let zone = field(&[
        "UTC",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Asia/Beirut",
        "Pacific/Chatham",
    ]);
    (fields, duration, zone).prop_map(|((minute, hour, day, month, weekday), duration, zone)| {
        window(&format!("{minute} {hour} {day} {month} {weekday}"), duration, zone)
    })
}

/// A moment of the years 2026 to 2029.
fn moments() -> impl Strategy<Value = Timestamp> {
    let (from, to) = (at("2026-01-01").as_second(), at("2030-01-01").as_second());
    (from..to).prop_map(|second| Timestamp::from_second(second).unwrap())
}

fn usable(windows: &[Window], now: Timestamp) -> Result<Windows, TestCaseError> {
    Windows::parse(windows, now).map_err(|error| TestCaseError::reject(error.to_string()))
}

proptest! {
    #[test]
    fn a_closed_window_opens_when_it_says(
        windows in proptest::collection::vec(schedules(), 1..4), now in moments(), part in 0.0..1.0,
    ) {
        let windows = usable(&windows, now)?;
        if let State::Closed { next } = windows.state(now) {
            prop_assert!(next > now);
            prop_assert_eq!(windows.state(next), State::Open);
            let between = now + now.duration_until(next).mul_f64(part);
            prop_assert_eq!(windows.state(between), State::Closed { next });
        }
    }

    #[test]
    fn the_order_of_windows_and_one_written_twice_make_no_difference(
        windows in proptest::collection::vec(schedules(), 1..4), now in moments(),
    ) {
        let state = usable(&windows, now)?.state(now);
        let mut other: Vec<_> = windows.iter().rev().cloned().collect();
        prop_assert_eq!(usable(&other, now)?.state(now), state);
        other.push(windows[0].clone());
        prop_assert_eq!(usable(&other, now)?.state(now), state);
    }

    #[test]
    fn any_text_is_read_or_refused(
        schedule in "[0-9*,/A-Z -]{0,12}|([0-9*,/SUN-]{1,4} ){4}[0-9*,/SUN-]{1,4}|\\PC{0,20}",
        duration in "[0-9hms]{0,5}",
        zone in "UTC|Europe/Berlin|\\PC{0,10}",
        annotation in "\\PC{0,20}",
        second in Timestamp::MIN.as_second()..=Timestamp::MAX.as_second(),
    ) {
        let now = Timestamp::from_second(second).unwrap();
        let _any = override_until(Some(&annotation), now);
        let windows = [window(&schedule, &duration, &zone), window(&schedule, "1h", "Europe/Berlin")];
        let _any = Windows::parse(&windows, now);
        if let Ok(windows) = Windows::parse(&windows[1..], at("2026-11-22")) {
            for now in [now, Timestamp::MIN, Timestamp::MAX] {
                let _any = windows.state(now);
            }
        }
    }
}
