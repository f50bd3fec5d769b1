//! What a customer's status shows of the past is true: its original lifetimes, its history, and what a user has proven.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::Violation;
use crate::api::{Kind, Write};
use crate::plan::{user_of, user_secret};
use crate::remote::{Effect, Entry, Fields, What, token_ttls};
use crate::replica::process_of;
use crate::time;

const KEYS: [&str; 2] = ["accessTokenTtlSeconds", "refreshTokenTtlSeconds"];

type Ttls = (Option<u64>, Option<u64>);

/// What customers have held, and the logins of their users.
#[derive(Debug, Default)]
pub struct Records {
    /// Lifetimes that were there at some time, by customer.
    held: BTreeMap<String, BTreeSet<Ttls>>,
    /// Those that were there before the operator and those that others have set, as they were written, by customer and key;
    /// none: the key was not there.
    of_others: BTreeMap<(String, &'static str), BTreeSet<Option<String>>>,
    /// Customers that are left as they are in the end: their original has not to be on record before a write.
    retained: BTreeSet<String>,
    /// The last change of each, until a report shows what has come of it.
    unrecorded: BTreeMap<String, Plain>,
    /// Logins of each user, and those that the last proof was shown after.
    logins: BTreeMap<String, u32>,
    proven: BTreeMap<String, u32>,
}

/// A change that nothing has to outlive.
#[derive(Clone, Copy, Debug)]
struct Plain {
    process: usize,
    at: Duration,
    to: Ttls,
}

impl Records {
    pub fn check(&mut self, entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
        // Edits come first: nothing else happens meanwhile.
        writes.iter().for_each(|write| self.spec(write));
        let mut entries = entries.iter().peekable();
        for write in writes {
            // What was done after a report says nothing of it.
            while let Some(entry) = entries.next_if(|entry| entry.at <= time::passed(write.time)) {
                self.done(entry);
            }
            self.status(write)?;
        }
        entries.for_each(|entry| self.done(entry));
        Ok(())
    }

    fn done(&mut self, entry: &Entry) {
        match &entry.what {
            What::CarriedOut { effect: Effect::Customer { id, before, after }, replica, .. } => {
                let is_first = !self.held.contains_key(id);
                self.saw(id, before, is_first);
                self.saw(id, after, false);
                self.changed(id, after, (*replica, entry.at));
            }
            What::Foreign(Effect::Customer { id, before, after }) => {
                let is_first = !self.held.contains_key(id);
                self.saw(id, before, is_first);
                self.saw(id, after, true);
            }
            What::CarriedOut { effect: Effect::LoggedIn { user, .. }, .. } if user_of(user) == user => {
                *self.logins.entry(user.clone()).or_default() += 1;
            }
            _ => {}
        }
    }

    fn saw(&mut self, id: &str, customer: &str, of_others: bool) {
        let Some(customer) = Fields::parse(customer) else { return };
        self.held.entry(id.to_owned()).or_default().insert(token_ttls(&customer));
        if !of_others {
            return;
        }
        let info = customer.get("additionalInfo").unwrap_or("null");
        let inner = serde_json::from_str::<String>(info).ok();
        let info = Fields::parse(inner.as_deref().unwrap_or(info)).unwrap_or_default();
        for key in KEYS {
            let raw = info.get(key).map(str::to_owned);
            self.of_others.entry((id.to_owned(), key)).or_default().insert(raw);
        }
    }

    fn spec(&mut self, write: &Write) {
        let is_spec = write.target.kind == Kind::CustomerTokenTtl && !write.target.status;
        let Some(after) = write.after.as_ref().filter(|_| is_spec) else { return };
        let spec = &after.value["spec"];
        let id = spec["customerId"].as_str().unwrap_or_default();
        if spec["deletionPolicy"] == "Restore" {
            self.retained.remove(id);
        } else {
            self.retained.insert(id.to_owned());
        }
    }

    fn changed(&mut self, id: &str, after: &str, (process, at): (usize, Duration)) {
        self.unrecorded.remove(id);
        if let Some(customer) = Fields::parse(after).filter(|_| self.retained.contains(id)) {
            self.unrecorded.insert(id.to_owned(), Plain { process, at, to: token_ttls(&customer) });
        }
    }

    /// What a process has set by a plain change, and has not reported before its end, a later one takes for what others have
    /// set if the spec asks for something else by then: nothing shows whose it is.
    fn took_over(&mut self, write: &Write, before: &Value, after: &Value) {
        let (status, spec) = (&after["status"], &after["spec"]);
        let id = spec["customerId"].as_str().unwrap_or_default();
        let Some(Plain { process, at, to }) = self.unrecorded.get(id).copied() else { return };
        if time::passed(write.time) < at {
            return;
        }
        let pending = &status["pending"];
        let shows = ttls(status) == to || ttls(&pending["from"]) == to;
        let is_on_record = [before, status].iter().any(|status| status["history"].is_array())
            || before["pending"].is_object()
            || process_of(&write.client) == Some(process);
        let is_current = status["observedGeneration"] == after["metadata"]["generation"];
        let is_edited = ttls(spec) != to && (is_current || ttls(&pending["to"]) == ttls(spec));
        if shows && is_edited && !is_on_record {
            self.takes_for_others(id, to);
        }
        if shows || is_on_record {
            self.unrecorded.remove(id);
        }
    }

    fn takes_for_others(&mut self, id: &str, ttls: Ttls) {
        for (key, seconds) in KEYS.into_iter().zip([ttls.0, ttls.1]) {
            let raw = seconds.map(|seconds| seconds.to_string());
            self.of_others.entry((id.to_owned(), key)).or_default().insert(raw);
        }
    }

    /// What a report shows of a customer without any change on record was there, as far as anything can know: the operator may
    /// have ended between a plain change, which nothing has to outlive, and its report.
    fn found(&mut self, before: &Value, after: &Value) {
        let (status, spec) = (&after["status"], &after["spec"]);
        let is_first = before["effectiveUrl"].is_null() && !status["effectiveUrl"].is_null();
        let is_plain = spec["deletionPolicy"] != "Restore";
        let shown = match &status["history"] {
            Value::Null if is_first => status,
            Value::Array(history) if history.len() == 1 && before["history"].is_null() && is_plain => {
                &history[0]["from"]
            }
            _ => return,
        };
        self.takes_for_others(spec["customerId"].as_str().unwrap_or_default(), ttls(shown));
    }

    fn status(&mut self, write: &Write) -> Result<(), Violation> {
        let is_status = write.target.kind == Kind::CustomerTokenTtl && write.target.status;
        let Some(after) = write.after.as_ref().filter(|_| is_status) else { return Ok(()) };
        let (status, spec) = (&after.value["status"], &after.value["spec"]);
        let before = write.before.as_ref().map_or(&Value::Null, |before| &before.value["status"]);
        self.found(before, &after.value);
        self.took_over(write, before, &after.value);
        let wrong = |what: String| {
            Err(Violation::new("original, history and proof are true", format!("{:?} {what}", write.key)))
        };
        let id = spec["customerId"].as_str().unwrap_or_default();
        let held = |shown: &Value| self.held.get(id).is_some_and(|held| held.contains(&ttls(shown)));
        let newest = &status["history"][0];
        if newest.is_object() && !(held(&newest["from"]) && held(&newest["to"])) {
            return wrong(format!("has a change in its history that never was: {newest}"));
        }
        let original = &status["original"];
        let was = |key: &&str| {
            let raw = original[*key].as_str().map(str::to_owned);
            self.of_others.iter().any(|((of, name), held)| of == id && name == key && held.contains(&raw))
        };
        if original.is_object() && !status["pending"].is_object() && !KEYS.iter().all(was) {
            return wrong(format!("has an original that was not there before: {original}"));
        }
        let proven = &status["lastProvenTime"];
        let is_new = |before: &Value| !proven.is_null() && before["lastProvenTime"] != *proven;
        let is_current = status["observedGeneration"] == after.value["metadata"]["generation"];
        if is_new(before) && is_current && !spec["verifyCredentialsSecretRef"].is_null() {
            let user = user_secret(&write.key.1);
            let logins = self.logins.get(&user).copied().unwrap_or_default();
            if self.proven.insert(user, logins).unwrap_or_default() == logins {
                return wrong(format!("shows a proof without a login: {}", status["proven"]));
            }
        }
        Ok(())
    }
}

/// The lifetimes in a part of a status or spec.
fn ttls(shown: &Value) -> Ttls {
    (shown[KEYS[0]].as_u64(), shown[KEYS[1]].as_u64())
}
