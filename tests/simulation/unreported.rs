//! What a process has set, and not reported before its end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Kind;
use crate::manifest::NAMESPACE;
use crate::plan::{server_url, user_secret};
use crate::remote::{Device, Effect, Role, Server};
use crate::scripted::{reason, servers, wait};
use crate::world::World;

const NAME: &str = "customer-0";
const ID: &str = "00000000-0000-4000-8000-000000000000";

/// A customer in sync whose lifetimes a user of it proves.
fn proven(deletion_policy: &str) -> World {
    let mut world = servers(1);
    let user = user_secret(NAME);
    world.add_secret(&user, "planted-1");
    on_server(&world, |server| {
        server.accounts.set(&user, "planted-1", Role::Customer(ID.to_owned()));
        Effect::None
    });
    let verifier = json!({"verifyCredentialsSecretRef": {"name": user}, "deletionPolicy": deletion_policy});
    edit(&world, &verifier);
    edit(&world, &json!({"accessTokenTtlSeconds": 600, "refreshTokenTtlSeconds": 6_000}));
    wait(&mut world);
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, NAME), "InSync", "{}", world.history.text());
    world
}

fn edit(world: &World, spec: &Value) {
    world.api.merge(Kind::CustomerTokenTtl, NAMESPACE, NAME, json!({"spec": spec})).unwrap();
}

fn on_server(world: &World, change: impl FnOnce(&mut Server) -> Effect) {
    world.internet_now().foreign(&server_url(0), world.now, |device| match device {
        Device::Kona(server) => change(server),
        Device::X2(_) => unreachable!(),
    });
}

/// The process ends, other lifetimes are desired by then, and the server has them before the next process starts.
fn set_without_report(world: &mut World) {
    world.crash(0, Duration::from_secs(1));
    edit(world, &json!({"accessTokenTtlSeconds": 1_200, "refreshTokenTtlSeconds": 12_000}));
    on_server(world, |server| {
        let before = server.customers[ID].text();
        let info = r#"{"accessTokenTtlSeconds":1200,"refreshTokenTtlSeconds":12000}"#;
        server.edit(ID, |customer| customer.set("additionalInfo", info));
        Effect::Customer { id: ID.to_owned(), before, after: server.customers[ID].text() }
    });
}

/// Access-token lifetimes that the history shows, newest first.
fn history(world: &World) -> Vec<Value> {
    let customer = world.api.get(Kind::CustomerTokenTtl, NAMESPACE, NAME).unwrap();
    let history = customer.value["status"]["history"].as_array().unwrap().iter();
    history.map(|change| change["to"]["accessTokenTtlSeconds"].clone()).collect()
}

#[test]
fn it_is_in_the_history_once_even_if_the_first_proof_of_it_fails() {
    let refuse: fn(&mut Server) = |server| server.accounts.set(&user_secret(NAME), "planted-2", Role::Viewer);
    let mislead: fn(&mut Server) = |server| server.accounts.assign(&user_secret(NAME), Role::Viewer);
    for (change, fault) in [(refuse, "AuthenticationFailed"), (mislead, "VerificationFailed")] {
        let mut world = proven("Retain");
        let before = history(&world);
        set_without_report(&mut world);
        on_server(&world, |server| {
            change(server);
            Effect::None
        });
        wait(&mut world);
        assert_eq!(reason(&world, Kind::CustomerTokenTtl, NAME), fault, "{}", world.history.text());
        on_server(&world, |server| {
            server.accounts.set(&user_secret(NAME), "planted-1", Role::Customer(ID.to_owned()));
            Effect::None
        });
        let annotation = json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": "now"}}});
        world.api.merge(Kind::CustomerTokenTtl, NAMESPACE, NAME, annotation).unwrap();
        wait(&mut world);
        assert_eq!(reason(&world, Kind::CustomerTokenTtl, NAME), "InSync", "{}", world.history.text());
        let after = [vec![json!(1_200)], before].concat();
        assert_eq!(history(&world), after, "{fault} {}", world.history.text());
    }
}

/// Under Restore a change is on record before it is sent: without that record, something else has set the lifetimes.
#[test]
fn what_something_else_has_set_is_in_no_history() {
    let mut world = proven("Restore");
    let before = history(&world);
    set_without_report(&mut world);
    wait(&mut world);
    assert_eq!(reason(&world, Kind::CustomerTokenTtl, NAME), "InSync", "{}", world.history.text());
    assert_eq!(history(&world), before, "{}", world.history.text());
}
