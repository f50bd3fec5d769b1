//! What all clients of remote systems share, and how they log in.

use super::admission::{Admission, Ticket};
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::http::{Http, Purpose};
use super::sessions::{Acceptable, SessionKey, Sessions};
use super::spelling::Spellings;
use super::wire::{Answer, Request};
use crate::engine::access::{AccessError, Serial};
use crate::engine::login::{LONGEST, Outcome};
use crate::engine::remote::{Fault, Malformed, RemoteError};

/// What all clients of remote systems share.
#[derive(Debug)]
pub struct Remotes {
    /// Makes the exchanges.
    pub http: Http,
    /// Keeps the tokens.
    pub sessions: Sessions,
    /// Decides which logins may be tried.
    pub admission: Admission,
    /// Remembers how Kona servers spell their paths.
    pub spellings: Spellings,
}

/// A remote system, and the user to log in as, during one check.
pub struct Login<'a> {
    pub(super) remotes: &'a Remotes,
    pub(super) endpoint: &'a Endpoint,
    pub(super) credentials: &'a Credentials,
    /// What its tokens are kept under.
    pub(super) key: SessionKey,
    /// The session that was refused earlier in this check.
    pub(super) refused: Option<Serial>,
}

impl<'a> Login<'a> {
    /// `refused` is none at the first visit of a check.
    #[must_use]
    pub fn new(
        remotes: &'a Remotes,
        endpoint: &'a Endpoint,
        credentials: &'a Credentials,
        refused: Option<Serial>,
    ) -> Self {
        let key = SessionKey::new(endpoint, &credentials.identity);
        Self { remotes, endpoint, credentials, key, refused }
    }

    /// Which session serves.
    pub(super) fn living(&self) -> Acceptable {
        self.refused.map_or(Acceptable::Living, Acceptable::Not)
    }

    /// Makes one login, if it may be tried. Its request contains the password, so it is made only then. Whether it was accepted
    /// is for the caller to note on the ticket: an answer without a token shows nothing of the password.
    pub(super) async fn attempt(
        &self,
        request: impl FnOnce() -> Request<'static>,
        purpose: Purpose<'_>,
    ) -> Result<(Answer, Ticket<'a>), AccessError> {
        let system = self.endpoint.base.to_string();
        let ticket = self.remotes.admission.enter(self.credentials, &system).await?;
        let request = request();
        let path = request.template;
        let send = self.remotes.http.exchange(self.endpoint, request, purpose);
        let answer = if ticket.awaited {
            let late = RemoteError { method: "POST", path, fault: Fault::TimedOut };
            tokio::time::timeout(LONGEST, send).await.unwrap_or(Err(late.into()))
        } else {
            send.await
        };
        match answer {
            Ok(answer) => Ok((answer, ticket)),
            Err(error) => {
                let outcome = Outcome::of_failed(&error);
                ticket.ended(outcome);
                Err(if outcome == Outcome::Refused { AccessError::Refused } else { error.into() })
            }
        }
    }
}

/// Gives a status the meaning that it has for a token that was just issued.
pub(super) fn refined(error: RemoteError) -> AccessError {
    match error.status() {
        Some(401) => AccessError::TokenRefused,
        _ => AccessError::Remote(error),
    }
}

/// The error of an answer of success that makes no sense.
pub(super) fn malformed(method: &'static str, path: &'static str, why: Malformed) -> RemoteError {
    RemoteError { method, path, fault: Fault::Malformed(why) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use futures::FutureExt as _;
    use futures::future::{self, BoxFuture};
    use hyper::Method;
    use secrecy::SecretString;
    use tokio::sync::watch;

    use super::super::credentials::{Account, Identity, SecretVersion};
    use super::super::slots::Slots;
    use super::super::wire::{MaySend, Wire};
    use super::*;
    use crate::leader::fence::{Fence, Term};
    use crate::metrics::Metrics;

    /// Systems that accept everything.
    #[derive(Debug)]
    struct Accepting;

    impl Wire for Accepting {
        fn transfer<'a>(
            &'a self,
            _: &'a Endpoint,
            _: Request<'a>,
            may_send: MaySend<'a>,
        ) -> BoxFuture<'a, Result<Option<Answer>, Fault>> {
            let answer = Answer { status: 200, content: Vec::new().into(), key: None };
            future::ready(Ok(may_send().then_some(answer))).boxed()
        }
    }

    fn credentials() -> Credentials {
        let keys = ("username".to_owned(), "password".to_owned());
        let account = Account { namespace: "a".to_owned(), secret: "login".to_owned(), keys };
        let version = SecretVersion { uid: "u".to_owned(), resource_version: "1".to_owned() };
        let (username, password) = (SecretString::from("admin"), SecretString::from("admin"));
        Credentials { identity: Identity { account, version }, fingerprint: 1, username, password }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_waits_has_no_request_yet() {
        let ((_end, ending), (_, term)) = (watch::channel(false), watch::channel(Term::Endless));
        let metrics = Arc::new(Metrics::new(false));
        let slots = Slots::new(1, &metrics);
        let remotes = Remotes {
            http: Http::new(Arc::new(Accepting), slots, metrics, Fence::new(ending, term)),
            sessions: Sessions::default(),
            admission: Admission::default(),
            spellings: Spellings::default(),
        };
        let (endpoint, credentials) = (Endpoint::of("https://x2.example.net"), credentials());
        let login = Login::new(&remotes, &endpoint, &credentials, None);
        let is_made = Cell::new(false);
        let request = || {
            is_made.set(true);
            Request::new("x2", Method::POST, "/")
        };
        let mut attempt = Box::pin(login.attempt(request, Purpose::Ask));
        assert!(futures::poll!(&mut attempt).is_pending(), "it waits for others with the same password");
        assert!(!is_made.get());
        assert!(attempt.await.is_ok() && is_made.get());
    }
}
