//! What the logins of both vendors have in common.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::admission::{Admission, NotAdmitted};
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::fault::{Class, NoAnswer, RemoteError};
use super::http::Http;
use super::sessions::{Serial, Sessions};
use super::wire::Content;
use crate::clock;
use crate::engine::verdict::{Reason, Verdict};

/// What all clients of remote systems share.
#[derive(Debug)]
pub struct Remotes {
    /// Makes the exchanges.
    pub http: Http,
    /// Keeps the tokens.
    pub sessions: Sessions,
    /// Says which logins may be tried.
    pub admission: Admission,
    /// Remembers how Kona servers spell their paths.
    pub spellings: super::kona::Spellings,
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
    #[error("the login was refused before")]
    NotTried(NotAdmitted),
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

impl From<NotAdmitted> for AccessError {
    fn from(why: NotAdmitted) -> Self {
        Self::NotTried(why)
    }
}

impl AccessError {
    /// What to report. `system` is what the remote system is called, `secret` the Secret's name.
    #[must_use]
    pub fn verdict(&self, system: &str, secret: &str) -> Verdict {
        let (reason, message) = match self {
            Self::Remote(error) => (error.reason(), format!("{system}: {error}.")),
            // Reported by no reconcile: such a one begins again.
            Self::NotSent | Self::NotAwaited => (Reason::Unreachable, format!("{system}: {self}.")),
            Self::Refused | Self::NotTried(NotAdmitted::Here) => (
                Reason::AuthenticationFailed,
                format!(
                    "{system} refused the user name or password of Secret {secret}. It is not tried again until the Secret is corrected."
                ),
            ),
            Self::NotTried(NotAdmitted::Elsewhere) => (
                Reason::AuthenticationFailed,
                format!(
                    "The user name or password of Secret {secret} was refused elsewhere and is not tried here, so that no account is locked. Correct the Secret."
                ),
            ),
            Self::NotAdmin => (
                Reason::AdminRoleRequired,
                format!(
                    "{system} accepted the login, but the user of Secret {secret} lacks the role admin. Grant it, or name another user."
                ),
            ),
            Self::Stale(_) | Self::TokenRefused => (
                Reason::AuthenticationFailed,
                format!(
                    "{system} refuses tokens that it has just issued to the user of Secret {secret}. Check its clock and its user settings."
                ),
            ),
        };
        Verdict { reason, message }
    }

    /// Whether nothing can be said of the remote side: the operator is ending, lost its lease, or was not permitted to write.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::NotSent | Self::NotAwaited)
    }

    /// Whether user name and password were refused, now or before.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused | Self::NotTried(_))
    }

    /// How the other side asked us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Remote(error) => match error.class() {
                Class::RateLimited(after) => after,
                _ => None,
            },
            _ => None,
        }
    }
}

/// User name and password as both vendors want them.
#[must_use]
pub fn body(credentials: &Credentials) -> Zeroizing<Vec<u8>> {
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

/// Makes one login, if it may be tried, and keeps in mind how it ended.
pub async fn attempt(
    remotes: &Remotes,
    endpoint: &Endpoint,
    credentials: &Credentials,
    send: impl Future<Output = Result<Content, NoAnswer>>,
) -> Result<Content, AccessError> {
    let url = endpoint.base.to_string();
    let ticket = remotes.admission.enter(&credentials.identity, &url, clock::now().0).await?;
    match send.await {
        Ok(content) => {
            ticket.accepted();
            Ok(content)
        }
        Err(NoAnswer::Failed(error)) if matches!(error.status(), Some(400 | 401 | 403 | 422 | 423)) => {
            ticket.refused(clock::now().0);
            Err(AccessError::Refused)
        }
        Err(error) => Err(error.into()),
    }
}

/// A token's text, never printed.
#[must_use]
pub fn secret(text: String) -> SecretString {
    SecretString::from(text)
}
