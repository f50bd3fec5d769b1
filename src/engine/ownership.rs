//! Which of several resources that declare one remote object owns it.

use super::reason::Reason;
use super::verdict::Verdict;

/// The outcome of a claimant's one attempt to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Not tried yet.
    Untried,
    /// Logged in (and found the object).
    GotIn,
    /// The remote side did not answer: ownership is unaffected.
    NoAnswer,
    /// Credential refused or missing.
    Refused,
}

/// One resource that declares the remote object. Claimants are compared oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant<Id> {
    /// Sorts first by age, then by namespace and name.
    pub id: Id,
    /// Suspended claimants own nothing.
    pub suspended: bool,
    /// The outcome of its attempt.
    pub trial: Trial,
}

/// The standing of a claimant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It alone may write.
    Owner,
    /// Another one owns the object.
    Loser,
    /// It may not write yet; its attempt is outstanding, or was refused.
    TryNow,
    /// It may not write: attempts of others are outstanding, or it is suspended.
    Undecided,
}

impl Standing {
    /// What to report of a claimant that may not write now: `lost` if the object is another's, `undecided` if that is not
    /// known yet.
    #[must_use]
    pub fn conflict(self, lost: &str, undecided: &str) -> Option<Verdict> {
        match self {
            Self::Owner | Self::TryNow => None,
            Self::Loser => Some(Verdict::new(Reason::Conflict, lost)),
            Self::Undecided => Some(Verdict::new(Reason::Progressing, undecided)),
        }
    }
}

/// The standing of `me` among all `claimants` of one remote object, itself included.
///
/// The oldest that could log in owns it. A younger claimant is still tried once, so that it can report what is wrong with
/// its own credential. The order of the slice does not matter.
pub fn standing<Id: Ord>(claimants: &[Claimant<Id>], me: &Id) -> Standing {
    let mut rivals: Vec<_> = claimants.iter().filter(|c| !c.suspended || c.id == *me).collect();
    rivals.sort_by(|a, b| a.id.cmp(&b.id));
    let alone = rivals.iter().all(|c| c.id == *me);
    let (mine, paused) =
        rivals.iter().find(|c| c.id == *me).map_or((Trial::Untried, false), |c| (c.trial, c.suspended));
    if paused {
        return Standing::Undecided;
    }
    if alone {
        return Standing::Owner;
    }
    // A refused claimant reports that, and may try again with another credential.
    if matches!(mine, Trial::Untried | Trial::Refused) {
        return Standing::TryNow;
    }
    for rival in rivals {
        match rival.trial {
            Trial::Untried => return Standing::Undecided,
            Trial::GotIn if rival.id == *me => return Standing::Owner,
            Trial::GotIn => return Standing::Loser,
            Trial::NoAnswer | Trial::Refused => {}
        }
    }
    // No claimant could log in: each reports its own fault, and none of them can write.
    Standing::Owner
}
