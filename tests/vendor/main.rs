//! The clients of the remote systems against simulated ones, with everything that goes wrong between them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod answers;
mod budgets;
mod connections;
mod faults;
mod kona;
mod lease;
mod pace;
mod peers;
mod permission;
mod proxy;
mod sessions;
mod world;
