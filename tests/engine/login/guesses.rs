//! How many passwords of a user a namespace may try.

use std::time::Duration;

use tenure::engine::login::{Guesses, SecretVersion, User};

use super::{Accepted, Outcome, Refused, Unknown, Unsent};

const HOUR: Duration = Duration::from_hours(1);

fn user() -> User {
    User { namespace: "b".to_owned(), system: "https://x2.example.net".to_owned(), name: 1 }
}

fn version(number: usize) -> SecretVersion {
    SecretVersion { uid: "u".to_owned(), resource_version: number.to_string() }
}

/// Tries passwords one after the other, at one moment; returns how many could be tried.
fn tried(guesses: &mut Guesses, numbers: std::ops::Range<usize>, is_guest: bool, outcome: Outcome) -> usize {
    let mut attempt = |number: &usize| {
        let may = guesses.may_try(&user(), &version(*number), || is_guest, Duration::ZERO);
        if may {
            guesses.ended(&user(), &version(*number), outcome, Duration::ZERO);
        }
        may
    };
    numbers.filter(|number| attempt(number)).count()
}

#[test]
fn ten_passwords_are_tried_and_three_of_guests() {
    assert_eq!(tried(&mut Guesses::default(), 0..50, false, Refused), 10);
    assert_eq!(tried(&mut Guesses::default(), 0..50, true, Refused), 3);
    // Users of another name, of another system or of another namespace have passwords of their own.
    let mut guesses = Guesses::default();
    tried(&mut guesses, 0..50, true, Refused);
    for other in [
        User { name: 2, ..user() },
        User { system: "https://x2-2.example.net".to_owned(), ..user() },
        User { namespace: "c".to_owned(), ..user() },
    ] {
        assert!(guesses.may_try(&other, &version(50), || true, Duration::ZERO), "{other:?}");
    }
}

#[test]
fn what_is_under_way_counts_and_what_was_not_refused_does_not() {
    let mut guesses = Guesses::default();
    for number in 0..3 {
        assert!(guesses.may_try(&user(), &version(number), || true, Duration::ZERO));
    }
    assert!(!guesses.may_try(&user(), &version(3), || true, Duration::ZERO));
    guesses.ended(&user(), &version(2), Unsent, Duration::ZERO);
    assert!(guesses.may_try(&user(), &version(3), || true, Duration::ZERO));
    for outcome in [Unsent, Unknown, Accepted] {
        assert_eq!(tried(&mut Guesses::default(), 0..50, true, outcome), 50, "{outcome:?}");
    }
}

#[test]
fn the_same_password_is_one_guess() {
    let mut guesses = Guesses::default();
    assert_eq!(tried(&mut guesses, 0..3, true, Refused), 3);
    for outcome in [Refused, Unsent, Unknown] {
        assert_eq!(tried(&mut guesses, 0..1, true, outcome), 1);
    }
    assert_eq!(tried(&mut guesses, 3..50, true, Refused), 0, "a try that was not sent takes back no refusal");
}

#[test]
fn an_hour_later_another_one_is_tried() {
    let mut guesses = Guesses::default();
    assert_eq!(tried(&mut guesses, 0..50, true, Refused), 3);
    let almost = HOUR.checked_sub(Duration::from_secs(1)).unwrap();
    guesses.purge(almost);
    assert!(!guesses.may_try(&user(), &version(50), || true, almost));
    guesses.purge(HOUR);
    assert!(guesses.may_try(&user(), &version(50), || true, HOUR));
}

#[test]
fn a_password_that_is_accepted_ends_the_guessing() {
    let mut guesses = Guesses::default();
    assert_eq!(tried(&mut guesses, 0..2, true, Refused), 2);
    assert_eq!(tried(&mut guesses, 2..3, true, Accepted), 1);
    assert_eq!(tried(&mut guesses, 3..50, true, Refused), 3);
}
