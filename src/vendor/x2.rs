//! The calls of a Profitap X2 appliance (its page "API for managing tokens").

use std::sync::Arc;

use hyper::Method;
use hyper::header::AUTHORIZATION;
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::http::{MaySend, Purpose};
use super::jwt::{Since, lifetime};
use super::login;
use super::remotes::{Login, malformed, refined};
use super::sessions::{Acceptable, Session};
use super::wire::{Answer, Request};
use crate::clock;
use crate::engine::access::AccessError;
use crate::engine::login::Outcome;
use crate::engine::remote::{Malformed, Shown};

const TOKENS: &str = "/api2/tokens";
const TIMEOUT: &str = "/api2/token/timeout";
/// Longest answer that is read, in bytes.
const CAP: usize = 64 * 1024;
/// Longest setting that can make sense, in seconds.
const LARGEST: i64 = i32::MAX as i64;

/// One appliance, during one check.
pub struct X2<'a> {
    login: Login<'a>,
    fresh: Option<u32>,
    /// Whether a write was sent: what follows it is made although the operator is shutting down.
    sent: bool,
}

#[derive(Deserialize)]
struct LoginAnswer {
    token: String,
    role: Option<String>,
}

impl<'a> X2<'a> {
    /// An appliance and the user to log in as.
    #[must_use]
    pub fn new(login: Login<'a>) -> Self {
        Self { login, fresh: None, sent: false }
    }

    /// Lifetime of the token last issued during this check, in seconds.
    #[must_use]
    pub fn fresh_lifetime(&self) -> Option<u32> {
        self.fresh
    }

    /// Makes sure that there is a session.
    pub async fn log_in(&mut self) -> Result<(), AccessError> {
        self.session(self.login.living(), Purpose::Ask).await.map(drop)
    }

    /// Reads the token lifetime that is set, in seconds.
    pub async fn read_timeout(&mut self) -> Result<u32, AccessError> {
        let request = Request { operation: "get_timeout", ..self::request(Method::GET, TIMEOUT, None) };
        let answer = self.authorized(request, Purpose::after(self.sent)).await?;
        timeout_of(&answer.content).map_err(|why| malformed("GET", TIMEOUT, why).into())
    }

    /// Sets the token lifetime, in seconds, if `may_send` still permits it when everything else is ready.
    pub async fn set_timeout(&mut self, seconds: u32, may_send: MaySend<'_>) -> Result<(), AccessError> {
        let body = Some(Zeroizing::new(format!(r#"{{"timeout_seconds":{seconds}}}"#).into_bytes()));
        let request = Request { operation: "set_timeout", ..self::request(Method::PUT, TIMEOUT, body) };
        self.authorized(request, Purpose::Write(may_send)).await?;
        self.fresh = None;
        Ok(())
    }

    /// Logs in afresh and returns the new token's lifetime, in seconds.
    pub async fn prove(&mut self) -> Result<u32, AccessError> {
        self.session(Acceptable::Fresh, Purpose::after(self.sent)).await.map(|session| session.lifetime)
    }

    /// Invalidates every token of the user that is logged in, ours among them: it is logged out everywhere. It follows a
    /// change; if that was not made just now, `may_send` is asked as for any write.
    pub async fn revoke_tokens(&mut self, may_send: MaySend<'_>) -> Result<(), AccessError> {
        let request = Request { operation: "revoke_tokens", ..self::request(Method::DELETE, TOKENS, None) };
        let purpose = if self.sent { Purpose::Follow } else { Purpose::Write(may_send) };
        self.authorized(request, purpose).await?;
        self.login.remotes.sessions.forget(&self.login.key).await;
        Ok(())
    }

    /// Makes a request with a token. The first refused token of a check is returned as stale.
    async fn authorized(
        &mut self,
        request: Request<'_>,
        purpose: Purpose<'_>,
    ) -> Result<Answer, AccessError> {
        let session = self.session(self.login.living(), purpose.before()).await?;
        let token = Some((AUTHORIZATION, &session.token));
        let request = Request { token, session: Some(&session), ..request };
        let Login { remotes, endpoint, credentials, refused, .. } = self.login;
        let answer = remotes.http.exchange(endpoint, request, purpose).await.map_err(AccessError::from);
        self.sent |=
            matches!(purpose, Purpose::Write(_)) && !answer.as_ref().is_err_and(AccessError::is_unsent);
        answer.map_err(|error| match error {
            AccessError::Remote(error)
                if error.blames_token(|status| status == 401)
                    && refused.is_none()
                    && self.fresh.is_none() =>
            {
                remotes.admission.token_refused(&credentials.identity, &endpoint.base.to_string());
                AccessError::Stale(session.serial)
            }
            // The appliance accepts the token, but the user lacks the role.
            AccessError::Remote(error) if error.status() == Some(403) => AccessError::NotAdmin,
            AccessError::Remote(error) => refined(error),
            error => error,
        })
    }

    async fn session(
        &mut self,
        acceptable: Acceptable,
        purpose: Purpose<'_>,
    ) -> Result<Arc<Session>, AccessError> {
        let mut issued = None;
        let open = async |_| {
            let session = log_in(&self.login, purpose).await?;
            issued = Some(session.lifetime);
            Ok(session)
        };
        let session = self.login.remotes.sessions.get(&self.login.key, acceptable, open).await;
        self.fresh = issued.or(self.fresh);
        session
    }
}

async fn log_in(login: &Login<'_>, purpose: Purpose<'_>) -> Result<Session, AccessError> {
    let asked = clock::instant();
    let request = || {
        let body = login::body(login.credentials);
        Request { operation: "login", ..request(Method::POST, TOKENS, Some(body)) }
    };
    let (answer, ticket) = login.attempt(request, purpose).await?;
    let bad = |why| malformed("POST", TOKENS, why);
    let LoginAnswer { token, role } =
        serde_json::from_slice(&answer.content).map_err(|_| bad(Malformed::NoX2Token))?;
    let token = login::secret(token).map_err(bad)?;
    let lifetime =
        lifetime(token.expose_secret(), Since::NotBefore).ok_or_else(|| bad(Malformed::NoX2Lifetime))?;
    ticket.ended(Outcome::Accepted);
    if role.as_deref() == Some("viewer") {
        return Err(AccessError::NotAdmin);
    }
    Ok(Session::new(token, lifetime, None, answer.key, asked))
}

fn request(method: Method, path: &'static str, body: Option<Zeroizing<Vec<u8>>>) -> Request<'static> {
    let body = body.map(|body| ("application/json", body));
    Request { body, cap: CAP, shows, ..Request::new("x2", method, path) }
}

/// What the content of an answer shows: the appliance's own form states the status, which counts before that of HTTP.
fn shows(status: u16, content: &[u8]) -> Option<Shown> {
    #[derive(Deserialize)]
    struct Stated {
        #[serde(rename = "statusCode")]
        status_code: u16,
    }
    // A list would be read as the struct's fields in order.
    let is_object = content.trim_ascii_start().starts_with(b"{");
    let Stated { status_code } = is_object.then(|| serde_json::from_slice(content).ok()).flatten()?;
    match (status, status_code) {
        (200..300, 400..) => Some(Shown::Failure(status_code)),
        (400.., _) => Some(Shown::Vendor),
        _ => None,
    }
}

fn timeout_of(answer: &[u8]) -> Result<u32, Malformed> {
    let value: serde_json::Value = serde_json::from_slice(answer).map_err(|_| Malformed::NotJson)?;
    let seconds = value.get("timeout_seconds").ok_or(Malformed::NoTimeout)?;
    match seconds.as_i64() {
        None => Err(Malformed::NotWhole),
        Some(seconds) if !(1..=LARGEST).contains(&seconds) => Err(Malformed::OutOfRange),
        Some(seconds) => u32::try_from(seconds).map_err(|_| Malformed::OutOfRange),
    }
}
