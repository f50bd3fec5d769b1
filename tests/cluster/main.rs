//! The operator, as a process under its own rights, on a real API server, against simulated appliances and servers.
#![allow(missing_docs, unreachable_pub, clippy::missing_panics_doc, reason = "tests")]

mod fixture;
mod gateways;
mod schema;
