//! The pure rules: desired + observed + time in, a decision out. No I/O, no clock, no randomness, no failure.

pub mod backoff;
pub mod change;
pub mod conditions;
pub mod contest;
pub mod customer;
pub mod gateway;
pub mod governance;
pub mod guard;
pub mod lifetime;
pub mod login;
pub mod ownership;
pub mod policy;
pub mod precedence;
pub mod reason;
pub mod remote;
pub mod request;
pub mod restoration;
pub mod rollout;
pub mod schedule;
pub mod server;
pub mod spec;
pub mod tally;
pub mod text;
pub mod verdict;
pub mod window;
