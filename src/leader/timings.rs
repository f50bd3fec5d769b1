//! How long a lease lasts, and how often it is renewed.

use std::time::Duration;

/// What is left of a lease when its holder stops, at least: a request that is on its way then arrives before another replica begins.
const MARGIN: Duration = Duration::from_secs(5);
/// Shortest time between two renewals. All replicas of a fleet ask the same API server.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
/// Longest time that a lease may stay with a holder that is gone.
const LONGEST_LEASE: Duration = Duration::from_hours(1);

/// The timings of an election. Replicas may have different ones, because each lease contains its duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long a lease stays with a holder that does not renew it.
    pub(super) lease_duration: Duration,
    /// How long after its last renewal a holder works. The rest of the lease is for what is on its way to a remote system.
    pub(super) renew_deadline: Duration,
    /// Time between two renewals, and between two tries.
    pub(super) retry_period: Duration,
}

impl Default for Timings {
    /// Those of Kubernetes' own components.
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl Timings {
    /// Timings with which a holder renews in time, and stops before another replica begins.
    ///
    /// # Errors
    /// With what to change.
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, &'static str> {
        if retry_period < SHORTEST_RETRY {
            Err("--lease-retry-period must be at least 1s")
        } else if renew_deadline <= retry_period {
            Err(
                "--lease-renew-deadline must be longer than --lease-retry-period, so that a leader can renew its Lease",
            )
        } else if lease_duration < renew_deadline.saturating_add(MARGIN) {
            Err(
                "--lease-duration must be at least 5s longer than --lease-renew-deadline, so that the requests of a \
                 leader arrive before another replica begins",
            )
        } else if lease_duration > LONGEST_LEASE {
            Err("--lease-duration must be at most 1h, because it delays the next leader if one is killed")
        } else {
            Ok(Self { lease_duration, renew_deadline, retry_period })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timings(seconds: [u64; 3]) -> Result<Timings, &'static str> {
        let [lease, deadline, retry] = seconds.map(Duration::from_secs);
        Timings::new(lease, deadline, retry)
    }

    #[test]
    fn only_a_holder_that_stops_in_time_is_safe() {
        for seconds in [[15, 10, 2], [7, 2, 1], [137, 107, 26], [3600, 3595, 3594]] {
            assert!(timings(seconds).is_ok(), "{seconds:?}");
        }
        assert_eq!(timings([15, 10, 2]), Ok(Timings::default()));
        for (seconds, flag) in [
            ([15, 10, 0], "--lease-retry-period must be"),
            ([15, 2, 2], "--lease-renew-deadline must be"),
            ([14, 10, 2], "--lease-duration must be at least"),
            ([10, 15, 2], "--lease-duration must be at least"),
            ([3601, 10, 2], "--lease-duration must be at most"),
        ] {
            let refusal = timings(seconds).unwrap_err();
            assert!(refusal.starts_with(flag), "{seconds:?}: {refusal}");
        }
    }
}
