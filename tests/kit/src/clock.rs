//! The kit's only clock.

#![allow(clippy::disallowed_methods, reason = "the one file of the kit that asks for the time")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A reading of the monotonic clock, for the request log and the demo.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

/// Time since 1970, as the simulated servers stamp their tokens and errors.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time of a simulated server: ours, moved by `offset` seconds, in whole seconds since 1970.
pub(crate) fn unix_seconds(offset: i64) -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX).saturating_add(offset)
}
