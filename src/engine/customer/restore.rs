//! What becomes of a customer's keys when its resource is deleted.

use super::{AdditionalInfo, Made, OpenChange, Original, known_original, written};
use crate::crd::{Cause, CustomerTokenTtlSpec, CustomerTokenTtlStatus, DeletionPolicy, Mode, TtlSeconds};
use crate::engine::ownership::Standing;
use crate::engine::reason::Reason;
use crate::engine::verdict::Verdict;

/// Another resource manages the customer.
pub const RIVAL: &str = "another CustomerTokenTtl manages the customer";
/// Something else has changed the keys.
pub const FOREIGN: &str = "something else has changed the value since the last write";
/// What is recorded is no JSON.
pub const UNPARSABLE: &str = "the recorded original values cannot be parsed";

/// What is to be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Lifetimes that the operator may have set last.
    pub written: Vec<TtlSeconds>,
    /// What the keys held originally.
    pub original: Original,
}

/// What a deleted resource requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    /// There is nothing to restore.
    AsItIs,
    /// The customer is left as it is although it was to be restored, for this reason.
    Skipped(&'static str),
    /// Its keys are to be restored.
    Restore(Task),
}

/// What is known of a deleted resource.
#[derive(Clone, Copy, Debug)]
pub struct Deletion<'a> {
    /// Its spec.
    pub spec: &'a CustomerTokenTtlSpec,
    /// Its status.
    pub status: &'a CustomerTokenTtlStatus,
    /// The change that is not completed.
    pub open: Option<&'a OpenChange>,
    /// Changes that the history does not have yet.
    pub owed: &'a [Made],
    /// Whether it, or its server, is suspended.
    pub is_paused: bool,
    /// The URL of its server, if there is one.
    pub url: Option<&'a str>,
    /// Its standing among its rivals.
    pub standing: Standing,
}

/// Decides what is done for a deleted resource. The first rule that applies counts:
///
/// 1. What was restored is not restored again.
/// 2. Under Retain or Observe, and while work is paused, nothing is touched; if nothing was written, nothing needs to be.
/// 3. If the original is unknown, was another server's, or the customer is another resource's, it is left as it is.
#[must_use]
pub fn parting(deletion: Deletion<'_>) -> Parting {
    let Deletion { spec, status, open, owed, is_paused, url, standing } = deletion;
    let is_restored = status.history.first().is_some_and(|change| change.cause == Cause::Restore);
    let written = written(Some(status), open, owed);
    if is_restored
        || spec.deletion_policy == DeletionPolicy::Retain
        || spec.mode == Mode::Observe
        || is_paused
        || written.is_empty()
    {
        return Parting::AsItIs;
    }
    let Some(original) = known_original(status, owed) else {
        return Parting::Skipped("the original values are unknown");
    };
    let has_moved =
        url.is_some_and(|url| status.effective_url.as_deref().is_some_and(|before| before != url));
    if has_moved {
        return Parting::Skipped("the server's URL has changed since the last write");
    }
    if standing == Standing::Loser {
        return Parting::Skipped(RIVAL);
    }
    Parting::Restore(Task { written, original })
}

/// What is to be done with a customer whose resource goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoration {
    /// Nothing: the keys are as they were originally.
    AsBefore,
    /// They hold what we wrote: the original values are restored.
    Restore,
    /// Nothing: they hold what something else has written.
    Foreign,
}

/// Decides it. Carried out and asked again, it is `AsBefore`.
#[must_use]
pub fn restoration(info: &AdditionalInfo, written: &[TtlSeconds], original: &Original) -> Restoration {
    let ttl = info.ttl();
    // A key that holds no whole number is none that we wrote.
    let is_ours = |to: &TtlSeconds| {
        *to == ttl && ttl.access_token_ttl_seconds.is_some() && ttl.refresh_token_ttl_seconds.is_some()
    };
    if info.original() == *original {
        Restoration::AsBefore
    } else if written.iter().any(is_ours) {
        // Also if ours says the same in another spelling: 3600 for what was 3600.0.
        Restoration::Restore
    } else if info.is_as(original) {
        Restoration::AsBefore
    } else {
        Restoration::Foreign
    }
}

/// What to report of a resource after a check: of a deleted one with a task, how it leaves its customer, or what keeps the
/// keys from being restored. One that lost the customer to a rival restores nothing.
#[must_use]
pub fn leaving(task: Option<&Task>, parting: &mut Option<Parting>, verdict: Verdict) -> Verdict {
    if task.is_none() {
        return verdict;
    }
    if verdict.reason == Reason::Conflict {
        *parting = Some(Parting::Skipped(RIVAL));
    }
    match parting {
        Some(Parting::AsItIs) => restored(),
        _ => waiting(verdict),
    }
}

/// What to report while the deletion waits for the restoration.
#[must_use]
fn waiting(mut verdict: Verdict) -> Verdict {
    verdict.message.push_str(
        " Deletion waits up to ten minutes for the original token lifetimes to be restored; to skip this, set the annotation tenure.dev/skip-restore to \"true\".",
    );
    verdict
}

/// What to report once the keys are restored.
#[must_use]
pub fn restored() -> Verdict {
    let message = "The customer's original token lifetimes are restored; the resource is being deleted.";
    Verdict::new(Reason::Progressing, message)
}

/// The server accepted the restoration and does not show it.
#[must_use]
pub fn not_restored() -> Verdict {
    let message = "The server accepted the original token lifetimes but returned different values on read-back. Check the server.";
    Verdict::new(Reason::VerificationFailed, message)
}
