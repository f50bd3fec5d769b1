//! What the harness decides about each request, and what it reads of those that were applied.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::refusal::Refusal;
use super::resource::{Target, Verb};
use super::store::{Key, Stored};

/// A request that has arrived.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// When, by the server's clock.
    pub time: Timestamp,
    /// The name that the client was made with.
    pub client: Arc<str>,
    pub verb: Verb,
    pub target: Target,
    /// What was sent; empty if nothing was.
    pub body: axum::body::Bytes,
}

/// What is done with a request.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Virtual time until it is applied. It is applied even if the client has given up by then: see
    /// [`Api::catch_up`](super::Api::catch_up).
    pub before: Duration,
    /// Virtual time from then until the answer arrives.
    pub after: Duration,
    pub course: Course,
}

/// What becomes of a request.
#[derive(Clone, Debug, Default)]
pub enum Course {
    /// It is applied and answered.
    #[default]
    Pass,
    /// It is not applied; the answer is this one.
    Refuse(Refusal),
    /// Admission denies it, unless there is another reason to refuse it.
    Deny(Refusal),
    /// It does not arrive: the connection fails, after `before`.
    CutOff,
    /// It is applied, and then the connection fails.
    LoseAnswer,
    /// It is applied, and nothing is ever answered.
    Silence,
}

impl Verdict {
    pub const PASS: Self = Self { before: Duration::ZERO, after: Duration::ZERO, course: Course::Pass };

    /// Refused with this code.
    pub fn refuse(code: u16) -> Self {
        Self { course: Course::Refuse(Refusal::of_code(code)), ..Self::PASS }
    }

    /// Denied by admission with this code.
    pub fn deny(code: u16) -> Self {
        Self { course: Course::Deny(Refusal::of_code(code)), ..Self::PASS }
    }

    pub fn delayed(before: Duration, after: Duration) -> Self {
        Self { before, after, ..Self::PASS }
    }

    pub fn of(course: Course) -> Self {
        Self { course, ..Self::PASS }
    }
}

/// How a watch ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The stream ends as if the server had closed it.
    Closed,
    /// The connection fails.
    Failed,
}

/// A write that was applied and has changed something.
#[derive(Clone, Debug)]
pub struct Write {
    /// When it was sent.
    pub sent: Timestamp,
    pub time: Timestamp,
    pub client: Arc<str>,
    pub verb: Verb,
    pub target: Target,
    pub key: Key,
    pub before: Option<Arc<Stored>>,
    /// None: the object is gone.
    pub after: Option<Arc<Stored>>,
}
