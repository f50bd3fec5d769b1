//! The one place that asks for the time and for random numbers; everything else is given them.

#![allow(clippy::disallowed_methods, reason = "this is the place that the rule points to")]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

/// Wall-clock time in whole seconds, as Kubernetes writes it.
#[must_use]
pub fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Wall-clock time with its fractions of a second, for what must not be cut short.
#[must_use]
pub fn precisely() -> Timestamp {
    Timestamp::now()
}

/// Monotonic time, for deadlines.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

/// Monotonic time that goes on while the machine sleeps, for what others count on too. Its beginning is the machine's.
#[must_use]
pub fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// The monotonic time at which the wall clock will show `time`, as things look now.
#[must_use]
pub fn instant_of(time: Timestamp) -> Instant {
    instant() + Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default()
}

/// Monotonic time since the first call, for rules that are told the time as a duration.
#[must_use]
pub fn elapsed() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed() + FAR
}

/// Lets the first hour of a process still subtract an hour.
const FAR: Duration = Duration::from_hours(24);

/// A random number in 0..1.
#[must_use]
pub fn random() -> f64 {
    rand::random()
}
