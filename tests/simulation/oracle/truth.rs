//! What a status says of the past is true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::Violation;
use crate::api::{Kind, Write};
use crate::plan::reached_by;
use crate::remote::{Effect, Entry, What};

/// What has stood at each appliance, and what the operator has changed.
#[derive(Debug, Default)]
pub struct Truth {
    /// Values that were there at some time, by URL.
    stood: BTreeMap<String, BTreeSet<u64>>,
    /// Values that the operator has set, by URL, with what was there before.
    set: BTreeMap<String, Vec<(u64, u64)>>,
    revoked: BTreeMap<String, usize>,
    /// Where tokens from before the last change of the operator are still valid.
    unrevoked: BTreeMap<String, Change>,
}

/// A change by the operator that no other writer has followed with a change.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub process: usize,
    pub at: Duration,
    /// Whether it made the lifetime shorter.
    pub shortens: bool,
}

impl Truth {
    /// A value was there from the beginning.
    pub fn saw(&mut self, url: &str, seconds: u32) {
        self.stood.entry(url.to_owned()).or_default().insert(seconds.into());
    }

    pub fn check(&mut self, entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
        for entry in entries {
            let (effect, process) = match &entry.what {
                What::CarriedOut { effect, replica, .. } => (effect, Some(*replica)),
                What::Foreign(effect) => (effect, None),
                What::Sent { .. } => continue,
            };
            match effect {
                Effect::Timeout { from, to } => {
                    let (from, to) = (u64::from(*from), u64::from(*to));
                    self.stood.entry(entry.url.clone()).or_default().extend([from, to]);
                    if process.is_some() {
                        self.set.entry(entry.url.clone()).or_default().push((from, to));
                    }
                    if from != to {
                        let (at, shortens) = (entry.at, to < from);
                        let change = process.map(|process| Change { process, at, shortens });
                        self.unrevoked.remove(&entry.url);
                        self.unrevoked.extend(change.map(|change| (entry.url.clone(), change)));
                    }
                }
                Effect::Revoked { .. } => {
                    *self.revoked.entry(entry.url.clone()).or_default() += 1;
                    self.unrevoked.remove(&entry.url);
                }
                _ => {}
            }
        }
        writes.iter().try_for_each(|write| self.status(write))
    }

    /// Tokens are revoked if that is asked for, and then once per change, but for those that were repeated: `again`.
    pub fn check_revocations(&self, asked_for: bool, again: usize) -> Result<(), Violation> {
        for (url, times) in &self.revoked {
            let changes = self.set.get(url).map_or(0, Vec::len);
            if !asked_for || *times > changes + again {
                let what = format!("the tokens at {url} were revoked {times} times, after {changes} changes");
                return Err(Violation::new("revocations are those asked for", what));
            }
        }
        Ok(())
    }

    /// Tokens from before the last change are revoked, if `owed` says so of it.
    pub fn check_revoked(&self, url: &str, owed: impl FnOnce(&Change) -> bool) -> Result<(), Violation> {
        let Some(change) = self.unrevoked.get(url).filter(|change| owed(change)) else { return Ok(()) };
        let what = format!("tokens from before the change at {url} at {:?} are still valid", change.at);
        Err(Violation::new("revocations are those asked for", what))
    }

    fn status(&self, write: &Write) -> Result<(), Violation> {
        let Some(after) =
            write.after.as_ref().filter(|_| write.target.kind == Kind::X2Gateway && write.target.status)
        else {
            return Ok(());
        };
        let (status, spec) = (&after.value["status"], &after.value["spec"]);
        let wrong = |what: String| {
            let what = format!("the status of {:?} {what}", write.key);
            Err(Violation::new("original and history are true", what))
        };
        // What is shown of another URL is about to go.
        if status["effectiveUrl"] != spec["url"] {
            return Ok(());
        }
        let url = reached_by(spec);
        let stood = |value: &Value| {
            value
                .as_u64()
                .is_none_or(|value| self.stood.get(&url).is_some_and(|stood| stood.contains(&value)))
        };
        if !stood(&status["originalTimeoutSeconds"]) && !status["pending"].is_object() {
            return wrong(format!(
                "has {} as the original value, which never stood there",
                status["originalTimeoutSeconds"]
            ));
        }
        let newest = &status["history"][0];
        if newest.is_object() && !(stood(&newest["from"]) && stood(&newest["to"])) {
            return wrong(format!("has a change in its history that never was: {newest}"));
        }
        Ok(())
    }
}
