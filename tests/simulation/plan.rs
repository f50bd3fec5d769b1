//! What a schedule begins with, made from its seed.

use serde_json::{Value, json};

use crate::knobs::Knobs;
use crate::manifest::{self, NAMESPACE};
use crate::remote::{Appliance, Device, Fields, Make, Mood, Role, Server, System, customer};
use crate::seed::Shape;
use crate::world::World;

/// The user that the operator logs in as.
pub const USER: &str = "tenure";
/// Groups of gateways: the label's values.
pub const GROUPS: [&str; 3] = ["a", "b", "none"];
/// Targets of policies, in seconds.
const TARGETS: [u32; 9] = [900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400, 172_800];

/// One of these.
pub fn one_of<T: Copy>(rng: &mut fastrand::Rng, these: &[T]) -> T {
    these[rng.usize(0..these.len())]
}

/// Time between two checks.
pub fn interval(shape: Shape, rng: &mut fastrand::Rng) -> &'static str {
    one_of(rng, &shape.intervals())
}

/// The Secret of the user of a customer, whose name is the same.
pub fn user_secret(customer: &str) -> String {
    format!("user-of-{customer}")
}

/// The user that a Secret names.
pub fn user_of(secret: &str) -> &str {
    if secret.starts_with("user-of-") { secret } else { USER }
}

/// The URL of an appliance.
pub fn appliance_url(number: usize) -> String {
    format!("https://10.0.0.{}", number + 1)
}

/// The URL of a server.
pub fn server_url(number: usize) -> String {
    format!("https://10.0.1.{}", number + 1)
}

/// A proxy that leads to the systems themselves.
pub const PROXY: &str = "http://proxy.example:8080";
/// A proxy of a tenant, which leads to stand-ins.
pub const OWN_PROXY: &str = "http://proxy.mine:8080";

/// What is reached at a URL, through a proxy or without one.
pub fn reached(url: &str, proxy: Option<&str>) -> String {
    proxy.filter(|proxy| *proxy == OWN_PROXY).map_or(url.to_owned(), |own| format!("{url} behind {own}"))
}

/// The same for the spec of a gateway or server.
pub fn reached_by(spec: &Value) -> String {
    reached(spec["url"].as_str().unwrap_or_default(), spec["proxyUrl"].as_str())
}

/// A password that is planted, and must turn up nowhere.
pub fn password(rng: &mut fastrand::Rng) -> String {
    format!("planted-{:08x}", rng.u32(..))
}

/// Makes the remote systems and the objects.
pub fn lay_out(world: &mut World) {
    let knobs = world.knobs;
    world.create(manifest::namespace(NAMESPACE));
    // The lease is there.
    world.create(manifest::namespace("default"));
    let gateways = world.rng.usize(1..=knobs.gateways);
    let shared = password(&mut world.rng);
    world.add_secret("shared", &shared);
    for number in 0..gateways {
        // One appliance in three has a password of its own.
        let secret = if world.rng.u8(0..3) == 0 { format!("own-{number}") } else { "shared".to_owned() };
        let password = if secret == "shared" { shared.clone() } else { password(&mut world.rng) };
        if secret != "shared" {
            world.add_secret(&secret, &password);
        }
        let group = GROUPS[world.rng.usize(0..if knobs.relabel { 3 } else { 1 })];
        let url = appliance_url(number);
        world.add_appliance(&url, &password);
        world.create(manifest::gateway(&format!("gw-{number}"), &url, &secret, group));
    }
    for (number, name) in ["first", "second", "third"].into_iter().enumerate().take(1 + world.rng.usize(0..3))
    {
        let spec = policy_spec(&knobs, &mut world.rng);
        let mut policy = manifest::policy(name, GROUPS[number % 2], &spec);
        if number == 2 {
            policy["spec"]["gatewaySelector"] = json!({});
        }
        world.create(policy);
    }
    if knobs.servers {
        lay_out_server(world, &shared);
    }
    if knobs.namespaces {
        world.lay_out_depot();
    }
}

pub fn lay_out_server(world: &mut World, shared: &str) {
    let make = make(&mut world.rng);
    let mut server = Server::new(make);
    server.accounts.set(USER, shared, Role::Admin);
    let mut objects = vec![manifest::server("kona", &server_url(0), "shared")];
    for number in 0..world.rng.usize(1..=world.knobs.customers) {
        let id = format!("00000000-0000-4000-8000-00000000000{number}");
        let found = found(&id, number, make, &mut world.rng);
        server.customers.insert(id.clone(), found);
        let mut spec = customer_spec(&world.knobs, &mut world.rng);
        let name = format!("customer-{number}");
        if world.knobs.verify {
            let (user, password) = (user_secret(&name), password(&mut world.rng));
            server.accounts.set(&user, &password, Role::Customer(id.clone()));
            world.add_secret(&user, &password);
            spec["verifyCredentialsSecretRef"] = json!({"name": user});
        }
        objects.push(manifest::customer(&name, "kona", &id, &spec));
    }
    world
        .internet_now()
        .systems
        .insert(server_url(0), System { device: Device::Kona(server), mood: Mood::Well });
    objects.into_iter().for_each(|object| world.create(object));
}

/// How a server is.
pub fn make(rng: &mut fastrand::Rng) -> Make {
    Make { versions: rng.bool(), slash: rng.bool(), info_as_text: rng.bool() }
}

/// A customer as it was before there was an operator.
pub fn found(id: &str, number: usize, make: Make, rng: &mut fastrand::Rng) -> Fields {
    let info =
        ["null", r#""""#, r#"{"theme":"dark"}"#, r#"{"accessTokenTtlSeconds":5000,"x":[1.50,{"y":null}]}"#];
    let info = info[rng.usize(0..info.len())];
    customer(id, &format!("Customer {number}"), info, make.versions)
}

/// A policy's target: an exact one, or a range.
pub fn target(rng: &mut fastrand::Rng) -> Value {
    let at = rng.usize(0..TARGETS.len());
    if rng.u8(0..5) > 0 {
        return json!({"timeoutSeconds": TARGETS[at], "minTimeoutSeconds": null, "maxTimeoutSeconds": null});
    }
    let most = TARGETS[rng.usize(at..TARGETS.len())];
    json!({"timeoutSeconds": null, "minTimeoutSeconds": TARGETS[at], "maxTimeoutSeconds": most})
}

/// What a policy's spec says.
pub fn policy_spec(knobs: &Knobs, rng: &mut fastrand::Rng) -> Value {
    let mut spec = target(rng);
    spec.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    spec["interval"] = json!(interval(knobs.shape, rng));
    spec["priority"] = json!(rng.i32(0..3));
    if knobs.restore && rng.bool() {
        spec["deletionPolicy"] = json!("Restore");
    }
    if knobs.revoke && rng.bool() {
        spec["revokeTokens"] = json!(if rng.bool() { "OnChange" } else { "OnTightening" });
    }
    if (knobs.rollout || knobs.approval) && rng.bool() {
        spec["rollout"] = rollout(knobs, rng);
    }
    if knobs.windows && rng.u8(0..3) == 0 {
        spec["windows"] = windows(knobs.shape, rng);
    }
    spec
}

/// Bounds of a rollout.
pub fn rollout(knobs: &Knobs, rng: &mut fastrand::Rng) -> Value {
    let mut rollout = json!({"maxConcurrent": rng.u8(1..=3), "maxFailures": rng.u8(1..=3)});
    if rng.bool() || knobs.approval {
        let soak = ["0s", "1m", "5m"][rng.usize(0..3)];
        rollout["canary"] = json!({"count": rng.u8(1..=2), "soak": soak});
        if knobs.approval && rng.u8(0..4) > 0 {
            rollout["canary"]["approval"] = json!("Required");
        }
    }
    rollout
}

/// A window that opens each hour, or more often.
pub fn windows(shape: Shape, rng: &mut fastrand::Rng) -> Value {
    let (times, durations) = shape.windows();
    let first = rng.u8(0..60);
    let minutes = (0..times).map(|time| ((first + time * (60 / times)) % 60).to_string());
    let schedule = format!("{} * * * *", minutes.collect::<Vec<_>>().join(","));
    json!([{"schedule": schedule, "duration": durations[rng.usize(0..3)], "timeZone": "Etc/UTC"}])
}

/// What the spec of a customer's lifetimes says.
pub fn customer_spec(knobs: &Knobs, rng: &mut fastrand::Rng) -> Value {
    let access = one_of(rng, &[60, 900, 3_600, 5_000]);
    let refresh = access * one_of(rng, &[1, 2, 24]);
    let mut spec = json!({
        "accessTokenTtlSeconds": access, "refreshTokenTtlSeconds": refresh,
        "interval": interval(knobs.shape, rng),
    });
    if knobs.restore && rng.bool() {
        spec["deletionPolicy"] = json!("Restore");
    }
    if knobs.windows && rng.u8(0..4) == 0 {
        spec["windows"] = windows(knobs.shape, rng);
    }
    spec
}

/// An appliance with the operator's user.
pub fn appliance(rng: &mut fastrand::Rng, password: &str) -> System {
    let mut appliance = Appliance::new([86_400, 86_400, 43_200, 604_800][rng.usize(0..4)]);
    appliance.accounts.set(USER, password, Role::Admin);
    System { device: Device::X2(appliance), mood: Mood::Well }
}
