//! Why an exchange with a remote system failed, and what to report of it. Errors name method, path template and what was seen; never a body, a
//! header, a token or a password.

use std::fmt;
use std::time::Duration;

use super::change::Outcome;
use super::verdict::{Reason, Verdict};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection.
    Unreachable(Broken),
    /// No answer in time.
    TimedOut,
    /// The certificate, the handshake or its settings.
    Tls(Tls),
    /// The address may not be dialled: named if the URL does, since a name may lead to another one each time.
    AddressRefused(Option<String>),
    /// An answer other than success.
    Status {
        /// HTTP status, or the status that the body names.
        code: u16,
        /// `Retry-After`, ten minutes at most.
        retry_after: Option<Duration>,
    },
    /// An answer other than success whose content shows more.
    Refused {
        /// HTTP status.
        code: u16,
        /// What it shows.
        shown: Shown,
    },
    /// Not sent: an earlier answer of the system asked for a pause.
    Paused {
        /// The status of that answer.
        code: u16,
        /// How long the pause still lasts.
        left: Duration,
    },
    /// Not sent: other exchanges had every place for too long.
    NoTurn,
    /// Not sent: another peer issued the token that it holds.
    OtherPeer,
    /// A success whose content makes no sense, or a token that cannot be sent.
    Malformed(Malformed),
}

impl Fault {
    /// Whether the system does not answer. One that closes a connection in the middle was there.
    #[must_use]
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::Unreachable(broken) => !matches!(broken, Broken::Reset | Broken::Closed | Broken::Lost),
            Self::TimedOut | Self::Tls(_) | Self::NoTurn => true,
            _ => false,
        }
    }
}

impl Fault {
    /// What it shows of the write that has failed. An answer of a server that has broken down, and none at all, show nothing.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::AddressRefused(_) | Self::Paused { .. } | Self::NoTurn | Self::OtherPeer => {
                Outcome::Prepared
            }
            Self::Status { code: ..500, .. } | Self::Refused { code: ..500, .. } => Outcome::Refused,
            Self::Status { .. }
            | Self::Refused { .. }
            | Self::TimedOut
            | Self::Unreachable(_)
            | Self::Tls(_)
            | Self::Malformed(_) => Outcome::Sent,
        }
    }
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences explain it")]
pub enum Broken {
    #[error("the host name does not resolve: check the URL and DNS")]
    NoName,
    #[error("no connection could be made: check the URL, the proxy and the network")]
    NotMade,
    #[error("there is no route to the address: check the URL and the network")]
    NoRoute,
    #[error("the connection was refused: check the URL's port, and whether the service is running")]
    Refused,
    #[error("the connection was reset before the answer was complete")]
    Reset,
    #[error("the connection was closed before the answer was complete")]
    Closed,
    #[error("the connection was lost before the answer was complete")]
    Lost,
}

/// What is wrong with the content of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences explain it")]
pub enum Malformed {
    #[error("its head is too long")]
    LongHead,
    #[error("the answer is too long")]
    Long,
    #[error("it contains no token; check that the URL is an X2 appliance's")]
    NoX2Token,
    #[error("it contains no token; check that the URL is a Kona server's")]
    NoKonaToken,
    #[error("its token is longer than 8 KiB; check that the URL is correct")]
    LongToken,
    #[error("the token holds control characters")]
    UnprintableToken,
    #[error("its token has no exp and nbf claims")]
    NoX2Lifetime,
    #[error("its token has no exp and iat claims")]
    NoKonaLifetime,
    #[error("it is not JSON; check that the URL is an X2 appliance's")]
    NotJson,
    #[error("timeout_seconds is missing")]
    NoTimeout,
    #[error("timeout_seconds is not a whole number")]
    NotWhole,
    #[error("timeout_seconds is out of range")]
    OutOfRange,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it describes another customer")]
    OtherCustomer,
    #[error("it lacks the customer's id")]
    NoId,
    #[error("the customer cannot be written as JSON")]
    Unwritable,
    #[error("{0}")]
    Customer(&'static str),
}

/// What TLS lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences explain it")]
pub enum Tls {
    #[error("the server's certificate has expired: renew it")]
    Expired,
    #[error("the server's certificate is not valid yet: check the clocks")]
    NotYetValid,
    #[error("the server's certificate is for another name: correct the URL, or set tls.serverName")]
    OtherName,
    #[error("the server's certificate is signed by an unknown CA: set tls.caSecretRef or tls.caConfigMapRef")]
    UnknownCa,
    #[error(
        "the server's certificate is self-signed: to trust it, use it as the CA, in tls.caSecretRef or tls.caConfigMapRef"
    )]
    SelfSigned,
    #[error("the server's certificate is revoked")]
    Revoked,
    #[error(
        "the server's certificate cannot be verified: set tls.caSecretRef or tls.caConfigMapRef, or renew it"
    )]
    Unverifiable,
    #[error("the TLS handshake failed: check that the port speaks TLS 1.2 or newer")]
    Handshake,
    #[error("tls.serverName must be a host name, not an address")]
    NotAName,
    #[error("the CA certificates cannot be used: check spec.tls")]
    Roots,
    #[error("the TLS settings cannot be used: check spec.tls and spec.proxyUrl")]
    Settings,
}

/// What the content of an answer shows, out of a closed list: its text is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// That it comes from the vendor's API, and not from something in front of it.
    Vendor,
    /// The field that is not as the server requires.
    Field(&'static str),
    /// A failure with this status, although HTTP calls it a success.
    Failure(u16),
}

/// Why an exchange brought no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing was sent: the operator is shutting down, does not hold its lease, or the write was no longer permitted when its
    /// turn came.
    #[error("the request was not sent")]
    NotSent,
    /// It was sent, but its answer was not awaited: the operator is shutting down, or lost its lease.
    #[error("the answer was not awaited")]
    NotAwaited,
    /// The exchange failed.
    #[error(transparent)]
    Failed(#[from] RemoteError),
}

/// A failed exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RemoteError {
    /// HTTP method.
    pub method: &'static str,
    /// Path with placeholders in place of ids.
    pub path: &'static str,
    /// What went wrong.
    pub fault: Fault,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, fault } = self;
        match fault {
            Fault::Unreachable(how) => how.fmt(f),
            Fault::Tls(how) => how.fmt(f),
            Fault::TimedOut => write!(f, "{method} {path} timed out after requestTimeout"),
            Fault::NoTurn => f.write_str(
                "the request waited five minutes for its turn and was not sent: check for systems of this namespace that do not answer, and, for a KonaServer, raise its spec.limits",
            ),
            Fault::OtherPeer => f.write_str(
                "servers with different keys answer at the URL: use the URL of one server, or the same key for all",
            ),
            Fault::AddressRefused(address) => {
                let which = address.as_ref().map_or_else(|| "its address".to_owned(), |ip| format!("the address {ip}"));
                write!(f, "{which} is not an allowed destination; to allow it, add it to --allow-cidr on the operator, or remove it from --deny-cidr, which takes precedence")
            }
            Fault::Status { code: 429, .. } | Fault::Paused { code: 429, .. } => f.write_str(
                "too many requests (status 429): raise the system's own request limit, or, for a KonaServer, lower its spec.limits",
            ),
            Fault::Status { code, retry_after: Some(_) } | Fault::Paused { code, .. } => {
                write!(f, "it asked the operator to retry later (status {code})")
            }
            Fault::Status { code: 300..=399, .. } => {
                write!(f, "{method} {path} returned a redirect, which is never followed: correct the URL")
            }
            Fault::Status { code: 404, .. } => {
                write!(f, "{method} {path} returned status 404: check that the URL is the API's base")
            }
            Fault::Status { code, .. } | Fault::Refused { code, .. } => {
                write!(f, "{method} {path} returned status {code}")
            }
            Fault::Malformed(why) => {
                write!(f, "{method} {path} returned an unexpected response: {why}")
            }
        }
    }
}

impl RemoteError {
    /// What to report of it. `system` is what the remote system is called.
    #[must_use]
    pub fn verdict(&self, system: &str) -> Verdict {
        Verdict::new(self.reason(), format!("{system}: {self}."))
    }

    /// Whether the other side is asked too often, or asks to be left alone for a while.
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        matches!(
            self.fault,
            Fault::Paused { .. }
                | Fault::Status { code: 429, .. }
                | Fault::Status { code: 500..=599, retry_after: Some(_) }
        )
    }

    /// How long the other side asked us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.fault {
            Fault::Status { code: 429 | 500..=599, retry_after } => retry_after,
            Fault::Paused { left, .. } => Some(left),
            _ => None,
        }
    }

    /// The reason that a condition gives.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match &self.fault {
            Fault::Unreachable(_) => Reason::Unreachable,
            Fault::TimedOut | Fault::NoTurn => Reason::TimedOut,
            Fault::Tls(_) => Reason::TlsFailed,
            Fault::AddressRefused(_) => Reason::AddressRefused,
            Fault::Status { code: 401, .. } | Fault::Refused { code: 401, .. } => {
                Reason::AuthenticationFailed
            }
            Fault::Status { code: 403, .. } | Fault::Refused { code: 403, .. } => Reason::Forbidden,
            Fault::Status { code: 429, .. } | Fault::Paused { code: 429, .. } => Reason::RateLimited,
            Fault::Status { .. }
            | Fault::Refused { .. }
            | Fault::Paused { .. }
            | Fault::OtherPeer
            | Fault::Malformed(_) => Reason::UnexpectedAnswer,
        }
    }

    /// How the metrics count it: the HTTP status, or one of four words.
    #[must_use]
    pub fn code(&self) -> String {
        match &self.fault {
            Fault::Status { code, .. } | Fault::Refused { code, .. } | Fault::Paused { code, .. } => {
                code.to_string()
            }
            Fault::TimedOut | Fault::NoTurn => "timeout".to_owned(),
            Fault::Tls(_) | Fault::OtherPeer => "tls".to_owned(),
            Fault::Unreachable(_) | Fault::AddressRefused(_) => "connect".to_owned(),
            Fault::Malformed(_) => "protocol".to_owned(),
        }
    }

    /// The status of an answer other than success.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.fault {
            Fault::Status { code, .. } | Fault::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether another token may do: this one is refused by one of these statuses, or another peer has issued it.
    #[must_use]
    pub fn blames_token(&self, refuses: impl Fn(u16) -> bool) -> bool {
        self.status().is_some_and(refuses) || self.fault == Fault::OtherPeer
    }

    /// What the content of an answer other than success shows.
    #[must_use]
    pub fn shown(&self) -> Option<Shown> {
        match self.fault {
            Fault::Refused { shown, .. } => Some(shown),
            _ => None,
        }
    }
}
