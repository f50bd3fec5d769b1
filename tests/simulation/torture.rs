//! As many schedules as somebody has patience for: `cargo torture -- --seeds 100000`, with `--brief` or `--long` of another shape,
//! or one of them with its history: `cargo torture -- --seed 42-brief`.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::doc_markdown,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    clippy::similar_names,
    clippy::string_slice,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod api;
mod crash;
mod depot;
mod events;
mod history;
mod intent;
mod judge;
mod knobs;
mod log;
mod manifest;
mod oracle;
mod persons;
mod plan;
mod remote;
mod replica;
mod schedule;
mod schedules;
mod seed;
mod time;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use seed::{Seed, Shape};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.get(arguments.iter().position(|argument| argument == name)? + 1);
    let number = |name: &str| after(name).map(|number| number.parse::<u64>().expect("a number"));
    if let Some(seed) = after("--seed") {
        println!("{}", schedule::history(seed.parse().expect("a seed")));
        return ExitCode::SUCCESS;
    }
    let is_given = |name: &str| arguments.iter().any(|argument| argument == name);
    let shape = match (is_given("--brief"), is_given("--long")) {
        (true, _) => Shape::Brief,
        (_, true) => Shape::Long,
        _ => Shape::Short,
    };
    let (from, count) = (number("--from").unwrap_or(0), number("--seeds").unwrap_or(10_000));
    let begun = Instant::now();
    let seeds: Vec<Seed> = (from..from + count).map(|number| Seed { number, shape }).collect();
    let (mut done, mut requests) = (0, 0);
    let failures = schedules::run_all(&seeds, |outcome| {
        done += 1;
        requests += outcome.as_ref().map_or(0, |course| course.requests);
        if let Err(failure) = outcome {
            println!("seed {}: {}", failure.seed, failure.violation);
        } else if done % 1_000 == 0 {
            println!("{done} schedules after {:.0} s", begun.elapsed().as_secs_f64());
        }
    });
    let (broken, seconds) = (failures.len(), begun.elapsed().as_secs_f64());
    println!("{broken} of {count} schedules break a rule; {requests} requests; {seconds:.0} s");
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
