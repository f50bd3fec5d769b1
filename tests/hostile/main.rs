//! Some namespaces attack, another must not notice: attacks of few objects each, all at the same time. `.ci/deep` measures each
//! alone, also those of thousands of objects.
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
    reason = "tests"
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

use attacks::Attack;
use world::{Endured, World};

#[tokio::test(flavor = "multi_thread")]
async fn attacks_at_the_same_time_do_not_reach_another_namespace() {
    let world = World::begin(fixture::program(), false).await;
    let endured = world.endure(Attack::ALL.iter().filter(|attack| attack.has_few_objects)).await;
    println!("{}\n{}", Endured::HEADINGS, endured.row("at the same time"));
    endured.check(&world).await;
    world.end().await;
}
