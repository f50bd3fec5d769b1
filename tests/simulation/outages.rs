//! Outages of the API server: what was not reported is, soon after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::api::{Break, Course, Kind, RequestInfo, Verb, Verdict};
use crate::knobs::Knobs;
use crate::manifest::{self, NAMESPACE};
use crate::plan::appliance_url;
use crate::replica::client_name;
use crate::scripted::{on_appliance, reason, requests, timeout, unreachable, world};
use crate::world::World;

fn minutes(world: &mut World, number: u64) {
    world.run_until(world.now + Duration::from_mins(number)).unwrap();
}

/// Watches break, and requests fail, until that is taken back.
fn outage(world: &World, kinds: &[Kind], fails: fn(&RequestInfo) -> bool) -> Arc<AtomicBool> {
    let lasts = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&lasts);
    world.api.set_judge(move |request| {
        let fails = still.load(Ordering::Relaxed) && fails(request);
        if fails { Verdict::of(Course::CutOff) } else { Verdict::PASS }
    });
    kinds.iter().for_each(|kind| world.api.break_watches(&client_name(1, "watching"), *kind, Break::Failed));
    lasts
}

#[test]
fn an_api_server_that_serves_no_secrets_is_reported() {
    let mut world = world(Knobs::NONE);
    let lasts = outage(&world, &[], |request| request.target.kind == Kind::Secret);
    world.add_appliance(&appliance_url(1), "planted-0");
    world.create(manifest::gateway("new", &appliance_url(1), "shared", "a"));
    minutes(&mut world, 3);
    let gateway = world.api.get(Kind::X2Gateway, NAMESPACE, "new").unwrap();
    let conditions = gateway.value["status"]["conditions"].to_string();
    let message = "The API server does not answer when the operator reads a Secret";
    assert!(conditions.contains(message), "{conditions} {}", world.history.text());
    lasts.store(false, Ordering::Relaxed);
    minutes(&mut world, 2);
    assert_eq!(reason(&world, Kind::X2Gateway, "new"), "InSync", "{}", world.history.text());
}

#[test]
fn reports_are_written_within_a_minute_after_an_outage() {
    let everything: fn(&RequestInfo) -> bool = |_| true;
    let all_but_reads: fn(&RequestInfo) -> bool = |request| request.verb != Verb::Get;
    // Watches go on without the lease.
    let leases: fn(&RequestInfo) -> bool = |request| request.target.kind == Kind::Lease;
    let watches = &Kind::OURS[..];
    for (fails, kinds, replicas) in [
        (everything, watches, false),
        (all_but_reads, watches, false),
        (everything, watches, true),
        (leases, &[], true),
    ] {
        for length in [9, 12, 15] {
            let mut world = world(Knobs { replicas, ..Knobs::NONE });
            let lasts = outage(&world, kinds, fails);
            on_appliance(&world, |appliance| appliance.timeout = 60_000);
            minutes(&mut world, length);
            lasts.store(false, Ordering::Relaxed);
            minutes(&mut world, 1);
            let gateway = world.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
            let cause = &gateway.value["status"]["history"][0]["cause"];
            let found = (timeout(&world), cause, reason(&world, Kind::X2Gateway, "gw"));
            assert_eq!(found, (900, &json!("Drift"), json!("InSync")), "{}", world.history.text());
        }
    }
}

#[test]
fn a_watch_that_fails_for_a_moment_shortens_no_back_off() {
    let mut world = unreachable();
    let before = requests(&world);
    for kind in Kind::OURS {
        let lasts = outage(&world, &[kind], |request| request.verb == Verb::Watch);
        world.run_until(world.now + Duration::from_secs(5)).unwrap();
        lasts.store(false, Ordering::Relaxed);
        world.run_until(world.now + Duration::from_secs(20)).unwrap();
    }
    // One may have been due anyway.
    assert!(requests(&world) - before <= 1, "{}", world.history.text());
}
