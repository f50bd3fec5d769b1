//! The Helm chart: what it renders, by Helm 3 and Helm 4, and what becomes of it on a real API server.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::doc_markdown,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod admission;
mod cluster;
mod conformity;
mod documents;
mod environment;
mod finalizers;
mod helm;
mod hub;
mod install;
mod life;
mod names;
mod neighbours;
mod notes;
mod nulls;
mod parents;
mod pods;
mod rights;
mod values;
