//! Which of several resources that declare one remote object owns it.

mod claimants;
mod claims;

use std::borrow::Borrow;
use std::time::Duration;

pub use self::claims::{ClaimId, Table};
use super::access::AccessError;
use super::reason::{Progress, Reason};
use super::restoration::is_released;
use super::system::{Peer, Place, Via};
use super::verdict::{Verdict, ready_reason};
use crate::crd::{CustomerTokenTtl, Kind, KonaServer, X2Gateway};

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
    /// The status shows that another one owned the object. It loses while any is logged in, and is untried otherwise.
    Lost,
}

impl Trial {
    /// The outcome that a status shows of an attempt at the object that it is about. `got_in`: whether the object was read.
    #[must_use]
    pub fn remembered(kind: Kind, reason: Option<Reason>, got_in: bool) -> Self {
        match reason {
            Some(Reason::Conflict) => Self::Lost,
            Some(reason) if is_refusal(kind, reason) => Self::Refused,
            _ if got_in => Self::GotIn,
            Some(reason) if reason.progress() == Progress::Failed => Self::NoAnswer,
            _ => Self::Untried,
        }
    }

    /// The outcome of an attempt that the spec itself rules out. Rivals must not wait for one that cannot even try; a spec
    /// that makes no sense loses nothing.
    #[must_use]
    pub fn ruled_out(reason: Reason) -> Self {
        if reason == Reason::InvalidSpec { Self::NoAnswer } else { Self::Refused }
    }

    /// The outcome of an attempt that ended in a failed exchange, or in the login before it.
    #[must_use]
    pub fn of_failed(error: &AccessError) -> Self {
        let needs_another =
            matches!(error, AccessError::Half | AccessError::NotAdmin | AccessError::TokenRefused);
        if needs_another || error.is_refusal() { Self::Refused } else { Self::NoAnswer }
    }

    /// The outcome as it counts. While a fault may still pass and is not reported, it takes nothing from an owner.
    #[must_use]
    pub fn counting(self, is_shown: bool) -> Self {
        if self == Self::Refused && !is_shown { Self::NoAnswer } else { self }
    }
}

/// Whether a credential is refused or missing. A customer logs in with its server's, which the server reports; its own only
/// proves lifetimes.
fn is_refusal(kind: Kind, reason: Reason) -> bool {
    match reason {
        Reason::AuthenticationFailed => kind != Kind::Customer,
        Reason::AdminRoleRequired
        | Reason::PlaintextRefused
        | Reason::InsecureTlsRefused
        | Reason::ServerNotReady => true,
        // It may come back, with the same credential.
        Reason::ServerNotFound => false,
        reason => reason.awaits_reference(),
    }
}

/// The reason that counts for a customer: its server's, if nothing was refused and the server does not answer.
fn underlying(reason: Reason, server: &KonaServer) -> Reason {
    let servers = server.status.as_ref().and_then(|status| ready_reason(&status.conditions));
    let silent = servers.filter(|servers| servers.is_remote() && !is_refusal(Kind::Server, *servers));
    silent.filter(|_| reason == Reason::ServerNotReady).unwrap_or(reason)
}

/// What a status shows of an attempt.
struct Shown {
    reason: Option<Reason>,
    /// Whether it is about the URL that the resource leads to now.
    is_here: bool,
    /// Whether it is about the current spec.
    is_current: bool,
    /// Whether the remote object was read.
    got_in: bool,
}

impl Shown {
    /// The outcome of the attempt. One elsewhere shows nothing, but for a fault of the current spec or its login: nothing
    /// has to be asked for that, so that the status may not name the URL.
    fn trial(self, kind: Kind) -> Trial {
        let is_own = |reason| reason == Reason::InvalidSpec || is_refusal(kind, reason);
        let reason = self.reason.filter(|reason| self.is_here || self.is_current && is_own(*reason));
        Trial::remembered(kind, reason, self.is_here && self.got_in)
    }
}

/// What a resource claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The remote object.
    pub object: String,
    /// Whether the resource is suspended.
    pub suspended: bool,
    /// The outcome of its attempt, as its status shows it.
    pub trial: Trial,
    /// How the remote system is reached.
    pub via: Via,
    /// The peer there, if it need not be met to be known.
    pub peer: Option<Peer>,
}

impl Claimed {
    /// What a gateway claims: its effective URL.
    #[must_use]
    pub(crate) fn by_gateway(gateway: &X2Gateway) -> Option<Self> {
        let connection = &gateway.spec.connection;
        if is_released(&gateway.metadata) {
            // Something else keeps it from going.
            return None;
        }
        let Place { url: object, via, peer } = Place::of(connection)?;
        let shown = gateway.status.as_ref().map(|status| Shown {
            reason: ready_reason(&status.conditions),
            is_here: status.effective_url.as_ref() == Some(&object),
            is_current: status.observed_generation == gateway.metadata.generation,
            got_in: status.timeout_seconds.is_some(),
        });
        let trial = shown.map_or(Trial::Untried, |shown| shown.trial(Kind::Gateway));
        Some(Self { object, suspended: connection.suspend, trial, via, peer })
    }

    /// What a server claims: its effective URL. It keeps no other from it, but its limits count there.
    #[must_use]
    pub(crate) fn by_server(server: &KonaServer) -> Option<Self> {
        let connection = &server.spec.connection;
        let Place { url: object, via, peer } = Place::of(connection)?;
        let shown = server.status.as_ref().map(|status| Shown {
            reason: ready_reason(&status.conditions),
            is_here: status.effective_url.as_ref() == Some(&object),
            is_current: status.observed_generation == server.metadata.generation,
            got_in: status.last_checked_time.is_some(),
        });
        let trial = shown.map_or(Trial::Untried, |shown| shown.trial(Kind::Server));
        Some(Self { object, suspended: connection.suspend, trial, via, peer })
    }

    /// What a customer's resource claims: the customer's id on the server's effective URL.
    #[must_use]
    pub fn by_customer(customer: &CustomerTokenTtl, server: Option<&KonaServer>) -> Option<Self> {
        if is_released(&customer.metadata) {
            // Nothing is written for it anymore. One that is to be restored keeps its claim, so that nothing comes in between.
            return None;
        }
        let server = server?;
        let connection = &server.spec.connection;
        let Place { url, via, peer } = Place::of(connection)?;
        let object = format!("{url} {}", customer.spec.customer_id);
        let shown = customer.status.as_ref().map(|status| Shown {
            reason: ready_reason(&status.conditions).map(|reason| underlying(reason, server)),
            is_here: status.effective_url.as_ref() == Some(&url),
            is_current: status.observed_generation == customer.metadata.generation,
            got_in: status.last_checked_time.is_some(),
        });
        let trial = shown.map_or(Trial::Untried, |shown| shown.trial(Kind::Customer));
        Some(Self { object, suspended: customer.spec.suspend || connection.suspend, trial, via, peer })
    }
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
    /// How it reaches the remote system.
    pub via: Via,
    /// The peer that those were let in by who reach the system in this way; none if that is not known since the start.
    pub peer: Option<Peer>,
    /// Whether it has tried in vain to meet the peer again.
    pub silent: bool,
    /// Whether it was let in for the first time while it was not known yet where others are.
    pub waits: bool,
}

impl<Id: PartialEq> Claimant<Id> {
    /// Whether another one is about the same remote system, as far as that is known.
    fn is_at(&self, other: &Self) -> bool {
        self.via == other.via || self.peer.is_some() && self.peer == other.peer
    }

    /// Whether its status shows that it was let in, and it is not known where: another way may lead elsewhere.
    fn is_unmet(&self) -> bool {
        self.trial == Trial::GotIn && self.peer.is_none()
    }

    /// Whether another one may turn out to own the same remote system, since it was let in before the operator started.
    fn awaits(&self, other: &Self) -> bool {
        other.id != self.id && !other.suspended && other.via != self.via && other.is_unmet() && !other.silent
    }
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

/// Longest wait for an answer to one that is not the owner, or that others wait for.
pub(crate) const LONGEST_TRY: Duration = Duration::from_secs(10);
/// Shortest time between two tries of one that is not the owner, and was refused.
const BETWEEN_TRIES: Duration = Duration::from_hours(1);

impl Standing {
    /// Time to the next check after a try to log in, if it is otherwise this.
    #[must_use]
    pub fn pace(self, trial: Trial, interval: Duration) -> Duration {
        let is_try = self == Self::TryNow && trial == Trial::Refused;
        if is_try { interval.max(BETWEEN_TRIES) } else { interval }
    }

    /// What to report of a claimant that may not write now.
    #[must_use]
    pub fn conflict(self, sentences: &Conflict) -> Option<Verdict> {
        match self {
            Self::Owner | Self::TryNow => None,
            Self::Loser => Some(Verdict::new(Reason::Conflict, sentences.lost)),
            Self::Undecided => Some(Verdict::new(Reason::Progressing, sentences.undecided)),
        }
    }
}

/// What a kind reports of claimants that may not write.
#[derive(Clone, Copy, Debug)]
pub struct Conflict {
    /// If the object is another's.
    pub lost: &'static str,
    /// If that is not known yet.
    pub undecided: &'static str,
}

/// The standing of `me` among all `claimants` of one remote object, itself included.
///
/// Only those at the same remote system are rivals. The oldest that could log in owns it. A younger claimant is still tried
/// once, so that it can report what is wrong with its own credential. The order of the slice does not matter.
pub fn standing<Id: Ord>(claimants: &[impl Borrow<Claimant<Id>>], me: &Id) -> Standing {
    let claimants = || claimants.iter().map(Borrow::borrow);
    let Some(mine) = claimants().find(|c| c.id == *me) else { return Standing::TryNow };
    if mine.suspended {
        return Standing::Undecided;
    }
    let others = || claimants().filter(|c| c.id != *me && !c.suspended);
    // A restart unsettles no owner: one that may be at the same system keeps it until it is met again.
    if mine.trial == Trial::Lost && others().any(Claimant::is_unmet) {
        return Standing::Loser;
    }
    match among(others().filter(|c| mine.is_at(c)).collect(), mine) {
        Standing::Owner if mine.waits && claimants().any(|c| mine.awaits(c)) => Standing::Undecided,
        standing => standing,
    }
}

/// The standing of a claimant among others at the same remote system.
fn among<'a, Id: Ord>(mut rivals: Vec<&'a Claimant<Id>>, mine: &'a Claimant<Id>) -> Standing {
    if rivals.is_empty() {
        return Standing::Owner;
    }
    rivals.push(mine);
    rivals.sort_by(|a, b| a.id.cmp(&b.id));
    let is_taken = rivals.iter().any(|c| c.trial == Trial::GotIn);
    let trial = |c: &Claimant<Id>| match c.trial {
        Trial::Lost if !is_taken => Trial::Untried,
        trial => trial,
    };
    // A refused claimant reports that, and may try again with another credential.
    if matches!(trial(mine), Trial::Untried | Trial::Refused) {
        return Standing::TryNow;
    }
    for rival in rivals {
        match trial(rival) {
            Trial::Untried => return Standing::Undecided,
            Trial::GotIn if rival.id == mine.id => return Standing::Owner,
            Trial::GotIn => return Standing::Loser,
            Trial::NoAnswer | Trial::Refused | Trial::Lost => {}
        }
    }
    // No claimant could log in: each reports its own fault, and none of them can write.
    Standing::Owner
}
