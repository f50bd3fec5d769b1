//! When an object is reconciled next, and whether what a reconcile came to is reported yet. `T` is a monotonic time.

use std::ops::Add;
use std::time::Duration;

use super::reason::{Reason, Retry};
use super::schedule;
use super::verdict::Verdict;

/// Failures in a row that an object which was healthy may have before the failure is reported, and reconciles in a row
/// that may come to nothing before that is reported.
const GRACE: u32 = 3;

/// A failure that may pass is reported unless the next try begins within this time after the first failure.
const LONGEST_GRACE: Duration = Duration::from_mins(1);

/// A failure is reported if the remote system asks for a longer wait than this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Number of failures in a row after which the wait is at its longest.
const MANY: u32 = 10;

/// Why nothing can be reported of a remote system after a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconclusive {
    /// The rollout was asked for a permit: the answer wakes the object.
    Asked,
    /// The API server did not answer, or the operator is shutting down.
    Unanswered,
    /// The API server did not accept a finalizer or a status.
    NotAccepted,
    /// What the reconcile began with does not hold anymore.
    Outdated,
}

impl Inconclusive {
    /// What an object reports if that happens again and again.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        let (reason, message) = match self {
            Self::Asked => {
                (Reason::AwaitingRollout, "A change is waiting for the rollout of the TokenPolicy.")
            }
            Self::Unanswered => (
                Reason::Progressing,
                "The API server does not answer when the operator reads a Secret or ConfigMap that this object refers to. Check the API server and its log.",
            ),
            Self::NotAccepted => (
                Reason::Forbidden,
                "The API server does not accept the finalizer or the status of this object, so nothing is changed. Check the admission webhooks and policies for this kind.",
            ),
            Self::Outdated => (
                Reason::Progressing,
                "This object, its Secret or its policy changes during each check, so nothing is changed. Find out what keeps changing it.",
            ),
        };
        Verdict::new(reason, message)
    }
}

/// What a reconcile came to.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// What there is to report.
    pub reason: Reason,
    /// How long the remote system asked the operator to wait.
    pub retry_after: Option<Duration>,
    /// Time between two checks.
    pub interval: Duration,
    /// Whether the object was ready, with the same spec.
    pub was_ready: bool,
    /// Whether a Secret or `ConfigMap` may bring the change.
    pub polls: bool,
}

/// The rhythm of one object. Random numbers are in 0..1.
#[derive(Clone, Copy, Debug)]
pub struct Backoff<T> {
    /// Tries in a row that have failed.
    failures: u32,
    /// When the first of them ended.
    failing_since: Option<T>,
    /// Those of them that were not for the sake of a Secret or `ConfigMap` alone: the next wait depends on them.
    retries: u32,
    inconclusive: u32,
    unwritten: u32,
    due: Option<T>,
}

impl<T> Default for Backoff<T> {
    fn default() -> Self {
        Self { failures: 0, failing_since: None, retries: 0, inconclusive: 0, unwritten: 0, due: None }
    }
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Backoff<T> {
    /// When the next reconcile is due. Nothing but a changed input makes it come sooner.
    #[must_use]
    pub fn due(&self) -> Option<T> {
        self.due
    }

    /// Brings the next reconcile forward to a moment that is known to matter, such as the opening of a change window. One
    /// that is due stays so.
    pub fn not_later_than(&mut self, moment: T) {
        self.due = self.due.map(|due| due.min(moment));
    }

    /// Something that counts has changed: earlier failures do not.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The API server did not accept the status: the reconcile is repeated, ever more slowly.
    pub fn not_written(&mut self, now: T, random: f64) {
        self.unwritten = self.unwritten.saturating_add(1);
        self.due = Some(now + schedule::backoff(self.unwritten.saturating_add(1), random));
    }

    /// Whether the API server did not accept the last status.
    #[must_use]
    pub(crate) fn is_unwritten(&self) -> bool {
        self.unwritten > 0
    }

    /// The API server accepted the status, or there was nothing to write.
    pub fn written(&mut self) {
        self.unwritten = 0;
    }

    /// Postpones the first reconcile after a restart if the status shows this failure of the remote system. Should that fail,
    /// too, it goes on at the slowest pace: a restart is no reason to ask more often.
    pub fn postpone(&mut self, failure: Reason, now: T, random: f64) {
        (self.failures, self.retries) = (MANY, MANY);
        // A Secret that was changed meanwhile ends a refused login.
        let within =
            if failure == Reason::AuthenticationFailed { schedule::SECRET_POLL } else { schedule::CAP };
        self.due = Some(now + schedule::after_restart(within, random));
    }

    /// A reconcile was inconclusive. Returns whether that is to be reported.
    pub fn inconclusive(&mut self, now: T, random: f64) -> bool {
        self.inconclusive = self.inconclusive.saturating_add(1);
        self.due = Some(now + schedule::backoff(self.inconclusive.saturating_add(1), random));
        self.inconclusive >= GRACE
    }

    /// Whether the last reconcile failed, whether that was reported or not.
    #[must_use]
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// A reconcile was conclusive. Returns whether that is to be reported: an object that was healthy keeps its Ready
    /// until three tries in a row have failed, if there is time for them within a minute.
    pub fn attempted(&mut self, now: T, random: f64, attempt: Attempt) -> bool {
        let Attempt { reason, retry_after, interval, was_ready, polls } = attempt;
        self.inconclusive = 0;
        if reason.is_ready() {
            (self.failures, self.retries, self.failing_since) = (0, 0, None);
            self.due = Some(now + schedule::jittered(interval, random));
            return true;
        }
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.unwrap_or_default();
        let pause = schedule::backoff(self.failures, random).max(asked);
        let has_time = now + pause <= *self.failing_since.get_or_insert(now) + LONGEST_GRACE;
        let in_grace =
            was_ready && self.failures < GRACE && reason.may_pass() && asked <= LONGEST_WAIT && has_time;
        self.retries = self.retries.saturating_add(u32::from(!polls));
        let wait = match reason.retry() {
            _ if in_grace => pause,
            _ if polls => schedule::SECRET_POLL,
            Retry::Interval if retry_after.is_none() => schedule::jittered(interval, random),
            Retry::Slow => schedule::stalled(interval, random),
            Retry::Backoff | Retry::Interval => schedule::backoff(self.retries, random).max(asked),
        };
        self.due = Some(now + wait);
        !in_grace
    }
}
