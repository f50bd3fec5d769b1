//! Which resources declare the same remote object, across namespaces, and which of them owns it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::ownership::{Claimant, Standing, Trial, standing};
use crate::runtime::object::Key;

/// A claimant: sorts by age, then by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId {
    /// When the resource was created.
    pub created: Timestamp,
    /// Namespace and name.
    pub key: Key,
    /// A resource that was created again is another claimant.
    pub uid: String,
}

#[derive(Debug, Default)]
struct State {
    /// What a resource claims.
    objects: HashMap<Key, String>,
    /// The claimants of an object.
    claimants: HashMap<String, Vec<Claimant<ClaimId>>>,
}

/// All claims of one kind.
#[derive(Debug, Default)]
pub struct Claims(Mutex<State>);

impl Claims {
    /// A resource claims `object`, or nothing any more. Returns the rivals that are affected.
    pub fn set(&self, id: &ClaimId, object: Option<String>, suspended: bool, got_in: bool) -> Vec<Key> {
        let mut state = self.state();
        let before = state.objects.get(&id.key).cloned();
        let mut concerned = Vec::new();
        if let Some(before) = before.filter(|before| object.as_ref() != Some(before)) {
            concerned.extend(state.remove(&before, &id.key));
        }
        let Some(object) = object else { return concerned };
        state.objects.insert(id.key.clone(), object.clone());
        let claimants = state.claimants.entry(object).or_default();
        let changed = match claimants.iter_mut().find(|c| c.id == *id) {
            Some(claimant) => std::mem::replace(&mut claimant.suspended, suspended) != suspended,
            None => {
                claimants.retain(|c| c.id.key != id.key);
                let trial = if got_in { Trial::GotIn } else { Trial::Untried };
                claimants.push(Claimant { id: id.clone(), suspended, trial });
                true
            }
        };
        if changed {
            concerned.extend(others(claimants, &id.key));
        }
        concerned
    }

    /// The standing of a resource.
    #[must_use]
    pub fn standing(&self, id: &ClaimId) -> Standing {
        let state = self.state();
        let claimants = state.objects.get(&id.key).and_then(|object| state.claimants.get(object));
        claimants.map_or(Standing::Owner, |claimants| standing(claimants, id))
    }

    /// Records the outcome of a resource's attempt. Returns the rivals, if it affects them.
    pub fn record(&self, id: &ClaimId, trial: Trial) -> Vec<Key> {
        let mut state = self.state();
        let Some(object) = state.objects.get(&id.key).cloned() else { return Vec::new() };
        let Some(claimants) = state.claimants.get_mut(&object) else { return Vec::new() };
        let Some(claimant) = claimants.iter_mut().find(|c| c.id == *id) else { return Vec::new() };
        // An owner does not lose the object because the remote side is silent for a while.
        if claimant.trial == trial || (claimant.trial == Trial::GotIn && trial == Trial::NoAnswer) {
            return Vec::new();
        }
        claimant.trial = trial;
        others(claimants, &id.key)
    }
}

impl Claims {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, object: &str, key: &Key) -> Vec<Key> {
        self.objects.remove(key);
        let Some(claimants) = self.claimants.get_mut(object) else { return Vec::new() };
        claimants.retain(|c| c.id.key != *key);
        let rest = others(claimants, key);
        if rest.is_empty() {
            self.claimants.remove(object);
        }
        rest
    }
}

fn others(claimants: &[Claimant<ClaimId>], key: &Key) -> Vec<Key> {
    claimants.iter().filter(|c| c.id.key != *key).map(|c| c.id.key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn url(host: u8) -> String {
        format!("https://10.20.0.{host}")
    }

    /// Two claimants of one appliance, the older of which owns it.
    fn contested() -> (Claims, [ClaimId; 2]) {
        let id = |name: &str, created| {
            let created = Timestamp::from_second(created).unwrap();
            ClaimId { created, key: Key::new("berlin", name), uid: format!("uid-{name}") }
        };
        let (claims, both) = (Claims::default(), [id("old", 1), id("new", 2)]);
        for id in &both {
            claims.set(id, Some(url(11)), false, true);
        }
        (claims, both)
    }

    fn standings(claims: &Claims, both: &[ClaimId; 2]) -> [Standing; 2] {
        both.each_ref().map(|id| claims.standing(id))
    }

    #[test]
    fn an_owner_with_another_url_leaves_the_object_to_the_next() {
        let (claims, both) = contested();
        assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
        let [old, new] = &both;
        assert_eq!(claims.set(old, Some(url(12)), false, false), from_ref(&new.key));
        assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Owner]);
        // Back again, it is tried like any other before anything is decided.
        assert_eq!(claims.set(old, Some(url(11)), false, false), from_ref(&new.key));
        assert_eq!(standings(&claims, &both), [Standing::TryNow, Standing::Undecided]);
    }

    #[test]
    fn an_owner_that_does_not_answer_keeps_the_object_and_one_that_is_refused_does_not() {
        let (claims, both) = contested();
        let [old, new] = &both;
        assert!(claims.record(old, Trial::NoAnswer).is_empty());
        assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
        assert_eq!(claims.record(old, Trial::Refused), from_ref(&new.key));
        assert_eq!(standings(&claims, &both), [Standing::TryNow, Standing::Owner]);
    }
}
