//! `cargo bench --bench hostile`: what each attack of one namespace costs the operator and another namespace.
//!
//! It prints a row for each, as in `docs/security.md`, and fails where the other namespace is harmed.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    clippy::doc_markdown,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test equipment"
)]

#[path = "../bench/api.rs"]
mod api;
mod attacks;
mod audit;
#[path = "../cluster/fixture.rs"]
mod fixture;
mod hostile;
mod names;
#[path = "../bench/process.rs"]
mod process;
mod world;

use std::path::PathBuf;

use attacks::Attack;
use clap::Parser;
use world::{Endured, World};

/// Measures each attack alone, on a real API server of its own and an operator as a process of its own.
#[derive(Debug, Parser)]
#[command(name = "hostile", bin_name = "cargo bench --bench hostile --")]
struct Options {
    /// Only these attacks, such as one-url
    #[arg(long, value_delimiter = ',')]
    attacks: Vec<String>,
    /// The operator's program, such as that of the image
    #[arg(long, default_value = env!("CARGO_BIN_EXE_tenure"))]
    operator: PathBuf,
    /// Print what an attack does, and do not check it: for programs that are known to suffer
    #[arg(long)]
    unchecked: bool,
    /// Cargo tells every benchmark that it is one.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    println!("{}\n\n{}", options.operator.display(), Endured::HEADINGS);
    let is_asked_for = |attack: &&Attack| {
        options.attacks.is_empty() || options.attacks.iter().any(|name| name == attack.name)
    };
    for attack in Attack::ALL.iter().filter(is_asked_for) {
        let world = World::begin(&options.operator, attack.name == Attack::NAMES).await;
        let endured = world.endure([attack]).await;
        println!("{}", endured.row(attack.what));
        if !options.unchecked {
            endured.check(&world).await;
            world.end().await;
        }
    }
}
