//! A password that was refused is not tried again without cause: neither there nor, after three refusals in a row, elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Violation;
use crate::api::{Key, Kind, Write};
use crate::plan::reached_by;
use crate::remote::{Asked, Course, Effect, Entry, What};
use crate::replica::process_of;
use crate::time;

/// Refusals in a row after which a password is tried nowhere.
const ROW: usize = 3;
/// Shortest wait of the operator for the answer to a login.
const PATIENCE: Duration = Duration::from_millis(9_900);
/// For how long after a password was accepted any number of logins may be sent at once.
const FRESH: Duration = Duration::from_mins(2);
const REQUEST: &str = "tenure.dev/reconcile-requested-at";

/// What was refused, and what may have been repeated.
#[derive(Debug, Default)]
pub struct Logins {
    /// Refusals that were heard, by system and password.
    refused: BTreeMap<(String, String), u32>,
    rows: BTreeMap<String, Row>,
    /// Logins under way: when each was sent, and when its answer is heard, if it is.
    sent: BTreeMap<u64, (Duration, Option<Duration>)>,
    /// The Secrets that a password was in, and how many versions each has had.
    secrets: BTreeMap<String, BTreeSet<Key>>,
    versions: BTreeMap<Key, u32>,
    /// Edits of the gateways and servers of a URL: any may be a request, or lead to another Secret.
    edits: BTreeMap<String, u32>,
    /// Requests for many, and edits of customers.
    requests: u32,
    /// Objects with a request that is not carried out yet, by uid.
    open: BTreeSet<String>,
    /// Whether a process may give up what is under way, since it does not keep the lease.
    pub lossy: bool,
    /// Processes so far: one that ends may not have recorded a refusal.
    pub processes: u32,
    /// Pauses, in which answers are missed.
    pub pauses: u32,
}

/// Refusals of a password since it was last accepted, its Secret was edited, or a user has asked for another try.
#[derive(Debug, Default)]
struct Row {
    refusals: Vec<Refusal>,
    /// Interruptions before the first of them, and before the last.
    interrupted: (u32, u32),
    accepted: Option<Duration>,
    /// Whether a request was still being carried out at one of them. Whichever part of it comes last permits as many more.
    is_requested: bool,
}

#[derive(Debug)]
struct Refusal {
    url: String,
    heard: Duration,
    /// Whether a status shows it: an interruption makes the others forgotten.
    is_recorded: bool,
}

impl Logins {
    pub fn check(&mut self, entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
        let mut writes = writes.iter().peekable();
        for entry in entries {
            while let Some(write) = writes.next_if(|write| time::passed(write.time) <= entry.at) {
                self.learn(write);
            }
            match &entry.what {
                What::Sent { exchange, asked: Asked::Login, fate, .. } => {
                    let took = fate.before + fate.after;
                    let heard = fate.course == Course::Served && took < PATIENCE && !self.lossy;
                    self.sent.insert(*exchange, (entry.at, heard.then(|| entry.at + took)));
                }
                What::CarriedOut { exchange, effect: Effect::LoginRefused { password, .. }, .. } => {
                    if let Some((sent, Some(heard))) = self.sent.remove(exchange) {
                        self.refusal(&entry.url, password)?;
                        self.in_a_row(password, &entry.url, sent, heard)?;
                    }
                }
                What::CarriedOut { effect: Effect::LoggedIn { password, .. }, .. } => {
                    let row = Row { accepted: Some(entry.at), ..Row::default() };
                    self.rows.insert(password.clone(), row);
                }
                _ => {}
            }
        }
        writes.for_each(|write| self.learn(write));
        Ok(())
    }

    fn learn(&mut self, write: &Write) {
        let kind = write.target.kind;
        let value = |stored: &Option<std::sync::Arc<crate::api::Stored>>| {
            stored.as_ref().map_or(Value::Null, |stored| stored.value.clone())
        };
        let (before, after) = (value(&write.before), value(&write.after));
        let is_declared = kind == Kind::Secret || Kind::OURS.contains(&kind);
        let request = |object: &Value| object["metadata"]["annotations"][REQUEST].clone();
        let is_request = request(&before) != request(&after);
        // What the status of something that is gone has shown is gone, too.
        if is_declared && (is_request || after.is_null()) {
            self.rows.clear();
        }
        if let Some(uid) = [&after, &before].into_iter().find_map(|object| object["metadata"]["uid"].as_str())
        {
            let asked = request(&after);
            if asked.is_null() || asked == after["status"]["lastHandledReconcileAt"] {
                self.open.remove(uid);
            } else {
                self.open.insert(uid.to_owned());
            }
        }
        if process_of(&write.client).is_some() && !after.is_null() {
            if after["status"]["refusedLogin"].get(0).is_some() {
                self.recorded(&reached_by(&after["spec"]));
            }
            return;
        }
        match kind {
            Kind::Secret => self.version(write.key.clone(), &after),
            Kind::X2Gateway | Kind::KonaServer => {
                let urls = [&before, &after].into_iter().filter(|object| !object.is_null());
                let urls: BTreeSet<String> = urls.map(|object| reached_by(&object["spec"])).collect();
                for url in urls {
                    // The first one there is nothing but the first one.
                    self.edits.entry(url).and_modify(|edits| *edits += 1).or_default();
                }
            }
            Kind::CustomerTokenTtl if !before.is_null() => self.requests += 1,
            Kind::TokenPolicy if is_request => self.requests += 1,
            _ => {}
        }
    }

    fn version(&mut self, key: Key, secret: &Value) {
        let password = secret["data"]["password"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let password = password.and_then(|password| String::from_utf8(password).ok());
        *self.versions.entry(key.clone()).or_default() += 1;
        if let Some(password) = password {
            self.secrets.entry(password).or_default().insert(key.clone());
        }
        let secrets = &self.secrets;
        self.rows.retain(|password, _| secrets.get(password).is_none_or(|keys| !keys.contains(&key)));
    }

    fn recorded(&mut self, url: &str) {
        let refusals = self.rows.values_mut().flat_map(|row| &mut row.refusals);
        refusals.filter(|refusal| refusal.url == url).for_each(|refusal| refusal.is_recorded = true);
    }

    fn interruptions(&self) -> u32 {
        self.processes.saturating_sub(1) + self.pauses
    }

    /// Once per version of the Secret and system, and once for each request and interruption.
    fn refusal(&mut self, url: &str, password: &str) -> Result<(), Violation> {
        let times = self.refused.entry((url.to_owned(), password.to_owned())).or_default();
        *times += 1;
        let times = *times;
        let keys = self.secrets.get(password).into_iter().flatten();
        let versions: u32 = keys.filter_map(|key| self.versions.get(key)).sum();
        let edits = self.edits.get(url).copied().unwrap_or_default();
        let allowed = versions + edits + self.requests + self.interruptions();
        if times <= allowed {
            return Ok(());
        }
        let what = format!("{url} has refused the same password {times} times; {allowed} may be");
        Err(Violation::new("refused logins stay within the budget", what))
    }

    /// A password is tried nowhere after three refusals in a row, wherever they were.
    fn in_a_row(
        &mut self,
        password: &str,
        url: &str,
        sent: Duration,
        heard: Duration,
    ) -> Result<(), Violation> {
        let interruptions = self.interruptions();
        let secrets = self.secrets.get(password).map_or(1, |keys| keys.len().max(1));
        let row = self.rows.entry(password.to_owned()).or_default();
        if row.refusals.is_empty() {
            row.interrupted = (interruptions, interruptions);
        }
        if row.interrupted.1 < interruptions {
            row.interrupted.1 = interruptions;
            row.refusals.retain(|refusal| refusal.is_recorded);
        }
        let before = row.refusals.iter().filter(|refusal| refusal.heard < sent).count();
        let repeated = usize::try_from(interruptions - row.interrupted.0).unwrap_or(usize::MAX);
        row.refusals.push(Refusal { url: url.to_owned(), heard, is_recorded: false });
        row.is_requested |= !self.open.is_empty();
        let is_fresh = row.accepted.is_some_and(|at| sent < at + FRESH);
        let requested = if row.is_requested { ROW } else { 0 };
        if is_fresh || before < ROW * secrets + repeated + requested {
            return Ok(());
        }
        let what = format!("a password was sent at {sent:?} after {before} refusals in a row");
        Err(Violation::new("a refused password is tried three times", what))
    }
}
