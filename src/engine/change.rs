//! One change of a remote value, from the decision to the report: the same record in memory and, while the change is open,
//! in `status.pending`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::annotation;
use super::reason::{EventReason, Progress, Reason};
use crate::crd::{CHANGE_REF, Cause, PendingOutcome};

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Decided, and on record where it must not be forgotten; the write is not sent yet.
    Prepared,
    /// The write may have taken effect: its answer was lost, or the operator stopped before it came.
    Sent,
    /// The remote system accepted the write.
    Applied,
    /// The write was refused, or never sent: the remote system keeps its previous value.
    Refused,
}

impl Outcome {
    /// As the record of writes names it.
    #[must_use]
    pub(crate) fn of_write(self) -> &'static str {
        match self {
            Self::Prepared => "not sent",
            Self::Sent => "unknown",
            Self::Applied => "accepted",
            Self::Refused => "refused",
        }
    }
}

/// Characters of a change reference.
const LONGEST: usize = 64;

/// The change reference in the annotations of a policy or customer. One that is too long, or not a single line, is ignored.
#[must_use]
pub fn reference(meta: &ObjectMeta) -> Option<String> {
    let text = annotation::value(meta, CHANGE_REF)?;
    let fits = !text.is_empty() && text.chars().count() <= LONGEST && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// The note of an event about a change, with what that refers to.
#[must_use]
pub fn referring(note: String, reference: Option<&str>) -> String {
    match reference {
        Some(reference) => format!("{note} Change reference: {reference}."),
        None => note,
    }
}

/// Changes that a status remembers.
const HISTORY: usize = 10;

/// A change that was begun. `V` is the remote value, `O` what the status keeps of the original value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<V, O = V> {
    /// The value that it replaces.
    pub from: V,
    /// The same as the status keeps original values.
    pub found: O,
    /// The value to be set.
    pub to: V,
    /// Why it is made.
    pub cause: Cause,
    /// The policy that asks for it, for kinds that have one.
    pub policy: Option<String>,
    /// The change reference of the policy or customer.
    pub reference: Option<String>,
    /// When it was begun.
    pub since: Timestamp,
    /// The original value that was on record before this change.
    pub original_before: Option<O>,
    /// How far it has come.
    pub outcome: Outcome,
    /// Whether the history has it already; what follows it, such as a proof or a revocation, may be outstanding.
    pub is_recorded: bool,
}

/// What a status has on record of an open change. Earlier versions recorded the target and the time only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<V> {
    /// The value that it replaces.
    pub from: Option<V>,
    /// The value to be set.
    pub to: V,
    /// Why it is made.
    pub cause: Option<Cause>,
    /// When it was begun.
    pub since: Timestamp,
    /// How far it had come when that was written.
    pub outcome: Option<PendingOutcome>,
    /// What it refers to.
    pub reference: Option<String>,
}

/// Converts between `Recorded` and the `pending` of a kind's status.
macro_rules! recorded_as {
    ($pending:ident, $value:ty) => {
        impl From<&$pending> for Recorded<$value> {
            fn from($pending { from, to, cause, since, outcome, change_ref }: &$pending) -> Self {
                let (since, reference) = (since.0, change_ref.clone());
                Self { from: *from, to: *to, cause: *cause, since, outcome: *outcome, reference }
            }
        }

        impl From<Recorded<$value>> for $pending {
            fn from(Recorded { from, to, cause, since, outcome, reference }: Recorded<$value>) -> Self {
                Self { from, to, cause, since: Time(since), outcome, change_ref: reference }
            }
        }
    };
}
pub(super) use recorded_as;

/// What a status shows beside a recorded change, for what the record itself leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside<V, O> {
    /// What the change replaces, if the record does not say so.
    pub from: V,
    /// The same as the status keeps original values.
    pub found: O,
    /// Why it is made, if the record does not say so.
    pub cause: Cause,
    /// The policy that was in force.
    pub policy: Option<String>,
    /// The status reports that the change is under way: the operator may have ended right after it wrote that.
    pub under_way: bool,
    /// The original value on record, if an earlier change has put it there.
    pub original_before: Option<O>,
    /// Whether the history has the change already.
    pub is_recorded: bool,
}

impl<V: Clone + PartialEq, O: Clone> Change<V, O> {
    /// A change that is about to begin. `found` is the value that it replaces as the status keeps original values.
    pub fn new((from, found): (V, O), to: V, cause: Cause, since: Timestamp) -> Self {
        Self {
            from,
            found,
            to,
            cause,
            policy: None,
            reference: None,
            since,
            original_before: None,
            outcome: Outcome::Prepared,
            is_recorded: false,
        }
    }

    /// A change that is about to begin, given the last one that was begun and is not completed. It comes with the value
    /// that is set now and with the original value on record.
    #[must_use]
    pub fn following(mut self, earlier: Option<&Self>) -> Self {
        match earlier.filter(|earlier| !earlier.is_recorded) {
            // What it brought along is taken back.
            Some(earlier) if !earlier.may_hold() => {
                self.original_before.clone_from(&earlier.original_before);
            }
            // Tried again: it may have been in force in between, so it replaces what the first try replaced.
            Some(earlier) if earlier.to == self.to && earlier.to != self.from => {
                (self.from, self.found) = (earlier.from.clone(), earlier.found.clone());
            }
            None | Some(_) => {}
        }
        self
    }

    /// The original value once this change took effect.
    #[must_use]
    pub fn original(&self) -> O {
        self.original_before.clone().unwrap_or_else(|| self.found.clone())
    }

    /// The change as the status has it while it is open.
    #[must_use]
    pub fn recorded(&self) -> Recorded<V> {
        Recorded {
            from: Some(self.from.clone()),
            to: self.to.clone(),
            cause: Some(self.cause),
            since: self.since,
            outcome: Some(self.recorded_outcome()),
            reference: self.reference.clone(),
        }
    }

    /// The change that a status has on record. One that was under way when the operator stopped may have been sent.
    #[must_use]
    pub fn remembered(record: Recorded<V>, beside: Beside<V, O>) -> Self {
        let unsent = record.outcome == Some(PendingOutcome::Prepared) && !beside.under_way;
        Self {
            from: record.from.unwrap_or(beside.from),
            found: beside.found,
            to: record.to,
            cause: record.cause.unwrap_or(beside.cause),
            policy: beside.policy,
            reference: record.reference,
            since: record.since,
            original_before: beside.original_before,
            outcome: if unsent { Outcome::Refused } else { Outcome::Sent },
            is_recorded: beside.is_recorded,
        }
    }

    /// Whether the remote system may hold the value because of this change.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        matches!(self.outcome, Outcome::Sent | Outcome::Applied)
    }

    /// Whether the value that is set now is the one that this change has set.
    #[must_use]
    pub fn holds(&self, seen: &V) -> bool {
        self.may_hold() && self.to == *seen
    }

    /// Whether it took effect and is not recorded: before the next one begins, it is closed.
    #[must_use]
    pub fn is_to_be_closed(&self, seen: &V) -> bool {
        self.holds(seen) && !self.is_recorded
    }

    /// The word that the status has for it.
    #[must_use]
    fn recorded_outcome(&self) -> PendingOutcome {
        if self.may_hold() { PendingOutcome::Sent } else { PendingOutcome::Prepared }
    }

    /// What is known of the change after its write was answered. One that never took effect leaves an earlier one open.
    #[must_use]
    pub fn after(self, outcome: Outcome, earlier: Option<Self>) -> Self {
        match (outcome, earlier) {
            (Outcome::Prepared, Some(earlier)) => earlier,
            (Outcome::Refused, Some(earlier)) if earlier.may_hold() => earlier,
            _ => Self { outcome, ..self },
        }
    }
}

/// How a reconcile ended, as far as it decides whether a change stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Ending {
    /// What is reported.
    pub reason: Reason,
    /// Whether the policy is suspended: tokens may still have to be revoked when it is resumed.
    pub suspended: bool,
    /// Whether the object has left its policy, so that the change is all that shows whose value is set.
    pub left: bool,
    /// Whether the value of the change is still required.
    pub required: bool,
    /// Whether the value of the change is set now.
    pub is_set: bool,
    /// Whether the change was tried before, and reported to have failed.
    pub failed: bool,
}

/// Changes that the status does not show as they are, yet.
#[derive(Clone, Debug)]
pub struct Changes<'a, C, R> {
    /// The change that is not completed.
    pub open: Option<&'a C>,
    /// Changes that took effect and are not in the history.
    pub owed: Vec<&'a R>,
}

/// When a value that is still required was set, and why: newest first, up to what set another one. A history has the value, time
/// and cause of each change, newest first.
pub fn last_set<V>(
    history: impl IntoIterator<Item = (V, Timestamp, Cause)>,
    is_required: impl Fn(V) -> bool,
) -> Vec<(Timestamp, Cause)> {
    let set = |(value, time, cause)| is_required(value).then_some((time, cause));
    history.into_iter().map_while(set).collect()
}

/// Adds changes to a history, newest first.
pub(crate) fn add_to_history<'a, C: Clone + 'a>(
    history: &mut Vec<C>,
    changes: impl IntoIterator<Item = &'a C>,
) {
    changes.into_iter().for_each(|change| history.insert(0, change.clone()));
    history.truncate(HISTORY);
}

/// The event about a change that took effect. `changed` is its reason, unless it has corrected drift.
#[must_use]
pub fn event(
    cause: Cause,
    changed: EventReason,
    note: String,
    reference: Option<&str>,
) -> (EventReason, String) {
    let reason = if cause == Cause::Drift { EventReason::DriftCorrected } else { changed };
    (reason, referring(note, reference))
}

/// Whether a change stays open after a reconcile.
#[must_use]
pub fn stays_open<V: Clone + PartialEq, O: Clone>(change: &Change<V, O>, ending: Ending) -> bool {
    match ending.reason {
        Reason::InSync if ending.suspended => true,
        reason if reason.is_ready() => false,
        _ if ending.left => true,
        // The value was read and nothing was written. What took effect stays on record as long as it is set, and what has
        // failed as long as it is required; what was only prepared has come to nothing.
        reason if reason.awaits_permission() || reason.progress() == Progress::Found => {
            change.may_hold() && ending.is_set
                || ending.failed && ending.required && change.outcome != Outcome::Prepared
        }
        _ => true,
    }
}
