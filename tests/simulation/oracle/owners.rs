//! Which of several resources of one remote object certainly owns it: of those that were let in, the oldest.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::declared::Declared;
use super::end_state::reason;
use crate::api::{Key, Kind, Stored, Write};
use crate::intent::is_deleting;
use crate::plan::reached_by;
use crate::remote::{Course, Entry, What};
use crate::replica::process_of;
use crate::time;

/// Reasons of those that were let in.
const INSIDE: [&str; 7] =
    ["InSync", "Unmanaged", "Observed", "Drifted", "AwaitingWindow", "AwaitingRollout", "AwaitingApproval"];
/// Reasons that take nothing from an owner.
const HARMLESS: [&str; 5] = ["Progressing", "Unreachable", "TimedOut", "RateLimited", "UnexpectedAnswer"];

/// A claimant: sorts by age, then by namespace and name.
pub type Claim = (String, String, String, String);

/// Resources that a process has been let in for, and has shown that.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<(Kind, Key), Inside>);

#[derive(Debug)]
struct Inside {
    process: usize,
    since: Duration,
    /// The URL, as it is reached.
    url: String,
    claim: Claim,
}

/// Who claims something, from its metadata.
pub fn claim(meta: &Value) -> Claim {
    let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
    (text("creationTimestamp"), text("namespace"), text("name"), text("uid"))
}

impl Owners {
    pub fn learn(&mut self, write: &Write) {
        let kind = write.target.kind;
        let spec = |stored: &Option<std::sync::Arc<Stored>>| {
            let mut spec = stored.as_ref().map(|stored| stored.value["spec"].clone())?;
            spec.as_object_mut()?.remove("suspend");
            Some(spec)
        };
        match kind {
            Kind::X2Gateway | Kind::CustomerTokenTtl if write.target.status => self.status(write),
            // Another login, another way, or another system.
            Kind::X2Gateway | Kind::CustomerTokenTtl if spec(&write.before) != spec(&write.after) => {
                self.0.remove(&(kind, write.key.clone()));
            }
            Kind::KonaServer if !write.target.status => {
                self.0.retain(|(kind, _), _| *kind != Kind::CustomerTokenTtl);
            }
            Kind::Secret if write.after.is_none() => self.0.clear(),
            _ => {}
        }
    }

    fn status(&mut self, write: &Write) {
        let Some((after, process)) = write.after.as_ref().zip(process_of(&write.client)) else { return };
        let (object, place) = (&after.value, (write.target.kind, write.key.clone()));
        let (reason, url) = (reason(object), object["status"]["effectiveUrl"].as_str().unwrap_or_default());
        if INSIDE.contains(&reason) && !object["status"]["lastCheckedTime"].is_null() {
            let is_gateway = place.0 == Kind::X2Gateway;
            let url = if is_gateway { reached_by(&object["spec"]) } else { url.to_owned() };
            let since = time::passed(write.time);
            self.0.insert(place, Inside { process, since, url, claim: claim(&object["metadata"]) });
        } else if !HARMLESS.contains(&reason) {
            self.0.remove(&place);
        }
    }

    /// A login or a role may have been refused.
    pub fn hear(&mut self, entry: &Entry) {
        let status = match &entry.what {
            What::CarriedOut { status, .. } => *status,
            What::Sent { fate, .. } => match fate.course {
                Course::Answered { status, .. } => status,
                _ => return,
            },
            What::Foreign(_) => return,
        };
        if matches!(status, 401 | 403) {
            self.0.retain(|_, inside| inside.url != entry.url);
        }
    }

    /// Whether another resource than this one certainly owns what a process writes at a URL. `same`: whether another is about the
    /// same object.
    pub fn another(
        &self,
        declared: &Declared,
        (process, entry): (usize, &Entry),
        claim: &Claim,
        same: (Kind, &dyn Fn(&Value) -> bool),
    ) -> Option<String> {
        let older = self.0.iter().filter(|((kind, _), inside)| {
            let Inside { process: its, since, url, claim: older } = inside;
            *kind == same.0 && *its == process && *since <= entry.at && *url == entry.url && older < claim
        });
        let holds = |version: &Value, uid: &str| {
            let is_active = version["spec"]["suspend"] != true && !is_deleting(version);
            is_active && version["metadata"]["uid"] == *uid && same.1(version)
        };
        let mut owners = older.filter(|((kind, key), inside)| {
            declared.certainly((process, *kind, key), entry.at, |version| holds(version, &inside.claim.3))
        });
        owners.next().map(|((_, (namespace, name)), _)| format!("{namespace}/{name} owns it"))
    }
}
