//! Virtual time: what has passed since a schedule began.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;
use tenure::clock;

/// When each schedule begins, in seconds since 1970: Monday, 4 January 2027, 00:00 UTC.
pub const EPOCH_SECONDS: i64 = 1_799_020_800;

thread_local! {
    /// The time of the harness, while no replica runs on this thread.
    static HARNESS: Cell<Option<Duration>> = const { Cell::new(Some(Duration::ZERO)) };
}

/// The wall-clock time at the beginning.
pub fn epoch() -> Timestamp {
    Timestamp::from_second(EPOCH_SECONDS).expect("a time in range")
}

/// What has passed: by the clock of the replica that runs on this thread, or else by the harness's.
pub fn now() -> Duration {
    HARNESS
        .get()
        .unwrap_or_else(|| Duration::try_from(clock::precisely().duration_since(epoch())).unwrap_or_default())
}

/// Sets the time of the harness; `None` while a replica runs.
pub fn set_harness(now: Option<Duration>) {
    HARNESS.set(now);
}

/// The wall-clock time when this much has passed.
pub fn wall(passed: Duration) -> Timestamp {
    epoch() + passed
}

/// What had passed at a wall-clock time.
pub fn passed(wall: Timestamp) -> Duration {
    Duration::try_from(wall.duration_since(epoch())).unwrap_or_default()
}
