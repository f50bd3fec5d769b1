//! What a reconcile concludes, and the conditions made of it: `Ready`, beside it `Reconciling` or `Stalled`, and those that only inform.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use super::annotation;
use super::reason::{ConditionType, EventReason, Kstatus, Reason};
use super::text::shortened;

/// What one reconcile of an object concludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// A sentence that a person can act on: stable from check to check, without secrets.
    pub message: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The verdict that the Ready condition holds, without annotations that are ignored.
    #[must_use]
    pub fn reported(conditions: &[Condition]) -> Option<Self> {
        let ready = ready(conditions)?;
        let message = ready.message.split(IGNORED).next().unwrap_or_default();
        Some(Self::new(Reason::parse(&ready.reason)?, message))
    }

    /// The same, and which annotations of the object are ignored because they are too long.
    #[must_use]
    pub fn noting_ignored(&self, meta: &ObjectMeta) -> Self {
        let ignored = annotation::ignored(meta);
        if ignored.is_empty() {
            return self.clone();
        }
        Self::new(self.reason, format!("{}{IGNORED}{}.", self.message, ignored.join(", ")))
    }
}

/// How a message goes on if annotations are ignored.
const IGNORED: &str = " Annotations longer than 256 bytes are ignored: ";
/// Longest message of a condition, in bytes: names and servers' words must not fill a status.
const LONGEST_MESSAGE: usize = 1024;

/// Conditions that inform beside Ready, each with its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Set if the password is sent unencrypted or to an unverified server.
    pub insecure: Option<String>,
    /// Set if a change would log out many users at once.
    pub risky: Option<String>,
}

impl Notes {
    /// The notes among these conditions that were observed for this generation of the spec.
    #[must_use]
    pub fn reported(conditions: &[Condition], generation: Option<i64>) -> Self {
        let note = |kind| {
            let condition = find(conditions, kind).filter(|c| c.observed_generation == generation)?;
            Some(condition.message.clone())
        };
        Self { insecure: note(ConditionType::Insecure), risky: note(ConditionType::Risky) }
    }
}

/// Status, reason and message of a condition to set.
struct Entry<'a> {
    kind: ConditionType,
    status: &'static str,
    reason: &'static str,
    message: &'a str,
}

impl<'a> Entry<'a> {
    fn verdict(kind: ConditionType, status: &'static str, verdict: &'a Verdict) -> Self {
        Self { kind, status, reason: verdict.reason.as_str(), message: &verdict.message }
    }

    /// A condition that is only ever True: its reason is its type.
    fn note(kind: ConditionType, message: &'a str) -> Self {
        Self { kind, status: "True", reason: kind.as_str(), message }
    }

    /// The condition. Its transition time stays as it was if its status does not change.
    fn onto(self, old: &[Condition], generation: i64, now: &Time) -> Condition {
        let Self { kind, status, reason, message } = self;
        let before = find(old, kind).filter(|c| c.status == status);
        Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: shortened(message, LONGEST_MESSAGE),
            observed_generation: Some(generation),
            last_transition_time: before.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
        }
    }
}

/// Conditions after a verdict.
#[must_use]
pub fn conditions(
    old: &[Condition],
    verdict: &Verdict,
    notes: &Notes,
    generation: i64,
    now: &Time,
) -> Vec<Condition> {
    use ConditionType::{Insecure, Ready, Reconciling, Risky, Stalled};
    let (ready, beside) = match verdict.reason.kstatus() {
        Kstatus::Current => ("True", None),
        Kstatus::InProgress => ("False", Some(Reconciling)),
        Kstatus::Failed => ("False", Some(Stalled)),
    };
    let beside = beside.map(|kind| Entry::verdict(kind, "True", verdict));
    let notes = [(Insecure, &notes.insecure), (Risky, &notes.risky)];
    let notes = notes.into_iter().filter_map(|(kind, note)| Some(Entry::note(kind, note.as_deref()?)));
    let entries = std::iter::once(Entry::verdict(Ready, ready, verdict)).chain(beside).chain(notes);
    entries.map(|entry| entry.onto(old, generation, now)).collect()
}

/// What an object reports while its own `spec.suspend` is true.
pub(crate) const SUSPENDED: &str = "spec.suspend is true: nothing is read or changed.";

/// Conditions of a suspended object: Ready stays as it was, and nothing is under way.
#[must_use]
pub fn suspended(old: &[Condition], message: &str, generation: i64, now: &Time) -> Vec<Condition> {
    use ConditionType::{Reconciling, Stalled, Suspended};
    let ends = |c: &Condition| [Reconciling, Stalled, Suspended].iter().any(|kind| is(c, *kind));
    let kept = old.iter().filter(|c| !ends(c));
    let kept = kept.map(|c| Condition { observed_generation: Some(generation), ..c.clone() });
    kept.chain([Entry::note(Suspended, message).onto(old, generation, now)]).collect()
}

/// The event about a new verdict, if it is one: an object needs attention for another reason than before, or is ready again
/// after it needed attention. `warned` is the last such reason since it was ready.
#[must_use]
pub fn transition(
    before: Option<Reason>,
    warned: Option<Reason>,
    now: &Verdict,
) -> Option<(EventReason, String)> {
    if now.reason.is_ready() {
        let warned = since_ready(before, warned)?;
        let note = format!("Ready again after {}. {}", warned.as_str(), now.message);
        return Some((EventReason::Recovered, note));
    }
    let is_news = now.reason.is_warning() && before != Some(now.reason);
    is_news.then(|| (EventReason::NotReady(now.reason), now.message.clone()))
}

/// The last reason of an object that is a warning, unless it has been ready since. What waits or is under way in between is no
/// recovery.
#[must_use]
pub fn since_ready(reason: Option<Reason>, warned: Option<Reason>) -> Option<Reason> {
    match reason {
        Some(reason) if reason.is_ready() => None,
        Some(reason) if reason.is_warning() => Some(reason),
        _ => warned,
    }
}

/// The reason of the Ready condition.
#[must_use]
pub fn ready_reason(conditions: &[Condition]) -> Option<Reason> {
    ready(conditions).and_then(|c| Reason::parse(&c.reason))
}

/// The Ready condition.
#[must_use]
pub fn ready(conditions: &[Condition]) -> Option<&Condition> {
    find(conditions, ConditionType::Ready)
}

/// The condition of a type.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| is(c, kind))
}

fn is(condition: &Condition, kind: ConditionType) -> bool {
    condition.type_ == kind.as_str()
}
