//! A replica sends requests to remote systems and writes to the API server only while it has the lease, and changes no remote
//! system once it is shutting down.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violation;
use super::declared::SKEW;
use crate::api::{Kind, Write};
use crate::remote::{Asked, Entry, What};
use crate::replica::process_of;
use crate::time;

/// When each process may work.
#[derive(Debug, Default)]
pub struct Terms {
    /// Whether a lease decides which process works.
    pub elected: bool,
    /// When a process first had the lease, and when it has certainly lost it.
    led: BTreeMap<usize, Duration>,
    lost: BTreeMap<usize, Duration>,
    ending: BTreeMap<usize, Duration>,
}

impl Terms {
    /// A process shuts down: it finds that out at the latest when it runs next, at this time.
    pub fn ends(&mut self, process: usize, now: Duration) {
        self.ending.entry(process).or_insert(now);
    }

    pub fn check(&mut self, entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
        for write in writes {
            if write.target.kind == Kind::Lease {
                self.learn(write);
                continue;
            }
            let (process, sent) = (process_of(&write.client), time::passed(write.sent));
            if let Some(process) = process.filter(|process| !self.leads(*process, sent)) {
                let what = format!("{:?} {:?} {:?}", write.verb, write.target.kind, write.key);
                return Err(broken(process, what, sent, "without the lease"));
            }
        }
        for entry in entries {
            let What::Sent { exchange, replica, asked, .. } = &entry.what else { continue };
            let changes = matches!(asked, Asked::Timeout(_) | Asked::Customer { .. });
            if changes && self.ending.get(replica).is_some_and(|since| *since < entry.at) {
                return Err(broken(*replica, format!("#{exchange}"), entry.at, "while it shuts down"));
            }
            if !self.leads(*replica, entry.at) {
                return Err(broken(*replica, format!("#{exchange}"), entry.at, "without the lease"));
            }
        }
        Ok(())
    }

    fn leads(&self, process: usize, at: Duration) -> bool {
        let has_led = self.led.get(&process).is_some_and(|since| *since <= at);
        !self.elected || has_led && self.lost.get(&process).is_none_or(|lost| at <= *lost)
    }

    /// Another process has the lease now, or none.
    fn learn(&mut self, write: &Write) {
        let holder = |stored: &Option<std::sync::Arc<crate::api::Stored>>| {
            let identity = stored.as_ref()?.value["spec"]["holderIdentity"].as_str()?.to_owned();
            identity.strip_prefix("tenure-")?.split('_').next()?.parse::<usize>().ok()
        };
        let at = time::passed(write.time);
        if let Some(before) = holder(&write.before) {
            // The clocks of others differ.
            let own = process_of(&write.client) == Some(before);
            self.lost.insert(before, if own { at } else { at + SKEW });
        }
        if let Some(after) = holder(&write.after) {
            self.led.entry(after).or_insert(at);
            self.lost.remove(&after);
        }
    }
}

fn broken(process: usize, what: String, at: Duration, why: &str) -> Violation {
    Violation::new("replicas work while they may", format!("process {process} sends {what} at {at:?} {why}"))
}
