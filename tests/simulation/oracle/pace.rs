//! The operator does not spin.

use std::collections::VecDeque;
use std::time::Duration;

use super::Violation;

/// Most requests to the API server and the remote systems within a minute, from all replicas.
const MOST: u64 = 3_000;

/// Requests lately.
#[derive(Debug, Default)]
pub struct Pace(VecDeque<(Duration, u64)>);

impl Pace {
    /// `requests`: how many there were up to now.
    pub fn check(&mut self, now: Duration, requests: u64) -> Result<(), Violation> {
        self.0.push_back((now, requests));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(at, _)| *at + Duration::from_mins(1) < now) {
            self.0.pop_front();
        }
        let lately = self.0.front().map_or(0, |(_, before)| requests - before);
        if lately <= MOST {
            return Ok(());
        }
        Err(Violation::new("nothing spins", format!("{lately} requests within a minute, at {now:?}")))
    }
}
