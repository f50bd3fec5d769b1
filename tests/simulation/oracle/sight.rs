//! Since when a process may not know of edits: faults of the API server and of its watches keep it from hearing of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::Kind;

/// What is seen by a watch again after it was disturbed.
const RELIST: Duration = Duration::from_secs(150);

/// What keeps a replica from hearing of edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// Faults of the API server.
    Weather,
    /// Watches are held.
    Hold,
}

/// What each process sees, by kind.
#[derive(Debug, Default)]
pub struct Sight {
    watches: BTreeMap<(usize, Kind), Watch>,
    /// The namespaces that a process was started with; none: all.
    namespaces: BTreeMap<usize, Vec<&'static str>>,
    /// Whether the API server is disturbed.
    stormy: bool,
    /// Whether answers to writes of statuses are late.
    pub slow_statuses: bool,
}

#[derive(Debug, Default)]
struct Watch {
    /// When the process began, and with it its first list.
    begun: Duration,
    /// Since when, and until when, it may not know of edits.
    blind_since: Duration,
    blind_until: Duration,
    lasting: BTreeSet<Disturbance>,
}

impl Sight {
    /// A process lists everything there is.
    pub fn started(&mut self, process: usize, now: Duration, namespaces: &[&'static str]) {
        self.namespaces.insert(process, namespaces.to_vec());
        for kind in Kind::OURS {
            let mut watch = Watch { begun: now, ..Watch::default() };
            if self.stormy {
                watch.disturb(now, Some((Disturbance::Weather, true)));
            }
            self.watches.insert((process, kind), watch);
        }
    }

    /// The API server is disturbed from now on, or not any more.
    pub fn weather(&mut self, now: Duration, on: bool) {
        self.stormy = on;
        self.watches.values_mut().for_each(|watch| watch.disturb(now, Some((Disturbance::Weather, on))));
    }

    /// The watches of a kind are held from now on, or not any more.
    pub fn hold(&mut self, process: usize, kind: Kind, now: Duration, on: bool) {
        self.disturb(process, kind, now, Some((Disturbance::Hold, on)));
    }

    /// The watches of a kind have to begin again.
    pub fn broken(&mut self, process: usize, kind: Kind, now: Duration) {
        self.disturb(process, kind, now, None);
    }

    fn disturb(&mut self, process: usize, kind: Kind, now: Duration, change: Option<(Disturbance, bool)>) {
        if let Some(watch) = self.watches.get_mut(&(process, kind)) {
            watch.disturb(now, change);
        }
    }

    /// Whether a process sees a namespace.
    pub fn sees(&self, process: usize, namespace: &str) -> bool {
        let seen = self.namespaces.get(&process).map_or(&[][..], Vec::as_slice);
        seen.is_empty() || seen.contains(&namespace)
    }

    /// Whether answers of the API server may get lost.
    pub fn is_stormy(&self) -> bool {
        self.stormy || self.slow_statuses
    }

    /// What a process does at a time is about what there was at some moment since this one. `lag` is what an undisturbed
    /// watch takes.
    pub fn known_since(&self, process: usize, kind: Kind, at: Duration, lag: Duration) -> Duration {
        let usual = at.saturating_sub(lag);
        let Some(watch) = self.watches.get(&(process, kind)) else { return usual };
        let since = if watch.is_blind(at) { usual.min(watch.blind_since.saturating_sub(lag)) } else { usual };
        since.max(watch.begun.saturating_sub(lag))
    }

    /// Whether a process certainly knows of something at a time that there was from `since` on.
    pub fn has_seen(
        &self,
        process: usize,
        kind: Kind,
        (since, at): (Duration, Duration),
        lag: Duration,
    ) -> bool {
        let Some(watch) = self.watches.get(&(process, kind)) else { return false };
        // What it lists first takes as long as an edit does.
        self.known_since(process, kind, at, lag) >= since.max(watch.begun + lag)
    }
}

impl Watch {
    fn disturb(&mut self, now: Duration, change: Option<(Disturbance, bool)>) {
        if !self.is_blind(now) {
            self.blind_since = now;
        }
        match change {
            Some((by, true)) => drop(self.lasting.insert(by)),
            // What was not disturbed needs no time to see again.
            Some((by, false)) if !self.lasting.remove(&by) => return,
            _ => {}
        }
        self.blind_until = self.blind_until.max(now + RELIST);
    }

    fn is_blind(&self, at: Duration) -> bool {
        !self.lasting.is_empty() || self.blind_until > at
    }
}
