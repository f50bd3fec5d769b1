//! The operator, as a process under its own rights, on a real API server, against simulated appliances and servers.
#![allow(missing_docs, reason = "tests")]

mod fixture;
mod gateways;
