//! What the simulator's own log says of changes: which gateways, in which order, and how many at once.

use std::time::{Duration, Instant};

use tenure_kit::requests::{Entry, Kind};
use tenure_kit::x2::X2Fleet;

/// A write, and what became of it.
#[derive(Clone, Debug)]
pub struct Change {
    pub gateway: String,
    pub begun: Instant,
    /// When a login proved it, or it was refused. None where neither has happened.
    pub ended: Option<Instant>,
    pub refused: bool,
}

/// All changes, in the order in which they were begun.
pub struct Trace(pub Vec<Change>);

impl Trace {
    pub fn of(fleet: &X2Fleet) -> Self {
        let entries = fleet.requests().entries();
        let is_write = |(_, entry): &(usize, &Entry)| entry.kind == Kind::Write;
        Self(
            entries
                .iter()
                .enumerate()
                .filter(is_write)
                .map(|(at, entry)| change(entry, &entries[at..]))
                .collect(),
        )
    }

    /// What was begun after so many others.
    pub fn after(self, changes: usize) -> Self {
        Self(self.0.into_iter().skip(changes).collect())
    }

    /// Each gateway once, in the order of its first change.
    pub fn order(&self) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        for change in &self.0 {
            if !order.contains(&change.gateway) {
                order.push(change.gateway.clone());
            }
        }
        order
    }

    /// Each gateway that refused a change once.
    pub fn refused(&self) -> Vec<String> {
        Self(self.0.iter().filter(|change| change.refused).cloned().collect()).order()
    }

    /// The most changes that were ever under way at once.
    pub fn peak(&self) -> usize {
        let at_once = |change: &Change| {
            let under_way = |other: &&Change| {
                other.begun <= change.begun && other.ended.is_none_or(|ended| ended > change.begun)
            };
            let mut gateways: Vec<&str> =
                self.0.iter().filter(under_way).map(|c| c.gateway.as_str()).collect();
            gateways.sort_unstable();
            gateways.dedup();
            gateways.len()
        };
        self.0.iter().map(at_once).max().unwrap_or_default()
    }

    /// Time from the end of the changes of the first so many gateways until any other was touched.
    pub fn pause_after(&self, canaries: usize) -> Duration {
        let canaries = &self.order()[..canaries];
        let is_other = |change: &Change| !canaries.contains(&change.gateway);
        let other = self.0.iter().position(is_other).expect("others follow");
        let ended =
            self.0[..other].iter().filter_map(|change| change.ended).max().expect("canaries have ended");
        self.0[other].begun.duration_since(ended)
    }
}

fn change(write: &Entry, from: &[Entry]) -> Change {
    let refused = write.served_at.is_some() && write.status.is_none_or(|status| status >= 300);
    let proof = || from.iter().find(|entry| entry.kind == Kind::Login && entry.object == write.object);
    Change {
        gateway: write.object.as_deref().unwrap_or_default().to_owned(),
        begun: write.at,
        ended: if refused { write.served_at } else { proof().and_then(|login| login.served_at) },
        refused,
    }
}
