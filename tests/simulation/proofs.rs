//! How old the proofs are that a status shows while nothing changes.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::Kind;
use crate::knobs::Knobs;
use crate::manifest::NAMESPACE;
use crate::scripted::{on_appliance, reason, wait, world};
use crate::time;
use crate::world::World;

/// A token of 15 minutes is renewed when 90 % of them are over, and a check is due.
const RENEWAL: Duration = Duration::from_secs(810 + 30);
/// Longest time between two writes of a status that does not change otherwise.
const WRITE: Duration = Duration::from_secs(3_600 + 360 + 30);

fn status(world: &World) -> Value {
    world.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap().value["status"].clone()
}

#[test]
fn a_login_that_renews_a_token_is_shown_within_about_an_hour() {
    let mut world = world(Knobs::NONE);
    let (mut written, mut last) = (0, status(&world));
    while world.now < Duration::from_hours(12) {
        world.run_until(world.now + Duration::from_mins(1)).unwrap();
        let now = status(&world);
        written += u32::from(now != last);
        let proven: Timestamp = now["lastProvenTime"].as_str().unwrap().parse().unwrap();
        let age = world.now.saturating_sub(time::passed(proven));
        assert!(age <= RENEWAL + WRITE, "{age:?}\n{}", world.history.text());
        last = now;
    }
    assert!((10..=12).contains(&written), "{written} writes in 12 hours");
}

#[test]
fn tokens_that_are_two_seconds_off_prove_a_lifetime_and_its_correction() {
    for excess in [-2, 2] {
        let mut world = world(Knobs::NONE);
        on_appliance(&world, |appliance| appliance.excess = excess);
        let policy = json!({"spec": {"timeoutSeconds": 1_200}});
        world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", policy).unwrap();
        wait(&mut world);
        assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InSync", "{}", world.history.text());
        on_appliance(&world, |appliance| appliance.timeout = 60_000);
        wait(&mut world);
        let newest = &status(&world)["history"][0];
        assert_eq!((&newest["cause"], &newest["to"]), (&json!("Drift"), &json!(1_200)), "{newest}");
        assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InSync");
    }
}

#[test]
fn tokens_that_are_three_seconds_off_prove_nothing() {
    let mut world = world(Knobs::NONE);
    on_appliance(&world, |appliance| appliance.excess = 3);
    let policy = json!({"spec": {"timeoutSeconds": 1_200}});
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", policy).unwrap();
    wait(&mut world);
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "VerificationFailed");
}
