//! Outages of the API server: what has waited for it is reconciled soon after it answers again, however long it was away.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::object::Key;
use crate::clock;
use crate::crd::Kind;

/// Time over which the objects spread that have waited.
const SPREAD: Duration = Duration::from_secs(15);

/// Which objects wait for the API server.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeSet<(Kind, Key)>,
    /// Those that were woken at the end of the last outage, and have not taken notice of it.
    woken: BTreeSet<(Kind, Key)>,
}

impl Outages {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server has not answered an object, or not taken what it reports.
    pub(crate) fn wait(&self, kind: Kind, key: Key) {
        self.state().waiting.insert((kind, key));
    }

    /// The API server answers again, after it did not.
    pub(crate) fn end(&self) {
        self.ended.notify_one();
    }

    /// Waits until it does.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// When an object is due at the latest, if an outage has ended that it has waited for. That is answered once.
    pub(crate) fn recall(&self, kind: Kind, key: Key) -> Option<Instant> {
        let was_woken = self.state().woken.remove(&(kind, key));
        was_woken.then(|| clock::instant() + SPREAD.mul_f64(clock::random()))
    }

    /// An object is gone.
    pub(crate) fn forget(&self, kind: Kind, key: &Key) {
        let (mut state, object) = (self.state(), (kind, key.clone()));
        state.waiting.remove(&object);
        state.woken.remove(&object);
    }

    /// Those that have waited, to be woken.
    pub(crate) fn take(&self) -> BTreeSet<(Kind, Key)> {
        let mut state = self.state();
        let waiting = std::mem::take(&mut state.waiting);
        state.woken.extend(waiting.iter().cloned());
        waiting
    }
}
