//! In steady state nothing is written, but for the hourly refresh of a status.

use serde_json::Value;

use super::Violation;
use crate::api::{Kind, Write};
use crate::remote::{Effect, Entry, What};

/// Nothing must be written although nothing happens.
pub fn check(entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
    let remote = entries.iter().filter_map(|entry| match &entry.what {
        What::CarriedOut { effect: Effect::None | Effect::LoggedIn { .. }, .. } | What::Sent { .. } => None,
        other => Some(format!("{} {other:?}", entry.url)),
    });
    let api = writes.iter().filter(|write| write.target.kind != Kind::Lease && !is_refresh(write));
    let api = api.map(|write| format!("{:?} {:?} {:?}", write.verb, write.target.kind, write.key));
    match remote.chain(api).next() {
        Some(what) => Err(Violation::new("steady state writes nothing", what)),
        None => Ok(()),
    }
}

/// Whether only the time of the last check has changed.
fn is_refresh(write: &Write) -> bool {
    let without = |stored: &Option<std::sync::Arc<crate::api::Stored>>| {
        let mut value = stored.as_ref()?.value.clone();
        let meta = value["metadata"].as_object_mut()?;
        meta.remove("resourceVersion");
        meta.remove("managedFields");
        value["status"].as_object_mut()?.remove("lastCheckedTime");
        Some(value)
    };
    let (before, after): (Option<Value>, Option<Value>) = (without(&write.before), without(&write.after));
    before.is_some() && before == after
}
