//! What the operator has asked the API server, by its audit log.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::api;

/// Requests that were answered, oldest first.
pub struct Audit(Vec<Value>);

impl Audit {
    /// Those of a namespace's accounts so far.
    pub fn read(audit_log: &Path, namespace: &str) -> Self {
        let log = std::fs::read_to_string(audit_log).unwrap();
        let is_answered = |line: &Value| line["stage"] == "ResponseComplete";
        Self(api::lines(&log, namespace).filter(is_answered).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Longest time between two renewals of the Lease. The last one counts for its distance to now.
    pub fn longest_renewal(&self) -> Duration {
        let is_renewal = |line: &&Value| {
            line["verb"] == "update"
                && line["objectRef"]["resource"] == "leases"
                && line["responseStatus"]["code"] == 200
        };
        let at = |line: &Value| line["stageTimestamp"].as_str().unwrap().parse::<Timestamp>().unwrap();
        let mut renewals: Vec<Timestamp> = self.0.iter().filter(is_renewal).map(at).collect();
        renewals.push(Timestamp::now());
        let distances = renewals.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        distances.max().unwrap().unsigned_abs()
    }

    /// The objects of a namespace whose statuses were written after so many requests.
    pub fn reports(&self, namespace: &str, after: usize) -> Vec<String> {
        let targets = self.0[after..].iter().map(|line| &line["objectRef"]);
        let reports = targets.filter(|target| {
            target["subresource"] == "status" && target["namespace"].as_str() == Some(namespace)
        });
        let name = |target: &Value| target["name"].as_str().unwrap().to_owned();
        reports.map(name).collect()
    }
}
