//! Token lifetimes and what a policy requires of them.

use std::fmt;

/// Shortest lifetime an X2 appliance accepts, in seconds (ten minutes; the vendor's page on token timeouts).
pub(crate) const X2_SHORTEST: u32 = 600;
/// Longest lifetime an X2 appliance accepts, in seconds (thirty days; the vendor's page on token timeouts).
pub(crate) const X2_LONGEST: u32 = 2_592_000;
/// Two lifetimes this close, in seconds, are the same: a token's times are whole seconds taken one after the other.
const TOLERANCE: u32 = 2;

/// The token lifetime that a policy requires, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Exactly this.
    Exact(u32),
    /// Anything between the two, both included.
    Range {
        /// Shortest allowed.
        least: u32,
        /// Longest allowed.
        most: u32,
    },
}

/// Why a policy cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InvalidTarget {
    /// Neither an exact value nor a bound, or both.
    #[error("specify either timeoutSeconds, or minTimeoutSeconds, maxTimeoutSeconds or both")]
    NotOneOf,
    /// Lower bound above the upper one.
    #[error("minTimeoutSeconds is greater than maxTimeoutSeconds")]
    Crossed,
    /// Outside what the appliance accepts.
    #[error("a lifetime must be between 600 and 2592000 seconds")]
    OutOfRange,
    /// The policy's spec does not fit this version of its schema, so that its numbers are unknown.
    #[error("its spec does not match this version of the schema")]
    Undecodable,
    /// Outside what this operator allows.
    #[error("a lifetime is outside the operator's limits (--min-timeout, --max-timeout)")]
    OutOfBounds,
    /// A change window that makes no sense; the words of the rule that found it.
    #[error("{0}")]
    Window(String),
    /// Not a duration.
    #[error("{field} \"{text}\" is not a duration: use one such as 10m or 1h30m")]
    Duration {
        /// Its path in the spec.
        field: &'static str,
        /// As written.
        text: String,
    },
    /// Neither a number nor a percentage.
    #[error("{field} \"{text}\" is neither a number nor a percentage: use one such as 10 or 10%")]
    Bound {
        /// Its path in the spec.
        field: &'static str,
        /// As written.
        text: String,
    },
}

impl Target {
    /// Makes a target of a policy's fields, in seconds.
    pub fn new(exact: Option<u32>, least: Option<u32>, most: Option<u32>) -> Result<Self, InvalidTarget> {
        let target = match (exact, least, most) {
            (Some(exact), None, None) => Self::Exact(exact),
            (None, None, None) | (Some(_), _, _) => return Err(InvalidTarget::NotOneOf),
            (None, least, most) => {
                Self::Range { least: least.unwrap_or(X2_SHORTEST), most: most.unwrap_or(X2_LONGEST) }
            }
        };
        let (least, most) = target.bounds();
        if least > most {
            Err(InvalidTarget::Crossed)
        } else if least < X2_SHORTEST || most > X2_LONGEST {
            Err(InvalidTarget::OutOfRange)
        } else {
            Ok(target)
        }
    }

    /// Holds the target against what this operator allows; a range must fit as a whole if it has a bound of its own.
    pub fn within(self, bounds: Bounds) -> Result<Self, InvalidTarget> {
        let (least, most) = self.bounds();
        let allowed = match self {
            Self::Exact(exact) => bounds.allow(exact),
            Self::Range { .. } => {
                (least == X2_SHORTEST || bounds.allow(least)) && (most == X2_LONGEST || bounds.allow(most))
            }
        };
        if !allowed {
            return Err(InvalidTarget::OutOfBounds);
        }
        Ok(match self {
            Self::Exact(_) => self,
            Self::Range { .. } => Self::Range { least: least.max(bounds.least), most: most.min(bounds.most) },
        })
    }

    /// The shortest and the longest lifetime that satisfy this.
    #[must_use]
    pub fn bounds(self) -> (u32, u32) {
        match self {
            Self::Exact(exact) => (exact, exact),
            Self::Range { least, most } => (least, most),
        }
    }

    /// Whether a lifetime satisfies this.
    #[must_use]
    pub fn holds(self, seconds: u32) -> bool {
        let (least, most) = self.bounds();
        (least..=most).contains(&seconds)
    }

    /// Whether a token of this lifetime, in seconds, proves that a setting satisfies this.
    #[must_use]
    pub(crate) fn is_proven_by(self, token: u32) -> bool {
        proves(token, self.nearest(token))
    }

    /// The value to set if `observed` does not satisfy this: the exact one, or the nearest bound.
    #[must_use]
    pub fn nearest(self, observed: u32) -> u32 {
        let (least, most) = self.bounds();
        observed.clamp(least, most)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => write!(f, "{exact}"),
            Self::Range { least, most } => write!(f, "{least}-{most}"),
        }
    }
}

/// What an operator allows policies to ask for, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Shortest lifetime.
    pub least: u32,
    /// Longest lifetime.
    pub most: u32,
}

impl Bounds {
    /// Whether every number that a policy gives is allowed.
    pub fn check(self, given: [Option<u32>; 3]) -> Result<(), InvalidTarget> {
        let allowed = given.into_iter().flatten().all(|seconds| self.allow(seconds));
        if allowed { Ok(()) } else { Err(InvalidTarget::OutOfBounds) }
    }

    fn allow(self, seconds: u32) -> bool {
        (self.least..=self.most).contains(&seconds)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { least: X2_SHORTEST, most: X2_LONGEST }
    }
}

/// Whether a fresh token's lifetime proves that `setting` is in effect; both in seconds.
#[must_use]
pub fn proves(token: u32, setting: u32) -> bool {
    token.abs_diff(setting) <= TOLERANCE
}
