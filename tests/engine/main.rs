//! The pure rules: tables of what is promised, and properties over whatever may come.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod annotation;
mod audit;
mod backoff;
mod change;
mod claims;
mod connection;
mod contest;
mod customer;
mod gateway;
mod gateway_change;
mod gateway_record;
mod governance;
mod lifetime;
mod login;
mod login_state;
mod merge;
mod origin;
mod owed;
mod ownership;
mod parting;
mod policy;
mod precedence;
mod reason;
mod record;
mod references;
mod restoration;
mod rollout;
mod schedule;
mod server;
mod size;
mod spec;
mod tally;
mod text;
mod verdict;
mod window;
