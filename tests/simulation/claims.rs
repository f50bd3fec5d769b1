//! Who owns what several resources declare, across restarts and take-overs.

use std::time::Duration;

use serde_json::json;

use crate::api::Kind;
use crate::knobs::Knobs;
use crate::manifest::{self, NAMESPACE};
use crate::plan::{self, appliance_url};
use crate::remote::Mood;
use crate::scripted::{reason, servers, set_mood, wait, wait_for_read, world};
use crate::world::World;

/// Two gateways of one appliance: the older one was tried in vain before the younger one got in.
fn contested(knobs: Knobs) -> World {
    let mut world = world(knobs);
    if knobs.replicas {
        world.start(1);
        wait(&mut world);
    }
    let url = appliance_url(1);
    world.add_appliance(&url, "planted-0");
    set_mood(&world, &url, Mood::Away);
    world.create(manifest::gateway("old", &url, "shared", "b"));
    wait(&mut world);
    assert_eq!(reason(&world, Kind::X2Gateway, "old"), "Unreachable");
    set_mood(&world, &url, Mood::Well);
    world.create(manifest::gateway("young", &url, "shared", "b"));
    wait(&mut world);
    assert_eq!(reasons(&world), ["Conflict", "Unmanaged"]);
    world
}

fn reasons(world: &World) -> [serde_json::Value; 2] {
    ["old", "young"].map(|name| reason(world, Kind::X2Gateway, name))
}

#[test]
fn a_restart_unsettles_no_owner() {
    let mut world = contested(Knobs::NONE);
    world.crash(0, Duration::from_secs(1));
    wait(&mut world);
    assert_eq!(reasons(&world), ["Conflict", "Unmanaged"], "{}", world.history.text());
}

#[test]
fn a_take_over_unsettles_no_owner() {
    let mut world = contested(Knobs { replicas: true, ..Knobs::NONE });
    world.crash(0, Duration::from_hours(1));
    wait(&mut world);
    assert_eq!(reasons(&world), ["Conflict", "Unmanaged"], "{}", world.history.text());
}

#[test]
fn those_that_have_lost_are_tried_once_the_owner_is_gone() {
    let mut world = contested(Knobs::NONE);
    world.create(manifest::gateway("youngest", &appliance_url(1), "shared", "b"));
    wait(&mut world);
    assert_eq!(reason(&world, Kind::X2Gateway, "youngest"), "Conflict");
    world.crash(0, Duration::from_secs(1));
    world.api.delete(Kind::X2Gateway, NAMESPACE, "young").unwrap();
    wait(&mut world);
    let reasons = ["old", "youngest"].map(|name| reason(&world, Kind::X2Gateway, name));
    assert_eq!(reasons, ["Unmanaged", "Conflict"], "{}", world.history.text());
}

/// Two gateways of one appliance whose policies require different values: `old` owns it, by a login of its own.
fn rivals() -> World {
    let mut world = world(Knobs::NONE);
    world.add_secret("own", "planted-0");
    let url = appliance_url(1);
    world.add_appliance(&url, "planted-0");
    for (name, secret, group, seconds) in [("old", "own", "b", 7_200), ("young", "shared", "c", 3_600)] {
        let spec = json!({"timeoutSeconds": seconds, "interval": "30s"});
        world.create(manifest::policy(&format!("for-{name}"), group, &spec));
        world.create(manifest::gateway(name, &url, secret, group));
        wait(&mut world);
    }
    assert_eq!(reasons(&world), ["InSync", "Conflict"], "{}", world.history.text());
    world
}

/// Deletes the owner's Secret, and waits until that is noticed.
fn delete_secret(world: &mut World) {
    world.api.delete(Kind::Secret, NAMESPACE, "own").unwrap();
    wait_for_read(world, "own");
}

#[test]
fn an_owner_whose_secret_is_away_for_a_moment_keeps_the_appliance() {
    let mut world = rivals();
    delete_secret(&mut world);
    world.run_until(world.now + Duration::from_secs(4)).unwrap();
    world.add_secret("own", "planted-0");
    wait(&mut world);
    assert_eq!(reasons(&world), ["InSync", "Conflict"]);
    assert!(!world.history.text().contains("Timeout(3600)"), "{}", world.history.text());
}

#[test]
fn an_owner_whose_secret_stays_away_loses_the_appliance() {
    let mut world = rivals();
    delete_secret(&mut world);
    wait(&mut world);
    assert_eq!(reasons(&world), ["SecretNotFound", "InSync"], "{}", world.history.text());
}

/// The older of two gateways was refused before anything was sent: it is not tried first by the next process either.
#[test]
fn a_restart_unsettles_no_owner_for_one_that_is_refused() {
    for knobs in [Knobs::NONE, Knobs { replicas: true, ..Knobs::NONE }] {
        let mut world = world(knobs);
        if knobs.replicas {
            world.start(1);
            wait(&mut world);
        }
        let url = "http://10.0.0.2";
        world.add_appliance(url, "planted-0");
        world.create(manifest::gateway("old", url, "shared", "b"));
        wait(&mut world);
        let mut young = manifest::gateway("a-young", url, "shared", "b");
        young["spec"]["allowPlaintext"] = json!(true);
        world.create(young);
        wait(&mut world);
        assert_eq!(reason(&world, Kind::X2Gateway, "old"), "PlaintextRefused");
        let conditions = |world: &World| {
            let gateway = world.api.get(Kind::X2Gateway, NAMESPACE, "a-young").unwrap();
            gateway.value["status"]["conditions"].clone()
        };
        let before = conditions(&world);
        assert_eq!(reason(&world, Kind::X2Gateway, "a-young"), "Unmanaged");
        let pause = if knobs.replicas { Duration::from_hours(1) } else { Duration::ZERO };
        world.crash(0, pause);
        wait(&mut world);
        assert_eq!(conditions(&world), before, "{}", world.history.text());
    }
}

/// The owner was refused, so that another took over, and does not answer when it is tried with another password.
#[test]
fn a_restart_unsettles_no_owner_for_one_that_was_refused_and_is_unreachable_since() {
    let mut world = rivals();
    let rotate = |world: &World, password: &str| {
        let data = manifest::credentials(plan::USER, password);
        world.api.merge(Kind::Secret, NAMESPACE, "own", json!({"data": data})).unwrap();
    };
    rotate(&world, "wrong");
    wait(&mut world);
    assert_eq!(reasons(&world), ["AuthenticationFailed", "InSync"], "{}", world.history.text());
    let before = world.history.text().matches("Timeout(7200)").count();
    set_mood(&world, &appliance_url(1), Mood::Away);
    rotate(&world, "planted-0");
    while reasons(&world)[0] == "AuthenticationFailed" {
        world.run_until(world.now + Duration::from_secs(1)).unwrap();
    }
    set_mood(&world, &appliance_url(1), Mood::Well);
    world.crash(0, Duration::from_secs(1));
    wait(&mut world);
    assert_eq!(reasons(&world), ["Conflict", "InSync"], "{}", world.history.text());
    assert_eq!(world.history.text().matches("Timeout(7200)").count(), before, "{}", world.history.text());
}

/// Two resources of one customer that require different lifetimes: only the older one's are written.
#[test]
fn the_older_of_two_resources_owns_a_customer() {
    let mut world = servers(1);
    let customer = world.api.get(Kind::CustomerTokenTtl, NAMESPACE, "customer-0").unwrap();
    let spec = json!({"accessTokenTtlSeconds": 777, "refreshTokenTtlSeconds": 7_777, "interval": "30s"});
    let id = customer.value["spec"]["customerId"].as_str().unwrap();
    world.create(manifest::customer("a-young", "kona", id, &spec));
    wait(&mut world);
    let reasons = ["customer-0", "a-young"].map(|name| reason(&world, Kind::CustomerTokenTtl, name));
    assert_eq!(reasons, ["InSync", "Conflict"], "{}", world.history.text());
}
