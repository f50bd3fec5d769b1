//! The words that users see in conditions and events, and one table of what each reason means for the rest of the program.

use strum::{EnumString, IntoStaticStr, VariantArray};

/// Why an object is ready or not: the reason of its condition Ready.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray,
)]
#[allow(missing_docs, reason = "docs/troubleshooting.md explains each")]
pub enum Reason {
    InSync,
    Unmanaged,
    Overridden,
    Observed,
    Drifted,
    Progressing,
    AwaitingWindow,
    AwaitingRollout,
    AwaitingApproval,
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
    RolloutHalted,
}

/// The status that kstatus computes for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    /// Ready.
    Current,
    /// Not ready; the operator is working on it.
    InProgress,
    /// Not ready until a person acts.
    Failed,
}

/// The progress of the change that an object needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The object needs no change.
    Settled,
    /// The change has begun.
    UnderWay,
    /// The value was read and differs; nothing has been written.
    Found,
    /// As `Found`: the change waits for a window.
    AwaitsWindow,
    /// As `Found`: the change waits for the rollout.
    AwaitsRollout,
    /// The value could not be read, written or proven.
    Failed,
}

/// When an object with this reason is checked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At its interval.
    Interval,
    /// With exponential backoff.
    Backoff,
    /// At the longer of its interval and ten minutes.
    Slow,
}

/// What has to change before the object can become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The object itself, its policy, or nothing.
    Cluster,
    /// A Secret, a `ConfigMap` or a `KonaServer` that it refers to: these are polled.
    Reference,
    /// The remote system.
    Remote,
}

/// One row of the table.
struct Row {
    kstatus: Kstatus,
    progress: Progress,
    retry: Retry,
    source: Source,
    /// Whether the fault may pass by itself, so that a ready object reports it only after repeated failures. A password that
    /// was refused is not tried again.
    passes: bool,
    /// Whether an object's transition to this reason is a Warning event.
    warns: bool,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The word as it appears in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Reads the word back from a condition.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// One line per reason: a new reason does not compile before each column is filled in.
    #[rustfmt::skip]
    #[allow(clippy::match_same_arms, reason = "the table has one line per reason")]
    const fn row(self) -> Row {
        use Kstatus::{Current, InProgress, Failed as Stuck};
        use Progress::{AwaitsRollout, AwaitsWindow, Failed, Found, Settled, UnderWay};
        use Retry::{Backoff, Interval, Slow};
        use Source::{Cluster, Reference, Remote};
        match self {
            Self::InSync                 => Row { kstatus: Current,    progress: Settled,       retry: Interval, source: Cluster,   passes: false, warns: false },
            Self::Unmanaged              => Row { kstatus: Current,    progress: Settled,       retry: Interval, source: Cluster,   passes: false, warns: false },
            Self::Overridden             => Row { kstatus: Current,    progress: Settled,       retry: Interval, source: Cluster,   passes: false, warns: false },
            Self::Observed               => Row { kstatus: Current,    progress: Settled,       retry: Interval, source: Cluster,   passes: false, warns: false },
            Self::Drifted                => Row { kstatus: InProgress, progress: Found,         retry: Interval, source: Cluster,   passes: false, warns: false },
            Self::Progressing            => Row { kstatus: InProgress, progress: UnderWay,      retry: Backoff,  source: Cluster,   passes: false, warns: false },
            Self::AwaitingWindow         => Row { kstatus: InProgress, progress: AwaitsWindow,  retry: Interval, source: Cluster,   passes: false, warns: false },
            Self::AwaitingRollout        => Row { kstatus: InProgress, progress: AwaitsRollout, retry: Interval, source: Cluster,   passes: false, warns: false },
            Self::AwaitingApproval       => Row { kstatus: InProgress, progress: AwaitsRollout, retry: Interval, source: Cluster,   passes: false, warns: false },
            Self::NoGatewaysMatch        => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Cluster,   passes: false, warns: false },
            Self::GatewaysNotReady       => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Cluster,   passes: false, warns: false },
            Self::SecretNotFound         => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Reference, passes: true,  warns: true },
            Self::SecretKeyMissing       => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Reference, passes: true,  warns: true },
            Self::ConfigMapNotFound      => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Reference, passes: true,  warns: true },
            Self::ServerNotFound         => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Reference, passes: false, warns: true },
            Self::ServerNotReady         => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Remote,    passes: true,  warns: true },
            Self::Unreachable            => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Remote,    passes: true,  warns: true },
            Self::TimedOut               => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Remote,    passes: true,  warns: true },
            Self::RateLimited            => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Remote,    passes: true,  warns: true },
            Self::UnexpectedAnswer       => Row { kstatus: InProgress, progress: Failed,        retry: Backoff,  source: Remote,    passes: true,  warns: true },
            Self::InvalidSpec            => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Cluster,   passes: false, warns: true },
            Self::PlaintextRefused       => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Cluster,   passes: false, warns: true },
            Self::InsecureTlsRefused     => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Cluster,   passes: false, warns: true },
            Self::OriginNotAllowed       => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Reference, passes: false, warns: true },
            Self::AddressRefused         => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Cluster,   passes: false, warns: true },
            Self::SecretTypeRefused      => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Reference, passes: false, warns: true },
            Self::CaUnusable             => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Reference, passes: false, warns: true },
            Self::TlsFailed              => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Remote,    passes: true,  warns: true },
            // A refused password is polled, too: whether it was one is not in the reason but in the login's outcome.
            Self::AuthenticationFailed   => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Remote,    passes: false, warns: true },
            Self::AdminRoleRequired      => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Remote,    passes: true,  warns: true },
            Self::Forbidden              => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Remote,    passes: true,  warns: true },
            Self::CustomerNotFound       => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Remote,    passes: true,  warns: true },
            Self::AdditionalInfoUnusable => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Remote,    passes: false, warns: true },
            Self::VerificationFailed     => Row { kstatus: Stuck,      progress: Failed,        retry: Interval, source: Remote,    passes: false, warns: true },
            Self::Conflict               => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Cluster,   passes: false, warns: true },
            Self::Contested              => Row { kstatus: Stuck,      progress: Failed,        retry: Interval, source: Remote,    passes: false, warns: true },
            // The policy's own event has the names of all gateways.
            Self::RolloutHalted          => Row { kstatus: Stuck,      progress: Failed,        retry: Slow,     source: Cluster,   passes: false, warns: false },
        }
    }

    /// The status that kstatus computes from the conditions of an object with this reason.
    #[must_use]
    pub const fn kstatus(self) -> Kstatus {
        self.row().kstatus
    }

    /// Whether an object with this reason is ready.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        matches!(self.kstatus(), Kstatus::Current)
    }

    /// The progress of the change that an object with this reason needs.
    #[must_use]
    pub const fn progress(self) -> Progress {
        self.row().progress
    }

    /// Whether an object that reports this after a write did not accept it.
    #[must_use]
    pub const fn is_failed_change(self) -> bool {
        matches!(self.progress(), Progress::Failed)
    }

    /// Whether the value was read and differs, and a change waits for its window or for the rollout.
    #[must_use]
    pub const fn awaits_permission(self) -> bool {
        matches!(self.progress(), Progress::AwaitsWindow | Progress::AwaitsRollout)
    }

    /// When the object is checked again.
    #[must_use]
    pub const fn retry(self) -> Retry {
        self.row().retry
    }

    /// Whether the object waits for a Secret, a `ConfigMap` or another resource of its own namespace.
    #[must_use]
    pub const fn awaits_reference(self) -> bool {
        matches!(self.row().source, Source::Reference)
    }

    /// Whether the remote system caused the failure: a restarted operator then spreads its next attempts.
    #[must_use]
    pub const fn is_remote(self) -> bool {
        matches!(self.row().source, Source::Remote)
    }

    /// Whether the fault may pass by itself, so that a ready object reports it only after repeated failures.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        self.row().passes
    }

    /// Whether an object's transition to this reason is a Warning event.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        self.row().warns
    }
}

/// The types of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum ConditionType {
    /// Whether the object is as desired.
    Ready,
    /// Not ready; the operator is working on it.
    Reconciling,
    /// Not ready until a person acts.
    Stalled,
    /// `spec.suspend` is true.
    Suspended,
    /// Passwords or tokens are sent without encryption or to an unverified server.
    Insecure,
    /// A change would log out many users at once.
    Risky,
}

impl ConditionType {
    /// Every type.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The word as it appears in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The reasons of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr)]
pub enum EventReason {
    /// A gateway's lifetime was set or restored.
    TimeoutChanged,
    /// A customer's lifetimes were set or restored.
    TtlChanged,
    /// A remote value that something else had changed was corrected.
    DriftCorrected,
    /// A remote value that something else had changed was found, and is not corrected for now.
    DriftFound,
    /// Tokens issued before a change were invalidated.
    TokensRevoked,
    /// A policy's rollout has begun or was resumed.
    RolloutStarted,
    /// A policy's rollout has changed every gateway.
    RolloutComplete,
    /// An original value was not restored.
    RestoreSkipped,
    /// An object is ready again after a Warning.
    Recovered,
    /// An object became not ready, or a policy's rollout halted.
    NotReady(Reason),
}

impl EventReason {
    /// Whether a user has to do something.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::NotReady(_) | Self::RestoreSkipped)
    }

    /// The word as it appears in an event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReady(reason) => reason.as_str(),
            reason => reason.into(),
        }
    }
}
