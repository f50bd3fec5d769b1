//! What a reconcile came to, as far as the statuses of all kinds that have changes show it.

use super::change::Ending;
use super::login::News;
use super::reason::Reason;

/// What a reconcile came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What is reported.
    pub reason: Reason,
    /// What was reported when the reconcile began.
    pub before: Option<Reason>,
    /// The remote system that was asked.
    pub effective_url: Option<String>,
    /// What is new about the login.
    pub news: Option<News>,
}

impl Summary {
    /// How the reconcile ended, of an object whose policy is neither suspended nor left, with a value that is neither required
    /// nor set.
    #[must_use]
    pub(super) fn ending(&self) -> Ending {
        let failed = self.before.is_some_and(|before| before != Reason::Progressing);
        Ending { reason: self.reason, suspended: false, left: false, required: false, is_set: false, failed }
    }
}
