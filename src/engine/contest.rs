//! Write fights: somebody keeps changing a value back that we keep correcting.

use std::time::Duration;

use super::schedule::CONTESTED;

/// Corrections in a row, none found standing at the next check, after which we give way.
const PATIENCE: u32 = 5;

/// How a fight over one value stands. Times are monotonic, since any fixed moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contest {
    undone: u32,
    last_correction: Option<Duration>,
    /// Whether no check has looked at the last correction yet.
    unchecked: bool,
    contested: bool,
}

impl Contest {
    /// The state after a restart, when the status says that a fight is on: the last correction was `ago`.
    #[must_use]
    pub fn resumed(now: Duration, ago: Duration) -> Self {
        Self {
            undone: PATIENCE,
            last_correction: Some(now.saturating_sub(ago)),
            unchecked: false,
            contested: true,
        }
    }

    /// Whether a correction may be written now.
    #[must_use]
    pub fn may_correct(&self, now: Duration) -> bool {
        !self.contested || self.last_correction.is_none_or(|last| now.saturating_sub(last) >= CONTESTED)
    }

    /// Whether the value is being fought over.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.contested
    }

    /// A check found the wanted value.
    #[must_use]
    pub fn stood(self, now: Duration) -> Self {
        let held = self.last_correction.is_none_or(|last| now.saturating_sub(last) >= CONTESTED);
        if self.contested && !held { self } else { Self::default() }
    }

    /// A check found another value than the one proven before. Each correction counts once: a value that stays wrong, as
    /// it does under a suspended policy, is no fight.
    #[must_use]
    pub fn undone(self) -> Self {
        if !self.unchecked {
            return self;
        }
        let undone = self.undone.saturating_add(1);
        Self { undone, unchecked: false, contested: self.contested || undone >= PATIENCE, ..self }
    }

    /// A correction is about to be tried.
    #[must_use]
    pub fn tried(self, now: Duration) -> Self {
        Self { last_correction: Some(now), ..self }
    }

    /// A drifted value was put back.
    #[must_use]
    pub fn corrected(self, now: Duration) -> Self {
        Self { last_correction: Some(now), unchecked: true, ..self }
    }
}
