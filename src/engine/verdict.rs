//! The words of a report, under one name.

pub use super::conditions::{Notes, Verdict, conditions, ready, ready_reason, suspended, transition};
pub use super::reason::Reason;
