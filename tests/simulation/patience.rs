//! Schedules written by hand: what is remembered, and what is not repeated.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Kind, Verb, Verdict};
use crate::judge::Denied;
use crate::knobs::Knobs;
use crate::manifest::{self, IN_SCOPE, NAMESPACE, OUT_OF_SCOPE};
use crate::plan::{self, appliance_url, server_url};
use crate::remote::{Device, Mood, Role};
use crate::scripted::{
    on_appliance, reason, reason_of, servers, set_mood, timeout, wait, wait_for_read, world,
};
use crate::world::World;

fn count(world: &World, text: &str) -> usize {
    world.history.text().matches(text).count()
}

fn merge(world: &World, kind: Kind, name: &str, patch: Value) {
    world.api.merge(kind, NAMESPACE, name, patch).unwrap();
}

fn request(world: &World, kind: Kind, name: &str, value: &str) {
    let patch = json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": value}}});
    merge(world, kind, name, patch);
}

fn handled(world: &World, kind: Kind, name: &str) -> Value {
    world.api.get(kind, NAMESPACE, name).unwrap().value["status"]["lastHandledReconcileAt"].clone()
}

#[test]
fn a_server_that_is_suspended_while_it_fails_rests_after_a_restart() {
    let mut world = servers(3);
    set_mood(&world, &server_url(0), Mood::Silent);
    (0..3).for_each(|_| wait(&mut world));
    assert_eq!(reason(&world, Kind::KonaServer, "kona"), "TimedOut");
    merge(&world, Kind::KonaServer, "kona", json!({"spec": {"suspend": true}}));
    wait(&mut world);
    world.crash(0, Duration::ZERO);
    (0..8).for_each(|_| wait(&mut world));
    let reconciles = server_reconciles(&world);
    assert!(reconciles <= 3, "{reconciles}");
}

/// The reconciles of servers since the process has started.
fn server_reconciles(world: &World) -> u32 {
    let metrics = world.places[0].process.as_ref().unwrap().health.metrics.text();
    let of_servers =
        metrics.lines().filter(|line| line.starts_with("tenure_reconciles_total{kind=\"KonaServer\""));
    of_servers.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum()
}

#[test]
fn a_refused_login_is_remembered_where_the_object_comes_into_scope_later() {
    let mut world = world(Knobs { scope: true, ..Knobs::NONE });
    let scope = |world: &World, scope: &str| {
        let labels = json!({"metadata": {"labels": {"scope": scope}}});
        merge(world, Kind::X2Gateway, "gw", labels);
    };
    on_appliance(&world, |appliance| {
        appliance.accounts.set(plan::USER, "planted-1", Role::Admin);
        appliance.forget_tokens();
    });
    (0..3).for_each(|_| wait(&mut world));
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "AuthenticationFailed");
    assert_eq!(count(&world, "LoginRefused"), 1);
    scope(&world, OUT_OF_SCOPE);
    wait(&mut world);
    world.crash(0, Duration::ZERO);
    wait(&mut world);
    scope(&world, IN_SCOPE);
    (0..3).for_each(|_| wait(&mut world));
    assert_eq!(count(&world, "LoginRefused"), 1, "{}", world.history.text());
}

#[test]
fn a_gateway_whose_deletion_something_else_holds_up_is_counted_no_more() {
    let mut world = world(Knobs::NONE);
    let matched = |world: &World| {
        world.api.get(Kind::TokenPolicy, NAMESPACE, "short").unwrap().value["status"]["gateways"]["matched"]
            .clone()
    };
    // Nothing but its deletion changes: it has nothing to restore.
    merge(&world, Kind::TokenPolicy, "short", json!({"spec": {"deletionPolicy": "Retain"}}));
    wait(&mut world);
    assert_eq!(matched(&world), 1);
    let edit = |gateway: &mut Value| gateway["metadata"]["finalizers"] = json!(["example.net/other"]);
    world.api.edit(Kind::X2Gateway, (NAMESPACE, "gw"), edit).unwrap();
    wait(&mut world);
    world.api.delete(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
    wait(&mut world);
    assert!(world.api.get(Kind::X2Gateway, NAMESPACE, "gw").is_some());
    assert_eq!(matched(&world), 0, "{}", world.history.text());
}

#[test]
fn a_rollout_whose_record_is_refused_changes_nothing() {
    let mut world = world(Knobs::NONE);
    world.judge.deny(Some((Denied::Status(Kind::TokenPolicy), 422)));
    let rollout = json!({"maxConcurrent": 1, "canary": {"count": 1, "soak": "1m"}});
    let edit = json!({"spec": {"timeoutSeconds": 7200, "rollout": rollout}});
    merge(&world, Kind::TokenPolicy, "short", edit);
    (0..5).for_each(|_| wait(&mut world));
    assert_eq!(timeout(&world), 900, "{}", world.history.text());
    world.judge.deny(None);
    (0..8).for_each(|_| wait(&mut world));
    assert_eq!(timeout(&world), 7200, "{}", world.history.text());
}

#[test]
fn a_request_during_a_suspension_is_carried_out_after_it() {
    let mut world = servers(3);
    for (kind, name) in [(Kind::CustomerTokenTtl, "customer-0"), (Kind::KonaServer, "kona")] {
        merge(&world, kind, name, json!({"spec": {"suspend": true}}));
        wait(&mut world);
        request(&world, kind, name, "now");
        wait(&mut world);
        assert_ne!(handled(&world, kind, name), "now", "{kind:?}: nothing was checked");
        merge(&world, kind, name, json!({"spec": {"suspend": false}}));
        wait(&mut world);
        assert_eq!(handled(&world, kind, name), "now", "{}", world.history.text());
    }
}

#[test]
fn a_gateways_request_during_its_suspension_is_carried_out_after_it() {
    let mut world = world(Knobs::NONE);
    merge(&world, Kind::X2Gateway, "gw", json!({"spec": {"suspend": true}}));
    wait(&mut world);
    request(&world, Kind::X2Gateway, "gw", "now");
    wait(&mut world);
    assert_ne!(handled(&world, Kind::X2Gateway, "gw"), "now");
    merge(&world, Kind::X2Gateway, "gw", json!({"spec": {"suspend": false}}));
    wait(&mut world);
    assert_eq!(handled(&world, Kind::X2Gateway, "gw"), "now", "{}", world.history.text());
}

/// A system has asked to be left alone for ten minutes, and is well again.
fn pause(world: &mut World, url: &str) {
    set_mood(world, url, Mood::Limiting(Some(Duration::from_mins(10))));
    wait(world);
    set_mood(world, url, Mood::Well);
}

#[test]
fn a_request_while_an_appliance_is_to_be_left_alone_is_carried_out_after_that() {
    for (kind, name) in [(Kind::X2Gateway, "gw"), (Kind::TokenPolicy, "short")] {
        let mut world = world(Knobs::NONE);
        pause(&mut world, &appliance_url(0));
        assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "RateLimited");
        request(&world, kind, name, "now");
        let (requests, reads) = (count(&world, " https://10.0.0.1/"), world.judge.requests());
        for second in 0..120 {
            let note = second.to_string();
            world.api.annotate(Kind::X2Gateway, (NAMESPACE, "gw"), "example.net/note", Some(&note)).unwrap();
            world.run_until(world.now + Duration::from_secs(1)).unwrap();
        }
        assert_ne!(handled(&world, kind, name), "now", "{kind:?}: nothing was checked");
        assert_eq!(count(&world, " https://10.0.0.1/"), requests, "it is left alone");
        let reads = world.judge.requests() - reads;
        assert!(reads < 30, "{reads} requests to the API server in two minutes");
        (0..5).for_each(|_| wait(&mut world));
        assert_eq!(handled(&world, kind, name), "now", "{}", world.history.text());
        assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InSync");
    }
}

#[test]
fn a_request_while_a_server_is_to_be_left_alone_is_carried_out_after_that() {
    for (kind, name) in [(Kind::CustomerTokenTtl, "customer-0"), (Kind::KonaServer, "kona")] {
        let mut world = servers(3);
        (0..2).for_each(|_| pause(&mut world, &server_url(0)));
        request(&world, kind, name, "now");
        let requests = count(&world, " https://10.0.1.1/");
        wait(&mut world);
        assert_ne!(handled(&world, kind, name), "now", "{kind:?}: nothing was checked");
        assert_eq!(count(&world, " https://10.0.1.1/"), requests, "it is left alone");
        (0..5).for_each(|_| wait(&mut world));
        assert_eq!(handled(&world, kind, name), "now", "{}", world.history.text());
    }
}

#[test]
fn a_change_that_fails_again_and_again_is_one_warning() {
    let mut world = world(Knobs::NONE);
    set_mood(&world, &appliance_url(0), Mood::Away);
    merge(&world, Kind::TokenPolicy, "short", json!({"spec": {"timeoutSeconds": 7200}}));
    (0..6).for_each(|_| wait(&mut world));
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "Unreachable");
    let events = world.api.all(Kind::Event);
    let warnings = events
        .iter()
        .filter(|event| event.value["regarding"]["name"] == "gw" && event.value["reason"] == "Unreachable");
    assert_eq!(warnings.count(), 1, "{}", world.history.text());
}

#[test]
fn a_password_changed_within_the_minute_is_read_before_a_servers_login() {
    let mut world = servers(3);
    // All tokens end, and with them the password that the operator has read less than a minute ago.
    request(&world, Kind::KonaServer, "kona", "now");
    world.run_until(world.now + Duration::from_secs(2)).unwrap();
    let data = manifest::credentials(plan::USER, "planted-1");
    merge(&world, Kind::Secret, "shared", json!({"data": data}));
    if let Device::Kona(server) = &mut world.internet_now().systems.get_mut(&server_url(0)).unwrap().device {
        server.accounts.set(plan::USER, "planted-1", Role::Admin);
        server.forget_tokens();
    }
    (0..2).for_each(|_| wait(&mut world));
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, "customer-0"), "InSync");
    assert_eq!(count(&world, "LoginRefused"), 0, "{}", world.history.text());
}

#[test]
fn a_password_changed_within_the_minute_is_read_before_a_gateways_login() {
    let mut world = world(Knobs::NONE);
    wait_for_read(&mut world, "shared");
    // The next check uses what was just read, until its token turns out to be stale.
    world.run_until(world.now + Duration::from_secs(5)).unwrap();
    let data = manifest::credentials(plan::USER, "planted-1");
    merge(&world, Kind::Secret, "shared", json!({"data": data}));
    on_appliance(&world, |appliance| {
        appliance.accounts.set(plan::USER, "planted-1", Role::Admin);
        appliance.forget_tokens();
    });
    let before = count(&world, "POST https://10.0.0.1/api2/tokens");
    world.run_until(world.now + Duration::from_secs(30)).unwrap();
    assert_eq!(count(&world, "POST https://10.0.0.1/api2/tokens") - before, 1, "{}", world.history.text());
    assert_eq!(count(&world, "LoginRefused"), 0, "{}", world.history.text());
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InSync");
}

#[test]
fn a_server_that_comes_and_goes_shortens_no_wait_of_its_customers() {
    let mut world = servers(3);
    set_mood(&world, &server_url(0), Mood::Failing(500));
    (0..10).for_each(|_| wait(&mut world));
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, "customer-0"), "UnexpectedAnswer");
    let before = count(&world, " https://10.0.1.1/");
    for number in 0..20 {
        let server = world.api.get(Kind::KonaServer, NAMESPACE, "kona").unwrap().value.clone();
        let mut conditions = server["status"]["conditions"].as_array().unwrap().clone();
        let ready = conditions.iter_mut().find(|condition| condition["type"] == "Ready").unwrap();
        let (status, reason) = [("True", "InSync"), ("False", "TimedOut")][number % 2];
        (ready["status"], ready["reason"]) = (json!(status), json!(reason));
        let status = json!({"conditions": conditions});
        world.api.merge_status(Kind::KonaServer, NAMESPACE, "kona", &status).unwrap();
        world.run_until(world.now + Duration::from_secs(3)).unwrap();
    }
    let requests = count(&world, " https://10.0.1.1/") - before;
    // Each of the objects may be due once, with a renewal before it.
    assert!(requests <= 4 * 2, "{requests}: {}", world.history.text());
}

#[test]
fn what_waits_for_a_server_is_checked_as_soon_as_that_is_ready() {
    let mut world = servers(1);
    world.api.delete(Kind::Secret, NAMESPACE, "shared").unwrap();
    (0..15).for_each(|_| wait(&mut world));
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, "customer-0"), "ServerNotReady");
    world.add_secret("shared", "planted-0");
    // The Secret is read every thirty seconds.
    world.run_until(world.now + Duration::from_secs(35)).unwrap();
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, "customer-0"), "InSync", "{}", world.history.text());
}

#[test]
fn a_silent_server_is_asked_ever_more_rarely_whatever_its_customers_do() {
    let mut world = servers(3);
    set_mood(&world, &server_url(0), Mood::Silent);
    (0..10).for_each(|_| wait(&mut world));
    let before = server_reconciles(&world);
    (0..10).for_each(|_| wait(&mut world));
    // Once in five to ten minutes.
    let tries = server_reconciles(&world) - before;
    assert!(tries <= 4, "{tries}: {}", world.history.text());
}

#[test]
fn a_server_that_fails_is_asked_ever_more_rarely_whatever_its_customers_do() {
    let mut world = servers(3);
    set_mood(&world, &server_url(0), Mood::Failing(500));
    (0..10).for_each(|_| wait(&mut world));
    let before = count(&world, " https://10.0.1.1/");
    (0..10).for_each(|_| wait(&mut world));
    // Four objects, each of which tries once in five to ten minutes, and a renewal before each.
    let requests = count(&world, " https://10.0.1.1/") - before;
    assert!(requests <= 4 * 4 * 4, "{requests}: {}", world.history.text());
}

#[test]
fn a_contested_value_is_set_after_a_restart_only_if_another_one_is_required_by_then() {
    for (required, left) in [(7_200, 7_200), (900, 60_000)] {
        let mut world = world(Knobs::NONE);
        world.crash(0, Duration::from_mins(1));
        // As the process before has left it after five corrections.
        let mut gateway = world.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap().value.clone();
        let conditions = gateway["status"]["conditions"].as_array_mut().unwrap();
        let ready = conditions.iter_mut().find(|condition| condition["type"] == "Ready").unwrap();
        (ready["status"], ready["reason"]) = (json!("False"), json!("Contested"));
        let status = json!({"conditions": conditions});
        world.api.merge_status(Kind::X2Gateway, NAMESPACE, "gw", &status).unwrap();
        on_appliance(&world, |appliance| appliance.timeout = 60_000);
        merge(&world, Kind::TokenPolicy, "short", json!({"spec": {"timeoutSeconds": required}}));
        let asked = |world: &World| count(world, &format!(" {}/", appliance_url(0)));
        let before = asked(&world);
        wait(&mut world);
        assert_eq!(asked(&world), before, "not at once: {}", world.history.text());
        (0..6).for_each(|_| wait(&mut world));
        assert!(asked(&world) > before, "within ten minutes: {}", world.history.text());
        assert_eq!(timeout(&world), left, "{}", world.history.text());
    }
}

/// A webhook that refuses changes of finalizers. Returns the objects whose finalizers the operator has tried to change.
fn deny_finalizers(world: &World) -> Arc<Mutex<Vec<(Kind, String)>>> {
    let tries = Arc::<Mutex<Vec<_>>>::default();
    let noted = Arc::clone(&tries);
    world.api.set_judge(move |request| {
        let target = &request.target;
        if request.verb != Verb::Patch || target.status || !Kind::OURS.contains(&target.kind) {
            return Verdict::PASS;
        }
        noted.lock().unwrap().push((target.kind, target.name.clone().unwrap()));
        Verdict::deny(422)
    });
    tries
}

fn has_finalizer(world: &World, kind: Kind, name: &str) -> bool {
    let object = world.api.get(kind, NAMESPACE, name);
    object.is_some_and(|object| object.value["metadata"]["finalizers"][0].is_string())
}

/// Finalizers are refused from an edit on, for half an hour: these objects report that, and try ever more slowly.
fn refuse_finalizers(mut world: World, edit: fn(&World), objects: &[(Kind, &str, &str)]) {
    let tries = deny_finalizers(&world);
    let before: Vec<_> = objects.iter().map(|(kind, name, _)| has_finalizer(&world, *kind, name)).collect();
    edit(&world);
    wait(&mut world);
    for (kind, name, _) in objects {
        let object = world.api.get(*kind, NAMESPACE, name).unwrap().value.clone();
        assert_eq!(reason_of(&object), "Forbidden", "{kind:?} {name}: {}", world.history.text());
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
        assert!(object["status"]["conditions"].to_string().contains("Check the admission webhooks"));
    }
    (0..14).for_each(|_| wait(&mut world));
    for (kind, name, _) in objects {
        let tried = tries.lock().unwrap().iter().filter(|(of, called)| of == kind && called == name).count();
        assert!((4..16).contains(&tried), "{kind:?} {name}: {tried} tries in half an hour");
    }
    world.judge.preside(&world.api);
    (0..6).for_each(|_| wait(&mut world));
    for ((kind, name, usual), before) in objects.iter().zip(before) {
        assert_eq!(reason(&world, *kind, name), *usual, "{kind:?} {name}: {}", world.history.text());
        assert_ne!(has_finalizer(&world, *kind, name), before, "{kind:?} {name}");
    }
}

#[test]
fn finalizers_of_policies_and_gateways_that_are_not_accepted_are_reported_and_tried_ever_more_slowly() {
    let edit = |world: &World| {
        merge(world, Kind::TokenPolicy, "short", json!({"spec": {"deletionPolicy": "Retain"}}));
        let spec = json!({"timeoutSeconds": 900, "deletionPolicy": "Restore"});
        world.create(manifest::policy("other", "b", &spec));
    };
    let objects = [
        (Kind::TokenPolicy, "short", "InSync"),
        (Kind::X2Gateway, "gw", "InSync"),
        (Kind::TokenPolicy, "other", "NoGatewaysMatch"),
    ];
    refuse_finalizers(world(Knobs::NONE), edit, &objects);
}

#[test]
fn finalizers_of_customers_that_are_not_accepted_are_reported_and_tried_ever_more_slowly() {
    let edit = |world: &World| {
        merge(world, Kind::CustomerTokenTtl, "customer-0", json!({"spec": {"deletionPolicy": "Restore"}}));
    };
    refuse_finalizers(servers(1), edit, &[(Kind::CustomerTokenTtl, "customer-0", "InSync")]);
}
