//! What a replica has left behind that does not have the lease anymore.

use std::time::Duration;

use serde_json::json;

use crate::api::{Kind, Verb, Verdict};
use crate::knobs::Knobs;
use crate::manifest::NAMESPACE;
use crate::replica::client_name;
use crate::scripted::{timeout, wait, world};

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
