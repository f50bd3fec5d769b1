//! Why a reconcile ends before it has done all that it began with.

use super::{Findings, Managed};
use crate::engine::access::AccessError;
use crate::engine::backoff::Inconclusive;
use crate::engine::references::Unread;
use crate::engine::verdict::Verdict;

/// Why a reconcile ends early.
pub(in crate::controller) enum Stop<K: Managed> {
    /// Nothing can be reported.
    Inconclusive(Inconclusive),
    /// That is what is reported.
    Findings(Box<Findings<K>>),
    /// An exchange failed, or the login before it.
    Access(AccessError),
}

impl<K: Managed> From<AccessError> for Stop<K> {
    fn from(error: AccessError) -> Self {
        Self::Access(error)
    }
}

impl<K: Managed> From<Inconclusive> for Stop<K> {
    fn from(why: Inconclusive) -> Self {
        Self::Inconclusive(why)
    }
}

impl<K: Managed> From<Findings<K>> for Stop<K> {
    fn from(findings: Findings<K>) -> Self {
        Self::Findings(Box::new(findings))
    }
}

impl<K: Managed> From<Verdict> for Stop<K> {
    fn from(verdict: Verdict) -> Self {
        Findings::from(verdict).into()
    }
}

impl<K: Managed> From<Unread> for Stop<K> {
    fn from(why: Unread) -> Self {
        match why {
            Unread::Silence => Self::Inconclusive(Inconclusive::Unanswered),
            Unread::Refused(verdict) => Findings::without_login(verdict).into(),
        }
    }
}
