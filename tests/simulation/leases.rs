//! What a replica has left behind that does not have the lease anymore.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Course, Kind, Verb, Verdict};
use crate::knobs::Knobs;
use crate::manifest::NAMESPACE;
use crate::replica::client_name;
use crate::scripted::{reason, timeout, wait, world};
use crate::world::World;

#[test]
fn a_report_that_arrives_after_the_next_leaders_changes_nothing() {
    let mut world = world(Knobs { replicas: true, ..Knobs::NONE });
    world.start(1);
    wait(&mut world);
    let writes = client_name(1, "writes");
    world.api.set_judge(move |request| {
        let is_report = (request.verb, request.target.kind, request.target.status)
            == (Verb::Patch, Kind::X2Gateway, true);
        let late = is_report && *request.client == *writes;
        Verdict { before: Duration::from_secs(if late { 90 } else { 0 }), ..Verdict::PASS }
    });
    let edit = |timeout: u32| json!({"spec": {"timeoutSeconds": timeout}});
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", edit(7200)).unwrap();
    world.run_until(world.now + Duration::from_secs(5)).unwrap();
    world.crash(0, Duration::from_hours(1));
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", edit(3600)).unwrap();
    world.run_until(world.now + Duration::from_secs(60)).unwrap();
    assert_eq!(timeout(&world), 3600, "the other replica has taken over");
    let late = world.api.next_due().expect("the report is still on its way");
    assert!(late > world.api.now());
    let gateway = world.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
    wait(&mut world);
    assert!(world.api.now() > late);
    let now = world.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
    assert_eq!(now.value, gateway.value, "{}", world.history.text());
}

/// Two replicas. The leader can neither read nor renew its lease anymore, and its patches are answered this late.
fn without_lease(late: Duration) -> World {
    let mut world = world(Knobs { replicas: true, ..Knobs::NONE });
    world.start(1);
    wait(&mut world);
    let (lease, writes) = (client_name(1, "lease"), client_name(1, "writes"));
    world.api.set_judge(move |request| match (&*request.client, request.verb) {
        (client, _) if *client == *lease => Verdict::of(Course::CutOff),
        (client, Verb::Patch) if *client == *writes => Verdict::delayed(Duration::ZERO, late),
        _ => Verdict::PASS,
    });
    world
}

fn lengthen(world: &World) {
    let edit = json!({"spec": {"timeoutSeconds": 7200}});
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", edit).unwrap();
}

/// Only the other replica does, although both see the edit: an oracle finds what is sent without the lease.
fn assert_lengthened(world: &World) {
    assert_eq!(timeout(world), 7200, "{}", world.history.text());
    assert_eq!(world.running(), [1, 2], "the first one does not know that it has lost the lease");
}

#[test]
fn a_replica_that_cannot_renew_its_lease_sends_nothing() {
    let mut world = without_lease(Duration::ZERO);
    wait(&mut world);
    lengthen(&world);
    wait(&mut world);
    assert_lengthened(&world);
}

#[test]
fn a_replica_that_is_paused_before_a_change_does_not_make_it_later() {
    let mut world = without_lease(Duration::from_secs(1));
    lengthen(&world);
    while !world.history.text().contains("Setting the token lifetime to 7200s") {
        world.run_until(world.now + Duration::from_millis(1)).unwrap();
    }
    // The answer to this report is due when it goes on, and then the change.
    world.places[0].paused = Some(world.now + Duration::from_mins(1));
    wait(&mut world);
    assert_lengthened(&world);
}

/// Turns the gateway into one that an older schema let in.
fn spoil(world: &World) {
    let edit = |gateway: &mut Value| gateway["spec"]["url"] = json!(["10.0.0.1"]);
    world.api.plant(Kind::X2Gateway, (NAMESPACE, "gw"), edit).unwrap();
}

#[test]
fn a_report_on_what_is_not_understood_ends_with_the_lease() {
    let mut world = world(Knobs { replicas: true, ..Knobs::NONE });
    world.start(1);
    wait(&mut world);
    let reports: Arc<Mutex<Vec<Arc<str>>>> = Arc::default();
    let (writes, lease, noted) = (client_name(1, "writes"), client_name(1, "lease"), Arc::clone(&reports));
    world.api.set_judge(move |request| {
        let (client, kind) = (&request.client, request.target.kind);
        if **client == *lease {
            return Verdict::of(Course::CutOff);
        }
        match (request.verb, kind) {
            // The read comes back when the lease is over; it has not been waited for too long by then.
            (Verb::Get, Kind::X2Gateway) if **client == *writes => {
                Verdict::delayed(Duration::ZERO, Duration::from_secs(12))
            }
            (Verb::Patch, Kind::X2Gateway) => {
                noted.lock().unwrap().push(Arc::clone(client));
                Verdict::PASS
            }
            _ => Verdict::PASS,
        }
    });
    spoil(&world);
    wait(&mut world);
    assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InvalidSpec", "{}", world.history.text());
    let reports = reports.lock().unwrap().clone();
    assert_eq!(reports, [Arc::from(client_name(2, "writes"))], "{}", world.history.text());
}

#[test]
fn a_report_on_what_is_not_understood_does_not_wait_forever() {
    for silent in [Verb::Get, Verb::Patch] {
        let mut world = world(Knobs::NONE);
        let mut tries = 0;
        world.api.set_judge(move |request| {
            if (request.verb, request.target.kind) != (silent, Kind::X2Gateway) {
                return Verdict::PASS;
            }
            tries += 1;
            let never = Verdict { before: Duration::from_hours(24), ..Verdict::PASS };
            if tries == 1 { never } else { Verdict::PASS }
        });
        spoil(&world);
        // The API server's fifteen seconds, and the wait after the first failure.
        world.run_until(world.now + Duration::from_secs(21)).unwrap();
        assert_eq!(reason(&world, Kind::X2Gateway, "gw"), "InvalidSpec", "{}", world.history.text());
    }
}
