//! What the logins of both vendors have in common.

use std::sync::atomic::{AtomicU64, Ordering};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use crate::engine::login::{self, Failure, NotTried, Outcome};
use crate::engine::reason::Reason;
use crate::engine::remote::{Fault, NoAnswer, RemoteError, Shown};
use crate::engine::verdict::Verdict;

/// Identifies a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial(u64);

impl Serial {
    /// One that no session has yet.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

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
    /// A token is refused that was accepted before: the Secret must be read again before the one fresh login.
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

    /// Whether it is certain that the request was not sent.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        let paused = |error: &RemoteError| matches!(error.fault, Fault::Paused { .. });
        matches!(self, Self::NotSent) || matches!(self, Self::Remote(error) if paused(error))
    }

    /// Whether user name and password were refused, now or before.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused | Self::NotTried(NotTried::Here | NotTried::InARow | NotTried::Reserved))
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
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Remote(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// User name and password as both vendors want them.
#[must_use]
pub(crate) fn body(credentials: &Credentials) -> Zeroizing<Vec<u8>> {
    #[derive(Serialize)]
    struct Login<'a> {
        username: &'a str,
        password: &'a str,
    }
    let login = Login {
        username: credentials.username.expose_secret(),
        password: credentials.password.expose_secret(),
    };
    // Two strings always serialize.
    Zeroizing::new(serde_json::to_vec(&login).unwrap_or_default())
}

/// What a failed login says of the password.
pub(crate) fn outcome(why: &NoAnswer) -> Outcome {
    let NoAnswer::Failed(error) = why else {
        return if *why == NoAnswer::NotSent { Outcome::Unsent } else { Outcome::Unknown };
    };
    match error.fault {
        // Something in front of the system answers with a 403, too.
        Fault::Status { code: 401, .. }
        | Fault::Refused { code: 401, .. }
        | Fault::Refused { code: 403, shown: Shown::Vendor } => Outcome::Refused,
        Fault::Unreachable(_) | Fault::Tls(_) | Fault::AddressRefused(_) | Fault::Paused { .. } => {
            Outcome::Unsent
        }
        Fault::Status { .. } | Fault::Refused { .. } | Fault::TimedOut | Fault::Malformed(_) => {
            Outcome::Unknown
        }
    }
}

/// A token's text, never printed.
#[must_use]
pub(crate) fn secret(text: String) -> SecretString {
    SecretString::from(text)
}

/// Whether the answer to a login holds a token that may only finish a further step: that of two-factor authentication, say.
#[must_use]
pub(crate) fn is_first_step(answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Scope {
        scope: Option<String>,
    }
    let scope = serde_json::from_slice(answer).ok().and_then(|Scope { scope }| scope);
    scope.is_some_and(|scope| scope.ends_with("_TOKEN"))
}
