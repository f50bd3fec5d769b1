//! One exchange with a remote system: bounded in time and size, never redirected, through the operator's own address
//! check, and counted.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::address::DialPolicy;
use super::endpoint::{BaseUrl, Endpoint, Transport};
use super::fault::{Fault, RemoteError};
use super::slots::Slots;

use crate::clock;
use crate::leader::fence::{Closed, Fence};
use crate::metrics::Metrics;
use crate::telemetry::traces;

/// An exchange that has waited this long for the other side lends its slot to one that moves.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest `Retry-After` that counts.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);
/// How long what is needed to make connections is kept.
const UNUSED: Duration = Duration::from_hours(1);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);

/// A request, described without anything secret but its body and token.
pub struct Request<'a> {
    /// The remote system, for metrics.
    pub system: &'static str,
    /// What is done, for metrics.
    pub operation: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path below the base URL.
    pub path: &'a str,
    /// The same with placeholders in place of ids, for errors.
    pub template: &'static str,
    /// Header and token.
    pub token: Option<(HeaderName, &'a SecretString)>,
    /// Content type and content.
    pub body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
    /// Longest answer that is read, in bytes.
    pub cap: usize,
}

/// A successful answer's content, wiped after use: it may hold a token.
pub type Content = Zeroizing<Vec<u8>>;

/// Makes exchanges. One per process; cheap to share.
#[derive(Debug)]
pub struct Http {
    clients: Mutex<HashMap<ClientKey, (Client, Instant)>>,
    dial: Arc<DialPolicy>,
    slots: Slots,
    metrics: Arc<Metrics>,
    fence: Fence,
    heard: Mutex<HashMap<String, Instant>>,
}

/// Exchanges with the same key share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    transport: Transport,
    /// Host to dial where the URL carries the name to verify instead.
    dialled: Option<String>,
}

impl Http {
    /// Takes the rules for addresses, the slots, and the fence that keeps exchanges from being made when they must not.
    #[must_use]
    pub fn new(dial: DialPolicy, slots: Slots, metrics: Arc<Metrics>, fence: Fence) -> Self {
        Self {
            clients: Mutex::default(),
            dial: Arc::new(dial),
            slots,
            metrics,
            fence,
            heard: Mutex::default(),
        }
    }

    /// Sends a request and reads the answer. An answer other than 2xx is an error. `under_way` marks the rest of a change
    /// that was begun: it is still made while the operator is ending.
    pub async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
        under_way: bool,
    ) -> Result<Content, RemoteError> {
        let (method, path) = (method_name(&request.method), request.template);
        let failed = |fault| RemoteError { method, path, fault };
        self.check_literals(endpoint).map_err(failed)?;
        let client = self.client(endpoint).map_err(failed)?;
        let closed = |Closed| failed(Fault::Ending);
        let ready = async {
            let lane = endpoint.lane.enter(under_way).await;
            (lane, self.slots.acquire(&endpoint.namespace).await)
        };
        // What was decided before a lease was lost is decided anew once there is one again.
        let ready = self.fence.within(self.fence.before(ready, under_way)).await;
        let (_lane, slot) = ready.flatten().map_err(closed)?;
        let (system, operation) = (request.system, request.operation);
        // Nobody misses the answer to a mere question.
        let finishes = under_way || request.method != Method::GET;
        let begun = clock::instant();
        let span = traces::request(system, operation, method, path);
        // Boxed: each of the waits around it would hold it twice.
        let answer = Box::pin(tokio::time::timeout(endpoint.timeout, transfer(&client, endpoint, request)));
        let answer = holding(slot, answer).instrument(span.clone());
        let answer = self.fence.within(self.fence.before(answer, finishes)).await;
        let answer = answer.flatten().map_err(closed)?.unwrap_or(Err(Fault::TimedOut)).map_err(failed);
        let code = answer.as_ref().map_or_else(RemoteError::code, |(status, _)| status.to_string());
        traces::answered(&span, &code, answer.is_ok());
        self.metrics.requested(system, operation, code, begun.elapsed());
        if answer.is_ok() && system == "kona" {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.insert(endpoint.base.to_string(), clock::instant());
        }
        answer.map(|(_, content)| content)
    }

    /// When a Kona server last gave a good answer.
    #[must_use]
    pub fn last_heard(&self, url: &str) -> Option<Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(url).copied()
    }

    /// Addresses that stand in URLs never reach the resolver, so they are checked here.
    fn check_literals(&self, endpoint: &Endpoint) -> Result<(), Fault> {
        let proxy = endpoint.transport.proxy.as_ref().and_then(BaseUrl::ip);
        let refused = [endpoint.base.ip(), proxy].into_iter().flatten().find(|ip| !self.dial.allows(*ip));
        refused.map_or(Ok(()), |ip| Err(Fault::AddressRefused(ip)))
    }

    fn client(&self, endpoint: &Endpoint) -> Result<Client, Fault> {
        let transport = endpoint.transport.clone();
        let dialled =
            transport.server_name.as_ref().and_then(|_| endpoint.base.url().host_str()).map(str::to_owned);
        let key = ClientKey { transport, dialled };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, used)) = clients.get_mut(&key) {
            *used = clock::instant();
            return Ok(client.clone());
        }
        let client = build(&key, &self.dial)?;
        clients.insert(key, (client.clone(), clock::instant()));
        Ok(client)
    }

    /// Drops the clients of TLS settings that nobody has used for a while, such as those of a CA that was replaced; to be
    /// called now and then.
    pub fn purge(&self) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, (_, used)| used.elapsed() < UNUSED);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, at| at.elapsed() < UNUSED);
    }
}

/// Waits for an exchange while holding a slot, for a second at the most.
async fn holding<T>(slot: super::slots::Slot, exchange: impl Future<Output = T>) -> T {
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        () = tokio::time::sleep(PATIENCE) => drop(slot),
    }
    exchange.await
}

fn build(key: &ClientKey, dial: &Arc<DialPolicy>) -> Result<Client, Fault> {
    let unusable = |_| Fault::Tls("the TLS settings cannot be used: check tls and proxyUrl");
    let resolver = CheckedResolver { dial: Arc::clone(dial), dialled: key.dialled.clone() };
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("tenure/", env!("CARGO_PKG_VERSION")))
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1)
        .dns_resolver(resolver)
        .tls_danger_accept_invalid_certs(key.transport.insecure_skip_verify);
    builder = match &key.transport.proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.url().clone()).map_err(unusable)?),
        None => builder.no_proxy(),
    };
    if let Some(pem) = &key.transport.ca {
        let roots = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(unusable)?;
        builder = builder.tls_certs_only(roots);
    }
    builder.build().map_err(unusable)
}

/// Sends a request and reads the answer: its status and its content.
async fn transfer(
    client: &Client,
    endpoint: &Endpoint,
    request: Request<'_>,
) -> Result<(u16, Content), Fault> {
    let mut url = endpoint.base.join(request.path);
    let mut headers = HeaderMap::new();
    if let Some(name) = &endpoint.transport.server_name {
        // The URL carries the name to verify and to send as SNI; the server still sees the host it goes by.
        let host = endpoint.base.url().authority().to_owned();
        headers.insert(
            HOST,
            HeaderValue::from_str(&host).map_err(|_| Fault::Malformed("the URL's host is no header"))?,
        );
        let unusable = Fault::Tls("tls.serverName must be a host name, not an address");
        url.set_host(Some(name)).map_err(|_| unusable.clone())?;
        // An address would be dialled in place of the one that was checked.
        url.domain().ok_or(unusable)?;
    }
    if let Some((header, token)) = request.token {
        let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| Fault::Malformed("the token holds control characters"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let mut message = client.request(request.method, url).headers(headers);
    if let Some((kind, body)) = request.body {
        message = message.header(CONTENT_TYPE, kind).body(body.to_vec());
    }
    let answer = message.send().await.map_err(|error| diagnose(&error))?;
    let (status, retry_after) = (answer.status().as_u16(), retry_after(answer.headers()));
    if !(200..300).contains(&status) {
        return Err(Fault::Status { code: status, retry_after });
    }
    Ok((status, read(answer, request.cap).await?))
}

async fn read(mut answer: Response, cap: usize) -> Result<Content, Fault> {
    let mut content = Zeroizing::new(Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(|error| diagnose(&error))? {
        if content.len() + chunk.len() > cap {
            return Err(Fault::Malformed("the answer is too long"));
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
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

pub(super) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "POST",
    }
}

/// Finds out what an error of the HTTP library comes from, in words of our own: its text may quote what it choked on.
fn diagnose(error: &reqwest::Error) -> Fault {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut broken = None;
    while let Some(current) = cause {
        if let Some(DialError(fault)) = current.downcast_ref::<DialError>() {
            return fault.clone();
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return Fault::Tls(tls_remedy(tls));
        }
        let io = current.downcast_ref::<io::Error>();
        broken = broken.or_else(|| io_fault(io?.kind()));
        // An I/O error's source is that of the error in it, so the one in it has to be asked for: TLS errors come in two
        // of them, one inside the other.
        let inner = io.and_then(io::Error::get_ref);
        cause = inner.map_or_else(|| current.source(), |inner| Some(inner));
    }
    if let Some(fault) = broken {
        return fault;
    }
    if error.is_timeout() {
        Fault::TimedOut
    } else if error.is_connect() {
        Fault::Unreachable("no connection could be made: check the URL, the proxy and the network")
    } else {
        Fault::Unreachable("the connection broke before the answer was complete")
    }
}

fn io_fault(kind: io::ErrorKind) -> Option<Fault> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => Fault::Unreachable(
            "the connection was refused: check the URL's port, and whether the service is running",
        ),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Fault::Unreachable("the connection was reset before the answer was complete")
        }
        io::ErrorKind::UnexpectedEof => {
            Fault::Unreachable("the connection was closed before the answer was complete")
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Fault::Unreachable("there is no route to the address: check the URL and the network")
        }
        io::ErrorKind::TimedOut => Fault::TimedOut,
        _ => return None,
    })
}

fn tls_remedy(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => "the server's certificate has expired: renew it",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet: check the clocks"
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "the server's certificate is for another name: correct the URL, or set tls.serverName"
            }
            // A CA of the same name that has other keys is another CA.
            Bad::UnknownIssuer | Bad::BadSignature => {
                "the server's certificate is signed by an unknown CA: set tls.caSecretRef or tls.caConfigMapRef"
            }
            Bad::Revoked => "the server's certificate is revoked",
            _ => {
                "the server's certificate cannot be verified: set tls.caSecretRef or tls.caConfigMapRef, or renew it"
            }
        },
        _ => "the TLS handshake failed: check that the port speaks TLS 1.2 or newer",
    }
}

/// Resolves names and lets only those addresses through that may be dialled.
struct CheckedResolver {
    dial: Arc<DialPolicy>,
    dialled: Option<String>,
}

/// Carries a fault of ours through the HTTP library.
#[derive(Debug, thiserror::Error)]
#[error("not dialled")]
struct DialError(Fault);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let dial = Arc::clone(&self.dial);
        let host = self.dialled.clone().unwrap_or_else(|| name.as_str().to_owned());
        Box::pin(async move {
            let unknown =
                || DialError(Fault::Unreachable("the host name does not resolve: check the URL and the DNS"));
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host, 0)).await.map_err(|_| unknown())?.collect();
            let allowed: Vec<SocketAddr> = found.iter().copied().filter(|at| dial.allows(at.ip())).collect();
            match (allowed.is_empty(), found.first()) {
                (false, _) => Ok(Box::new(allowed.into_iter()) as Addrs),
                (true, Some(refused)) => Err(DialError(Fault::AddressRefused(refused.ip())).into()),
                (true, None) => Err(unknown().into()),
            }
        })
    }
}
