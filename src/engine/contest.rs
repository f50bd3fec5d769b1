//! Contested values: something keeps overwriting a value that we keep correcting.

use std::time::Duration;

use super::schedule::CONTESTED;
use crate::crd::Cause;

/// Corrections in a row, none of which lasted until the next check, after which a value is contested.
const PATIENCE: u32 = 5;

/// Whether one value is contested. Times are monotonic, since any fixed moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contest {
    undone: u32,
    last_correction: Option<Duration>,
    /// Whether no check has followed the last correction yet.
    unchecked: bool,
    contested: bool,
}

impl Contest {
    /// The state after a restart, if the status is Contested: the last correction was `ago`.
    #[must_use]
    pub fn resumed(now: Duration, ago: Duration) -> Self {
        Self {
            undone: PATIENCE,
            last_correction: Some(now.saturating_sub(ago)),
            unchecked: false,
            contested: true,
        }
    }

    /// The state after a restart. `set` is how long ago what is still desired was set, and why: newest first, up to what set
    /// something else. `reported` is whether the status is Contested.
    #[must_use]
    pub fn remembered(now: Duration, set: &[(Duration, Cause)], interval: Duration, reported: bool) -> Self {
        let Some((last, _)) = set.first().copied() else { return Self::default() };
        if reported {
            return Self::resumed(now, last);
        }
        let drift = set.iter().take_while(|(_, cause)| *cause == Cause::Drift).map(|(ago, _)| *ago);
        let corrections: Vec<Duration> = drift.collect();
        // A correction that follows within this time was made by the next check.
        let soon = interval.mul_f64(1.5);
        let before = corrections.array_windows().rev().fold(Self::default(), |contest, [next, ago]| {
            let (undone, pause) = (contest.corrected(*ago).undone(), ago.saturating_sub(*next));
            let has_waited = undone.contested && (CONTESTED..CONTESTED + soon).contains(&pause);
            if pause < soon || has_waited { undone } else { Self::default() }
        });
        let hold = if before.contested { CONTESTED } else { Duration::ZERO };
        let is_open = !corrections.is_empty() && last < hold + soon;
        if is_open { before.corrected(now.saturating_sub(last)) } else { Self::default() }
    }

    /// Whether a correction may be written now.
    #[must_use]
    pub fn may_correct(&self, now: Duration) -> bool {
        !self.contested || self.last_correction.is_none_or(|last| now.saturating_sub(last) >= CONTESTED)
    }

    /// Whether the value is contested.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.contested
    }

    /// A check found the desired value.
    #[must_use]
    pub fn stood(self, now: Duration) -> Self {
        let held = self.last_correction.is_none_or(|last| now.saturating_sub(last) >= CONTESTED);
        if self.contested && !held { self } else { Self::default() }
    }

    /// A check found another value than the one proven before. Each correction counts once: a value that stays wrong, as
    /// it does under a suspended policy, is not contested.
    #[must_use]
    pub fn undone(self) -> Self {
        if !self.unchecked {
            return self;
        }
        let undone = self.undone.saturating_add(1);
        Self { undone, unchecked: false, contested: self.contested || undone >= PATIENCE, ..self }
    }

    /// A correction is about to be attempted.
    #[must_use]
    pub fn tried(self, now: Duration) -> Self {
        Self { last_correction: Some(now), ..self }
    }

    /// A drifted value was corrected.
    #[must_use]
    pub fn corrected(self, now: Duration) -> Self {
        Self { last_correction: Some(now), unchecked: true, ..self }
    }
}
