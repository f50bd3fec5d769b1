//! The states of the parts of a whole: the gateways of a policy, the customers of a server.

use super::reason::Reason;
use super::verdict::Verdict;

/// The state of one part. Each part is in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "as_str is the list of the words")]
pub enum State {
    InSync,
    Pending,
    Drifted,
    Failed,
    Overridden,
    Suspended,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::InSync, Self::Pending, Self::Drifted, Self::Failed, Self::Overridden, Self::Suspended];

    /// The word in statuses and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "inSync",
            Self::Pending => "pending",
            Self::Drifted => "drifted",
            Self::Failed => "failed",
            Self::Overridden => "overridden",
            Self::Suspended => "suspended",
        }
    }
}

/// One part: its name, its state, and its own verdict as far as it has reported one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the resource.
    pub name: String,
    /// Its state with regard to the whole.
    pub state: State,
    /// What it reports itself.
    pub verdict: Option<Verdict>,
}

/// The state of a part that was checked, by what it reports. `fits`: the remote value is the desired one. `fitted`: it was proven
/// to be so before.
#[must_use]
pub fn state_of(reason: Option<Reason>, fits: bool, fitted: bool) -> State {
    match reason {
        Some(reason) if reason.awaits_permission() && fitted => State::Drifted,
        Some(reason) if reason.awaits_permission() => State::Pending,
        Some(reason) if reason.is_ready() && fits => State::InSync,
        Some(Reason::Observed | Reason::Unmanaged | Reason::Drifted) => State::Drifted,
        None | Some(Reason::Progressing) => State::Pending,
        Some(reason) if reason.is_ready() => State::Pending,
        Some(_) => State::Failed,
    }
}

/// The names of the parts that a request on the whole covers.
pub fn covered(parts: &[Part]) -> impl Iterator<Item = &str> {
    let covered = parts.iter().filter(|part| !matches!(part.state, State::Overridden | State::Suspended));
    covered.map(|part| part.name.as_str())
}

/// Parts by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([i64; 6]);

impl Tally {
    /// Counts parts.
    #[must_use]
    pub fn of(parts: &[Part]) -> Self {
        Self(State::ALL.map(|state| {
            i64::try_from(parts.iter().filter(|p| p.state == state).count()).unwrap_or(i64::MAX)
        }))
    }

    /// How many are in a state.
    #[must_use]
    pub fn count(&self, state: State) -> i64 {
        State::ALL.iter().zip(self.0).find(|(s, _)| **s == state).map_or(0, |(_, count)| count)
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// In sync of those not overridden, such as `38/40`.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{}/{}", self.count(State::InSync), self.total() - self.count(State::Overridden))
    }
}

/// What a policy reports of its gateways.
#[must_use]
pub fn policy_verdict(parts: &[Part], observes: bool) -> Verdict {
    let tally = Tally::of(parts);
    let open: Vec<&Part> = parts.iter().filter(|p| is_open(p, observes)).collect();
    if parts.is_empty() {
        let message = "No X2Gateway in this namespace matches gatewaySelector. Label the gateways, or correct the selector.";
        return Verdict::new(Reason::NoGatewaysMatch, message);
    }
    if open.is_empty() {
        return settled(&tally, observes);
    }
    let reason = shared_reason(&open);
    let names: Vec<&str> = open.iter().take(3).map(|p| p.name.as_str()).collect();
    let more = if open.len() > names.len() { ", …" } else { "" };
    // No number: the message of a policy does not change with each of its gateways.
    let message = format!("Not in sync: {}{more}. See the conditions of each X2Gateway.", names.join(", "));
    Verdict::new(reason, message)
}

fn is_open(part: &Part, observes: bool) -> bool {
    match part.state {
        State::InSync | State::Overridden | State::Suspended => false,
        State::Drifted => !observes,
        State::Pending | State::Failed => true,
    }
}

fn settled(tally: &Tally, observes: bool) -> Verdict {
    if observes {
        let message = if tally.count(State::Drifted) > 0 {
            "Some gateways differ from what this policy would set. Observe mode: nothing is changed."
        } else {
            "All gateways have the token lifetime that this policy would set. Observe mode: nothing is changed."
        };
        Verdict::new(Reason::Observed, message)
    } else if tally.count(State::Overridden) == tally.total() {
        Verdict::new(
            Reason::Overridden,
            "All selected gateways are governed by another policy (higher priority, or a name that sorts first).",
        )
    } else {
        let message = "All governed gateways that are not suspended have the required token lifetime (verified by new logins).";
        Verdict::new(Reason::InSync, message)
    }
}

fn shared_reason(open: &[&Part]) -> Reason {
    let mut reasons = open.iter().map(|part| open_reason(part));
    let first = reasons.next().unwrap_or(Reason::GatewaysNotReady);
    if reasons.all(|reason| reason == first) { first } else { Reason::GatewaysNotReady }
}

/// Why a part is not in sync. It may report that it is in sync, if it was not reconciled for this policy yet.
fn open_reason(part: &Part) -> Reason {
    let own = part.verdict.as_ref().map(|v| v.reason).filter(|reason| !reason.is_ready());
    match (part.state, own) {
        (State::Pending, Some(reason)) if reason.awaits_permission() => reason,
        (State::Pending, _) => Reason::Progressing,
        (_, Some(reason)) => reason,
        (State::Drifted, None) => Reason::Drifted,
        (_, None) => Reason::Progressing,
    }
}
