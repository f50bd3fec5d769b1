//! How long the deletion of an object waits for its remote value to be restored.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::verdict::{Reason, Verdict};
use crate::crd::{Kind, RESTORE};

/// Longest wait since the deletion.
pub const PATIENCE: Duration = Duration::from_mins(10);

/// Why the finalizer is removed although nothing was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SkipReason {
    /// An annotation asks for it.
    Asked,
    /// Ten minutes have passed since the deletion.
    TooLate,
    /// The namespace is being deleted, and with it the Secrets that restoring needs.
    NamespaceEnds,
}

impl SkipReason {
    /// A clause for an event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "the annotation tenure.dev/skip-restore is set",
            Self::TooLate => "it could not be restored within ten minutes of the deletion request",
            Self::NamespaceEnds => "the namespace is being deleted",
        }
    }
}

/// Whether an object has our finalizer.
#[must_use]
pub fn has_finalizer(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|finalizer| finalizer == RESTORE)
}

/// Whether the deletion of an object waits for us.
#[must_use]
pub fn is_leaving(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && has_finalizer(meta)
}

/// Whether an object is being deleted and does not wait for us: the operator treats it as gone, even if other finalizers remain.
#[must_use]
pub fn is_released(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && !has_finalizer(meta)
}

/// What to report of an object that our finalizer cannot be added to.
#[must_use]
pub fn forbidden(kind: Kind) -> Verdict {
    let message = format!(
        "deletionPolicy is Restore, but the operator is not allowed to add its finalizer to this {}, so nothing is changed. Grant it the verb patch on this kind.",
        kind.as_str()
    );
    Verdict::new(Reason::Forbidden, message)
}

/// The note of the event that an original value was not restored. `why` is a clause.
#[must_use]
pub fn not_restored(why: &str) -> String {
    format!("The original value was not restored: {why}.")
}

/// Whether a deleted object is released now, and why. A namespace that is not known to be ending is not ending.
#[must_use]
pub fn skip_reason(
    deleted: Timestamp,
    asked: bool,
    namespace_ends: bool,
    now: Timestamp,
) -> Option<SkipReason> {
    if asked {
        Some(SkipReason::Asked)
    } else if time_left(deleted, now).is_zero() {
        Some(SkipReason::TooLate)
    } else {
        namespace_ends.then_some(SkipReason::NamespaceEnds)
    }
}

/// The time that is left for restoring: zero once it is over.
#[must_use]
pub fn time_left(deleted: Timestamp, now: Timestamp) -> Duration {
    let passed = Duration::try_from(now.duration_since(deleted)).unwrap_or_default();
    PATIENCE.saturating_sub(passed)
}
