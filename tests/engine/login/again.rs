//! What allows another try, and what is forgotten.

use super::*;

#[test]
fn a_password_not_sent_counts_for_nothing() {
    let mut world = World::new(50);
    for index in 0..50 {
        world.log_in(index, Unsent).unwrap();
    }
    world.log_in(0, Accepted).unwrap();
}

#[test]
fn unanswered_tries_of_a_password_never_accepted_become_rare() {
    let mut world = World::new(2_000);
    let mut tried = 0;
    for index in 0..2_000 {
        match world.log_in(index, Unknown) {
            Ok(()) => tried += 1,
            Err(why) => assert_eq!(why, NotTried::Unanswered),
        }
        world.seconds += 3;
    }
    // 100 minutes: nine at once, then with pauses of up to ten minutes.
    assert!((12..30).contains(&tried), "{tried}");
    world.seconds += 600;
    world.log_in(0, Accepted).unwrap();
    world.log_in(1, Accepted).unwrap();
}

#[test]
fn a_request_clears_a_row_once_in_ten_minutes_and_allows_one_try_at_a_time() {
    let mut world = World::new(20);
    for index in 0..3 {
        world.log_in(index, Refused).unwrap();
    }
    // Somebody annotates all of them.
    (0..20).for_each(|index| world.request(index));
    for index in 0..20 {
        assert_eq!(world.want(index), None);
    }
    let mut refused = 0;
    while let Some((index, _)) = world.trying.values().next().copied().or_else(|| {
        world.decide();
        world.trying.values().next().copied()
    }) {
        assert_eq!(world.trying.len(), 1);
        world.end_at(index, Refused);
        refused += 1;
    }
    assert_eq!(refused, 3);
    world.seconds += 590;
    world.request(9);
    assert!(world.log_in(9, Accepted).is_err());
    world.seconds += 10;
    world.request(9);
    world.log_in(9, Accepted).unwrap();
}

#[test]
fn time_forgives_if_it_is_told_to() {
    let mut world = World::new(4);
    world.ledger = Ledger::new(Some(Duration::from_mins(1)));
    for index in 0..3 {
        world.log_in(index, Refused).unwrap();
    }
    world.seconds += 59;
    assert!(world.log_in(0, Accepted).is_err() && world.log_in(3, Accepted).is_err());
    world.seconds += 1;
    world.log_in(0, Refused).unwrap();
    assert_eq!(world.statuses[&0].refused[0].in_a_row, Some(1));
    world.log_in(3, Accepted).unwrap();
}

#[test]
fn what_concerns_no_object_is_dropped() {
    let mut world = World::in_sync(3);
    for content in 1..20 {
        (world.version, world.content) = (content, content);
        world.log_in(0, Refused).unwrap();
    }
    assert!(world.ledger.passwords() <= 2, "{}", world.ledger.passwords());
    (0..3).for_each(|index| world.ledger.observe(&holder(index), None));
    world.ledger.purge();
    assert_eq!(world.ledger.passwords(), 0);
}

#[test]
fn an_old_version_does_not_make_a_newer_one_forgotten() {
    let mut world = World::new(6);
    (world.version, world.content) = (3, 3);
    for index in 0..3 {
        world.log_in(index, Refused).unwrap();
    }
    // Reads of the Secret that were sent before the change are answered after it.
    for old in [1, 2] {
        (world.version, world.content) = (old, old);
        world.log_in(3, Refused).unwrap();
    }
    (world.version, world.content) = (3, 3);
    for index in [0, 5] {
        assert!(world.log_in(index, Accepted).is_err(), "{index}");
    }
}

#[test]
fn a_status_remembers_two_versions_and_forgets_them_with_the_next_success() {
    let login = |version: &str, second| RefusedLogin {
        secret_uid: "u".to_owned(),
        secret_resource_version: version.to_owned(),
        time: Time(Timestamp::from_second(second).unwrap()),
        in_a_row: Some(1),
    };
    let mut list = Vec::new();
    for (version, second) in [("1", 1), ("2", 2), ("3", 3), ("3", 4)] {
        record(&mut list, &News::Refused(login(version, second)));
    }
    assert_eq!(list, [login("3", 4), login("2", 2)]);
    for news in [News::LetIn, News::Elsewhere] {
        let mut list = list.clone();
        record(&mut list, &news);
        assert!(list.is_empty());
    }
}
