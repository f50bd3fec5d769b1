//! Schedules written by hand, for what a random one comes to once in thousands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::api::{Api, Course, Kind, RequestInfo, Verb, Verdict};
use crate::knobs::Knobs;
use crate::log::Log;
use crate::manifest::{self, NAMESPACE, OUT_OF_SCOPE};
use crate::plan::{self, appliance_url, server_url};
use crate::remote::{Appliance, Device, Effect, Fields, Mood};
use crate::replica::client_name;
use crate::world::World;

/// A world with nothing but the Secret of what is added to it.
fn empty(knobs: Knobs) -> World {
    let mut world = World::with(knobs, fastrand::Rng::with_seed(1));
    world.create(manifest::namespace(NAMESPACE));
    world.create(manifest::namespace("default"));
    world.add_secret("shared", "planted-0");
    world
}

/// A world with a server, `kona`, and at most so many customers.
pub fn servers(customers: usize) -> World {
    let mut world = empty(Knobs { customers, ..Knobs::NONE });
    plan::lay_out_server(&mut world, "planted-0");
    world.start(0);
    wait(&mut world);
    world
}

/// A world with one gateway, `gw`, whose policy, `short`, restores the original value.
pub fn world(knobs: Knobs) -> World {
    let mut world = empty(Knobs { restore: true, ..knobs });
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

/// Such a world, whose appliance has been away for a while.
pub fn unreachable() -> World {
    let mut world = world(Knobs::NONE);
    set_mood(&world, &appliance_url(0), Mood::Away);
    (0..8).for_each(|_| wait(&mut world));
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "Unreachable");
    world
}

/// Requests to the appliance so far.
pub fn requests(world: &World) -> usize {
    world.history.text().matches(" https://10.0.0.1/").count()
}

/// Waits until the operator reads a Secret.
pub fn wait_for_read(world: &mut World, secret: &'static str) {
    let is_read = Arc::new(AtomicBool::new(false));
    let found = Arc::clone(&is_read);
    world.api.set_judge(move |request| {
        let target = &request.target;
        let is_secret = target.kind == Kind::Secret && target.name.as_deref() == Some(secret);
        found.fetch_or(is_secret && request.verb == Verb::Get, Ordering::Relaxed);
        Verdict::PASS
    });
    while !is_read.load(Ordering::Relaxed) {
        world.run_until(world.now + Duration::from_secs(1)).unwrap();
    }
}

/// Reads or changes the appliance.
pub fn on_appliance<T>(world: &World, work: impl FnOnce(&mut Appliance) -> T) -> T {
    match &mut world.internet_now().systems.get_mut(&appliance_url(0)).unwrap().device {
        Device::X2(appliance) => work(appliance),
        Device::Kona(_) => panic!("an appliance"),
    }
}

pub fn timeout(world: &World) -> u32 {
    on_appliance(world, |appliance| appliance.timeout)
}

pub fn reason(world: &World, kind: Kind, name: &str) -> serde_json::Value {
    reason_of(&world.api.get(kind, NAMESPACE, name).unwrap().value)
}

/// The reason of an object's condition Ready.
pub fn reason_of(object: &serde_json::Value) -> serde_json::Value {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == "Ready").unwrap()["reason"].clone()
}

pub fn set_mood(world: &World, url: &str, mood: Mood) {
    world.internet_now().systems.get_mut(url).unwrap().mood = mood;
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

/// It gets none that is on the way by then; one that it has is removed, although the API server refuses that at first.
#[test]
fn a_gateway_that_leaves_the_scope_keeps_no_finalizer() {
    for course in [Course::Pass, Course::LoseAnswer] {
        let mut world = empty(Knobs { restore: true, scope: true, ..Knobs::NONE });
        world.add_appliance(&appliance_url(0), "planted-0");
        world.create(manifest::gateway("gw", &appliance_url(0), "shared", "a"));
        let spec = json!({"timeoutSeconds": 900, "interval": "30s", "deletionPolicy": "Restore"});
        world.create(manifest::policy("short", "a", &spec));
        world.start(0);
        let slow = Verdict { before: Duration::from_secs(10), ..Verdict::of(course.clone()) };
        let is_finalizer = |request: &RequestInfo| {
            let target = &request.target;
            (request.verb, target.kind, target.status) == (Verb::Patch, Kind::X2Gateway, false)
        };
        world.api.set_judge(move |request| if is_finalizer(request) { slow.clone() } else { Verdict::PASS });
        world.run_until(world.now + Duration::from_secs(5)).unwrap();
        let label = |world: &World, scope: &str| {
            let label = json!({"metadata": {"labels": {"scope": scope}}});
            world.api.merge(Kind::X2Gateway, NAMESPACE, "gw", label).unwrap();
        };
        label(&world, OUT_OF_SCOPE);
        world.run_until(world.now + Duration::from_secs(6)).unwrap();
        let finalizers = |world: &World| {
            let gateway = world.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
            gateway.value["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
        };
        assert_eq!(finalizers(&world), 0, "what arrives late is not added");
        world.api.set_judge(|_| Verdict::PASS);
        label(&world, "in");
        wait(&mut world);
        assert_eq!(finalizers(&world), 1, "{course:?} {}", world.history.text());
        label(&world, OUT_OF_SCOPE);
        let tries = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tries);
        world.api.set_judge(move |request| {
            let is_refused = is_finalizer(request) && count.fetch_add(1, Ordering::Relaxed) < 20;
            if is_refused { Verdict::refuse(400) } else { Verdict::PASS }
        });
        wait(&mut world);
        let tries = tries.load(Ordering::Relaxed);
        assert!((2..20).contains(&tries), "{tries} requests in two minutes");
        world.api.set_judge(|_| Verdict::PASS);
        wait(&mut world);
        assert_eq!(finalizers(&world), 0, "{course:?} {}", world.history.text());
    }
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
    for _ in 0..2 {
        write(&world, json!(["10.0.0.1"]));
        wait(&mut world);
        assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InvalidSpec");
        write(&world, json!(appliance_url(0)));
        wait(&mut world);
        assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InSync");
    }
}

#[test]
fn a_report_that_is_refused_is_tried_ever_more_slowly() {
    let mut world = world(Knobs::NONE);
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    world.api.set_judge(move |request| {
        let (verb, target) = (request.verb, &request.target);
        if (verb, target.kind, target.status) != (Verb::Patch, Kind::X2Gateway, true) {
            return Verdict::PASS;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Verdict::deny(422)
    });
    let edit = |gateway: &mut serde_json::Value| gateway["spec"]["url"] = json!(["10.0.0.1"]);
    world.api.plant(Kind::X2Gateway, (NAMESPACE, "gw"), edit).unwrap();
    let hour = |world: &mut World| {
        for number in 0..30 {
            wait(world);
            let value = number.to_string();
            world.api.annotate(Kind::X2Gateway, (NAMESPACE, "gw"), "example.net/note", Some(&value)).unwrap();
        }
    };
    tracing::subscriber::with_default(Log, || hour(&mut world));
    let tries = tries.load(Ordering::Relaxed);
    assert!((5..20).contains(&tries), "{tries} tries in an hour");
    let warnings = world.history.text().matches("the status could not be updated").count();
    assert_eq!(warnings, 1, "{}", world.history.text());
}

#[test]
fn the_counts_of_a_policy_that_is_not_understood_are_removed() {
    let mut world = world(Knobs::NONE);
    let counts = |world: &World| {
        let health = &world.places[0].process.as_ref().unwrap().health;
        health.metrics.text().contains("tenure_gateways{policy=\"short\"")
    };
    assert!(counts(&world));
    let edit = |policy: &mut serde_json::Value| policy["spec"]["timeoutSeconds"] = json!("soon");
    world.api.plant(Kind::TokenPolicy, (NAMESPACE, "short"), edit).unwrap();
    wait(&mut world);
    assert!(!counts(&world));
}

/// The reconciles of gateways that came to this.
fn reconciled(world: &World, result: &str) -> Option<u64> {
    let text = world.places[0].process.as_ref().unwrap().health.metrics.text();
    let series = format!("tenure_reconciles_total{{kind=\"X2Gateway\",result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&*series)?.parse::<u64>().ok())
}

#[test]
fn a_suspension_is_counted_as_a_wait() {
    let mut world = world(Knobs::NONE);
    let successes = reconciled(&world, "success");
    world.api.merge(Kind::X2Gateway, NAMESPACE, "gw", json!({"spec": {"suspend": true}})).unwrap();
    wait(&mut world);
    assert_eq!(reconciled(&world, "success"), successes, "{}", world.history.text());
    assert!(reconciled(&world, "waiting").is_some_and(|waiting| waiting > 0));
}

#[test]
fn a_wait_and_what_comes_to_nothing_are_counted_as_no_failure() {
    let mut world = world(Knobs::NONE);
    let windows = json!([{"schedule": "0 0 29 2 *", "duration": "1m"}]);
    let spec = json!({"spec": {"timeoutSeconds": 7200, "windows": windows}});
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", spec).unwrap();
    wait(&mut world);
    assert!(reconciled(&world, "waiting").is_some_and(|waiting| waiting > 0));
    let spec = json!({"spec": {"timeoutSeconds": 3600, "windows": []}});
    world.api.set_judge(|request| {
        let is_secret = request.target.kind == Kind::Secret;
        if is_secret { Verdict::refuse(500) } else { Verdict::PASS }
    });
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", spec).unwrap();
    wait(&mut world);
    assert!(reconciled(&world, "nothing").is_some_and(|nothing| nothing > 0));
    assert_eq!(reconciled(&world, "failure"), Some(0), "{}", world.history.text());
}

#[test]
fn foreign_edits_do_not_shorten_a_back_off() {
    let mut world = unreachable();
    let before = requests(&world);
    for second in 0..60 {
        let value = second.to_string();
        world.api.annotate(Kind::X2Gateway, (NAMESPACE, "gw"), "example.net/note", Some(&value)).unwrap();
        world.run_until(world.now + Duration::from_secs(1)).unwrap();
    }
    // One may have been due anyway.
    assert!(requests(&world) - before <= 1, "{}", world.history.text());
}

/// What the policy has done to its gateway, and what for: changes on record, events, and requests to the appliance.
fn traces(world: &World) -> [usize; 3] {
    let gateway = world.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
    let events = world.api.all(Kind::Event);
    let changes = events.iter().filter(|event| event.value["reason"] == "TimeoutChanged").count();
    let requests = world.history.text().matches("remote 1 #").count();
    [gateway.value["status"]["history"].as_array().unwrap().len(), changes, requests]
}

/// What a change comes to if something happens to every first report of it.
fn change(disturb: impl Fn(&Api, usize) -> Verdict + Send + 'static) -> [usize; 3] {
    let mut world = world(Knobs::NONE);
    let (api, mut tries) = (world.api.clone(), 0);
    world.api.set_judge(move |request| {
        let (verb, target) = (request.verb, &request.target);
        if (verb, target.kind, target.status) != (Verb::Patch, Kind::X2Gateway, true) {
            return Verdict::PASS;
        }
        tries += 1;
        disturb(&api, tries)
    });
    let edit = json!({"spec": {"timeoutSeconds": 7200, "interval": "10m"}});
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", edit).unwrap();
    wait(&mut world);
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InSync", "{}", world.history.text());
    traces(&world)
}

#[test]
fn neither_foreign_edits_nor_lost_answers_repeat_a_reconcile() {
    let undisturbed = change(|_, _| Verdict::PASS);
    let edited = change(|api, tries| {
        if tries % 3 != 0 {
            let note = tries.to_string();
            api.annotate(Kind::X2Gateway, (NAMESPACE, "gw"), "example.net/note", Some(&note)).unwrap();
        }
        Verdict::PASS
    });
    assert_eq!(edited, undisturbed);
    let lost = change(|_, tries| Verdict::of(if tries % 2 == 0 { Course::Pass } else { Course::LoseAnswer }));
    assert_eq!(lost, undisturbed);
}

#[test]
fn an_outage_that_customers_meet_is_reported_by_their_server() {
    let mut world = servers(1);
    assert_eq!(reason(&world, Kind::KonaServer, "kona"), "InSync");
    set_mood(&world, &server_url(0), Mood::Silent);
    // By itself a server is checked every ten minutes, its customers every three at most.
    (0..2).for_each(|_| wait(&mut world));
    assert_eq!(reason(&world, Kind::KonaServer, "kona"), "TimedOut", "{}", world.history.text());
}

/// Between a read and the write that builds on it others may edit the customer, so nothing may come between the two.
#[test]
fn a_customer_is_read_again_if_its_write_was_held_up() {
    let mut world = empty(Knobs { customers: 1, ..Knobs::NONE });
    plan::lay_out_server(&mut world, "planted-0");
    let make = |device: &mut Device| match device {
        Device::Kona(server) => server.make.slash = false,
        Device::X2(_) => unreachable!(),
    };
    world.internet_now().systems.get_mut(&server_url(0)).map(|system| make(&mut system.device)).unwrap();
    world.start(0);
    let writes = |world: &World| world.history.text().matches("POST https://10.0.1.1/api/customer").count();
    // The path has to be spelled in another way, and before it is, the machine stands still.
    while writes(&world) == 0 {
        world.run_until(world.now + Duration::from_millis(1)).unwrap();
    }
    world.places[0].paused = Some(world.now + Duration::from_secs(7));
    let (now, id) = (world.now, "00000000-0000-4000-8000-000000000000");
    world.internet_now().foreign(&server_url(0), now, |device| {
        let Device::Kona(server) = device else { unreachable!() };
        server.edit(id, |customer| customer.set("additionalInfo", r#"{"note":"by hand"}"#));
        Effect::None
    });
    wait(&mut world);
    let stored = match &world.internet_now().systems[&server_url(0)].device {
        Device::Kona(server) => server.customers[id].get("additionalInfo").unwrap().to_owned(),
        Device::X2(_) => unreachable!(),
    };
    assert!(stored.contains(r#""note":"by hand""#), "{stored}\n{}", world.history.text());
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, "customer-0"), "InSync");
}

#[test]
fn a_customer_is_read_again_if_the_answer_took_long() {
    let (mut world, id) = (servers(1), "00000000-0000-4000-8000-000000000000");
    let edit = |world: &World, change: fn(&mut Fields)| {
        world.internet_now().foreign(&server_url(0), world.now, |device| {
            let Device::Kona(server) = device else { unreachable!() };
            server.edit(id, change);
            Effect::None
        });
    };
    edit(&world, |customer| customer.remove("version"));
    set_mood(&world, &server_url(0), Mood::Slow(Duration::from_secs(4)));
    let spec = json!({"spec": {"accessTokenTtlSeconds": 600, "refreshTokenTtlSeconds": 6_000}});
    world.api.merge(Kind::CustomerTokenTtl, NAMESPACE, "customer-0", spec).unwrap();
    // What is asked now takes long, and what is asked later does not. Before it is answered, another field changes.
    for sign in ["GET https://10.0.1.1/api/customer", "carried out"] {
        let count = |world: &World| world.history.text().matches(sign).count();
        let before = count(&world);
        while count(&world) == before {
            world.run_until(world.now + Duration::from_millis(1)).unwrap();
        }
        set_mood(&world, &server_url(0), Mood::Well);
    }
    edit(&world, |customer| customer.set("city", r#""Bonn""#));
    wait(&mut world);
    let stored = match &world.internet_now().systems[&server_url(0)].device {
        Device::Kona(server) => server.customers[id].text(),
        Device::X2(_) => unreachable!(),
    };
    assert!(stored.contains(r#""city":"Bonn""#), "{stored}\n{}", world.history.text());
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, "customer-0"), "InSync");
}
