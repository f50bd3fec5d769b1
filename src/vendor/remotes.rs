//! What all clients of remote systems share, and how they log in.

use super::admission::{Admission, Ticket};
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::http::{Http, Purpose};
use super::sessions::{SessionKey, Sessions};
use super::spelling::{Spellings, Turn};
use super::wire::Content;
use crate::engine::access::AccessError;
use crate::engine::login::{LONGEST, Outcome};
use crate::engine::remote::{Fault, NoAnswer, RemoteError};

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
    pub spellings: Spellings,
}

/// A remote system, and the user to log in as.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) remotes: &'a Remotes,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) credentials: &'a Credentials,
}

impl<'a> Login<'a> {
    /// What its tokens are kept under.
    pub(crate) fn key(&self) -> SessionKey {
        SessionKey::new(self.endpoint, &self.credentials.identity)
    }

    /// Waits for leave to write customers, no longer than for a place.
    pub(super) async fn wait_turn(&self, purpose: Purpose<'_>) -> Result<Turn, AccessError> {
        let place = self.endpoint.place();
        let turn = Box::pin(self.remotes.spellings.wait_turn(&place));
        Ok(self.remotes.http.in_turn(turn, purpose).await?)
    }

    /// Makes one login, if it may be tried. Whether it was accepted is for the caller to note on the ticket: an answer that
    /// holds no token says nothing of the password.
    pub(crate) async fn attempt(
        &self,
        path: &'static str,
        send: impl Future<Output = Result<Content, NoAnswer>>,
    ) -> Result<(Content, Ticket<'a>), AccessError> {
        let system = self.endpoint.base.to_string();
        let ticket = self.remotes.admission.enter(self.credentials, &system).await?;
        let answer = if ticket.awaited {
            let late = RemoteError { method: "POST", path, fault: Fault::TimedOut };
            tokio::time::timeout(LONGEST, send).await.unwrap_or(Err(late.into()))
        } else {
            send.await
        };
        match answer {
            Ok(content) => Ok((content, ticket)),
            Err(error) => {
                let outcome = Outcome::of_failed(&error);
                ticket.ended(outcome);
                Err(if outcome == Outcome::Refused { AccessError::Refused } else { error.into() })
            }
        }
    }
}

/// The error of an answer of success that makes no sense.
pub(super) fn malformed(method: &'static str, path: &'static str, why: &'static str) -> RemoteError {
    RemoteError { method, path, fault: Fault::Malformed(why) }
}
