//! The operator, as a process under its own rights, on a real API server, against simulated appliances and servers.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::doc_markdown,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

// Those that take longest begin with letters that come first: the order of the names is that of the tests.
mod at_scale;
mod audit;
mod bad_input;
mod change_windows;
mod changes;
mod conflicts;
mod customers;
mod docs;
mod drift;
mod events;
mod examples;
mod fixture;
mod gateways;
mod gitops;
mod leader;
mod logins;
mod monitoring;
mod operator;
mod outages;
mod playground;
mod policies;
mod requests;
mod restore;
mod revocation;
mod rollouts;
mod schema;
mod settings;
mod traces;
