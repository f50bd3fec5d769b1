//! Schedules written by hand, for what a random one comes to once in thousands.

use std::time::Duration;

use serde_json::json;

use crate::api::Kind;
use crate::knobs::Knobs;
use crate::manifest::{self, NAMESPACE};
use crate::plan::appliance_url;
use crate::remote::Device;
use crate::replica::client_name;
use crate::world::World;

/// A world with one gateway, `gw`, whose policy, `short`, restores the original value.
pub fn world(knobs: Knobs) -> World {
    let mut world = World::with(Knobs { restore: true, ..knobs }, fastrand::Rng::with_seed(1));
    world.create(manifest::namespace(NAMESPACE));
    world.create(manifest::namespace("default"));
    world.add_secret("shared", "planted-0");
    world.add_appliance(&appliance_url(0), "planted-0");
    world.create(manifest::gateway("gw", &appliance_url(0), "shared", "a"));
    let spec = json!({"timeoutSeconds": 900, "interval": "30s", "deletionPolicy": "Restore"});
    world.create(manifest::policy("short", "a", &spec));
    world.start(0);
    wait(&mut world);
    world
}

pub fn wait(world: &mut World) {
    let until = world.now + Duration::from_mins(2);
    world.run_until(until).unwrap_or_else(|violation| panic!("{violation}\n{}", world.history.text()));
}

pub fn timeout(world: &World) -> u32 {
    match &world.internet_now().systems[&appliance_url(0)].device {
        Device::X2(appliance) => appliance.timeout,
        Device::Kona(_) => panic!("an appliance"),
    }
}

#[test]
fn a_gateway_that_goes_while_its_watch_is_held_is_left_alone() {
    let mut world = world(Knobs::NONE);
    assert_eq!(timeout(&world), 900);
    world.api.hold(&client_name(1, "watching"), Kind::X2Gateway, true);
    let now = world.now;
    world.oracles.writes.declared.sight.hold(1, Kind::X2Gateway, now, true);
    world.api.delete(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
    // The gateway needs our finalizer no more, and taking it off shows that the gateway is gone.
    let retain = json!({"spec": {"deletionPolicy": "Retain"}});
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", retain).unwrap();
    wait(&mut world);
    assert!(world.api.get(Kind::X2Gateway, NAMESPACE, "gw").is_none());
    world
        .api
        .merge(Kind::TokenPolicy, NAMESPACE, "short", json!({"spec": {"timeoutSeconds": 7200}}))
        .unwrap();
    wait(&mut world);
    assert_eq!(timeout(&world), 900, "{}", world.history.text());
}

#[test]
fn what_becomes_undecodable_again_is_reported_again() {
    let mut world = world(Knobs::NONE);
    let write = |world: &World, url: serde_json::Value| {
        let gateway = (NAMESPACE, "gw");
        let edit = |object: &mut serde_json::Value| {
            object["spec"]["url"] = url;
            // As in a database that was restored from a backup.
            let generation = object["metadata"]["generation"].as_u64().unwrap();
            object["metadata"]["generation"] = json!(generation - 1);
        };
        world.api.plant(Kind::X2Gateway, gateway, edit).unwrap();
    };
    let reason = |world: &World| {
        let gateway = world.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
        let conditions = gateway.value["status"]["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap()["reason"].clone()
    };
    for _ in 0..2 {
        write(&world, json!(["10.0.0.1"]));
        wait(&mut world);
        assert_eq!(reason(&world), "InvalidSpec");
        write(&world, json!(appliance_url(0)));
        wait(&mut world);
        assert_eq!(reason(&world), "InSync");
    }
}
