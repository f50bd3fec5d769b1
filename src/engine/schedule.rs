//! When an object is reconciled next. Randomness is an argument, a number in 0..1.

use std::time::Duration;

/// Longest backoff after a failure, and shortest time between two checks of a stalled object.
pub const CAP: Duration = Duration::from_mins(10);
/// Time between two reads of a Secret while a login with it is refused, or while it is missing.
pub const SECRET_POLL: Duration = Duration::from_secs(30);
/// Time between two reads of a gateway that no policy selects.
pub const UNMANAGED: Duration = Duration::from_mins(10);
/// Time between two corrections of a contested value.
pub(crate) const CONTESTED: Duration = Duration::from_hours(1);
/// First wait after a failure; two more tries then fit into a minute.
const FIRST: Duration = Duration::from_secs(5);

/// The wait until the next check: the interval, up to a tenth sooner, so that a fleet spreads out.
#[must_use]
pub fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(1.0 - 0.1 * random.clamp(0.0, 1.0))
}

/// The wait after the n-th failure in a row: doubling from five seconds to ten minutes, half of it random.
#[must_use]
pub fn backoff(failures: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(CAP).mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
}

/// The wait until a stalled object is checked again: the longer of the interval and ten minutes,
/// up to a tenth later, so that a fleet spreads out.
#[must_use]
pub fn stalled(interval: Duration, random: f64) -> Duration {
    interval.max(CAP).mul_f64(1.0 + 0.1 * random.clamp(0.0, 1.0))
}

/// The wait before the first try after a restart, for an object whose status shows a failure.
#[must_use]
pub fn after_restart(within: Duration, random: f64) -> Duration {
    within.mul_f64(random.clamp(0.0, 1.0))
}

/// Reads a duration such as `1h30m`, `10m` or `90s`.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0_u64;
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            if number.len() > 5 || !number.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            seconds += number.parse::<u64>().ok()? * factor;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then(|| Duration::from_secs(seconds))
}
