//! The operator does not spin.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Violation;
use crate::remote::{Entry, What};

/// Most requests to the API server and the remote systems within a minute, from all replicas.
const MOST: u64 = 3_000;
/// The same to one remote system, from one replica.
const MOST_TO_ONE: u32 = 200;

/// How often a process may go on within a minute, with or without a request. Ten thousand schedules come to 5,310 at most; a
/// task that wakes every millisecond, to ten times as much.
const MOST_PARKS: u64 = 20_000;

/// Requests lately.
#[derive(Debug, Default)]
pub struct Pace {
    all: VecDeque<(Duration, u64)>,
    /// By replica and URL: the minute, and the requests in it.
    to_one: BTreeMap<(usize, String), (u64, u32)>,
    /// By process: the minute, and how often it had gone on when that began.
    parks: BTreeMap<usize, (u64, u64)>,
}

impl Pace {
    /// Checks that no system is asked without end.
    pub fn check_each(&mut self, entries: &[Entry]) -> Result<(), Violation> {
        for entry in entries {
            let What::Sent { replica, .. } = entry.what else { continue };
            let minute = entry.at.as_secs() / 60;
            let count = self.to_one.entry((replica, entry.url.clone())).or_default();
            *count = if count.0 == minute { (minute, count.1 + 1) } else { (minute, 1) };
            if count.1 > MOST_TO_ONE {
                let what = format!("{} requests to {} within minute {minute}", count.1, entry.url);
                return Err(Violation::new("nothing spins", what));
            }
        }
        Ok(())
    }

    /// `parks`: how often a process has gone on up to now.
    pub fn check_parks(&mut self, process: usize, now: Duration, parks: u64) -> Result<(), Violation> {
        let minute = now.as_secs() / 60;
        let begun = self.parks.entry(process).or_insert((minute, parks));
        if begun.0 != minute {
            *begun = (minute, parks);
        }
        let lately = parks - begun.1;
        if lately <= MOST_PARKS {
            return Ok(());
        }
        Err(Violation::new(
            "nothing spins",
            format!("process {process} goes on {lately} times in minute {minute}"),
        ))
    }

    /// `requests`: how many there were up to now.
    pub fn check(&mut self, now: Duration, requests: u64) -> Result<(), Violation> {
        self.all.push_back((now, requests));
        while self.all.len() > 2 && self.all.get(1).is_some_and(|(at, _)| *at + Duration::from_mins(1) < now)
        {
            self.all.pop_front();
        }
        let lately = self.all.front().map_or(0, |(_, before)| requests - before);
        if lately <= MOST {
            return Ok(());
        }
        Err(Violation::new("nothing spins", format!("{lately} requests within a minute, at {now:?}")))
    }
}
