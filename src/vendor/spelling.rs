//! How Kona servers spell the path of customers, and who finds it out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How servers spell the path of customers, as far as a write has shown it.
#[derive(Debug, Default)]
pub struct Spellings(Mutex<HashMap<String, Spelling>>);

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
    /// Whether a server wants the path without its trailing slash, if that is known.
    pub(crate) fn plain(&self, url: &str) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(url)?.plain
    }

    /// Whether the next write spells it without its trailing slash.
    pub(crate) fn next(&self, url: &str) -> bool {
        let spellings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spellings.get(url).is_some_and(|spelling| spelling.plain.unwrap_or(spelling.next))
    }

    /// The server does not have it in the other spelling: the next write tries this one, if it is not known.
    pub(crate) fn set_next(&self, url: &str, plain: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(url.to_owned()).or_default().next = plain;
    }

    pub(crate) fn set_plain(&self, url: String, plain: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(url).or_default().plain = Some(plain);
    }

    fn trial(&self, url: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut spellings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&spellings.entry(url.to_owned()).or_default().trial)
    }

    /// Leave to write, if it can be had without waiting.
    pub(crate) fn turn(&self, url: &str) -> Option<Turn> {
        match self.plain(url) {
            Some(_) => Some(Turn { _trial: None }),
            None => self.trial(url).try_lock_owned().ok().map(|trial| Turn { _trial: Some(trial) }),
        }
    }

    /// Waits for leave to write.
    pub(crate) async fn wait_turn(&self, url: &str) -> Turn {
        let trial = self.trial(url).lock_owned().await;
        Turn { _trial: self.plain(url).is_none().then_some(trial) }
    }
}

/// Leave to write customers: while it is not known how the server spells their path, one write at a time finds out.
#[derive(Debug)]
pub struct Turn {
    _trial: Option<tokio::sync::OwnedMutexGuard<()>>,
}
