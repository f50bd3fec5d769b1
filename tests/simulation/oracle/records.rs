//! What a customer's status shows of the past is true: its original lifetimes, its history, and what a user has proven.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Violation;
use crate::api::{Kind, Write};
use crate::plan::{user_of, user_secret};
use crate::remote::{Effect, Entry, Fields, What, token_ttls};

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
    /// Logins of each user, and those that the last proof was shown after.
    logins: BTreeMap<String, u32>,
    proven: BTreeMap<String, u32>,
}

impl Records {
    pub fn check(&mut self, entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
        for entry in entries {
            match &entry.what {
                What::CarriedOut { effect: Effect::Customer { id, before, after }, .. } => {
                    let is_first = !self.held.contains_key(id);
                    self.saw(id, before, is_first);
                    self.saw(id, after, false);
                }
                What::Foreign(Effect::Customer { id, before, after }) => {
                    let is_first = !self.held.contains_key(id);
                    self.saw(id, before, is_first);
                    self.saw(id, after, true);
                }
                What::CarriedOut { effect: Effect::LoggedIn { user }, .. } if user_of(user) == user => {
                    *self.logins.entry(user.clone()).or_default() += 1;
                }
                _ => {}
            }
        }
        writes.iter().try_for_each(|write| self.status(write))
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
        let id = spec["customerId"].as_str().unwrap_or_default();
        for key in KEYS {
            let raw = shown[key].as_u64().map(|seconds| seconds.to_string());
            self.of_others.entry((id.to_owned(), key)).or_default().insert(raw);
        }
    }

    fn status(&mut self, write: &Write) -> Result<(), Violation> {
        let is_status = write.target.kind == Kind::CustomerTokenTtl && write.target.status;
        let Some(after) = write.after.as_ref().filter(|_| is_status) else { return Ok(()) };
        let (status, spec) = (&after.value["status"], &after.value["spec"]);
        let before = write.before.as_ref().map_or(&Value::Null, |before| &before.value["status"]);
        self.found(before, &after.value);
        let wrong = |what: String| {
            Err(Violation::new("original, history and proof are true", format!("{:?} {what}", write.key)))
        };
        let id = spec["customerId"].as_str().unwrap_or_default();
        let held = |ttls: &Value| {
            let ttls = (ttls[KEYS[0]].as_u64(), ttls[KEYS[1]].as_u64());
            self.held.get(id).is_some_and(|held| held.contains(&ttls))
        };
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
        let is_new = |before: &Value| before["lastProvenTime"] != status["lastProvenTime"];
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
