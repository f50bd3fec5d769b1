//! One HTTP exchange: never redirected, bounded in size, through the operator's own address check.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::Method;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::address::DialPolicy;
use super::client::Client;
use super::diagnosis::diagnose;
use super::dial::{self, ClientKey, Dialling};
use super::endpoint::Endpoint;
use super::names::Names;
use super::recent::{Owned, Recent};
use super::sessions::Session;
use super::shares::{Share, Shares};
use super::tls::Common;
use crate::clock;
use crate::engine::remote::{Broken, Fault, Malformed, Shown};
use crate::engine::system::KeyId;
use crate::engine::url::BaseUrl;
use crate::telemetry::traces;

/// Longest `Retry-After` that counts.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);
/// Longest content of an answer other than success that is read, in bytes.
const REFUSAL_CAP: usize = 16 * 1024;
/// Content up to this length needs no room, in bytes: of the exchanges under way, which are bounded in number, it is 16 MiB.
const SMALL: usize = 16 * 1024;
/// Room for longer answers of one namespace, in bytes.
const ROOM_EACH: usize = 8 * 1024 * 1024;
/// Room for all longer answers, in bytes.
const ROOM_ALL: usize = 48 * 1024 * 1024;
/// How much room an answer takes for each of its bytes: as it came, as it was parsed, with what is changed in it, and as it
/// goes back.
const COPIES: usize = 4;
/// Room is taken in such units, in bytes.
const UNIT: usize = 1024;
const LONG: Fault = Fault::Malformed(Malformed::Long);

/// Whether a request is still permitted: asked last, right before its bytes are sent.
pub type MaySend<'a> = &'a (dyn Fn() -> bool + Sync);

/// One HTTP exchange with a checked endpoint: below limits, slots, the write gate, the deadline and metrics.
pub trait Wire: fmt::Debug + Send + Sync {
    /// Sends a request and reads the answer: one of success, else a fault. `may_send` is asked when nothing but the bytes of the
    /// request is left to be sent; none if it does not permit that: then no byte has left.
    fn transfer<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        request: Request<'a>,
        may_send: MaySend<'a>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Fault>>;

    /// Drops what has not been used for a while; called now and then.
    fn purge(&self) {}
}

/// A request, described without anything secret but its body and token.
pub struct Request<'a> {
    /// The remote system, for metrics.
    pub(crate) system: &'static str,
    /// What is done, for metrics.
    pub(crate) operation: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path below the base URL.
    pub path: &'a str,
    /// The same with placeholders in place of ids, for errors.
    pub(crate) template: &'static str,
    /// Header and token.
    pub token: Option<(HeaderName, &'a SecretString)>,
    /// The session whose token it contains: it is sent to no peer but the one that issued that.
    pub(crate) session: Option<&'a Session>,
    /// Content type and content.
    pub body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
    /// Longest answer that is read, in bytes.
    pub cap: usize,
    /// Room for the answer, if the request has some already: two that wait for each other's would wait until they time out.
    pub(crate) room: Option<Room>,
    /// Finds out what the content of an answer with some status shows beyond that.
    pub(crate) shows: fn(u16, &[u8]) -> Option<Shown>,
}

impl Request<'static> {
    /// A request without token and content, whose answer is not read.
    pub(crate) fn new(system: &'static str, method: Method, path: &'static str) -> Self {
        Self {
            system,
            operation: "",
            method,
            path,
            template: path,
            token: None,
            session: None,
            body: None,
            cap: 0,
            room: None,
            shows: |_, _| None,
        }
    }
}

/// An answer of success.
#[derive(Debug)]
pub struct Answer {
    /// 2xx.
    pub status: u16,
    /// Its content.
    pub content: Content,
    /// The key that the peer has proven to have, if that is known.
    pub key: Option<KeyId>,
}

/// The content of a request, or of an answer of success. It may contain a secret, so it is overwritten after use.
#[derive(Debug)]
pub struct Content {
    bytes: Zeroizing<Vec<u8>>,
    room: Option<Room>,
}

/// The room that an answer and what is made of it take among all that are under way.
#[derive(Debug)]
pub(crate) struct Room(Share);

impl Content {
    /// Adds bytes. If it has to move, what it leaves behind is overwritten.
    fn append(&mut self, bytes: &[u8]) {
        let length = self.bytes.len() + bytes.len();
        if length > self.bytes.capacity() {
            let mut grown = Zeroizing::new(Vec::with_capacity(length.next_power_of_two()));
            grown.extend_from_slice(&self.bytes);
            self.bytes = grown;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Its bytes.
    pub(super) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.bytes
    }

    /// The room that it takes, for as long as something made of it is kept.
    pub(crate) fn into_room(self) -> Option<Room> {
        self.room
    }
}

impl io::Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: Zeroizing::new(bytes), room: None }
    }
}

/// The network: HTTP over TCP and TLS, with one client and its connection for each of the systems asked most recently.
#[derive(Debug)]
pub struct Network {
    clients: Recent<ClientKey, Client>,
    settings: Common,
    dialling: Arc<Dialling>,
    room: Shares,
}

impl Owned for ClientKey {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Network {
    /// Takes the rules for addresses.
    #[must_use]
    pub fn new(policy: DialPolicy) -> Self {
        Self {
            clients: Recent::default(),
            settings: Common::default(),
            dialling: Arc::new(Dialling { policy, names: Names::of_the_system() }),
            room: Shares::new(ROOM_EACH / UNIT, ROOM_ALL / UNIT),
        }
    }

    /// Addresses in URLs never reach the resolver, so they are checked here.
    fn check_literals(&self, endpoint: &Endpoint) -> Result<(), Fault> {
        let proxy = endpoint.transport.proxy.as_ref().and_then(BaseUrl::ip);
        let policy = &self.dialling.policy;
        let refused = [endpoint.base.ip(), proxy].into_iter().flatten().find(|ip| !policy.allows(*ip));
        refused.map_or(Ok(()), |ip| Err(Fault::AddressRefused(Some(ip.to_string()))))
    }

    fn client(&self, endpoint: &Endpoint) -> Result<Client, Fault> {
        let key = ClientKey::of(endpoint);
        self.clients.get_or(&key, || {
            let settings = self.settings.of(&endpoint.transport)?;
            dial::connector(&key, settings, &self.dialling).map(Client::new)
        })
    }

    /// Sends a request and reads the answer: its status and its content.
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        mut request: Request<'_>,
        may_send: MaySend<'_>,
    ) -> Result<Option<Answer>, Fault> {
        self.check_literals(endpoint)?;
        let (cap, shows, room, session) = (request.cap, request.shows, request.room.take(), request.session);
        let may_send = |met| match session {
            Some(session) if session.issuer != met => Err(Fault::OtherPeer),
            _ => Ok(may_send()),
        };
        let (message, client) = (message(endpoint, request)?, self.client(endpoint)?);
        let Some((answer, line)) = client.send(message, may_send).await? else { return Ok(None) };
        let (status, retry_after) = (answer.status().as_u16(), retry_after(answer.headers()));
        traces::responded(status);
        let key = line.met;
        let is_success = (200..300).contains(&status);
        let cap = if is_success { cap } else { REFUSAL_CAP };
        let content = self.read(answer, cap, &endpoint.holder.namespace, room).await;
        if content.is_ok() {
            client.keep(line);
        }
        if !is_success {
            let content = content.unwrap_or_else(|_| Vec::new().into());
            return Err(refusal(status, retry_after, shows(status, &content)));
        }
        Ok(Some(Answer { status, content: content?, key }))
    }

    /// Reads the content of an answer. A longer one waits until there is room for all of it.
    async fn read(
        &self,
        mut answer: hyper::Response<Incoming>,
        cap: usize,
        namespace: &str,
        room: Option<Room>,
    ) -> Result<Content, Fault> {
        let announced = answer.body().size_hint().upper().and_then(|length| usize::try_from(length).ok());
        let longest = announced.unwrap_or(cap).min(cap);
        let mut content = Content { room, ..Vec::new().into() };
        while let Some(frame) = answer.frame().await {
            let Ok(bytes) = frame.map_err(|error| diagnose(&error, Broken::Lost))?.into_data() else {
                continue;
            };
            let length = content.len() + bytes.len();
            if length > cap {
                return Err(LONG);
            }
            if length > SMALL && content.room.is_none() {
                content.room = self.room.take(namespace, units(longest)).await.map(Room);
                content.room.as_ref().ok_or(LONG)?;
            }
            content.append(&bytes);
        }
        let used = units(content.len());
        content.room.iter_mut().for_each(|Room(share)| share.keep(used));
        Ok(content)
    }
}

fn units(length: usize) -> usize {
    (length * COPIES).div_ceil(UNIT)
}

impl Wire for Network {
    fn transfer<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        request: Request<'a>,
        may_send: MaySend<'a>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Fault>> {
        self.exchange(endpoint, request, may_send).boxed()
    }

    /// Drops what nothing has used for a while.
    fn purge(&self) {
        self.clients.purge();
        self.dialling.names.purge();
        self.room.purge();
    }
}

/// A request as the HTTP library takes it.
fn message(endpoint: &Endpoint, request: Request<'_>) -> Result<hyper::Request<Full<Bytes>>, Fault> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tenure/", env!("CARGO_PKG_VERSION"))));
    if let Some((header, token)) = request.token {
        let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| Fault::Malformed(Malformed::UnprintableToken))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let mut body = Bytes::new();
    if let Some((kind, bytes)) = request.body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        // Wiped when it was sent.
        body = Bytes::from_owner(bytes);
    }
    let target = dial::uri(&endpoint.base.join(request.path))?;
    let host = target.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    headers.insert(HOST, host.ok_or(Fault::Unreachable(Broken::NotMade))?);
    let mut message = hyper::Request::new(Full::new(body));
    *message.method_mut() = request.method;
    *message.uri_mut() = target;
    *message.headers_mut() = headers;
    Ok(message)
}

/// The fault of an answer other than success. One that limits requests has nothing to show but that.
#[must_use]
pub(crate) fn refusal(code: u16, retry_after: Option<Duration>, shown: Option<Shown>) -> Fault {
    match shown.filter(|_| code != 429 && retry_after.is_none()) {
        Some(shown) => Fault::Refused { code, shown },
        None => Fault::Status { code, retry_after },
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(clock::now().0)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use tenure_kit::memory::Planted;

    use super::super::recent::KEPT;
    use super::*;

    #[test]
    fn an_answer_that_grows_leaves_no_token_behind() {
        let planted = Planted::new(4096);
        let mut content = Content::from(Vec::new());
        let token = Zeroizing::new(planted.text());
        content.append(token.as_bytes());
        drop(token);
        for _ in 0..10 {
            content.append(&[b' '; 4096]);
        }
        assert_eq!(planted.pieces(), 256, "it has moved, and is there once");
        drop(content);
        assert_eq!(planted.pieces(), 0);
    }

    #[tokio::test]
    async fn five_thousand_names_to_verify_take_a_few_clients_and_the_roots_of_one() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let network = Network::new(DialPolicy::default());
        let mut endpoint = Endpoint::of("https://x2.example.net");
        let settings = network.settings.of(&endpoint.transport).unwrap();
        for number in 0..5_000 {
            endpoint.transport.server_name = Some(format!("n{number}.example.net"));
            network.client(&endpoint).unwrap();
            assert!(network.clients.len() <= KEPT);
            assert!(Arc::ptr_eq(&settings, &network.settings.of(&endpoint.transport).unwrap()));
        }
    }
}
