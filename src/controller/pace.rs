//! When an object is looked at next, and whether a failure is reported yet.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::engine::schedule;
use crate::engine::verdict::{Reason, Standing, Verdict};

/// Failures in a row that an object which was in order may have before it is reported.
const GRACE: u32 = 3;

/// The rhythm of one object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    failures: u32,
    due: Option<Instant>,
}

impl Pace {
    /// When the next look is due. Nothing but a changed input makes it come sooner.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something that counts has changed: earlier failures do not.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Sets the next look.
    pub fn retry_at(&mut self, at: Instant) {
        self.due = Some(at);
    }

    /// Postpones the first look after a restart where the status shows a failure on the remote side.
    pub fn postpone(&mut self) {
        self.due = Some(clock::instant() + schedule::after_restart(clock::random()));
    }

    /// Sets the next look after a look, and returns whether this one is to be reported: an object that was in order keeps
    /// its Ready until three tries in a row have failed.
    pub fn after(
        &mut self,
        verdict: &Verdict,
        retry_after: Option<Duration>,
        interval: Duration,
        was_ready: bool,
    ) -> bool {
        let reason = verdict.reason;
        let random = clock::random();
        let wait = match reason.standing() {
            Standing::Current => {
                self.failures = 0;
                schedule::jittered(interval, random)
            }
            _ if reason.awaits_reference() || reason == Reason::AuthenticationFailed => schedule::SECRET_POLL,
            _ => {
                self.failures = self.failures.saturating_add(1);
                let quick = schedule::backoff(self.failures, random);
                let in_grace = was_ready && self.failures < GRACE && passes(reason);
                match reason {
                    Reason::Drifted | Reason::Contested | Reason::VerificationFailed => {
                        schedule::jittered(interval, random)
                    }
                    _ if reason.standing() == Standing::InProgress || in_grace => {
                        quick.max(retry_after.unwrap_or_default())
                    }
                    _ => schedule::stalled(interval, random),
                }
            }
        };
        self.due = Some(clock::instant() + wait);
        !(was_ready && self.failures < GRACE && passes(reason))
    }
}

/// Faults that may pass by themselves.
fn passes(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Unreachable
            | Reason::TimedOut
            | Reason::RateLimited
            | Reason::UnexpectedAnswer
            | Reason::TlsFailed
            | Reason::CustomerNotFound
    )
}
