//! One HTTP exchange: never redirected, bounded in size, through the operator's own address check.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response};
use rustls::ClientConfig;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::address::DialPolicy;
use super::diagnosis::diagnose;
use super::dial::{self, ClientKey};
use super::endpoint::{Endpoint, Transport};
use super::recent::Recent;
use super::tls::Trust;
use crate::clock;
use crate::engine::remote::{Fault, Shown, Tls};
use crate::engine::url::BaseUrl;

/// Longest `Retry-After` that counts.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);
/// Longest content of an answer other than success that is read, in bytes.
const REFUSAL_CAP: usize = 16 * 1024;

/// One HTTP exchange with a checked endpoint: below limits, slots, the write gate, the deadline and metrics.
pub trait Wire: fmt::Debug + Send + Sync {
    /// Sends a request and reads the answer: status 2xx and content, else a fault.
    fn transfer<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<(u16, Content), Fault>>;

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
    /// Content type and content.
    pub body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
    /// Longest answer that is read, in bytes.
    pub cap: usize,
    /// Finds out what the content of an answer with some status shows beyond that.
    pub(crate) shows: fn(u16, &[u8]) -> Option<Shown>,
}

/// A successful answer's content, wiped after use: it may hold a token.
pub type Content = Zeroizing<Vec<u8>>;

/// The network: HTTP over TCP and TLS, with one client and its connections per system.
#[derive(Debug)]
pub struct Network {
    clients: Recent<ClientKey, Client>,
    trusts: Recent<Trust, ClientConfig>,
    dial: Arc<DialPolicy>,
}

impl Network {
    /// Takes the rules for addresses.
    #[must_use]
    pub fn new(dial: DialPolicy) -> Self {
        Self { clients: Recent::default(), trusts: Recent::default(), dial: Arc::new(dial) }
    }

    /// Addresses that stand in URLs never reach the resolver, so they are checked here.
    fn check_literals(&self, endpoint: &Endpoint) -> Result<(), Fault> {
        let proxy = endpoint.transport.proxy.as_ref().and_then(BaseUrl::ip);
        let refused = [endpoint.base.ip(), proxy].into_iter().flatten().find(|ip| !self.dial.allows(*ip));
        refused.map_or(Ok(()), |ip| Err(Fault::AddressRefused(Some(ip.to_string()))))
    }

    fn client(&self, endpoint: &Endpoint) -> Result<Client, Fault> {
        let key = ClientKey::of(endpoint);
        self.clients.get_or(&key, || {
            let trust = Trust::of(endpoint);
            dial::build(&key, self.trusts.get_or(&trust, || trust.config())?, &self.dial)
        })
    }
}

impl Wire for Network {
    fn transfer<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<(u16, Content), Fault>> {
        async move {
            self.check_literals(endpoint)?;
            transfer(self.client(endpoint)?, endpoint, request).await
        }
        .boxed()
    }

    /// Drops what nothing has used for a while, such as the settings of a CA that was replaced.
    fn purge(&self) {
        self.clients.purge();
        self.trusts.purge();
    }
}

/// Sends a request and reads the answer: its status and its content.
async fn transfer(
    client: Client,
    endpoint: &Endpoint,
    request: Request<'_>,
) -> Result<(u16, Content), Fault> {
    let mut url = endpoint.base.join(request.path);
    let mut headers = HeaderMap::new();
    let Transport { server_name, proxy, .. } = &endpoint.transport;
    if let Some(name) = server_name.as_ref().filter(|_| proxy.is_none()) {
        // The URL carries the name to verify and to send as SNI; the server still sees the host it goes by.
        let host = endpoint.base.url().authority().to_owned();
        headers.insert(
            HOST,
            HeaderValue::from_str(&host)
                .map_err(|_| Fault::Malformed("the URL's host is not a valid Host header"))?,
        );
        let unusable = Fault::Tls(Tls::NotAName);
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
        let content = read(answer, REFUSAL_CAP).await.unwrap_or_default();
        return Err(refusal(status, retry_after, (request.shows)(status, &content)));
    }
    Ok((status, read(answer, request.cap).await?))
}

/// The fault of an answer other than success. One that limits requests has nothing to show but that.
#[must_use]
pub(crate) fn refusal(code: u16, retry_after: Option<Duration>, shown: Option<Shown>) -> Fault {
    match shown.filter(|_| code != 429 && retry_after.is_none()) {
        Some(shown) => Fault::Refused { code, shown },
        None => Fault::Status { code, retry_after },
    }
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
