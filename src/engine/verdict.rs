//! What is reported of an object: one reason, one sentence, and the conditions made of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Why an object is ready or not. The words are what users see in `kubectl get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "as_str is the list of the words, the book explains each")]
pub enum Reason {
    InSync,
    Unmanaged,
    Overridden,
    Observed,
    Drifted,
    Progressing,
    NoGatewaysMatch,
    GatewaysNotReady,
    SecretNotFound,
    SecretKeyMissing,
    ConfigMapNotFound,
    ServerNotFound,
    ServerNotReady,
    Unreachable,
    TimedOut,
    RateLimited,
    UnexpectedAnswer,
    InvalidSpec,
    PlaintextRefused,
    InsecureTlsRefused,
    OriginNotAllowed,
    AddressRefused,
    SecretTypeRefused,
    CaUnusable,
    TlsFailed,
    AuthenticationFailed,
    AdminRoleRequired,
    Forbidden,
    CustomerNotFound,
    AdditionalInfoUnusable,
    VerificationFailed,
    Conflict,
    Contested,
    AwaitingWindow,
    AwaitingRollout,
    RolloutHalted,
}

/// How an object stands, in the words of kstatus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Ready.
    Current,
    /// Not ready, being worked on.
    InProgress,
    /// Not ready, and somebody has to do something.
    Failed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 36] = [
        Self::InSync,
        Self::Unmanaged,
        Self::Overridden,
        Self::Observed,
        Self::Drifted,
        Self::Progressing,
        Self::NoGatewaysMatch,
        Self::GatewaysNotReady,
        Self::SecretNotFound,
        Self::SecretKeyMissing,
        Self::ConfigMapNotFound,
        Self::ServerNotFound,
        Self::ServerNotReady,
        Self::Unreachable,
        Self::TimedOut,
        Self::RateLimited,
        Self::UnexpectedAnswer,
        Self::InvalidSpec,
        Self::PlaintextRefused,
        Self::InsecureTlsRefused,
        Self::OriginNotAllowed,
        Self::AddressRefused,
        Self::SecretTypeRefused,
        Self::CaUnusable,
        Self::TlsFailed,
        Self::AuthenticationFailed,
        Self::AdminRoleRequired,
        Self::Forbidden,
        Self::CustomerNotFound,
        Self::AdditionalInfoUnusable,
        Self::VerificationFailed,
        Self::Conflict,
        Self::Contested,
        Self::AwaitingWindow,
        Self::AwaitingRollout,
        Self::RolloutHalted,
    ];

    /// The word as it stands in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "InSync",
            Self::Unmanaged => "Unmanaged",
            Self::Overridden => "Overridden",
            Self::Observed => "Observed",
            Self::Drifted => "Drifted",
            Self::Progressing => "Progressing",
            Self::NoGatewaysMatch => "NoGatewaysMatch",
            Self::GatewaysNotReady => "GatewaysNotReady",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretKeyMissing => "SecretKeyMissing",
            Self::ConfigMapNotFound => "ConfigMapNotFound",
            Self::ServerNotFound => "ServerNotFound",
            Self::ServerNotReady => "ServerNotReady",
            Self::Unreachable => "Unreachable",
            Self::TimedOut => "TimedOut",
            Self::RateLimited => "RateLimited",
            Self::UnexpectedAnswer => "UnexpectedAnswer",
            Self::InvalidSpec => "InvalidSpec",
            Self::PlaintextRefused => "PlaintextRefused",
            Self::InsecureTlsRefused => "InsecureTlsRefused",
            Self::OriginNotAllowed => "OriginNotAllowed",
            Self::AddressRefused => "AddressRefused",
            Self::SecretTypeRefused => "SecretTypeRefused",
            Self::CaUnusable => "CaUnusable",
            Self::TlsFailed => "TlsFailed",
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::AdminRoleRequired => "AdminRoleRequired",
            Self::Forbidden => "Forbidden",
            Self::CustomerNotFound => "CustomerNotFound",
            Self::AdditionalInfoUnusable => "AdditionalInfoUnusable",
            Self::VerificationFailed => "VerificationFailed",
            Self::Conflict => "Conflict",
            Self::Contested => "Contested",
            Self::AwaitingWindow => "AwaitingWindow",
            Self::AwaitingRollout => "AwaitingRollout",
            Self::RolloutHalted => "RolloutHalted",
        }
    }

    /// Reads the word back from a condition.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// How an object with this reason stands.
    #[must_use]
    pub fn standing(self) -> Standing {
        match self {
            Self::InSync | Self::Unmanaged | Self::Overridden | Self::Observed => Standing::Current,
            Self::Drifted
            | Self::Progressing
            | Self::AwaitingWindow
            | Self::AwaitingRollout
            | Self::NoGatewaysMatch
            | Self::GatewaysNotReady
            | Self::SecretNotFound
            | Self::SecretKeyMissing
            | Self::ConfigMapNotFound
            | Self::ServerNotFound
            | Self::ServerNotReady
            | Self::Unreachable
            | Self::TimedOut
            | Self::RateLimited
            | Self::UnexpectedAnswer => Standing::InProgress,
            _ => Standing::Failed,
        }
    }

    /// Whether a gateway that reports this after a write has not taken it.
    #[must_use]
    pub fn is_failed_change(self) -> bool {
        self.standing() != Standing::Current
            && !matches!(
                self,
                Self::Progressing | Self::Drifted | Self::AwaitingWindow | Self::AwaitingRollout
            )
    }

    /// Whether the object waits for a Secret, a `ConfigMap` or another resource of its own namespace.
    #[must_use]
    pub fn awaits_reference(self) -> bool {
        matches!(
            self,
            Self::SecretNotFound
                | Self::SecretKeyMissing
                | Self::ConfigMapNotFound
                | Self::SecretTypeRefused
                | Self::OriginNotAllowed
                | Self::CaUnusable
                | Self::ServerNotFound
        )
    }

    /// Whether the fault was met on the remote side, so that a restarted operator spreads its next tries.
    #[must_use]
    pub fn is_remote(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::TimedOut
                | Self::RateLimited
                | Self::UnexpectedAnswer
                | Self::TlsFailed
                | Self::AdminRoleRequired
                | Self::Forbidden
                | Self::CustomerNotFound
                | Self::AdditionalInfoUnusable
                | Self::VerificationFailed
        )
    }
}

/// What one look at an object came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// A sentence that a person can act on: stable from look to look, without secrets.
    pub message: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The verdict that the Ready condition holds.
    #[must_use]
    pub fn reported(conditions: &[Condition]) -> Option<Self> {
        ready(conditions).and_then(|c| Some(Self::new(Reason::parse(&c.reason)?, c.message.clone())))
    }
}

/// Conditions that inform beside Ready, each with its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Set where the password travels, or the server answers, unprotected.
    pub insecure: Option<String>,
    /// Set where a change would log out many people at once.
    pub risky: Option<String>,
}

/// Conditions after a verdict. Times of conditions whose status did not change stay as they were.
#[must_use]
pub fn conditions(
    old: &[Condition],
    verdict: &Verdict,
    notes: &Notes,
    generation: i64,
    now: &Time,
) -> Vec<Condition> {
    let Verdict { reason, message } = verdict;
    let standing = reason.standing();
    let ready = if standing == Standing::Current { "True" } else { "False" };
    let mut list = vec![("Ready", ready, reason.as_str(), message.as_str())];
    match standing {
        Standing::Current => {}
        Standing::InProgress => list.push(("Reconciling", "True", reason.as_str(), message.as_str())),
        Standing::Failed => list.push(("Stalled", "True", reason.as_str(), message.as_str())),
    }
    if let Some(message) = &notes.insecure {
        list.push(("Insecure", "True", "Insecure", message));
    }
    if let Some(message) = &notes.risky {
        list.push(("Risky", "True", "Risky", message));
    }
    list.into_iter().map(|entry| condition(old, entry, generation, now)).collect()
}

/// Conditions of an object whose work is paused: Ready stays as it was, nothing is under way.
#[must_use]
pub fn suspended(old: &[Condition], message: &str, generation: i64, now: &Time) -> Vec<Condition> {
    let mut list: Vec<Condition> = old
        .iter()
        .filter(|c| !["Reconciling", "Stalled", "Suspended"].contains(&c.type_.as_str()))
        .map(|c| Condition { observed_generation: Some(generation), ..c.clone() })
        .collect();
    list.push(condition(old, ("Suspended", "True", "Suspended", message), generation, now));
    list
}

fn condition(old: &[Condition], entry: (&str, &str, &str, &str), generation: i64, now: &Time) -> Condition {
    let (kind, status, reason, message) = entry;
    let before = old.iter().find(|c| c.type_ == kind && c.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(generation),
        last_transition_time: before.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
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
    conditions.iter().find(|c| c.type_ == "Ready")
}
