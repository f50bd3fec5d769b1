//! What takes longer than a test may, and is run by `.ci/deep`: the ten minutes that a deletion waits at most, and
//! kube-state-metrics, which Go builds for minutes.
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

#[path = "../cluster/fixture.rs"]
mod fixture;
mod kube_state_metrics;
mod patience;
