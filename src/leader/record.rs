//! A `Lease`, and when it was seen to change.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// A lease as it was observed. Others' clocks do not matter: what counts is when it was seen to change.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    lease: Lease,
    at: Duration,
}

/// A lease that had no holder before.
pub(super) fn new(name: &str, identity: &str, duration: Duration, now: Timestamp) -> Lease {
    let spec = LeaseSpec { lease_transitions: Some(0), ..LeaseSpec::default() };
    Lease {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(taken(spec, identity, duration, now)),
    }
}

impl Observed {
    pub(super) fn new(lease: Lease, at: Duration) -> Self {
        Self { lease, at }
    }

    /// Whether this is another lease than the one observed, or a renewed one.
    pub(super) fn differs_from(&self, lease: &Lease) -> bool {
        self.lease.metadata.resource_version != lease.metadata.resource_version
    }

    pub(super) fn version(&self) -> String {
        self.lease.metadata.resource_version.clone().unwrap_or_default()
    }

    pub(super) fn is_held_by(&self, identity: &str) -> bool {
        self.holder() == Some(identity)
    }

    /// Whether it may be taken: it has no holder, or its holder has not renewed it for the lease's duration.
    pub(super) fn is_free(&self, now: Duration) -> bool {
        self.holder().is_none() || self.left(now).is_zero()
    }

    /// Time until it expires.
    pub(super) fn left(&self, now: Duration) -> Duration {
        let seconds = self.spec().lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        (self.at + Duration::from_secs(seconds.unwrap_or_default())).saturating_sub(now)
    }

    /// What is left of it when it was deleted: nothing, or another holder's claim, which a new lease must not cut short.
    pub(super) fn deleted(self, identity: &str, now: Duration) -> Option<Self> {
        if self.is_free(now) || self.is_held_by(identity) { None } else { Some(self) }
    }

    /// The same in a new holder's name.
    pub(super) fn taken_by(&self, identity: &str, duration: Duration, now: Timestamp) -> Lease {
        let mut spec = self.spec();
        if self.is_held_by(identity) {
            spec.renew_time = Some(MicroTime(now));
            spec.lease_duration_seconds = Some(seconds(duration));
        } else {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
            spec = taken(spec, identity, duration, now);
        }
        Lease { metadata: self.lease.metadata.clone(), spec: Some(spec) }
    }

    /// The same without a holder.
    pub(super) fn released(&self, now: Timestamp) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(now)),
            ..self.spec()
        };
        Lease { metadata: self.lease.metadata.clone(), spec: Some(spec) }
    }

    fn holder(&self) -> Option<&str> {
        let holder = self.lease.spec.as_ref()?.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    fn spec(&self) -> LeaseSpec {
        self.lease.spec.clone().unwrap_or_default()
    }
}

fn taken(spec: LeaseSpec, identity: &str, duration: Duration, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(seconds(duration)),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..spec
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);
    const SEEN: Duration = Duration::from_secs(1000);

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn held() -> Observed {
        Observed::new(new("tenure", "a", LEASE, time(1)), SEEN)
    }

    fn spec(lease: Lease) -> LeaseSpec {
        lease.spec.unwrap()
    }

    #[test]
    fn it_expires_after_its_own_duration_since_it_was_seen() {
        let held = held();
        assert!(held.is_held_by("a"));
        for (after, free) in [(0, false), (14, false), (15, true), (100, true)] {
            assert_eq!(held.is_free(SEEN + Duration::from_secs(after)), free, "{after}");
        }
        let mut short = held.lease.clone();
        short.spec.as_mut().unwrap().lease_duration_seconds = Some(3);
        assert!(
            Observed::new(short, SEEN).is_free(SEEN + Duration::from_secs(3)),
            "the holder's word counts"
        );
    }

    #[test]
    fn a_new_holder_is_a_transition_and_a_renewal_is_none() {
        let renewed = spec(held().taken_by("a", LEASE, time(9)));
        assert_eq!((renewed.lease_transitions, renewed.acquire_time.unwrap().0), (Some(0), time(1)));
        assert_eq!(renewed.renew_time.unwrap().0, time(9));
        let taken = spec(held().taken_by("b", LEASE, time(9)));
        assert_eq!((taken.lease_transitions, taken.acquire_time.unwrap().0), (Some(1), time(9)));
        assert_eq!(taken.holder_identity.as_deref(), Some("b"));
    }

    #[test]
    fn what_is_released_is_free_at_once_and_counts_on() {
        let released = Observed::new(held().released(time(9)), SEEN);
        assert!(released.is_free(SEEN));
        assert!(!released.is_held_by("") && !released.is_held_by("a"));
        assert_eq!(spec(released.taken_by("b", LEASE, time(10))).lease_transitions, Some(1));
    }

    #[test]
    fn deleting_it_does_not_cut_its_holder_short() {
        assert!(held().deleted("b", SEEN + Duration::from_secs(14)).is_some());
        assert!(held().deleted("b", SEEN + Duration::from_secs(15)).is_none());
        assert!(held().deleted("a", SEEN).is_none(), "its holder creates it again at once");
    }

    #[test]
    fn what_nobody_understands_is_free() {
        assert!(Observed::new(Lease::default(), SEEN).is_free(SEEN));
    }
}
