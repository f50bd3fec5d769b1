//! A replica changes remote systems only while it has the lease, and not once it is shutting down.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violation;
use super::declared::SKEW;
use crate::api::{Kind, Write};
use crate::remote::{Asked, Entry, What};
use crate::replica::process_of;
use crate::time;

/// When each process may change something.
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
        writes.iter().filter(|write| write.target.kind == Kind::Lease).for_each(|write| self.learn(write));
        for entry in entries {
            let What::Sent { exchange, replica, asked, .. } = &entry.what else { continue };
            if !matches!(asked, Asked::Timeout(_) | Asked::Customer { .. }) {
                continue;
            }
            if let Some(why) = self.forbids(*replica, entry.at) {
                let what = format!("process {replica} sends #{exchange} at {:?} {why}", entry.at);
                return Err(Violation::new("replicas write while they may", what));
            }
        }
        Ok(())
    }

    fn forbids(&self, process: usize, at: Duration) -> Option<&'static str> {
        if self.ending.get(&process).is_some_and(|since| *since < at) {
            return Some("while it shuts down");
        }
        let has_led = self.led.get(&process).is_some_and(|since| *since <= at);
        let leads = has_led && self.lost.get(&process).is_none_or(|lost| at <= *lost);
        (self.elected && !leads).then_some("without the lease")
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
