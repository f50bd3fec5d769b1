//! Who owns a remote object that several resources declare.

/// What became of a claimant's one try to get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Not tried yet.
    Untried,
    /// Logged in (and found the object).
    GotIn,
    /// The other side did not answer: says nothing about who owns it.
    NoAnswer,
    /// Credential refused or missing.
    Refused,
}

/// One resource that declares the remote object. Claimants are compared oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant<Id> {
    /// Sorts first by age, then by namespace and name.
    pub id: Id,
    /// Paused claimants own nothing.
    pub suspended: bool,
    /// How its try went.
    pub trial: Trial,
}

/// Where a claimant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It alone may write.
    Owner,
    /// Another one owns the object.
    Loser,
    /// It may not write yet; its try is outstanding, or was refused.
    TryNow,
    /// This one may not write: others' tries are outstanding, or it is paused.
    Undecided,
}

/// Where `me` stands among all `claimants` of one remote object, itself included.
///
/// The oldest that got in owns it. A younger claimant is tried once all the same, so that it can report what is wrong
/// with its own credential. The order of the slice does not matter.
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
    // Who was refused reports that, and may try again with another credential.
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
    // Nobody got in: each reports its own fault, and none of them can write.
    Standing::Owner
}
