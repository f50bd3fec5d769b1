//! An object that is ready stays so until three tries within a minute have failed.

use std::time::Duration;

use crate::api::Kind;
use crate::knobs::Knobs;
use crate::manifest::NAMESPACE;
use crate::plan::{self, appliance_url};
use crate::remote::Mood;
use crate::scripted::{reason, set_mood, wait, wait_for_read, world};
use crate::world::World;

/// A world with a gateway, a server and customers, all of them in sync.
fn healthy() -> World {
    let mut world = world(Knobs { customers: 3, ..Knobs::NONE });
    plan::lay_out_server(&mut world, "planted-0");
    for customer in world.names(Kind::CustomerTokenTtl) {
        let spec = serde_json::json!({"spec": {"interval": "30s", "mode": "Enforce", "windows": []}});
        world.api.merge(Kind::CustomerTokenTtl, NAMESPACE, &customer, spec).unwrap();
    }
    wait(&mut world);
    assert_eq!(not_in_sync(&world), [""; 0], "{}", world.history.text());
    world
}

fn not_in_sync(world: &World) -> Vec<String> {
    let kinds = [Kind::X2Gateway, Kind::KonaServer, Kind::CustomerTokenTtl];
    let all = kinds.into_iter().flat_map(|kind| world.names(kind).into_iter().map(move |name| (kind, name)));
    let reasons = all.map(|(kind, name)| (reason(world, kind, &name), name));
    reasons
        .filter(|(reason, _)| reason != "InSync")
        .map(|(reason, name)| format!("{name}: {reason}"))
        .collect()
}

fn seconds(world: &mut World, number: u64) {
    world.run_until(world.now + Duration::from_secs(number)).unwrap();
}

#[test]
fn a_secret_that_is_replaced_leaves_its_objects_ready() {
    let mut world = healthy();
    let secret = world.api.get(Kind::Secret, NAMESPACE, "shared").unwrap().value.clone();
    world.api.delete(Kind::Secret, NAMESPACE, "shared").unwrap();
    wait_for_read(&mut world, "shared");
    // Each object that meets the gap meets it once or twice.
    seconds(&mut world, 4);
    let mut again = secret;
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        again["metadata"].as_object_mut().unwrap().remove(field);
    }
    world.create(again);
    for _ in 0..120 {
        seconds(&mut world, 1);
        assert_eq!(not_in_sync(&world), [""; 0], "{}", world.history.text());
    }
}

#[test]
fn a_secret_that_stays_away_is_reported_within_a_minute_of_being_missed() {
    let mut world = healthy();
    world.api.delete(Kind::Secret, NAMESPACE, "shared").unwrap();
    // It is read once a minute while in use, and each object is checked twice a minute.
    seconds(&mut world, 150);
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "SecretNotFound", "{}", world.history.text());
    assert_eq!(reason(&world, Kind::KonaServer, "kona"), "SecretNotFound", "{}", world.history.text());
}

#[test]
fn one_answer_of_403_leaves_a_gateway_ready() {
    let mut world = healthy();
    set_mood(&world, &appliance_url(0), Mood::Failing(403));
    let requests = |world: &World| world.history.text().matches(": 403").count();
    while requests(&world) == 0 {
        seconds(&mut world, 1);
    }
    set_mood(&world, &appliance_url(0), Mood::Well);
    for _ in 0..60 {
        seconds(&mut world, 1);
        assert_eq!(not_in_sync(&world), [""; 0], "{}", world.history.text());
    }
    set_mood(&world, &appliance_url(0), Mood::Failing(403));
    seconds(&mut world, 90);
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "Forbidden", "{}", world.history.text());
}

#[test]
fn a_system_that_asks_for_ten_minutes_is_reported_at_once() {
    let mut world = healthy();
    set_mood(&world, &appliance_url(0), Mood::Limiting(Some(Duration::from_mins(10))));
    seconds(&mut world, 40);
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "RateLimited", "{}", world.history.text());
}
