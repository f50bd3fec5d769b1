//! Five hundred gateways, of which half do not take the change: how many are touched, and how many at once, by the
//! simulator's own log.
#![allow(clippy::print_stdout, reason = "figures that a person reads")]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use tenure_kit::faults::Fault;
use tenure_kit::requests::Kind;
use tenure_kit::x2::PutEffect;
use tokio::sync::watch;

use super::*;

const GATEWAYS: usize = 500;
/// From this one on they fail.
const SOUND: usize = 120;
/// Five percent.
const AT_ONCE: usize = 25;
const FAILURES: usize = 8;
const SOAK: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_mins(5);

/// What is seen of the statuses while all this goes on.
#[derive(Default)]
struct Watched {
    /// The most gateways that were ever under change at once.
    peak: AtomicUsize,
    /// How many are now.
    under_way: watch::Sender<usize>,
    /// Every rollout that there was: when it began, its canaries, and its soak, once known.
    rollouts: Mutex<BTreeSet<(String, String, String)>>,
}

impl Watched {
    async fn begin(w: &World) -> Arc<Self> {
        let watched = Arc::new(Self::default());
        let (gateways, policies) =
            (w.f.ns.api("X2Gateway").await.unwrap(), w.f.ns.api("TokenPolicy").await.unwrap());
        let this = Arc::clone(&watched);
        tokio::spawn(async move {
            let mut seen = std::pin::pin!(
                watcher(gateways, watcher::Config::default()).default_backoff().applied_objects()
            );
            let mut under_way = BTreeMap::new();
            while let Ok(Some(gateway)) = seen.try_next().await {
                under_way.insert(gateway.name_any(), is_under_way(&gateway));
                let count = under_way.values().filter(|under_way| **under_way).count();
                this.peak.fetch_max(count, Ordering::Relaxed);
                this.under_way.send_replace(count);
            }
        });
        let this = Arc::clone(&watched);
        tokio::spawn(async move {
            let mut seen = std::pin::pin!(
                watcher(policies, watcher::Config::default()).default_backoff().applied_objects()
            );
            while let Ok(Some(policy)) = seen.try_next().await {
                let rollout = rollout(&policy);
                let [began, canaries, soak] =
                    ["startedTime", "canaries", "soakUntil"].map(|field| rollout[field].to_string());
                if !rollout["soakUntil"].is_null() {
                    this.rollouts.lock().unwrap().insert((began, canaries, soak));
                }
            }
        });
        watched
    }
}

/// From the first that is not sound on: a third refuses the write, a third takes it without effect on tokens, and of a
/// third the answer is lost.
fn break_down(w: &World) {
    for appliance in w.fleet.appliances().skip(SOUND) {
        match appliance.index() % 3 {
            0 => appliance.fault(refused()),
            1 => appliance.set_put_effect(PutEffect::ShownOnly),
            _ => appliance.fault(Fault::reset().on(Kind::Write)),
        }
    }
}

fn repair(w: &World) {
    w.heal();
    for appliance in w.fleet.appliances().skip(SOUND) {
        appliance.set_put_effect(PutEffect::Applied);
        if appliance.timeout() != appliance.token_lifetime() {
            appliance.factory_reset();
        }
    }
}

/// A random moment: after some more requests, some more writes, or some time; at once where no more writes are to come.
async fn moment(w: &World, random: &mut fastrand::Rng) {
    let before = w.fleet.counts();
    let (requests, writes) = (before.total() + random.u64(1..=500), before.write + random.u64(1..=12));
    let all = w.fleet.requests();
    let is_halted = |policy: &DynamicObject| rollout(policy)["phase"] == "Halted";
    match random.u8(0..4) {
        0 => all.wait_until(|all| all.counts().total() >= requests).await,
        1 => tokio::time::sleep(Duration::from_millis(random.u64(0..3000))).await,
        _ => tokio::select! {
            () = all.wait_until(|all| all.counts().write >= writes) => {}
            halted = w.f.ns.wait_for("TokenPolicy", "fleet", LIMIT, is_halted) => drop(halted.unwrap()),
        },
    }
}

/// Kills the operator at random moments.
async fn die(w: &mut World, seed: u64, times: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let begun = Instant::now();
    for _ in 0..times {
        moment(w, &mut random).await;
        w.f.kill().await;
        let policy = w.now().await;
        println!(
            "killed at {:.1} s, {} requests, {} writes, {}: {} changed, {} failed",
            begun.elapsed().as_secs_f64(),
            w.fleet.counts().total(),
            w.writes(),
            rollout(&policy)["phase"],
            rollout(&policy)["changed"],
            rollout(&policy)["failed"],
        );
        w.f.start().await;
    }
}

async fn roll_out(name: &str, deaths: usize) {
    let mut w = World::new(name, GATEWAYS, GATEWAYS).await;
    break_down(&w);
    let bounds =
        json!({"maxConcurrent": "5%", "maxFailures": FAILURES, "canary": {"count": 2, "soak": "3s"}});
    // Checks at the interval must not touch anything while this test looks; it has its own.
    w.policy(json!({"interval": "10m", "rollout": bounds})).await;
    let watched = Watched::begin(&w).await;
    let begun = Instant::now();
    w.f.start().await;
    let seed = std::hash::RandomState::new().hash_one(0);
    println!("{name}: seed {seed}");
    die(&mut w, seed, deaths).await;
    w.f.ns.wait_for("TokenPolicy", "fleet", LIMIT, |p| rollout(p)["phase"] == "Halted").await.unwrap();
    let halted_after = begun.elapsed();
    has_kept_its_bounds(&w, &watched, name, halted_after).await;
    if deaths == 0 {
        w.f.event("fleet", "RolloutHalted").await;
    }
    // An event follows the status: who dies in between has told nobody. It is never told twice.
    assert!(w.f.events().await.iter().filter(|(_, reason, _)| reason == "RolloutHalted").count() <= 1);
    goes_on(&w, &watched, name).await;
    w.f.finish().await;
}

/// What must be true once it has halted.
async fn has_kept_its_bounds(w: &World, watched: &Watched, name: &str, halted_after: Duration) {
    // What was under way ends.
    let mut under_way = watched.under_way.subscribe();
    tokio::time::timeout(LIMIT, under_way.wait_for(|count| *count == 0)).await.unwrap().unwrap();
    let halted = w.now().await;
    assert_eq!(
        (&rollout(&halted)["phase"], &ready(&halted)["reason"]),
        (&json!("Halted"), &json!("RolloutHalted"))
    );
    assert_eq!(rollout(&halted)["canaries"], json!(w.names([0, 1])));
    let trace = w.trace();
    let order = trace.order();
    let unsound = w.names(SOUND..GATEWAYS);
    let failing = order.iter().filter(|name| unsound.contains(name)).count();
    let peak = (trace.peak(), watched.peak.load(Ordering::Relaxed));
    println!(
        "{name}: halted after {:.1} s and {} writes; {} touched, {failing} of them in vain; {} at once by the log, {} by the statuses; {:.1} s between canaries and others",
        halted_after.as_secs_f64(),
        w.writes(),
        order.len(),
        peak.0,
        peak.1,
        trace.pause_after(2).as_secs_f64()
    );
    assert!(
        (FAILURES + 1..=FAILURES + AT_ONCE).contains(&failing),
        "{failing} failing gateways were touched"
    );
    assert!(peak.0 <= AT_ONCE && peak.1 <= AT_ONCE, "{peak:?} at once");
    assert!(trace.pause_after(2) >= SOAK, "{:?}", trace.pause_after(2));
    assert_eq!(watched.rollouts.lock().unwrap().len(), 1, "{:?}", watched.rollouts.lock().unwrap());
}

/// Once it is repaired, it goes on to its end, within the same bounds.
async fn goes_on(w: &World, watched: &Watched, name: &str) {
    repair(w);
    let resumed = Instant::now();
    w.f.request("TokenPolicy", "fleet", "go on").await;
    let complete = |p: &DynamicObject| rollout(p)["phase"] == "Complete" && ready(p)["reason"] == "InSync";
    let complete = w.f.ns.wait_for("TokenPolicy", "fleet", LIMIT, complete).await.unwrap();
    assert_eq!(status(&complete)["gateways"]["summary"], "500/500");
    assert_eq!(rollout(&complete)["canaries"], json!(w.names([0, 1])));
    assert_eq!(w.fleet.standing_at(28800), GATEWAYS);
    let peak = (w.trace().peak(), watched.peak.load(Ordering::Relaxed));
    println!(
        "{name}: complete {:.1} s after it was resumed, {} writes in all; at once {} by the log, {} by the statuses",
        resumed.elapsed().as_secs_f64(),
        w.writes(),
        peak.0,
        peak.1
    );
    assert!(peak.0 <= AT_ONCE && peak.1 <= AT_ONCE, "{peak:?} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_begins_to_fail_is_halted_within_its_bounds() {
    roll_out("fleet-halts", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_deaths_of_the_operator_change_nothing_about_the_bounds() {
    roll_out("fleet-dies", 20).await;
}
