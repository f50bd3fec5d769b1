//! What all resources of one kind claim.

use std::slice::from_ref;

use jiff::Timestamp;
use tenure::engine::key::Key;
use tenure::engine::ownership::{ClaimId, Claimed, Standing, Table, Trial};

fn claimed(host: u8, trial: Trial) -> Claimed {
    Claimed { object: format!("https://10.20.0.{host}"), suspended: false, trial }
}

/// Two claimants of one appliance, the older of which owns it.
fn contested() -> (Table, [ClaimId; 2]) {
    let id = |name: &str, created| {
        let created = Timestamp::from_second(created).unwrap();
        ClaimId { created, key: Key::new("berlin", name), uid: format!("uid-{name}") }
    };
    let (mut claims, both) = (Table::default(), [id("old", 1), id("new", 2)]);
    for id in &both {
        claims.set(id, Some(claimed(11, Trial::GotIn)));
    }
    (claims, both)
}

fn standings(claims: &Table, both: &[ClaimId; 2]) -> [Standing; 2] {
    both.each_ref().map(|id| claims.standing(id))
}

#[test]
fn an_owner_with_another_url_leaves_the_object_to_the_next() {
    let (mut claims, both) = contested();
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
    let [old, new] = &both;
    assert_eq!(claims.set(old, Some(claimed(12, Trial::Untried))), from_ref(&new.key));
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Owner]);
    // Back again, it is tried like any other before anything is decided.
    assert_eq!(claims.set(old, Some(claimed(11, Trial::Untried))), from_ref(&new.key));
    assert_eq!(standings(&claims, &both), [Standing::TryNow, Standing::Undecided]);
}

#[test]
fn an_owner_that_does_not_answer_keeps_the_object_and_one_that_is_refused_does_not() {
    let (mut claims, both) = contested();
    let [old, new] = &both;
    assert!(claims.record(old, Trial::NoAnswer).is_empty());
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
    assert_eq!(claims.record(old, Trial::Refused), from_ref(&new.key));
    assert_eq!(standings(&claims, &both), [Standing::TryNow, Standing::Owner]);
}
