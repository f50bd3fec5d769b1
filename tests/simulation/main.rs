//! The operator in virtual time, on an in-memory API server and with remote systems in memory.
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
    clippy::indexing_slicing,
    reason = "tests"
)]

mod annotations;
mod api;
mod claims;
mod conformance;
mod contained;
mod crash;
mod depot;
mod events;
mod grace;
mod guesses;
mod history;
mod hooks;
mod identity;
mod intent;
mod judge;
mod knobs;
mod leases;
mod log;
mod manifest;
mod oracle;
mod outages;
mod patience;
mod persons;
mod plan;
mod proofs;
mod remote;
mod replica;
mod schedule;
mod schedules;
mod scripted;
mod seed;
mod time;
mod unreported;
mod watches;
mod world;
