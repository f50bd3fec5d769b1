//! How a remote system, and the way to it, behave for a while.

use std::time::Duration;

/// How a remote system behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It answers within a tenth of a second.
    Well,
    /// No connection.
    Away,
    /// Connections, and no answer.
    Silent,
    /// It takes up to this long.
    Slow(Duration),
    /// Each request is answered with this status.
    Failing(u16),
    /// Each request is answered with status 200 and a page.
    Rubbish,
    /// Each request is answered with 429, and perhaps with the time to wait.
    Limiting(Option<Duration>),
    /// A third of all exchanges goes wrong in some way.
    Flaky,
}

/// What becomes of one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Until the request is carried out, or not.
    pub before: Duration,
    /// From then to the answer.
    pub after: Duration,
    pub course: Course,
}

/// The part of an exchange's fate that is not time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// Carried out and answered.
    Served,
    /// Not carried out; this is the answer.
    Answered { status: u16, retry_after: Option<Duration>, page: bool },
    /// Not carried out: the connection fails.
    Lost,
    /// Carried out; the connection fails before the answer.
    AnswerLost,
    /// Never answered; carried out or not.
    Silent { carried_out: bool },
    /// Carried out, and answered with this status.
    Spoilt(u16),
}

impl Mood {
    /// What becomes of an exchange that begins now.
    pub fn fate(self, rng: &mut fastrand::Rng) -> Fate {
        let mut pause = |most: u64| Duration::from_millis(rng.u64(1..=most));
        let (before, after) = (pause(40), pause(40));
        let answered = |status, retry_after, page| Course::Answered { status, retry_after, page };
        let course = match self {
            Self::Well => Course::Served,
            Self::Away => Course::Lost,
            Self::Silent => Course::Silent { carried_out: false },
            Self::Slow(most) => {
                let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
                let (before, after) = (pause(most), pause(most));
                return Fate { before, after, course: Course::Served };
            }
            Self::Failing(status) => answered(status, None, false),
            Self::Rubbish => answered(200, None, true),
            Self::Limiting(retry_after) => answered(429, retry_after, false),
            Self::Flaky => return flaky(rng, before, after),
        };
        Fate { before, after, course }
    }
}

fn flaky(rng: &mut fastrand::Rng, before: Duration, after: Duration) -> Fate {
    let long = Duration::from_millis(rng.u64(1_000..20_000));
    let answered = |status, page| Course::Answered { status, retry_after: None, page };
    let (before, after, course) = match rng.u8(0..30) {
        0 => (before, after, Course::Lost),
        1 => (before, after, Course::AnswerLost),
        2 => (before, after, Course::Silent { carried_out: true }),
        3 => (before, after, Course::Silent { carried_out: false }),
        4 => (before, after, answered(500, false)),
        5 => (before, after, answered(503, false)),
        6 => (before, after, Course::Spoilt(502)),
        7 => (before, after, answered(200, true)),
        // Carried out long after the request was given up.
        8 => (long, after, Course::Served),
        9 => (before, long, Course::Served),
        _ => (before, after, Course::Served),
    };
    Fate { before, after, course }
}
