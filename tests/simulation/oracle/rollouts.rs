//! While a policy's status shows that only canaries are changed, or nothing, no other gateway is changed for its rollout.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Violation;
use super::declared::Declared;
use crate::api::{Key, Kind, Write};
use crate::remote::{Asked, Entry, What};
use crate::replica::process_of;
use crate::time;

/// How long a change that was permitted before may take until it is on record.
const UNDER_WAY: Duration = Duration::from_mins(1);

/// What policies and gateways show of rollouts.
#[derive(Debug, Default)]
pub struct Rollouts {
    policies: BTreeMap<Key, Shown>,
    /// Changes that a policy's target causes: by which process, since when, and to what.
    pending: BTreeMap<Key, (usize, Duration, Value)>,
}

#[derive(Debug)]
struct Shown {
    process: usize,
    rollout: Value,
    /// Changes that are on record since then were permitted in this phase.
    strict_since: Duration,
}

impl Shown {
    fn phase(&self) -> &str {
        self.rollout["phase"].as_str().unwrap_or_default()
    }
}

impl Rollouts {
    pub fn learn(&mut self, write: &Write) {
        match write.target.kind {
            Kind::TokenPolicy => self.policy(write),
            Kind::X2Gateway if write.target.status || write.after.is_none() => self.gateway(write),
            _ => {}
        }
    }

    fn policy(&mut self, write: &Write) {
        let (before, at) = (self.policies.remove(&write.key), time::passed(write.time));
        let Some((after, process)) = write.after.as_ref().zip(process_of(&write.client)) else { return };
        let (status, meta) = (&after.value["status"], &after.value["metadata"]);
        let rollout = status["rollout"].clone();
        if status["observedGeneration"] != meta["generation"] || !rollout.is_object() {
            return;
        }
        let same = before.filter(|before| before.rollout["startedTime"] == rollout["startedTime"]);
        let strict_since = match same {
            Some(before) if before.rollout["phase"] == rollout["phase"] => before.strict_since,
            Some(before) if matches!(before.phase(), "Progressing" | "AwaitingWindow") => at + UNDER_WAY,
            _ if rollout["phase"] == "Halted" => at + UNDER_WAY,
            Some(before) => before.strict_since,
            None => at,
        };
        self.policies.insert(write.key.clone(), Shown { process, rollout, strict_since });
    }

    fn gateway(&mut self, write: &Write) {
        let before = self.pending.remove(&write.key);
        let Some((after, process)) = write.after.as_ref().zip(process_of(&write.client)) else { return };
        let pending = &after.value["status"]["pending"];
        if pending["cause"] == "Policy" {
            let known = before.filter(|(_, _, to)| *to == pending["to"]);
            let since = known.map_or(time::passed(write.time), |(_, since, _)| since);
            self.pending.insert(write.key.clone(), (process, since, pending["to"].clone()));
        }
    }

    pub fn check(&self, declared: &Declared, entry: &Entry) -> Result<(), Violation> {
        let What::Sent { replica, asked: Asked::Timeout(to), exchange, .. } = &entry.what else {
            return Ok(());
        };
        let known = declared.gateways(*replica, &entry.url, entry.at);
        let mut pairs = known.iter().flat_map(|possible| {
            let meta = &possible.gateway["metadata"];
            let policies = possible.policies.iter();
            policies.map(move |policy| (meta, policy.as_ref().map(|policy| &policy.name)))
        });
        // Only if it is certain which gateway and policy it is.
        let Some((meta, Some(policy))) = pairs.next() else { return Ok(()) };
        if pairs.any(|(other, its)| other["uid"] != meta["uid"] || its != Some(policy)) {
            return Ok(());
        }
        let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let shown = self.policies.get(&(namespace.clone(), policy.clone()));
        let pending = self.pending.get(&(namespace, name.clone()));
        let Some((shown, (process, since, value))) = shown.zip(pending) else { return Ok(()) };
        let canaries = shown.rollout["canaries"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_closed = match shown.phase() {
            "Canary" | "AwaitingApproval" => canaries.iter().all(|canary| *canary != name),
            "Halted" => true,
            _ => false,
        };
        let is_later = *since > shown.strict_since && *since <= entry.at && value == to;
        if !(is_closed && is_later && [*process, shown.process] == [*replica; 2]) {
            return Ok(());
        }
        let what =
            format!("#{exchange} to {name} at {:?}; policy {policy} shows {}", entry.at, shown.rollout);
        Err(Violation::new("rollouts go in steps", what))
    }
}
