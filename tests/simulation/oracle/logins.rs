//! A password that a system has refused is not tried there again without cause.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::api::{Kind, Write};
use crate::remote::{Course, Effect, Entry, What};
use crate::replica::process_of;

/// What was refused, and what may have been repeated.
#[derive(Debug, Default)]
pub struct Logins {
    /// Refusals that were answered, by system and password.
    refused: BTreeMap<(String, String), u32>,
    /// Exchanges whose answers do not arrive.
    unheard: BTreeSet<u64>,
    /// Writes of Secrets: each makes a new version.
    versions: u32,
    /// Requests for another try.
    requests: u32,
    /// Processes so far: one that ends may not have recorded a refusal.
    pub processes: u32,
}

impl Logins {
    pub fn check(&mut self, entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
        for write in writes {
            let by_user = process_of(&write.client).is_none();
            if by_user && write.target.kind == Kind::Secret {
                self.versions += 1;
            } else if by_user {
                // Any edit may be a request, or point to another Secret or system.
                self.requests += 1;
            }
        }
        for entry in entries {
            match &entry.what {
                What::Sent { exchange, fate, .. } if fate.course != Course::Served => {
                    self.unheard.insert(*exchange);
                }
                What::CarriedOut { exchange, effect: Effect::LoginRefused { password, .. }, .. }
                    if !self.unheard.contains(exchange) =>
                {
                    self.refusal(&entry.url, password)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn refusal(&mut self, url: &str, password: &str) -> Result<(), Violation> {
        let times = self.refused.entry((url.to_owned(), password.to_owned())).or_default();
        *times += 1;
        let allowed = 1 + self.versions + self.requests + self.processes;
        if *times <= allowed {
            return Ok(());
        }
        let what = format!("{url} has refused the same password {times} times; {allowed} may be");
        Err(Violation::new("refused logins stay within the budget", what))
    }
}
