//! Many schedules, each from its seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::oracle::Violation;
use crate::schedule::{self, Course, Failure};
use crate::seed::Seed;

/// Schedules of each shape that each test run goes through, besides those of `seeds.txt`. `cargo torture` goes through more.
const BRIEF: u64 = 8_500;
const SHORT: u64 = 1_500;

/// Longest real time that one may take: a hundred times what it does.
const LONGEST: Duration = Duration::from_mins(10);

/// Seeds that have found a bug, one per line, each with what it was. They find it again only as long as the harness draws the
/// same from its seed.
const KEPT: &str = include_str!("seeds.txt");

/// Goes through the schedules of seeds, on all cores, and returns those that break a rule.
pub fn run_all(
    seeds: &[Seed],
    mut progress: impl FnMut(&Result<Course, Box<Failure>>) + Send,
) -> Vec<Failure> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let progress = Mutex::new(&mut progress);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = in_time(*seed, || run(*seed));
                    progress.lock().expect("no panic while it is held")(&outcome);
                    if let Err(failure) = outcome {
                        failures.lock().expect("no panic while it is held").push(*failure);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no panic while it is held")
}

/// A schedule in which the virtual time stands still would never end: that ends the process, after it is said which one it is.
#[allow(clippy::print_stdout, reason = "the process ends: nothing else could say why")]
fn in_time<T>(seed: Seed, run: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if waiting.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
            println!("seed {seed}: nothing spins: the schedule does not come to its end");
            std::process::exit(1);
        }
    });
    let outcome = run();
    drop(done);
    outcome
}

/// Goes through a seed's schedule. A panic is a broken rule.
pub fn run(seed: Seed) -> Result<Course, Box<Failure>> {
    catch_unwind(AssertUnwindSafe(|| schedule::run(seed))).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        let violation = Violation::new("nothing panics", words.unwrap_or_default());
        Err(Box::new(Failure { seed, violation, history: String::new() }))
    })
}

#[test]
fn schedules_break_no_rule() {
    let kept = KEPT.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    let seeds: Vec<Seed> =
        (0..BRIEF).map(Seed::brief).chain((0..SHORT).map(Seed::short)).chain(kept).collect();
    let failures = run_all(&seeds, |_| {});
    for failure in &failures {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} of {} schedules break a rule", failures.len(), seeds.len());
}

/// Goes through the schedule of the seed that is named by `TENURE_SIMULATION_SEED`, and prints its history.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test has no command line")]
fn replay() {
    let Ok(seed) = std::env::var("TENURE_SIMULATION_SEED") else { return };
    let seed = seed.parse().expect("a seed");
    if let Err(failure) = run(seed) {
        panic!("{failure}");
    }
}

#[test]
fn the_same_seed_is_the_same_schedule() {
    for seed in (0..8).map(Seed::short) {
        let (once, again) = (schedule::history(seed), schedule::history(seed));
        let differing = once.lines().zip(again.lines()).find(|(one, other)| one != other);
        assert!(once == again, "seed {seed} differs first here: {differing:?}");
    }
}
