//! Who replaces a Secret again and again neither guesses a password nor locks an account.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Kind;
use crate::depot::DEPOT;
use crate::knobs::Knobs;
use crate::manifest::{self, NAMESPACE};
use crate::plan::{USER, appliance_url};
use crate::scripted::{reason_of, wait, world};
use crate::world::World;

fn placed(mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(DEPOT);
    object
}

/// Logins that the appliance has refused so far.
fn refused(world: &World) -> usize {
    world.history.text().matches(" LoginRefused ").count()
}

/// For so many minutes the Secret has another password each minute, with another case of the user's name.
fn guess(world: &mut World, minutes: usize) {
    for minute in 0..minutes {
        let user = if minute % 2 == 0 { USER.to_owned() } else { USER.to_uppercase() };
        let data = json!({"data": manifest::credentials(&user, &format!("planted-guess-{:?}", world.now))});
        world.api.merge(Kind::Secret, DEPOT, "guess", data).unwrap();
        let until = world.now + Duration::from_mins(1);
        world.run_until(until).unwrap_or_else(|violation| panic!("{violation}\n{}", world.history.text()));
    }
}

#[test]
fn a_guest_has_three_guesses_an_hour() {
    let mut world = world(Knobs::NONE);
    world.create(manifest::namespace(DEPOT));
    world.create(placed(manifest::secret("guess", USER, "planted-guess")));
    world.create(placed(manifest::gateway("guest", &appliance_url(0), "guess", "none")));
    guess(&mut world, 58);
    assert_eq!(refused(&world), 3, "{}", world.history.text());
    guess(&mut world, 58);
    assert_eq!(refused(&world), 6, "{}", world.history.text());
    let guest = || reason_of(&world.api.get(Kind::X2Gateway, DEPOT, "guest").unwrap().value);
    assert_eq!(guest(), "AuthenticationFailed");
}

#[test]
fn a_password_that_is_refused_everywhere_is_tried_three_times() {
    let mut world = world(Knobs::NONE);
    for number in 1..6 {
        world.add_appliance(&appliance_url(number), "planted-0");
        world.create(manifest::gateway(&format!("gw-{number}"), &appliance_url(number), "shared", "a"));
    }
    wait(&mut world);
    let data = json!({"data": manifest::credentials(USER, "planted-wrong")});
    world.api.merge(Kind::Secret, NAMESPACE, "shared", data).unwrap();
    (0..6).for_each(|_| wait(&mut world));
    assert_eq!(refused(&world), 3, "{}", world.history.text());
}
