//! Nothing of a customer changes but two keys of its `additionalInfo`, and its version.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violation;
use crate::remote::{Effect, Entry, Fields, What};

/// Longest time between reading a customer and writing it in which an edit of others may be lost: one round trip.
const ROUND_TRIP: Duration = Duration::from_millis(500);

/// When customers were last read and edited.
#[derive(Debug, Default)]
pub struct Customers {
    /// Requests for customers that are under way: the customer, and when it was sent.
    sent: BTreeMap<u64, Duration>,
    /// When a process has last read a customer, as the server saw it.
    read: BTreeMap<(usize, String), Duration>,
    paths: BTreeMap<u64, String>,
}

impl Customers {
    pub fn check(&mut self, entries: &[Entry]) -> Result<(), Violation> {
        for entry in entries {
            match &entry.what {
                What::Sent { exchange, path, method, .. } => {
                    self.sent.insert(*exchange, entry.at);
                    if *method == "GET" {
                        self.paths.insert(*exchange, path.clone());
                    }
                }
                What::CarriedOut { exchange, replica, effect: Effect::None, status: 200 } => {
                    if let Some(id) = self
                        .paths
                        .remove(exchange)
                        .as_deref()
                        .and_then(|path| path.strip_prefix("/api/customer/"))
                    {
                        self.read.insert((*replica, id.to_owned()), entry.at);
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

    /// What others write between the read and the write may be lost, where nothing shows that they did; but that time must
    /// be short.
    fn tolerated(&self, exchange: u64, replica: usize, id: &str, lost: &str) -> Result<(), Violation> {
        let sent = self.sent.get(&exchange).copied().unwrap_or_default();
        let read = self.read.get(&(replica, id.to_owned())).copied().unwrap_or_default();
        if sent.saturating_sub(read) < ROUND_TRIP {
            return Ok(());
        }
        let what = format!("#{exchange} to customer {id}, sent at {sent:?} after a read at {read:?}: {lost}");
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
