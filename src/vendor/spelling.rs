//! How Kona servers spell the path of customers, and who finds it out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::credentials::Account;
use crate::engine::system::Via;

/// The URL of a server, and how it is reached.
type Reached = (String, Via);

/// How servers spell the path of customers, as far as a write has shown it.
#[derive(Debug, Default)]
pub struct Spellings(Mutex<HashMap<Reached, Spelling>>);

/// How one server spells it.
#[derive(Debug, Default)]
struct Spelling {
    /// Whether without the trailing slash; none before the first write.
    plain: Option<bool>,
    /// Whether the next write tries it without the slash, while that is not known.
    next: bool,
    /// Held by the one write that finds out.
    trial: Arc<tokio::sync::Mutex<()>>,
}

impl Spellings {
    /// Whether a server requires the path without its trailing slash, if that is known.
    pub(crate) fn plain(&self, place: &Reached) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place)?.plain
    }

    /// Whether the next write spells it without its trailing slash.
    pub(crate) fn next(&self, place: &Reached) -> bool {
        let spellings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spellings.get(place).is_some_and(|spelling| spelling.plain.unwrap_or(spelling.next))
    }

    /// The server does not have it in the other spelling: the next write tries this one, if it is not known.
    pub(crate) fn set_next(&self, place: &Reached, plain: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place.clone()).or_default().next = plain;
    }

    pub(crate) fn set_plain(&self, place: Reached, plain: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default().plain = Some(plain);
    }

    fn trial(&self, place: &Reached) -> Arc<tokio::sync::Mutex<()>> {
        let mut spellings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&spellings.entry(place.clone()).or_default().trial)
    }

    /// Leave to write, if it can be had without waiting.
    pub(crate) fn turn(&self, place: &Reached) -> Option<Turn> {
        match self.plain(place) {
            Some(_) => Some(Turn { _trial: None }),
            None => self.trial(place).try_lock_owned().ok().map(|trial| Turn { _trial: Some(trial) }),
        }
    }

    /// Drops what is known of servers that no object logs in to; `in_use` has those that one does. To be called now and then.
    pub(crate) fn purge(&self, in_use: &BTreeMap<Account, BTreeSet<String>>) {
        let systems: BTreeSet<&String> = in_use.values().flatten().collect();
        let mut spellings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_held = |spelling: &Spelling| Arc::strong_count(&spelling.trial) > 1;
        spellings.retain(|(url, _), spelling| systems.contains(url) || is_held(spelling));
    }

    /// Waits for leave to write.
    pub(crate) async fn wait_turn(&self, place: &Reached) -> Turn {
        let trial = self.trial(place).lock_owned().await;
        Turn { _trial: self.plain(place).is_none().then_some(trial) }
    }
}

/// Leave to write customers: while it is not known how the server spells their path, one write at a time finds out.
#[derive(Debug)]
pub struct Turn {
    _trial: Option<tokio::sync::OwnedMutexGuard<()>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(number: u32) -> Reached {
        (format!("https://kona-{number}.example.net"), Via::Direct)
    }

    #[test]
    fn what_is_known_of_a_server_goes_with_its_last_object() {
        let spellings = Spellings::default();
        for number in 0..1_000 {
            spellings.set_plain(reached(number), true);
        }
        let turn = spellings.turn(&reached(1_000)).unwrap();
        let keys = ("username".to_owned(), "password".to_owned());
        let account = Account { namespace: "a".to_owned(), secret: "login".to_owned(), keys };
        let in_use = BTreeMap::from([(account, BTreeSet::from([reached(7).0]))]);
        spellings.purge(&in_use);
        assert_eq!(spellings.0.lock().unwrap().len(), 2);
        assert_eq!((spellings.plain(&reached(7)), spellings.plain(&reached(8))), (Some(true), None));
        assert!(spellings.turn(&reached(1_000)).is_none(), "one write still finds out");
        drop(turn);
        spellings.purge(&BTreeMap::new());
        assert!(spellings.0.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_found_out_behind_a_proxy_holds_for_that_way_alone() {
        let spellings = Spellings::default();
        let direct = reached(1);
        let proxied = (direct.0.clone(), Via::Proxy("http://proxy.example:8080".into()));
        spellings.set_plain(proxied.clone(), true);
        assert_eq!((spellings.plain(&proxied), spellings.plain(&direct)), (Some(true), None));
        assert_eq!((spellings.next(&proxied), spellings.next(&direct)), (true, false));
    }
}
