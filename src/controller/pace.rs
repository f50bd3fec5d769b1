//! When an object is looked at next, and whether a failure is reported yet.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::engine::reason::{Kstatus, Retry};
use crate::engine::schedule;
use crate::engine::verdict::Verdict;

/// Failures in a row that an object which was in order may have before it is reported.
const GRACE: u32 = 3;

/// So many failures in a row that the wait is at its longest.
const MANY: u32 = 10;

/// The rhythm of one object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    failures: u32,
    unwritten: u32,
    due: Option<Instant>,
}

impl Pace {
    /// When the next look is due. Nothing but a changed input makes it come sooner.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Brings the next look forward to a moment that is known to matter, such as the opening of a change window. One that
    /// is due stays so.
    pub fn not_later_than(&mut self, moment: Instant) {
        self.due = self.due.map(|due| due.min(moment));
    }

    /// Something that counts has changed: earlier failures do not.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The API server did not take the status: the look is repeated, ever more slowly.
    pub fn not_written(&mut self) {
        self.unwritten = self.unwritten.saturating_add(1);
        self.due =
            Some(clock::instant() + schedule::backoff(self.unwritten.saturating_add(1), clock::random()));
    }

    /// The API server took the status, or there was nothing to write.
    pub fn written(&mut self) {
        self.unwritten = 0;
    }

    /// Postpones the first look after a restart where the status shows a failure on the remote side. Should that fail,
    /// too, it goes on at the slowest pace: a restart is no reason to ask more often.
    pub fn postpone(&mut self) {
        self.failures = MANY;
        self.due = Some(clock::instant() + schedule::after_restart(clock::random()));
    }

    /// Sets the next look after a look, and returns whether this one is to be reported: an object that was in order keeps
    /// its Ready until three tries in a row have failed. `polls` tells that a Secret or `ConfigMap` may bring the change.
    pub fn after(
        &mut self,
        verdict: &Verdict,
        retry_after: Option<Duration>,
        interval: Duration,
        was_ready: bool,
        polls: bool,
    ) -> bool {
        let reason = verdict.reason;
        let random = clock::random();
        let wait = match reason.kstatus() {
            Kstatus::Current => {
                self.failures = 0;
                schedule::jittered(interval, random)
            }
            _ if polls => schedule::SECRET_POLL,
            _ => {
                self.failures = self.failures.saturating_add(1);
                let quick = schedule::backoff(self.failures, random);
                let in_grace = was_ready && self.failures < GRACE && reason.may_pass();
                match reason.retry() {
                    Retry::Interval if retry_after.is_none() => schedule::jittered(interval, random),
                    Retry::Slow if !in_grace => schedule::stalled(interval, random),
                    Retry::Backoff | Retry::Slow | Retry::Interval => {
                        quick.max(retry_after.unwrap_or_default())
                    }
                }
            }
        };
        self.due = Some(clock::instant() + wait);
        !(was_ready && self.failures < GRACE && reason.may_pass())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reason::Reason;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn verdict(reason: Reason) -> Verdict {
        Verdict::new(reason, "")
    }

    fn wait(pace: &Pace) -> Duration {
        pace.due().unwrap() - clock::instant()
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_in_order_is_reported_at_the_third_failure_within_a_minute() {
        let mut pace = Pace::default();
        let mut passed = Duration::ZERO;
        for reported in [false, false, true] {
            assert_eq!(pace.after(&verdict(Reason::Unreachable), None, INTERVAL, true, false), reported);
            passed += if reported { Duration::ZERO } else { wait(&pace) };
        }
        assert!(passed < Duration::from_mins(1), "{passed:?}");
        // One that is new, or has changed, is reported at once, and so is what time does not repair.
        assert!(Pace::default().after(&verdict(Reason::Unreachable), None, INTERVAL, false, false));
        assert!(Pace::default().after(&verdict(Reason::AuthenticationFailed), None, INTERVAL, true, false));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_slow_down_to_ten_minutes_and_a_success_forgives() {
        let mut pace = Pace::default();
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            pace.after(&verdict(Reason::TimedOut), None, INTERVAL, false, false);
            longest = longest.max(wait(&pace));
        }
        assert!(wait(&pace) >= schedule::CAP / 2 && longest <= schedule::CAP, "{longest:?}");
        pace.after(&verdict(Reason::InSync), None, INTERVAL, false, false);
        assert!(wait(&pace) <= INTERVAL && wait(&pace) >= INTERVAL.mul_f64(0.9));
        pace.after(&verdict(Reason::TimedOut), None, INTERVAL, false, false);
        assert!(wait(&pace) <= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_a_person_repairs_is_looked_at_slowly() {
        let mut pace = Pace::default();
        pace.after(&verdict(Reason::TlsFailed), None, INTERVAL, false, false);
        assert!(wait(&pace) >= schedule::CAP);
        pace.after(&verdict(Reason::Conflict), None, Duration::from_hours(2), false, false);
        assert!(wait(&pace) >= Duration::from_hours(2));
        // Its references, and a refused password's Secret, are read twice a minute.
        for reason in [Reason::SecretNotFound, Reason::AuthenticationFailed, Reason::OriginNotAllowed] {
            pace.after(&verdict(reason), None, INTERVAL, false, true);
            assert_eq!(wait(&pace), schedule::SECRET_POLL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_side_may_ask_for_more_time() {
        let mut pace = Pace::default();
        pace.after(&verdict(Reason::RateLimited), Some(Duration::from_mins(7)), INTERVAL, false, false);
        assert_eq!(wait(&pace), Duration::from_mins(7));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_restart_a_failed_object_is_tried_once_within_ten_minutes() {
        let mut pace = Pace::default();
        pace.postpone();
        assert!(wait(&pace) <= schedule::CAP);
        pace.after(&verdict(Reason::Unreachable), None, INTERVAL, false, false);
        assert!(wait(&pace) >= schedule::CAP / 2);
    }
}
