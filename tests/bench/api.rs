//! What the API server was asked, by its own audit log.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The lines of an audit log about a namespace's accounts.
pub fn lines(log: &str, namespace: &str) -> impl Iterator<Item = Value> {
    let account = format!("system:serviceaccount:{namespace}:");
    // The last line may still be under way.
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(move |line| line["user"]["username"].as_str().is_some_and(|user| user.starts_with(&account)))
}

/// Requests by verb and resource.
#[derive(Clone, Debug, Default)]
pub struct Requests(BTreeMap<(String, String), u64>);

impl Requests {
    /// Those of a namespace's accounts so far.
    pub fn read(audit_log: &Path, namespace: &str) -> Result<Self> {
        let log = std::fs::read_to_string(audit_log).context("reading the audit log")?;
        let mut requests = Self::default();
        lines(&log, namespace).for_each(|line| requests.enter(&line));
        Ok(requests)
    }

    fn enter(&mut self, line: &Value) {
        let (verb, target) = (&line["verb"], &line["objectRef"]);
        // A watch is logged when it begins and once more when it ends.
        let stage = if verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
        if line["stage"] != stage {
            return;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut resource = text(&target["resource"]);
        if let Some(part) = target["subresource"].as_str() {
            resource = format!("{resource}/{part}");
        }
        if line["responseStatus"]["code"].as_u64().is_some_and(|code| code >= 400) {
            resource.push_str(" (refused)");
        }
        *self.0.entry((text(verb), resource)).or_default() += 1;
    }

    /// Those since an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.0.iter().map(|(request, count)| {
            let before = before.0.get(request).copied().unwrap_or_default();
            (request.clone(), count - before)
        });
        Self(counts.filter(|(_, count)| *count > 0).collect())
    }

    /// How many of them change something.
    pub fn writes(&self) -> u64 {
        self.0.iter().filter(|((verb, _), _)| is_write(verb)).map(|(_, count)| count).sum()
    }

    fn list(&self, writes: bool) -> String {
        let these = self.0.iter().filter(|((verb, _), _)| is_write(verb) == writes);
        let told = these.map(|((verb, resource), count)| format!("{count} {verb} {resource}"));
        told.collect::<Vec<_>>().join(", ")
    }
}

fn is_write(verb: &str) -> bool {
    !["get", "list", "watch"].contains(&verb)
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} writes ({}); reads: {}", self.writes(), self.list(true), self.list(false))
    }
}
