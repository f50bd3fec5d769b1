//! The one place that asks for the time and for random numbers; everything else is given them.
//!
//! A thread can be given a clock and random numbers of its own ([`install`]): then the same seed gives the same schedule.

#![allow(clippy::disallowed_methods, reason = "this is the place that the rule points to")]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

/// What this thread takes for the machine's clock and chance; without one, the machine's own.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Wall-clock time at the installation.
    pub wall: Timestamp,
    /// [`uptime`] at the installation.
    pub uptime: Duration,
    /// Where random numbers begin.
    pub seed: u64,
}

/// A source in use: its times advance with tokio's clock.
struct Running {
    source: Source,
    since: Instant,
    chance: fastrand::Rng,
}

impl Running {
    fn passed(&self) -> Duration {
        self.since.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.passed()).unwrap_or(SignedDuration::MAX);
        self.source.wall.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// Keeps a source installed on this thread. Dropping it brings back the one before it.
#[must_use = "the source is removed when this is dropped"]
pub struct Installed {
    before: Option<Running>,
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Drop for Installed {
    fn drop(&mut self) {
        let before = self.before.take();
        RUNNING.with_borrow_mut(|running| *running = before);
    }
}

/// Gives this thread a clock and random numbers of its own. To be called inside the tokio runtime whose clock, which may be
/// paused, the times are to follow.
pub fn install(source: Source) -> Installed {
    let running = Running { source, since: Instant::now(), chance: fastrand::Rng::with_seed(source.seed) };
    let before = RUNNING.replace(Some(running));
    Installed { before, thread: PhantomData }
}

fn installed<T>(read: impl FnOnce(&mut Running) -> T) -> Option<T> {
    RUNNING.with_borrow_mut(|running| running.as_mut().map(read))
}

/// Wall-clock time in whole seconds, as Kubernetes writes it.
#[must_use]
pub fn now() -> Time {
    let now = precisely();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Wall-clock time with its fractions of a second, for what must not be cut short.
#[must_use]
pub fn precisely() -> Timestamp {
    installed(|running| running.wall()).unwrap_or_else(Timestamp::now)
}

/// Monotonic time, for deadlines: tokio's, so a paused clock applies to it as well.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

/// Monotonic time that goes on while the machine sleeps, for what others count on too. Its beginning is the machine's.
#[must_use]
pub(crate) fn uptime() -> Duration {
    installed(|running| running.source.uptime + running.passed()).unwrap_or_else(|| {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::try_from(now).unwrap_or_default()
    })
}

/// The monotonic time at which the wall clock will show `time`, if it is not set meanwhile.
#[must_use]
pub(crate) fn instant_of(time: Timestamp) -> Instant {
    instant() + Duration::try_from(time.duration_since(precisely())).unwrap_or_default()
}

/// Monotonic time for rules that are given the time as a duration.
#[must_use]
pub(crate) fn elapsed() -> Duration {
    uptime() + FAR
}

/// Lets the first hour after the start of a machine still subtract an hour.
const FAR: Duration = Duration::from_hours(24);

/// A random number in 0..1.
#[must_use]
pub(crate) fn random() -> f64 {
    installed(|running| running.chance.f64()).unwrap_or_else(fastrand::f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(seed: u64) -> Source {
        let wall = Timestamp::from_second(1_800_000_000).unwrap();
        Source { wall, uptime: Duration::from_secs(7), seed }
    }

    #[tokio::test(start_paused = true)]
    async fn an_installed_source_advances_with_the_paused_clock() {
        let _installed = install(source(1));
        assert_eq!((precisely(), uptime()), (source(1).wall, Duration::from_secs(7)));
        let (before, due) = (elapsed(), instant_of(source(1).wall + Duration::from_secs(90)));
        tokio::time::advance(Duration::from_millis(90_500)).await;
        assert_eq!(now().0.as_second(), 1_800_000_090);
        assert_eq!(precisely().as_millisecond(), 1_800_000_090_500);
        assert_eq!(uptime(), Duration::from_millis(97_500));
        assert_eq!(elapsed(), before + Duration::from_millis(90_500));
        assert_eq!(instant() - due, Duration::from_millis(500));
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let _installed = install(source(seed));
            [random(), random(), random()].map(f64::to_bits)
        };
        assert_eq!(numbers(5), numbers(5));
        assert_ne!(numbers(5), numbers(6));
    }

    #[tokio::test]
    async fn a_source_that_is_dropped_gives_place_to_the_one_before() {
        let outer = install(source(1));
        drop(install(Source { wall: Timestamp::UNIX_EPOCH, ..source(2) }));
        assert!(precisely() >= source(1).wall);
        drop(outer);
        assert!(precisely().duration_since(Timestamp::now()).unsigned_abs() < Duration::from_secs(5));
        assert!((0.0..1.0).contains(&random()));
    }
}
