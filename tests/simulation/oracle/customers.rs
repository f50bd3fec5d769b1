//! Nothing of a customer changes but two keys of its `additionalInfo`, and its version.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violation;
use crate::remote::{Effect, Entry, Fields, What};

/// Longest time from the answer to a read until the write in which an edit of others may be lost.
const LONGEST: Duration = Duration::from_millis(100);

/// When customers were last read and edited.
#[derive(Debug, Default)]
pub struct Customers {
    /// When each request was sent.
    sent: BTreeMap<u64, Duration>,
    /// When the answer to the last read of a customer came to a process.
    read: BTreeMap<(usize, String), Duration>,
    /// Reads under way: the path, and the time from the read to the answer.
    reads: BTreeMap<u64, (String, Duration)>,
}

impl Customers {
    pub fn check(&mut self, entries: &[Entry]) -> Result<(), Violation> {
        for entry in entries {
            match &entry.what {
                What::Sent { exchange, path, method, fate, .. } => {
                    self.sent.insert(*exchange, entry.at);
                    if *method == "GET" {
                        self.reads.insert(*exchange, (path.clone(), fate.after));
                    }
                }
                What::CarriedOut { exchange, replica, effect: Effect::None, status: 200 } => {
                    let (path, after) = self.reads.remove(exchange).unwrap_or_default();
                    if let Some(id) = path.strip_prefix("/api/customer/") {
                        self.read.insert((*replica, id.to_owned()), entry.at + after);
                    }
                }
                What::CarriedOut {
                    exchange,
                    replica,
                    effect: Effect::Customer { id, before, after },
                    ..
                } => {
                    if let Some(lost) = lost(before, after) {
                        self.tolerated(*exchange, *replica, id, &lost)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What others write between the read and the write may be lost, where nothing shows that they did; but the operator
    /// must add little to that time.
    fn tolerated(&self, exchange: u64, replica: usize, id: &str, lost: &str) -> Result<(), Violation> {
        let sent = self.sent.get(&exchange).copied().unwrap_or_default();
        let read = self.read.get(&(replica, id.to_owned())).copied().unwrap_or_default();
        if sent.saturating_sub(read) < LONGEST {
            return Ok(());
        }
        let what = format!(
            "#{exchange} to customer {id}, sent at {sent:?} after a read that was answered at {read:?}: {lost}"
        );
        Err(Violation::new("what belongs to others survives", what))
    }
}

/// What differs that must not.
fn lost(before: &str, after: &str) -> Option<String> {
    let (before, after) = (Fields::parse(before)?, Fields::parse(after)?);
    let others = |fields: &Fields| -> Vec<(String, String)> {
        let others = fields.iter().filter(|(name, _)| !matches!(*name, "additionalInfo" | "version"));
        others.map(|(name, raw)| (name.to_owned(), raw.to_owned())).collect()
    };
    if others(&before) != others(&after) {
        return Some(format!("{:?} has become {:?}", others(&before), others(&after)));
    }
    let (was, is) = (info(&before), info(&after));
    (was != is).then(|| format!("additionalInfo {was:?} has become {is:?}"))
}

/// The keys of `additionalInfo` that are not ours.
fn info(customer: &Fields) -> Vec<(String, String)> {
    let raw = customer.get("additionalInfo").unwrap_or("null");
    let inner = serde_json::from_str::<String>(raw).ok();
    let info = Fields::parse(inner.as_deref().unwrap_or(raw)).unwrap_or_default();
    let ours = |name: &str| matches!(name, "accessTokenTtlSeconds" | "refreshTokenTtlSeconds");
    info.iter().filter(|(name, _)| !ours(name)).map(|(name, raw)| (name.to_owned(), raw.to_owned())).collect()
}
