//! One schedule: a time in which things happen, then calm, in which all must become right and stay so.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Kind;
use crate::intent::{Governing, governing};
use crate::judge::Weather;
use crate::log::Log;
use crate::manifest::NAMESPACE;
use crate::oracle::{Violation, reason};
use crate::plan::{self, reached_by};
use crate::remote::Mood;
use crate::replica::client_name;
use crate::seed::Seed;
use crate::world::World;

/// Longest time until all is right: the next window, what waits an hour, and the longest back-off.
const PATIENCE: Duration = Duration::from_mins(100);

/// Longest time that a namespace is held up once all is well.
const PATIENCE_WITH_NAMESPACES: Duration = Duration::from_mins(2);

/// A schedule that was gone through.
#[derive(Debug)]
pub struct Course {
    /// When all was right, after the calm had begun.
    pub settled_after: Duration,
    pub requests: u64,
}

/// A schedule that has broken a rule.
pub struct Failure {
    pub seed: Seed,
    pub violation: Violation,
    pub history: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, violation, history } = self;
        write!(
            f,
            "{history}\nseed {seed}: {violation}\nto see it again: TENURE_SIMULATION_SEED={seed} cargo test --test simulation replay -- --nocapture"
        )
    }
}

/// Goes through the schedule of a seed.
pub fn run(seed: Seed) -> Result<Course, Box<Failure>> {
    let mut world = World::new(seed);
    match tracing::subscriber::with_default(Log, || go_through(&mut world)) {
        Ok(settled_after) => Ok(Course { settled_after, requests: world.judge.requests() }),
        Err(violation) => Err(Box::new(Failure { seed, violation, history: world.history.text() })),
    }
}

fn go_through(world: &mut World) -> Result<Duration, Violation> {
    plan::lay_out(world);
    for place in 0..world.places.len() {
        world.start(place);
    }
    let shape = world.knobs.shape;
    while world.now < shape.busy() {
        // Often much happens at once, and then nothing for a while.
        let pause = if world.rng.u8(0..3) == 0 { 2_000 } else { shape.pause() };
        let next = world.now + Duration::from_millis(world.rng.u64(1..pause));
        world.run_until(next.min(shape.busy()))?;
        world.happen();
    }
    calm(world)?;
    let begun = world.now;
    // A remote system may ask for more time than there was until everybody asked.
    let (mut asked, mut is_first) = (begun, true);
    let unmet = loop {
        world.resolve();
        world.bring_back_depot();
        if world.now > asked + Duration::from_mins(11) {
            asked = world.now;
            ask(world, |object| is_locked_out(object) || is_first && reason(object) == "RolloutHalted");
            is_first = false;
        }
        world.run_until(world.now + Duration::from_mins(1))?;
        if world.depot.has_hung(world.now, PATIENCE_WITH_NAMESPACES)
            && world.now > begun + PATIENCE_WITH_NAMESPACES
        {
            return Err(Violation::new("namespaces go", "namespace depot is still being deleted"));
        }
        let unmet = world.unmet(begun);
        if unmet.is_empty() || world.now > begun + PATIENCE {
            break unmet;
        }
    };
    if !unmet.is_empty() {
        return Err(Violation::new("everything becomes right", unmet.join("\n")));
    }
    let settled = world.now.saturating_sub(begun);
    stay_quiet(world, begun)?;
    Ok(settled)
}

/// All faults end, and somebody asks for a check of everything.
fn calm(world: &mut World) -> Result<(), Violation> {
    world.note("calm");
    world.set_weather(Weather::Fair);
    world.judge.deny(None);
    world.internet_now().systems.values_mut().for_each(|system| system.mood = Mood::Well);
    for number in world.running() {
        let client = client_name(number, "watching");
        for kind in Kind::OURS {
            world.api.hold(&client, kind, false);
            world.oracles.writes.declared.sight.hold(number, kind, world.now, false);
        }
    }
    let secrets: Vec<_> = world.secrets.clone().into_iter().collect();
    secrets.iter().for_each(|(name, password)| world.let_in(name, password));
    let now = world.now;
    world.list_namespaces(true);
    world.places.iter_mut().for_each(|place| {
        // It goes on now, and its clock with it.
        place.paused = place.paused.map(|_| now);
        place.process.iter().for_each(|process| process.crash.clear());
    });
    world.run_until(world.now + Duration::from_mins(2))?;
    ask(world, |_| true);
    Ok(())
}

/// Somebody asks for a check of some objects.
fn ask(world: &mut World, which: impl Fn(&Value) -> bool) {
    let stamp = world.now.as_millis().to_string();
    for kind in Kind::OURS {
        for object in world.api.all(kind).iter().filter(|object| which(&object.value)) {
            let asked = json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": stamp}}});
            let text = |field| object.text(field).unwrap_or_default();
            let _ = world.api.merge(kind, text("namespace"), text("name"), asked);
        }
    }
}

/// Whether a login is not tried any more. One request in ten minutes allows another try.
fn is_locked_out(object: &Value) -> bool {
    reason(object) == "AuthenticationFailed"
}

fn stay_quiet(world: &mut World, calm_since: Duration) -> Result<(), Violation> {
    world.run_until(world.now + Duration::from_mins(1))?;
    world.oracles.quiet = true;
    world.run_until(world.now + world.knobs.shape.quiet())?;
    let unmet = world.unmet(calm_since);
    if !unmet.is_empty() {
        return Err(Violation::new("what is right stays so", unmet.join("\n")));
    }
    check_revocations(world)
}

fn check_revocations(world: &World) -> Result<(), Violation> {
    let (knobs, truth) = (world.knobs, &world.oracles.truth);
    if !knobs.moods {
        truth.check_revocations(knobs.revoke, world.oracles.logins.processes as usize)?;
    }
    // Where the policy in force has always been the same, and nothing else has changed anything, the end shows whether the last
    // change was followed by a revocation. Else it shows that of one that was certainly made under the policies of the end, and
    // shortened what the operator had read.
    let constant = !(knobs.edits
        || knobs.relabel
        || knobs.deletions
        || knobs.foreign
        || knobs.resets
        || knobs.suspends
        || knobs.clashes
        || knobs.scope);
    let certain = !(knobs.foreign || knobs.resets || knobs.clashes || world.places.len() > 1);
    let declared = &world.oracles.writes.declared;
    for gateway in world.api.all(Kind::X2Gateway) {
        let Some(policy) = governing(&world.api, &gateway.value) else { continue };
        let url = reached_by(&gateway.value["spec"]);
        let asks = |policy: &Governing| policy.revoke != "Never" && !policy.suspended;
        truth.check_revoked(&url, |change| {
            let possible = declared.gateways(change.process, &url, change.at);
            let mut policies = possible.iter().flat_map(|possible| &possible.policies);
            let is_made_for_it = policies.all(|policy| policy.as_ref().is_some_and(asks))
                && declared.is_settled(&url, change.at);
            let is_active = gateway.value["spec"]["suspend"] != true && asks(&policy);
            constant && policy.revoke == "OnChange"
                || certain && change.shortens && is_active && is_made_for_it
        })?;
    }
    Ok(())
}

/// What happens in the schedule of a seed.
pub fn history(seed: Seed) -> String {
    let mut world = World::new(seed);
    let end = match tracing::subscriber::with_default(Log, || go_through(&mut world)) {
        Ok(settled) => format!("all was right after {settled:?}"),
        Err(violation) => violation.to_string(),
    };
    format!("{}{end}\n", world.history.text())
}
