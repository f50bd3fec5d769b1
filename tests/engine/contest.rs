//! Write fights.

use std::time::Duration;

use proptest::prelude::*;
use tenure::crd::Cause;
use tenure::engine::contest::Contest;

fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(60 * 24 + minutes)
}

/// A fight: each correction is found undone ten minutes later.
fn fight(corrections: u64) -> Contest {
    (0..corrections).fold(Contest::default(), |contest, n| contest.corrected(minutes(10 * n)).undone())
}

#[test]
fn five_corrections_in_a_row_that_do_not_stand_are_a_fight() {
    for corrections in 0..5 {
        let contest = fight(corrections);
        assert!(!contest.is_on() && contest.may_correct(minutes(10 * corrections)), "{corrections}");
    }
    assert!(fight(5).is_on());
    assert!(!fight(5).may_correct(minutes(50)));
}

#[test]
fn one_that_stands_ends_the_row() {
    let contest = fight(4).corrected(minutes(40)).stood(minutes(50)).corrected(minutes(60)).undone();
    assert!(!contest.is_on());
    let contest = (0..3).fold(contest, |contest, n| contest.corrected(minutes(70 + n)).undone());
    assert!(!contest.is_on(), "four in a row");
    assert!(contest.corrected(minutes(80)).undone().is_on(), "five in a row");
}

#[test]
fn then_one_try_an_hour_until_one_has_held_for_an_hour() {
    let contest = fight(5);
    // The last correction was at minute 40.
    assert!(!contest.may_correct(minutes(99)));
    assert!(contest.may_correct(minutes(100)));
    let tried = contest.corrected(minutes(100));
    assert!(!tried.may_correct(minutes(101)) && !tried.may_correct(minutes(159)));
    let again = tried.undone();
    assert!(again.is_on() && again.may_correct(minutes(160)));
    let holding = again.corrected(minutes(160)).stood(minutes(170)).stood(minutes(219));
    assert!(holding.is_on() && !holding.may_correct(minutes(219)), "not an hour yet");
    let held = holding.stood(minutes(220));
    assert!(!held.is_on() && held.may_correct(minutes(220)));
    assert_eq!(held, Contest::default());
}

#[test]
fn drift_without_a_correction_of_ours_is_no_fight() {
    let never = (0..20).fold(Contest::default(), |contest, _| contest.undone());
    assert_eq!(never, Contest::default());
    // A suspended policy: corrected once, long ago, and changed since; nothing is written at any of the checks.
    let once = Contest::default().corrected(minutes(0));
    let suspended = (0..20).fold(once, |contest, _| contest.undone());
    assert!(!suspended.is_on() && suspended.may_correct(minutes(1)), "one correction counts once");
}

#[test]
fn a_write_that_fails_is_no_correction_but_counts_as_the_hours_try() {
    let failing = (0..20).fold(Contest::default(), |contest, n| contest.tried(minutes(n)).undone());
    assert!(!failing.is_on() && failing.may_correct(minutes(20)));
    let tried = fight(5).tried(minutes(100));
    assert!(!tried.may_correct(minutes(159)) && tried.may_correct(minutes(160)));
}

#[test]
fn a_restart_keeps_the_peace() {
    let resumed = Contest::resumed(minutes(0), Duration::from_mins(20));
    assert!(resumed.is_on() && !resumed.may_correct(minutes(39)) && resumed.may_correct(minutes(40)));
    let long_ago = Contest::resumed(Duration::ZERO, Duration::from_hours(5));
    assert!(long_ago.is_on(), "the clock may be younger than the fight");
}

/// The contest after a restart: of a value that is checked every ten minutes, with corrections that many minutes ago.
fn remembered(corrections: &[u64], cause: Cause) -> Contest {
    let set: Vec<_> = corrections.iter().map(|ago| (Duration::from_mins(*ago), cause)).collect();
    Contest::remembered(minutes(600), &set, Duration::from_mins(10), false)
}

#[test]
fn a_restart_keeps_the_count_of_corrections_in_a_row() {
    let five = [5, 15, 24, 34, 43];
    // What the next check finds is not known yet.
    assert!(!remembered(&five, Cause::Drift).is_on() && remembered(&five, Cause::Drift).undone().is_on());
    assert!(remembered(&[5, 15, 24, 34, 43, 53], Cause::Drift).is_on(), "the fifth was undone");
    for (corrections, cause) in [
        (&five[1..], Cause::Drift),
        (&five, Cause::Policy),
        (&[5, 15, 24, 43, 53], Cause::Drift),
        (&[16, 26, 35, 45, 54], Cause::Drift),
        (&[], Cause::Drift),
    ] {
        assert!(!remembered(corrections, cause).undone().is_on(), "{corrections:?} {cause:?}");
    }
}

#[test]
fn a_restart_keeps_the_hour_between_two_corrections_of_a_contested_value() {
    let contested = remembered(&[20, 85, 146, 155, 165, 174, 184], Cause::Drift);
    assert!(contested.is_on() && !contested.may_correct(minutes(639)) && contested.may_correct(minutes(640)));
    let held = remembered(&[20, 106, 115, 125, 134, 144], Cause::Drift);
    assert!(!held.is_on(), "one has lasted for an hour");
    let reported = |set: &[_]| Contest::remembered(minutes(600), set, Duration::from_mins(10), true);
    assert!(reported(&[(Duration::from_mins(20), Cause::Policy)]).is_on());
    assert!(!reported(&[]).is_on(), "something else is desired by now");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Correct,
    Undone,
    Stood,
}

proptest! {
    /// However it goes: corrections are only made when they may be, and never more than six within an hour.
    #[test]
    fn corrections_are_bounded(events in proptest::collection::vec((0..3_u8, 1..40_u64), 0..200)) {
        let (mut contest, mut now) = (Contest::default(), minutes(0));
        let mut undone_in_a_row: Vec<Duration> = Vec::new();
        let mut checked = true;
        for (kind, wait) in events {
            now += Duration::from_mins(wait);
            let event = [Event::Correct, Event::Undone, Event::Stood][usize::from(kind)];
            match event {
                Event::Correct if contest.may_correct(now) => {
                    contest = contest.corrected(now);
                    undone_in_a_row.push(now);
                    checked = false;
                }
                Event::Correct => prop_assert!(contest.is_on()),
                Event::Undone => {
                    contest = contest.undone();
                    checked = true;
                }
                Event::Stood => {
                    contest = contest.stood(now);
                    if !contest.is_on() {
                        undone_in_a_row.clear();
                    }
                }
            }
            prop_assert!(!contest.is_on() || undone_in_a_row.len() >= 5 , "a fight needs five corrections");
            if contest.is_on() && checked {
                let last = *undone_in_a_row.last().unwrap();
                prop_assert_eq!(contest.may_correct(now), now.saturating_sub(last) >= Duration::from_hours(1));
            }
        }
    }
}
