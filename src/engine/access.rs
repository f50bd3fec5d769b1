//! Why a remote system could not be worked with, and what that shows.

use std::time::Duration;

use super::login::{self, Failure, NotTried};
use super::reason::Reason;
use super::remote::{Fault, NoAnswer, RemoteError};
use super::verdict::Verdict;

/// Identifies a session. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(pub u64);

/// Why a remote system could not be worked with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// An exchange failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Nothing was sent: see [`NoAnswer::NotSent`].
    #[error("the request was not sent")]
    NotSent,
    /// It is not known what came of a request: see [`NoAnswer::NotAwaited`].
    #[error("the answer was not awaited")]
    NotAwaited,
    /// User name and password were refused now.
    #[error("the login was refused")]
    Refused,
    /// They were refused before, here or by others, and are not tried again.
    #[error("the login was not tried")]
    NotTried(NotTried),
    /// The password was accepted, but only as the first of several steps.
    #[error("the login takes more than a password")]
    Half,
    /// The user may not read or change the setting.
    #[error("the user lacks the role admin")]
    NotAdmin,
    /// A token is refused that was accepted before, or another peer issued it: the Secret must be read again before the one
    /// fresh login.
    #[error("the token is refused")]
    Stale(Serial),
    /// Even a token that was just issued is refused.
    #[error("fresh tokens are refused")]
    TokenRefused,
}

impl From<NoAnswer> for AccessError {
    fn from(why: NoAnswer) -> Self {
        match why {
            NoAnswer::NotSent => Self::NotSent,
            NoAnswer::NotAwaited => Self::NotAwaited,
            NoAnswer::Failed(error) => Self::Remote(error),
        }
    }
}

impl From<NotTried> for AccessError {
    fn from(why: NotTried) -> Self {
        Self::NotTried(why)
    }
}

impl AccessError {
    /// What to report. `system` is what the remote system is called, `secret` the Secret's name.
    #[must_use]
    pub fn verdict(&self, system: &str, secret: &str) -> Verdict {
        let failure = match self {
            Self::Remote(error) => return error.verdict(system),
            // Reported by no reconcile: such a one begins again.
            Self::NotSent | Self::NotAwaited => {
                return Verdict::new(Reason::Unreachable, format!("{system}: {self}."));
            }
            Self::Refused => Failure::Refused,
            Self::NotTried(why) => Failure::NotTried(*why),
            Self::Half => Failure::Half,
            Self::NotAdmin => Failure::NotAdmin,
            Self::Stale(_) | Self::TokenRefused => Failure::TokenRefused,
        };
        login::verdict(failure, system, secret)
    }

    /// Whether nothing can be said of the remote side: the operator is shutting down, lost its lease, or was not permitted to write.
    #[must_use]
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::NotSent | Self::NotAwaited)
    }

    /// Whether the remote system itself, or something in front of it, has answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self, Self::Remote(error) if !error.fault.is_silence())
    }

    /// Whether it is certain that the request was not sent.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        let not_made = |error: &RemoteError| {
            matches!(error.fault, Fault::Paused { .. } | Fault::NoTurn | Fault::OtherPeer)
        };
        matches!(self, Self::NotSent) || matches!(self, Self::Remote(error) if not_made(error))
    }

    /// Whether user name and password were refused, now or before.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused => true,
            Self::NotTried(why) => *why != NotTried::Unanswered,
            _ => false,
        }
    }

    /// Whether another user, or another password, may help.
    #[must_use]
    pub(crate) fn awaits_secret(&self) -> bool {
        match self {
            Self::Remote(error) => matches!(error.status(), Some(401 | 403)),
            Self::Half | Self::NotAdmin | Self::TokenRefused | Self::Stale(_) => true,
            Self::Refused | Self::NotTried(_) => self.is_refusal(),
            Self::NotSent | Self::NotAwaited => false,
        }
    }

    /// How the other side asked us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Remote(error) => error.retry_after(),
            _ => None,
        }
    }
}
