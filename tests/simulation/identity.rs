//! What is behind a proxy of a tenant's own is another system than the one that others reach at the same URL.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Kind;
use crate::knobs::Knobs;
use crate::manifest;
use crate::plan::{OWN_PROXY, PROXY, USER, appliance_url, reached, server_url, user_secret};
use crate::remote::{Device, Effect, Make, Mood, Role, Server, System, customer, token_ttls};
use crate::scripted::{reason, servers, set_mood, wait, world};
use crate::world::World;

/// The URL that all are about.
fn url() -> String {
    appliance_url(1)
}

/// What stands in for the system there.
fn stand_in() -> String {
    reached(&url(), Some(OWN_PROXY))
}

/// A gateway of the URL that is reached through a proxy.
fn through(proxy: &str, name: &str, group: &str) -> Value {
    let mut gateway = manifest::gateway(name, &url(), "shared", group);
    gateway["spec"]["proxyUrl"] = json!(proxy);
    gateway["spec"]["requestTimeout"] = json!("5m");
    gateway
}

/// A policy for the group `b`, which checks every 30 seconds.
fn govern(world: &mut World) {
    let spec = json!({"timeoutSeconds": 7_200, "interval": "30s"});
    world.create(manifest::policy("for-b", "b", &spec));
}

fn reasons<const N: usize>(world: &World, names: [&str; N]) -> [Value; N] {
    names.map(|name| reason(world, Kind::X2Gateway, name))
}

/// A stand-in behind a proxy of its declarer was there first, then came the system itself.
fn squatted() -> World {
    let mut world = world(Knobs::NONE);
    govern(&mut world);
    world.add_appliance(&stand_in(), "planted-0");
    world.create(through(OWN_PROXY, "squatter", "none"));
    wait(&mut world);
    world.add_appliance(&url(), "planted-0");
    world.create(manifest::gateway("victim", &url(), "shared", "b"));
    wait(&mut world);
    world
}

/// How many requests of this kind were made so far, and the longest time between two of them, in seconds.
fn pace(world: &World, request: &str) -> (usize, f64) {
    let times = times(world, request);
    (times.len(), times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max))
}

/// When requests of this kind were made so far, in seconds.
fn times(world: &World, request: &str) -> Vec<f64> {
    let text = world.history.text();
    let lines = text.lines().filter(|line| line.contains(" GET ") && line.contains(request));
    lines.map(|line| line[..11].trim().parse().unwrap()).collect()
}

#[test]
fn a_stand_in_owns_nothing_but_itself() {
    let mut world = squatted();
    let both = ["squatter", "victim"];
    assert_eq!(reasons(&world, both), ["Unmanaged", "InSync"], "{}", world.history.text());
    // It is not met again after a restart, and keeps no other from the system for long.
    set_mood(&world, &stand_in(), Mood::Silent);
    world.crash(0, Duration::from_secs(1));
    world.api.delete(Kind::X2Gateway, manifest::NAMESPACE, "victim").unwrap();
    world.create(manifest::gateway("next", &url(), "shared", "b"));
    wait(&mut world);
    assert_eq!(reason(&world, Kind::X2Gateway, "next"), "InSync", "{}", world.history.text());
}

#[test]
fn what_is_at_the_squatters_way_is_the_squatters() {
    let mut world = squatted();
    // It was let in somewhere else, and by a login that is refused here.
    world.add_secret("wrong", "planted-1");
    let direct = json!({"spec": {"proxyUrl": null, "credentialsSecretRef": {"name": "wrong"}}});
    world.api.merge(Kind::X2Gateway, manifest::NAMESPACE, "squatter", direct).unwrap();
    wait(&mut world);
    let both = ["squatter", "victim"];
    assert_eq!(reasons(&world, both), ["AuthenticationFailed", "InSync"], "{}", world.history.text());
}

#[test]
fn a_tar_pit_holds_up_nobody_else() {
    let mut world = world(Knobs::NONE);
    govern(&mut world);
    world.add_appliance(&url(), "planted-0");
    world.create(manifest::gateway("victim", &url(), "shared", "b"));
    wait(&mut world);
    world.add_appliance(&stand_in(), "planted-0");
    set_mood(&world, &stand_in(), Mood::Silent);
    for name in ["one", "two", "three"] {
        world.create(through(OWN_PROXY, name, "none"));
    }
    (0..6).for_each(|_| wait(&mut world));
    let (checks, longest) = pace(&world, &format!(" GET {}/", url()));
    assert!(checks >= 24 && longest < 34.0, "{longest} s between two\n{}", world.history.text());
}

/// It comes in the owner's way, so it is in the owner's lane. Its password was accepted elsewhere just now: no login of others
/// waits for this one.
#[test]
fn one_that_is_not_the_owner_waits_ten_seconds_for_an_answer() {
    let mut world = world(Knobs::NONE);
    world.add_appliance(&url(), "planted-0");
    world.add_secret("own", "planted-0");
    world.create(manifest::gateway("elsewhere", &url(), "own", "none"));
    world.run_until(world.now + Duration::from_secs(10)).unwrap();
    assert_eq!(reason(&world, Kind::X2Gateway, "elsewhere"), "Unmanaged", "{}", world.history.text());
    let logins = |world: &World| world.history.text().matches(" POST https://10.0.0.1/").count();
    let before = logins(&world);
    set_mood(&world, &appliance_url(0), Mood::Silent);
    let mut younger = manifest::gateway("younger", &appliance_url(0), "own", "none");
    younger["spec"]["requestTimeout"] = json!("5m");
    world.create(younger);
    while logins(&world) == before {
        world.run_until(world.now + Duration::from_millis(100)).unwrap();
    }
    // Only this one login is never answered.
    set_mood(&world, &appliance_url(0), Mood::Well);
    (0..3).for_each(|_| wait(&mut world));
    let (checks, longest) = pace(&world, &format!(" GET {}/", appliance_url(0)));
    assert!(checks >= 12 && longest < 45.0, "{longest} s between two\n{}", world.history.text());
    let both = ["gw", "younger"];
    assert_eq!(reasons(&world, both), ["InSync", "Conflict"], "{}", world.history.text());
}

#[test]
fn one_that_is_not_the_owner_and_lacks_the_role_is_tried_once_an_hour() {
    let mut world = world(Knobs::NONE);
    let (url, user) = (appliance_url(0), user_secret("viewer"));
    world.add_secret(&user, "planted-1");
    world.internet_now().foreign(&url, world.now, |device| {
        let Device::X2(appliance) = device else { unreachable!() };
        appliance.accounts.set(&user, "planted-1", Role::Viewer);
        Effect::None
    });
    world.create(manifest::gateway("younger", &url, &user, "none"));
    let login = format!("LoggedIn {{ user: {user:?}");
    let logins = |world: &World| world.history.text().matches(&login).count();
    wait(&mut world);
    let first = logins(&world);
    assert!(first > 0, "{}", world.history.text());
    (0..28).for_each(|_| wait(&mut world));
    assert_eq!(logins(&world), first, "{}", world.history.text());
    (0..7).for_each(|_| wait(&mut world));
    assert_eq!(logins(&world), first + 1, "{}", world.history.text());
    let (checks, longest) = pace(&world, &format!(" GET {url}/"));
    assert!(checks > 130 && longest < 45.0, "{longest} s between two\n{}", world.history.text());
    let both = ["gw", "younger"];
    assert_eq!(reasons(&world, both), ["InSync", "AdminRoleRequired"], "{}", world.history.text());
}

/// Two gateways of one appliance, each by a way of its own: the older one directly.
fn two_ways() -> World {
    let mut world = world(Knobs::NONE);
    govern(&mut world);
    world.add_appliance(&url(), "planted-0");
    world.create(manifest::gateway("old", &url(), "shared", "b"));
    wait(&mut world);
    let spec = json!({"timeoutSeconds": 3_600, "interval": "30s"});
    world.create(manifest::policy("for-c", "c", &spec));
    world.create(through(PROXY, "young", "c"));
    wait(&mut world);
    assert_eq!(reasons(&world, ["old", "young"]), ["InSync", "Conflict"], "{}", world.history.text());
    world
}

#[test]
fn two_ways_to_one_appliance_are_a_conflict() {
    let mut world = two_ways();
    world.crash(0, Duration::from_secs(1));
    wait(&mut world);
    assert_eq!(reasons(&world, ["old", "young"]), ["InSync", "Conflict"], "{}", world.history.text());
    world.api.delete(Kind::X2Gateway, manifest::NAMESPACE, "old").unwrap();
    wait(&mut world);
    assert_eq!(reason(&world, Kind::X2Gateway, "young"), "InSync", "{}", world.history.text());
}

/// The one that comes while the operator is away is tried first: it waits until the owner is met again.
#[test]
fn a_restart_unsettles_no_owner_for_one_that_comes_another_way() {
    let mut world = two_ways();
    world.add_secret("own", "planted-0");
    world.crash(0, Duration::from_secs(5));
    let mut youngest = through(PROXY, "a-youngest", "c");
    youngest["spec"]["credentialsSecretRef"] = json!({"name": "own"});
    world.create(youngest);
    wait(&mut world);
    let all = ["old", "young", "a-youngest"];
    assert_eq!(reasons(&world, all), ["InSync", "Conflict", "Conflict"], "{}", world.history.text());
    assert!(!world.history.text().contains("Timeout(3600)"), "{}", world.history.text());
}

#[test]
fn a_renewed_certificate_parts_no_owner_from_its_appliance() {
    let mut world = two_ways();
    world.internet_now().keys.insert(url(), "another".to_owned());
    (0..3).for_each(|_| wait(&mut world));
    assert_eq!(reasons(&world, ["old", "young"]), ["InSync", "Conflict"], "{}", world.history.text());
    assert!(!world.history.text().contains("Timeout(3600)"), "{}", world.history.text());
}

#[test]
fn a_fleet_may_share_the_certificate_of_its_factory() {
    let mut world = world(Knobs::NONE);
    govern(&mut world);
    for number in 1..4 {
        let url = appliance_url(number);
        world.add_appliance(&url, "planted-0");
        world.internet_now().keys.insert(url.clone(), "factory".to_owned());
        let mut gateway = manifest::gateway(&format!("gw-{number}"), &url, "shared", "b");
        if number == 3 {
            gateway["spec"]["proxyUrl"] = json!(PROXY);
        }
        world.create(gateway);
    }
    wait(&mut world);
    let all = ["gw-1", "gw-2", "gw-3"];
    assert_eq!(reasons(&world, all), ["InSync"; 3], "{}", world.history.text());
}

/// Customers that are read within a second once all are to be read.
fn at_once(world: &mut World, request: &str) -> usize {
    let before = world.now.as_secs_f64();
    let server = (manifest::NAMESPACE, "kona");
    let annotation = "tenure.dev/reconcile-requested-at";
    world.api.annotate(Kind::KonaServer, server, annotation, Some(request)).unwrap();
    wait(world);
    let mut times = times(world, "/api/customer/");
    times.retain(|time| *time > before);
    times.iter().filter(|time| **time < times[0] + 0.9).count()
}

/// A server of the same URL with the smallest limits there are.
fn slow(name: &str, secret: &str) -> Value {
    let mut server = manifest::server(name, &server_url(0), secret);
    server["spec"]["limits"] = json!({"requestsPerSecond": 1, "maxConcurrent": 1});
    server
}

#[test]
fn only_limits_of_servers_that_were_let_in_count() {
    let mut world = servers(8);
    world.add_secret("wrong", "planted-1");
    let mut suspended = slow("suspended", "shared");
    suspended["spec"]["suspend"] = json!(true);
    let mut elsewhere = slow("elsewhere", "shared");
    elsewhere["spec"]["proxyUrl"] = json!(OWN_PROXY);
    for stranger in [suspended, elsewhere, slow("refused", "wrong"), slow("without", "none")] {
        world.create(stranger);
    }
    wait(&mut world);
    let customers = world.names(Kind::CustomerTokenTtl).len();
    assert!(customers > 1);
    assert_eq!(at_once(&mut world, "first"), customers, "{}", world.history.text());
    world.create(slow("neighbour", "shared"));
    wait(&mut world);
    assert_eq!(at_once(&mut world, "second"), 1, "{}", world.history.text());
}

/// A customer that is declared by hand.
const CUSTOMER: &str = "00000000-0000-4000-8000-0000000000ff";

/// The lifetimes of the customer, as a server declares them.
fn lifetimes(name: &str, server: &str, seconds: u32) -> Value {
    let spec = json!({
        "accessTokenTtlSeconds": seconds, "refreshTokenTtlSeconds": seconds, "interval": "30s",
    });
    manifest::customer(name, server, CUSTOMER, &spec)
}

/// Runs for two minutes, and looks at the honest one each second.
fn wait_without_conflict(world: &mut World) {
    for _ in 0..120 {
        world.run_until(world.now + Duration::from_secs(1)).unwrap();
        let honest = world.api.get(Kind::CustomerTokenTtl, manifest::NAMESPACE, "honest").unwrap();
        let status = honest.value["status"].to_string();
        assert!(!status.contains("Conflict"), "{status}\n{}", world.history.text());
    }
}

/// What the customer has at a system.
fn set_at(world: &World, system: &str) -> (Option<u64>, Option<u64>) {
    match &world.internet_now().systems[system].device {
        Device::Kona(server) => token_ttls(&server.customers[CUSTOMER]),
        Device::X2(_) => unreachable!(),
    }
}

#[test]
fn a_stand_in_for_a_server_owns_none_of_its_customers() {
    let mut world = servers(1);
    let (url, stand_in) = (server_url(0), reached(&server_url(0), Some(OWN_PROXY)));
    let make = Make { versions: true, slash: false, info_as_text: false };
    let found = || customer(CUSTOMER, "Customer", "null", make.versions);
    let mut fake = Server::new(make);
    fake.accounts.set(USER, "planted-0", Role::Admin);
    fake.customers.insert(CUSTOMER.to_owned(), found());
    world
        .internet_now()
        .systems
        .insert(stand_in.clone(), System { device: Device::Kona(fake), mood: Mood::Well });
    if let Device::Kona(server) = &mut world.internet_now().systems.get_mut(&url).unwrap().device {
        server.customers.insert(CUSTOMER.to_owned(), found());
    }
    let mut server = manifest::server("squatter", &url, "shared");
    server["spec"]["proxyUrl"] = json!(OWN_PROXY);
    world.create(server);
    world.create(lifetimes("squatted", "squatter", 900));
    wait(&mut world);
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, "squatted"), "InSync", "{}", world.history.text());
    world.create(lifetimes("honest", "kona", 7_200));
    wait_without_conflict(&mut world);
    let both = ["squatted", "honest"];
    let reasons = |world: &World| both.map(|name| reason(world, Kind::CustomerTokenTtl, name));
    assert_eq!(reasons(&world), ["InSync"; 2], "{}", world.history.text());
    // Nor is it so after a restart, while the stand-in is silent.
    set_mood(&world, &stand_in, Mood::Silent);
    world.crash(0, Duration::from_secs(1));
    wait_without_conflict(&mut world);
    wait_without_conflict(&mut world);
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, "honest"), "InSync", "{}", world.history.text());
    let pair = |seconds| (Some(seconds), Some(seconds));
    assert_eq!([&stand_in, &url].map(|system| set_at(&world, system)), [pair(900), pair(7_200)]);
}
