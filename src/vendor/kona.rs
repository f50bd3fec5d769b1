//! The calls of a TEKTELIC Kona Core Network Server (its page "Authentication Token TTL").

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderName;
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use super::http::{MaySend, Place, Purpose};
use super::jwt::{Since, lifetime};
use super::login;
use super::remotes::{Login, Remotes, malformed, refined};
use super::sessions::{Acceptable, Session};
use super::spelling::Turn;
use super::wire::{Answer, Request, Room};
use crate::clock;
use crate::engine::access::AccessError;
use crate::engine::customer::{ADDITIONAL_INFO, RawObject};
use crate::engine::login::Outcome;
use crate::engine::remote::{Fault, Malformed, RemoteError, Shown};

const X_AUTHORIZATION: HeaderName = HeaderName::from_static("x-authorization");
const LOGIN: &str = "/api/auth/login";
const REFRESH: &str = "/api/auth/token";
const CUSTOMER: &str = "/api/customer/{customerId}";
/// As the vendor's page writes it.
const CUSTOMERS: &str = "/api/customer/";
/// As servers since 2024 require it.
const CUSTOMERS_PLAIN: &str = "/api/customer";
/// Longest answer with tokens that is read, in bytes.
const TOKEN_CAP: usize = 64 * 1024;
/// Longest customer that is read, in bytes.
const CUSTOMER_CAP: usize = 1024 * 1024;

/// A read that lies further back is repeated before a write builds on it: others may have edited the customer meanwhile.
const HELD_UP: Duration = Duration::from_millis(300);

/// A customer's fields that a refusal may name. "email address" is about the first of the two.
const FIELDS: [&str; 9] =
    [ADDITIONAL_INFO, "email", "title", "phone", "country", "city", "zip", "address2", "address"];

/// A customer that was just read, and the seat that is kept for the write that builds on it.
#[derive(Debug)]
pub struct Fresh {
    /// The customer.
    pub customer: RawObject,
    /// Whether the answer took so long that others may have edited the customer meanwhile.
    pub is_late: bool,
    /// The seat.
    pub seat: Seat,
}

/// A place at the server, and the token that is used there. Nothing else may be awaited while it is kept: others wait for it.
#[derive(Debug)]
pub struct Seat {
    place: Place,
    session: Arc<Session>,
    /// What the customer that was read there takes.
    room: Option<Room>,
    /// When it was taken, by the machine's uptime.
    taken: Duration,
    /// Until when, by the same, a write may build on what was read there. The limit of requests per second may hold it up, by
    /// another urgent request, too, and a connection may take as long as the read; otherwise it is sent at once.
    pub(crate) until: Duration,
}

/// A customer that is about to be written.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its id.
    pub id: &'a str,
    /// The whole customer.
    pub object: &'a RawObject,
}

/// One server, asked as one user.
pub struct Kona<'a> {
    login: Login<'a>,
}

#[derive(Deserialize)]
struct Tokens {
    token: String,
    #[serde(rename = "refreshToken")]
    refresh_token: Option<String>,
}

impl<'a> Kona<'a> {
    /// A server and the user to log in as.
    #[must_use]
    pub fn new(login: Login<'a>) -> Self {
        Self { login }
    }

    /// Makes sure that there is a session.
    pub async fn log_in(&self) -> Result<(), AccessError> {
        self.session(self.login.living(), Purpose::Ask).await.map(drop)
    }

    /// Renews the session, which shows whether the server is there. One that cannot be renewed is handed back as stale.
    pub(crate) async fn renew(&self) -> Result<(), AccessError> {
        let open = async |old: Option<Arc<Session>>| match old {
            Some(old) => self.refreshed(&old, Purpose::Ask).await,
            None => log_in(&self.login, Purpose::Ask).await,
        };
        self.login.remotes.sessions.get(&self.login.key, Acceptable::Fresh, open).await.map(drop)
    }

    /// Reads a customer.
    pub async fn read_customer(&self, id: &str, purpose: Purpose<'_>) -> Result<Fresh, AccessError> {
        let path = format!("/api/customer/{id}");
        let request =
            || Request { operation: "get_customer", method: Method::GET, path: &path, ..post(CUSTOMER) };
        let (answer, mut seat) = self.authorized(&request, purpose).await?;
        let read = clock::uptime();
        let took = read.saturating_sub(seat.taken);
        seat.until = read + took + 2 * seat.place.spacing() + HELD_UP;
        let customer = customer_of(&answer.content, id).map_err(|why| malformed("GET", CUSTOMER, why))?;
        seat.room = answer.content.into_room();
        Ok(Fresh { customer, is_late: took > HELD_UP, seat })
    }

    /// Leave to write, if it can be had without waiting.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        self.login.remotes.spellings.turn(&self.login.endpoint.place())
    }

    /// Waits for leave to write, no longer than for a place. To be asked before a customer is read for a write, not between the
    /// two.
    pub async fn wait_turn(&self, purpose: Purpose<'_>) -> Result<Turn, AccessError> {
        let Login { remotes, endpoint, .. } = self.login;
        let place = endpoint.place();
        let turn = Box::pin(remotes.spellings.wait_turn(&place));
        Ok(remotes.http.in_turn(turn, purpose).await?)
    }

    /// Writes a customer from the seat where it was read just before, if `may_send` still permits it: so a 404 means that the
    /// server requires the other spelling of the path.
    pub async fn write_customer(
        &self,
        customer: &Outgoing<'_>,
        mut seat: Seat,
        turn: Turn,
        may_send: MaySend<'_>,
    ) -> Result<(), AccessError> {
        let (place, spellings) = (self.login.endpoint.place(), &self.login.remotes.spellings);
        let (known, plain) = (spellings.plain(&place), spellings.next(&place));
        let path = |plain| if plain { CUSTOMERS_PLAIN } else { CUSTOMERS };
        let found = match self.post_customer(customer, &mut seat, path(plain), may_send).await {
            Err(AccessError::Remote(error)) if error.status() == Some(404) => {
                // It may not be sent now, because that took too long.
                spellings.set_next(&place, !plain);
                self.post_customer(customer, &mut seat, path(!plain), may_send).await.map(|()| !plain)
            }
            done => done.map(|()| plain),
        };
        if let Ok(plain) = found
            && known != Some(plain)
        {
            spellings.set_plain(place, plain);
        }
        drop(turn);
        found.map(drop)
    }

    async fn post_customer(
        &self,
        Outgoing { id, object }: &Outgoing<'_>,
        seat: &mut Seat,
        path: &'static str,
        may_send: MaySend<'_>,
    ) -> Result<(), AccessError> {
        let text = object.to_json().ok_or_else(|| malformed("POST", path, Malformed::Unwritable))?;
        let body = Some(("application/json", Zeroizing::new(text.get().as_bytes().to_vec())));
        let room = seat.room.take();
        let request = Request { operation: "set_customer", body, room, ..post(path) };
        let answer =
            self.send(seat, request, Purpose::Write(may_send)).await.map_err(|error| match error {
                AccessError::Remote(error) if is_token_fault(&error) && self.login.refused.is_some() => {
                    refined(error)
                }
                // It was read before, and has to be read again.
                AccessError::Remote(error) if is_token_fault(&error) => {
                    AccessError::Stale(seat.session.serial)
                }
                error => error,
            })?;
        customer_of(&answer.content, id).map_err(|why| malformed("POST", path, why))?;
        Ok(())
    }

    /// Logs in afresh, as a user of a customer, and returns the access token's lifetime, in seconds.
    pub async fn prove(&self, purpose: Purpose<'_>) -> Result<u32, AccessError> {
        log_in(&self.login, purpose).await.map(|session| session.lifetime)
    }

    /// Makes a request with a token. A refused token is renewed once; if that does not help, it is handed back as stale,
    /// and the check begins again with the one fresh login.
    async fn authorized<'r>(
        &self,
        request: &(dyn Fn() -> Request<'r> + Sync),
        purpose: Purpose<'_>,
    ) -> Result<(Answer, Seat), AccessError> {
        let session = self.session(self.login.living(), purpose.before()).await?;
        let mut seat = self.seat(session, purpose).await?;
        let error = match self.send(&mut seat, request(), purpose).await {
            Err(AccessError::Remote(error)) if is_token_fault(&error) => error,
            answer => return Ok((answer?, seat)),
        };
        if self.login.refused.is_some() {
            return Err(refined(error));
        }
        let Seat { place, session, .. } = seat;
        // The renewal needs it.
        drop(place);
        let renewed = self.renewed(&session, purpose).await?;
        let mut seat = self.seat(renewed, purpose).await?;
        match self.send(&mut seat, request(), purpose).await {
            Err(AccessError::Remote(error)) if is_token_fault(&error) => {
                Err(AccessError::Stale(seat.session.serial))
            }
            answer => Ok((answer?, seat)),
        }
    }

    /// Waits for a place, and takes the newest token that there is by then: in a long queue, the one that there was at its
    /// end may expire.
    async fn seat(&self, session: Arc<Session>, purpose: Purpose<'_>) -> Result<Seat, AccessError> {
        let Remotes { http, sessions, .. } = self.login.remotes;
        let place = http.enter(self.login.endpoint, purpose).await?;
        let session = sessions.latest(&self.login.key).unwrap_or(session);
        if session.is_living() || self.login.refused == Some(session.serial) {
            return Ok(Seat { place, session, room: None, taken: clock::uptime(), until: Duration::ZERO });
        }
        drop(place);
        let session = self.session(self.login.living(), purpose.before()).await?;
        let place = http.enter(self.login.endpoint, purpose.at_the_front()).await?;
        Ok(Seat { place, session, room: None, taken: clock::uptime(), until: Duration::ZERO })
    }

    /// Renews a refused session by its refresh token, unless another check has done so meanwhile.
    async fn renewed(&self, refused: &Session, purpose: Purpose<'_>) -> Result<Arc<Session>, AccessError> {
        let renew = async |_| self.refreshed(refused, purpose).await;
        self.login.remotes.sessions.get(&self.login.key, Acceptable::Not(refused.serial), renew).await
    }

    async fn refreshed(&self, old: &Session, purpose: Purpose<'_>) -> Result<Session, AccessError> {
        match refresh(&self.login, old, purpose).await {
            Err(AccessError::Remote(error)) if is_refused(&error) => Err(AccessError::Stale(old.serial)),
            renewed => renewed,
        }
    }

    async fn send(
        &self,
        seat: &mut Seat,
        request: Request<'_>,
        purpose: Purpose<'_>,
    ) -> Result<Answer, AccessError> {
        let Seat { place, session, .. } = seat;
        let token = Some((X_AUTHORIZATION, &session.token));
        let request = Request { token, session: Some(session), ..request };
        Ok(Box::pin(self.login.remotes.http.exchange_at(place, self.login.endpoint, request, purpose))
            .await?)
    }

    async fn session(
        &self,
        acceptable: Acceptable,
        purpose: Purpose<'_>,
    ) -> Result<Arc<Session>, AccessError> {
        let login = &self.login;
        let open = async |old: Option<Arc<Session>>| {
            if let Some(old) = old.filter(|old| login.refused != Some(old.serial)) {
                match refresh(login, &old, purpose).await {
                    // The server does not know the refresh token anymore: log in.
                    Err(AccessError::Remote(error)) if is_refused(&error) => {}
                    renewed => return renewed,
                }
            }
            log_in(login, purpose).await
        };
        login.remotes.sessions.get(&login.key, acceptable, open).await
    }
}

async fn log_in(login: &Login<'_>, purpose: Purpose<'_>) -> Result<Session, AccessError> {
    let asked = clock::instant();
    let request = || {
        let body = Some(("text/plain", login::body(login.credentials)));
        Request { operation: "login", body, cap: TOKEN_CAP, ..post(LOGIN) }
    };
    let (answer, ticket) = login.attempt(request, purpose).await?;
    let session = session_of(&answer, LOGIN, asked)?;
    ticket.ended(Outcome::Accepted);
    if session.refresh.is_none() || login::is_first_step(&answer.content) {
        Err(AccessError::Half)
    } else {
        Ok(session)
    }
}

#[derive(Serialize)]
struct Renewal<'a> {
    #[serde(rename = "refreshToken")]
    refresh_token: &'a str,
}

async fn refresh(login: &Login<'_>, old: &Session, purpose: Purpose<'_>) -> Result<Session, AccessError> {
    let gone =
        RemoteError { method: "POST", path: REFRESH, fault: Fault::Status { code: 401, retry_after: None } };
    let token = old.refresh.as_ref().ok_or(gone)?;
    let asked = clock::instant();
    let body = login::json(&Renewal { refresh_token: token.expose_secret() });
    let body = Some(("application/json", body));
    let request = Request { operation: "refresh", session: Some(old), body, cap: TOKEN_CAP, ..post(REFRESH) };
    // All who wait for a place will need the new token.
    let answer = login.remotes.http.exchange(login.endpoint, request, purpose.at_the_front()).await?;
    session_of(&answer, REFRESH, asked)
}

fn session_of(
    answer: &Answer,
    path: &'static str,
    asked: tokio::time::Instant,
) -> Result<Session, AccessError> {
    let bad = |why| malformed("POST", path, why);
    let Tokens { token, refresh_token } =
        serde_json::from_slice(&answer.content).map_err(|_| bad(Malformed::NoKonaToken))?;
    let (token, refresh) = (login::secret(token), refresh_token.map(login::secret).transpose());
    let (token, refresh) = (token.map_err(bad)?, refresh.map_err(bad)?);
    let lifetime =
        lifetime(token.expose_secret(), Since::IssuedAt).ok_or_else(|| bad(Malformed::NoKonaLifetime))?;
    Ok(Session::new(token, lifetime, refresh, answer.key, asked))
}

fn post(path: &'static str) -> Request<'static> {
    Request { cap: CUSTOMER_CAP, shows, ..Request::new("kona", Method::POST, path) }
}

/// What the content of a refusal shows: that it has the server's own form, and which field it is about.
fn shows(status: u16, content: &[u8]) -> Option<Shown> {
    #[derive(Deserialize)]
    struct Failure {
        message: Option<String>,
        #[serde(rename = "errorCode")]
        _code: i64,
    }
    if !(400..500).contains(&status) {
        return None;
    }
    let Failure { message, .. } = serde_json::from_slice(content).ok()?;
    let field = message.filter(|_| status == 400).and_then(|message| field_in(&message));
    Some(field.map_or(Shown::Vendor, Shown::Field))
}

/// The field of a customer that a message is about, if it names one.
fn field_in(message: &str) -> Option<&'static str> {
    let named = |field: &&str| {
        message.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w.eq_ignore_ascii_case(field))
    };
    FIELDS.into_iter().find(named)
}

/// Whether another token may help. A redirect counts, because it leads to a login page.
fn is_token_fault(error: &RemoteError) -> bool {
    error.blames_token(|status| matches!(status, 401 | 300..=399))
}

/// Whether a refresh token is of no use: the server refuses it by any status, but for one that asks us to come later, or is not
/// the one that issued it. Its relative answers 500 to a token of the wrong kind.
fn is_refused(error: &RemoteError) -> bool {
    error.status().is_some() && !error.is_rate_limited() || error.fault == Fault::OtherPeer
}

/// Reads a customer and makes sure that it is the one meant: an object without its id, written back, would create
/// another customer.
fn customer_of(answer: &[u8], id: &str) -> Result<RawObject, Malformed> {
    #[derive(Deserialize)]
    struct EntityId {
        id: String,
    }
    let text = std::str::from_utf8(answer).map_err(|_| Malformed::NotUtf8)?;
    let customer = RawObject::parse(text).map_err(|why| Malformed::Customer(why.why()))?;
    let found: Option<EntityId> = customer.get("id").and_then(|value| serde_json::from_str(value.get()).ok());
    match found {
        Some(EntityId { id: found }) if found == id => Ok(customer),
        Some(_) => Err(Malformed::OtherCustomer),
        None => Err(Malformed::NoId),
    }
}
