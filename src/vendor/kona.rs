//! The calls of a TEKTELIC Kona Core Network Server (its page "Authentication Token TTL").

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Method;
use reqwest::header::HeaderName;
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::fault::{Class, Fault, RemoteError};
use super::jwt::{Since, lifetime};
use super::login::{self, AccessError, Remotes};
use super::sessions::{Serial, Session, SessionKey, Wanted};
use super::wire::{Content, Request};
use crate::clock;
use crate::engine::customer::RawObject;

const X_AUTHORIZATION: HeaderName = HeaderName::from_static("x-authorization");
const LOGIN: &str = "/api/auth/login";
const REFRESH: &str = "/api/auth/token";
const CUSTOMER: &str = "/api/customer/{customerId}";
/// As the vendor's page writes it.
const CUSTOMERS: &str = "/api/customer/";
/// As servers since 2024 want it.
const CUSTOMERS_PLAIN: &str = "/api/customer";
/// Longest answer with tokens that is read, in bytes.
const TOKEN_CAP: usize = 64 * 1024;
/// Longest customer that is read, in bytes.
const CUSTOMER_CAP: usize = 1024 * 1024;

/// Which servers want the path of customers without its trailing slash.
#[derive(Debug, Default)]
pub struct Spellings(Mutex<HashSet<String>>);

impl Spellings {
    fn is_plain(&self, url: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(url)
    }

    fn set_plain(&self, url: String, plain: bool) {
        let mut spelt_plain = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plain {
            spelt_plain.insert(url);
        } else {
            spelt_plain.remove(&url);
        }
    }
}

/// One server, asked as one user.
pub struct Kona<'a> {
    remotes: &'a Remotes,
    endpoint: &'a Endpoint,
    credentials: &'a Credentials,
    key: SessionKey,
    refused: Option<Serial>,
}

#[derive(Deserialize)]
struct Tokens {
    token: String,
    #[serde(rename = "refreshToken")]
    refresh_token: Option<String>,
}

impl<'a> Kona<'a> {
    /// A server and whom to log in as. `refused` is the session that was found refused earlier in this look.
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

    /// Makes sure that there is a session.
    pub async fn log_in(&self) -> Result<(), AccessError> {
        self.session(self.living(), false).await.map(drop)
    }

    /// Renews the session, which shows whether the server is there and still accepts us.
    pub async fn renew(&self) -> Result<(), AccessError> {
        self.session(Wanted::Fresh, false).await.map(drop)
    }

    /// Reads a customer.
    pub async fn read_customer(&self, id: &str, under_way: bool) -> Result<RawObject, AccessError> {
        let path = format!("/api/customer/{id}");
        let request = || request("get_customer", Method::GET, &path, CUSTOMER, None, CUSTOMER_CAP);
        let answer = self.authorized(&request, true, under_way).await?;
        customer_of(&answer, id).map_err(|why| malformed("GET", CUSTOMER, why).into())
    }

    /// Writes a customer, which was read just before: so a 404 means that the server wants the other spelling of the path.
    pub async fn write_customer(&self, id: &str, customer: &RawObject) -> Result<(), AccessError> {
        let url = self.endpoint.base.to_string();
        let plain = self.remotes.spellings.is_plain(&url);
        let path = |plain| if plain { CUSTOMERS_PLAIN } else { CUSTOMERS };
        match self.post_customer(id, customer, path(plain)).await {
            Err(AccessError::Remote(error)) if error.status() == Some(404) => {
                self.post_customer(id, customer, path(!plain)).await?;
                self.remotes.spellings.set_plain(url, !plain);
                Ok(())
            }
            done => done,
        }
    }

    async fn post_customer(
        &self,
        id: &str,
        customer: &RawObject,
        path: &'static str,
    ) -> Result<(), AccessError> {
        let text = customer
            .to_json()
            .ok_or_else(|| malformed("POST", path, "the customer cannot be written as JSON"))?;
        let body = || Some(("application/json", Zeroizing::new(text.get().as_bytes().to_vec())));
        let request = || request("set_customer", Method::POST, path, path, body(), CUSTOMER_CAP);
        let answer = self.authorized(&request, false, true).await?;
        customer_of(&answer, id).map_err(|why| malformed("POST", path, why))?;
        Ok(())
    }

    /// Logs in afresh, as a user of a customer, and returns the access token's lifetime, in seconds.
    pub async fn prove(&self) -> Result<u32, AccessError> {
        log_in(self.remotes, self.endpoint, self.credentials, true).await.map(|session| session.lifetime)
    }

    fn living(&self) -> Wanted {
        self.refused.map_or(Wanted::Living, Wanted::Not)
    }

    /// Makes a request with a token. A refused token is renewed once; if that does not help, it is handed back as stale,
    /// and the look begins again with the one fresh login. What is not to be sent `again`, since it was read before, is
    /// handed back at once.
    async fn authorized<'r>(
        &self,
        request: &(dyn Fn() -> Request<'r> + Sync),
        again: bool,
        under_way: bool,
    ) -> Result<Content, AccessError> {
        let session = self.session(self.living(), under_way).await?;
        match self.send(&session, request(), under_way).await {
            Err(error) if is_token_fault(&error) && self.refused.is_some() => Err(refined(error)),
            Err(error) if is_token_fault(&error) && !again => Err(AccessError::Stale(session.serial)),
            Err(error) if is_token_fault(&error) => {
                let renewed = self.renewed(&session, under_way).await?;
                let answer = self.send(&renewed, request(), under_way).await;
                answer.map_err(|error| {
                    if is_token_fault(&error) {
                        AccessError::Stale(renewed.serial)
                    } else {
                        AccessError::Remote(error)
                    }
                })
            }
            answer => answer.map_err(AccessError::Remote),
        }
    }

    /// Renews a refused session by its refresh token, unless somebody else has done so meanwhile.
    async fn renewed(&self, refused: &Session, under_way: bool) -> Result<Arc<Session>, AccessError> {
        let renew = async |_| match refresh(self.remotes, self.endpoint, refused, under_way).await {
            Err(AccessError::Remote(error)) if is_refused(&error) => Err(AccessError::Stale(refused.serial)),
            renewed => renewed,
        };
        self.remotes.sessions.get(&self.key, Wanted::Not(refused.serial), renew).await
    }

    async fn send(
        &self,
        session: &Session,
        request: Request<'_>,
        under_way: bool,
    ) -> Result<Content, RemoteError> {
        let request = Request { token: Some((X_AUTHORIZATION, &session.token)), ..request };
        self.remotes.http.exchange(self.endpoint, request, under_way).await
    }

    async fn session(&self, wanted: Wanted, under_way: bool) -> Result<Arc<Session>, AccessError> {
        let Self { remotes, endpoint, credentials, key, refused } = self;
        let open = async |old: Option<Arc<Session>>| {
            if let Some(old) = old.filter(|old| *refused != Some(old.serial)) {
                match refresh(remotes, endpoint, &old, under_way).await {
                    // The server does not know the refresh token any more: log in.
                    Err(AccessError::Remote(error)) if is_refused(&error) => {}
                    renewed => return renewed,
                }
            }
            log_in(remotes, endpoint, credentials, under_way).await
        };
        remotes.sessions.get(key, wanted, open).await
    }
}

/// Gives a status the meaning it has for a token that was just issued.
fn refined(error: RemoteError) -> AccessError {
    match error.status() {
        Some(401) => AccessError::TokenRefused,
        _ => AccessError::Remote(error),
    }
}

async fn log_in(
    remotes: &Remotes,
    endpoint: &Endpoint,
    credentials: &Credentials,
    under_way: bool,
) -> Result<Session, AccessError> {
    let asked = clock::instant();
    let body = Some(("text/plain", login::body(credentials)));
    let request = request("login", Method::POST, LOGIN, LOGIN, body, TOKEN_CAP);
    let send = remotes.http.exchange(endpoint, request, under_way);
    let answer = login::attempt(remotes, endpoint, credentials, send).await?;
    session_of(&answer, LOGIN, asked)
}

async fn refresh(
    remotes: &Remotes,
    endpoint: &Endpoint,
    old: &Session,
    under_way: bool,
) -> Result<Session, AccessError> {
    let gone =
        RemoteError { method: "POST", path: REFRESH, fault: Fault::Status { code: 401, retry_after: None } };
    let token = old.refresh.as_ref().ok_or(gone)?;
    let asked = clock::instant();
    let body = serde_json::json!({"refreshToken": token.expose_secret()});
    let body = Some(("application/json", Zeroizing::new(body.to_string().into_bytes())));
    let request = request("refresh", Method::POST, REFRESH, REFRESH, body, TOKEN_CAP);
    let answer = remotes.http.exchange(endpoint, request, under_way).await?;
    session_of(&answer, REFRESH, asked)
}

fn session_of(
    answer: &[u8],
    path: &'static str,
    asked: tokio::time::Instant,
) -> Result<Session, AccessError> {
    let bad = |why| malformed("POST", path, why);
    let Tokens { token, refresh_token } = serde_json::from_slice(answer)
        .map_err(|_| bad("it contains no token; check that the URL is a Kona server's"))?;
    let token = login::secret(token);
    let lifetime = lifetime(token.expose_secret(), Since::IssuedAt)
        .ok_or_else(|| bad("its token has no exp and iat claims"))?;
    Ok(Session::new(token, lifetime, refresh_token.map(login::secret), asked))
}

fn request<'a>(
    operation: &'static str,
    method: Method,
    path: &'a str,
    template: &'static str,
    body: Option<(&'static str, Content)>,
    cap: usize,
) -> Request<'a> {
    Request { system: "kona", operation, method, path, template, token: None, body, cap }
}

fn malformed(method: &'static str, path: &'static str, why: &'static str) -> RemoteError {
    RemoteError { method, path, fault: Fault::Malformed(why) }
}

/// Whether the token is to blame: 401, or a redirect to a login page.
fn is_token_fault(error: &RemoteError) -> bool {
    matches!(error.status(), Some(401 | 300..=399))
}

/// Whether the server refuses a refresh token: by any status, but for one that asks us to come later. Its relative answers
/// 500 to a token of the wrong kind.
fn is_refused(error: &RemoteError) -> bool {
    error.status().is_some() && !matches!(error.class(), Class::RateLimited(_))
}

/// Reads a customer and makes sure that it is the one meant: an object without its id, written back, would create
/// another customer.
fn customer_of(answer: &[u8], id: &str) -> Result<RawObject, &'static str> {
    #[derive(Deserialize)]
    struct EntityId {
        id: String,
    }
    let text = std::str::from_utf8(answer).map_err(|_| "it is not UTF-8")?;
    let customer =
        RawObject::parse(text).ok_or("it is not a JSON object; check that the URL is a Kona server's")?;
    let found: Option<EntityId> = customer.get("id").and_then(|value| serde_json::from_str(value.get()).ok());
    match found {
        Some(EntityId { id: found }) if found == id => Ok(customer),
        Some(_) => Err("it describes another customer"),
        None => Err("it lacks the customer's id"),
    }
}
