//! How many passwords of a user a namespace may try.

use std::time::Duration;

use tenure::engine::login::{Guesses, NotTried, SecretVersion, User};

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
        if may.is_ok() {
            guesses.ended(&user(), &version(*number), outcome, Duration::ZERO);
        }
        may.is_ok()
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
        assert_eq!(guesses.may_try(&other, &version(50), || true, Duration::ZERO), Ok(()), "{other:?}");
    }
}

#[test]
fn what_is_under_way_counts_and_what_was_not_refused_does_not() {
    let mut guesses = Guesses::default();
    for number in 0..3 {
        assert_eq!(guesses.may_try(&user(), &version(number), || true, Duration::ZERO), Ok(()));
    }
    assert_eq!(guesses.may_try(&user(), &version(3), || true, Duration::ZERO), Err(NotTried::TooMany));
    guesses.ended(&user(), &version(2), Unsent, Duration::ZERO);
    assert_eq!(guesses.may_try(&user(), &version(3), || true, Duration::ZERO), Ok(()));
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
    assert_eq!(guesses.may_try(&user(), &version(50), || true, almost), Err(NotTried::TooMany));
    guesses.purge(HOUR);
    assert_eq!(guesses.may_try(&user(), &version(50), || true, HOUR), Ok(()));
}

#[test]
fn a_password_that_is_accepted_ends_the_guessing() {
    let mut guesses = Guesses::default();
    assert_eq!(tried(&mut guesses, 0..2, true, Refused), 2);
    assert_eq!(tried(&mut guesses, 2..3, true, Accepted), 1);
    assert_eq!(tried(&mut guesses, 3..50, true, Refused), 3);
}

#[test]
fn what_is_kept_of_a_namespace_is_bounded() {
    const USERS: u64 = 4096;
    let mut guesses = Guesses::default();
    let user_of = |namespace: &str, name| User { namespace: namespace.to_owned(), name, ..user() };
    let mut attempt = |namespace: &str, name, outcome| {
        let user = user_of(namespace, name);
        let may = guesses.may_try(&user, &version(0), || false, Duration::ZERO);
        if may.is_ok() {
            guesses.ended(&user, &version(0), outcome, Duration::ZERO);
        }
        may
    };
    for outcome in [Accepted, Unknown, Unsent] {
        assert!((0..2 * USERS).all(|name| attempt("b", name, outcome) == Ok(())), "{outcome:?}");
    }
    assert!((0..USERS).all(|name| attempt("b", name, Refused) == Ok(())));
    assert_eq!(attempt("b", USERS, Refused), Err(NotTried::TooManyUsers));
    assert_eq!(attempt("a", USERS, Refused), Ok(()), "another namespace");
    assert_eq!(attempt("c", USERS, Refused), Ok(()), "another namespace");
    assert_eq!(attempt("b", 0, Accepted), Ok(()), "one that is known");
    assert_eq!(attempt("b", USERS, Refused), Ok(()), "there is room again");
    guesses.purge(HOUR);
    assert_eq!(guesses.may_try(&user_of("b", 0), &version(0), || false, HOUR), Ok(()));
}
