//! What must hold, in every schedule.

mod customers;
mod declared;
mod end_state;
mod logins;
mod owners;
mod pace;
mod quiet;
mod records;
mod rollouts;
mod secrets;
mod sight;
mod terms;
mod truth;
mod writes;

use std::fmt;

use crate::api::Write;
use crate::remote::Entry;

pub use end_state::{reason, unmet};
pub use owners::{Claim, claim};

/// A rule that was broken.
#[derive(Debug)]
pub struct Violation {
    pub oracle: &'static str,
    pub what: String,
}

impl Violation {
    pub fn new(oracle: &'static str, what: impl Into<String>) -> Self {
        Self { oracle, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle, self.what)
    }
}

/// What the oracles remember of a schedule.
#[derive(Debug, Default)]
pub struct Oracles {
    /// Passwords that must turn up nowhere.
    pub planted: Vec<String>,
    /// Processes that ended suddenly.
    pub crashes: u32,
    /// Whether nothing is to be written any more.
    pub quiet: bool,
    pub terms: terms::Terms,
    pub writes: writes::Writes,
    pub logins: logins::Logins,
    pub truth: truth::Truth,
    pub pace: pace::Pace,
    customers: customers::Customers,
    records: records::Records,
}

impl Oracles {
    /// Checks what was logged.
    pub fn check_log(&self, lines: &[String]) -> Result<(), Violation> {
        secrets::check_log(&self.planted, lines)
    }

    /// Checks what has happened since the last time.
    pub fn check(&mut self, entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
        self.pace.check_each(entries)?;
        secrets::check(&self.planted, writes)?;
        self.terms.check(entries, writes)?;
        self.writes.check(entries, writes)?;
        self.customers.check(entries)?;
        self.logins.lossy = self.terms.elected && self.writes.declared.sight.is_stormy();
        self.logins.check(entries, writes)?;
        self.truth.check(entries, writes)?;
        self.records.check(entries, writes)?;
        if self.quiet {
            quiet::check(entries, writes)?;
        }
        Ok(())
    }
}
