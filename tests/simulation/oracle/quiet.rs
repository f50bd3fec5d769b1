//! In steady state nothing is written, but for the hourly refresh of a status and the proof of a value.

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

/// Whether only the time of the last check has changed, or a login that was due anyway has proven the value that the
/// gateway shows: until then its tokens were issued before something else set that value.
fn is_refresh(write: &Write) -> bool {
    let without = |stored: &Option<std::sync::Arc<crate::api::Stored>>, fields: &[&str]| {
        let mut value = stored.as_ref()?.value.clone();
        let meta = value["metadata"].as_object_mut()?;
        meta.remove("resourceVersion");
        meta.remove("managedFields");
        let status = value["status"].as_object_mut()?;
        fields.iter().for_each(|field| drop(status.remove(*field)));
        Some(value)
    };
    let same_without = |fields: &[&str]| {
        let (before, after) = (without(&write.before, fields), without(&write.after, fields));
        before.is_some() && before == after
    };
    let is_proof = || {
        let status = write.after.as_ref().map(|after| &after.value["status"]);
        status.is_some_and(|status| status["provenTimeoutSeconds"] == status["timeoutSeconds"])
            && same_without(&["lastCheckedTime", "lastProvenTime", "provenTimeoutSeconds"])
    };
    same_without(&["lastCheckedTime"]) || is_proof()
}
