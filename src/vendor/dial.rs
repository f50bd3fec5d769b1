//! How connections are made: directly or through a proxy, with TLS where the URL has it, and only to addresses that may be
//! dialled.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tower::{Service, service_fn};
use url::Host;

use super::address::DialPolicy;
use super::endpoint::{Endpoint, Transport};
use super::names::Names;
use super::tls::{Proof, key, lenient};
use crate::engine::remote::{Broken, Fault, Tls};
use crate::engine::system::KeyId;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Exchanges with the same key share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    pub(super) namespace: String,
    transport: Transport,
    host: String,
    port: u16,
}

impl ClientKey {
    /// What the connections to an endpoint are shared by.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let (_, host, port) = endpoint.base.origin();
        let (namespace, transport) = (endpoint.holder.namespace.clone(), endpoint.transport.clone());
        Self { namespace, transport, host: host.to_owned(), port }
    }
}

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct Dialling {
    /// The rules for addresses.
    pub(super) policy: DialPolicy,
    /// What host names lead to.
    pub(super) names: Names,
}

/// What makes connections, and keeps to the rules for addresses.
pub(super) fn connector(
    key: &ClientKey,
    tls: Arc<ClientConfig>,
    dialling: &Arc<Dialling>,
) -> Result<Connector, Fault> {
    let Transport { server_name, proxy, insecure_skip_verify, .. } = &key.transport;
    let resolver = Resolver { dialling: Arc::clone(dialling), namespace: key.namespace.as_str().into() };
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let proxy = proxy.as_ref().map(|proxy| uri(proxy.url())).transpose()?;
    let name = server_name.as_deref().map(host_name).transpose()?;
    Ok(Connector { tcp, tls, accepts_any: *insecure_skip_verify, proxy, name })
}

/// A URL as the HTTP library takes it.
pub(super) fn uri(url: &url::Url) -> Result<Uri, Fault> {
    url.as_str().parse().map_err(|_| Fault::Unreachable(Broken::NotMade))
}

/// The name to verify, and to send as SNI. Whatever can be read as an address is none.
fn host_name(name: &str) -> Result<ServerName<'static>, Fault> {
    let is_name = matches!(Host::parse(name), Ok(Host::Domain(_)));
    let name = ServerName::try_from(name.to_owned()).ok();
    name.filter(|name| is_name && matches!(name, ServerName::DnsName(_))).ok_or(Fault::Tls(Tls::NotAName))
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    tls: Arc<ClientConfig>,
    /// Whether any certificate is accepted.
    accepts_any: bool,
    proxy: Option<Uri>,
    /// The name to verify instead of the URL's host.
    name: Option<ServerName<'static>>,
}

impl Connector {
    /// Makes a connection to the system that a URL leads to.
    pub(super) async fn connect(&self, target: &Uri) -> Result<Connection, BoxError> {
        let Some(proxy) = self.proxy.clone() else {
            let (stream, met) = self.open_as(target, self.name.as_ref()).await?;
            return Ok(Connection { stream, met, is_proxy: false });
        };
        if !is_secure(target) {
            let (stream, _) = self.open_as(&proxy, None).await?;
            return Ok(Connection { stream, met: None, is_proxy: true });
        }
        let outer = self.clone();
        let to_proxy = service_fn(move |proxy: Uri| {
            let outer = outer.clone();
            async move { outer.open_as(&proxy, None).await.map(|(stream, _)| TokioIo::new(stream)) }
        });
        let stream = Tunnel::new(proxy, to_proxy).call(target.clone()).await?.into_inner();
        let (stream, met) = self.secure(stream, target, self.name.as_ref()).await?;
        Ok(Connection { stream, met, is_proxy: false })
    }

    /// Connects to a host, and verifies it if its URL has TLS: by a name, or else by that of the host.
    async fn open_as(
        &self,
        host: &Uri,
        name: Option<&ServerName<'static>>,
    ) -> Result<(Stream, Option<KeyId>), BoxError> {
        let stream: Stream = Box::new(self.tcp.clone().call(host.clone()).await?.into_inner());
        if is_secure(host) { self.secure(stream, host, name).await } else { Ok((stream, None)) }
    }

    async fn secure(
        &self,
        stream: Stream,
        host: &Uri,
        name: Option<&ServerName<'static>>,
    ) -> Result<(Stream, Option<KeyId>), BoxError> {
        let name = match name {
            Some(name) => name.clone(),
            None => ServerName::try_from(bare(host.host().unwrap_or_default()).to_owned())?,
        };
        let (config, proof) =
            if self.accepts_any { lenient(&self.tls) } else { (Arc::clone(&self.tls), Proof::given()) };
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
        let met = certificate.filter(|_| proof.is_given()).and_then(key);
        Ok((Box::new(stream), met))
    }
}

fn is_secure(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// An address without the brackets that it has in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Bytes in both directions.
pub(super) trait Bidirectional: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bidirectional for T {}

type Stream = Box<dyn Bidirectional>;

/// A connection that requests can be sent on.
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// The key that the peer has proven to have, if it has.
    pub(super) met: Option<KeyId>,
    /// Whether a proxy reads the requests.
    pub(super) is_proxy: bool,
}

/// Resolves names and lets only those addresses through that may be dialled.
#[derive(Clone)]
struct Resolver {
    dialling: Arc<Dialling>,
    namespace: Arc<str>,
}

/// Carries a fault of ours through the HTTP library.
#[derive(Debug, thiserror::Error)]
#[error("not dialled")]
pub(super) struct DialError(pub(super) Fault);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        self.clone().resolve(name).boxed()
    }
}

impl Resolver {
    async fn resolve(self, name: Name) -> Result<std::vec::IntoIter<SocketAddr>, DialError> {
        let Dialling { policy, names } = &*self.dialling;
        let found = names.lookup(&self.namespace, bare(name.as_str())).await;
        let found = found.ok_or(DialError(Fault::Unreachable(Broken::NoName)))?;
        let allowed: Vec<_> =
            found.into_iter().filter(|ip| policy.allows(*ip)).map(|ip| SocketAddr::new(ip, 0)).collect();
        if allowed.is_empty() {
            return Err(DialError(Fault::AddressRefused(None)));
        }
        Ok(allowed.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    use rustls::RootCertStore;

    use super::super::names::tests::{KNOWN, Server};
    use super::*;

    /// Connections that were made to a listener since it was last asked.
    fn made(listener: &TcpListener) -> usize {
        listener.incoming().take_while(Result::is_ok).count()
    }

    /// The fault of ours that an error stands for.
    fn fault(error: &BoxError) -> Option<&Fault> {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&**error);
        while let Some(error) = cause {
            if let Some(DialError(fault)) = error.downcast_ref() {
                return Some(fault);
            }
            cause = error.source();
        }
        None
    }

    /// A name server of a tenant's own answers otherwise each time: what is dialled is what was checked, and no other answer.
    #[tokio::test]
    async fn an_address_that_was_not_checked_is_not_dialled_whatever_the_name_leads_to() {
        let (allowed, refused) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
        let turns = [vec![allowed], vec![refused], vec![refused, allowed]];
        let server = Server::answering(turns.to_vec(), 0).await;
        let right = TcpListener::bind((allowed, 0)).unwrap();
        let port = right.local_addr().unwrap().port();
        let wrong = TcpListener::bind((refused, port)).unwrap();
        for listener in [&right, &wrong] {
            listener.set_nonblocking(true).unwrap();
        }
        let host = KNOWN.trim_end_matches('.').to_owned();
        let target = uri(&format!("http://{host}:{port}/").parse().unwrap()).unwrap();
        let key = ClientKey { namespace: "a".to_owned(), transport: Transport::default(), host, port };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = Arc::new(tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
        let policy = DialPolicy { allow: vec![IpAddr::from(allowed).into()], deny: Vec::new() };
        let dialling = Arc::new(Dialling { policy, names: Arc::into_inner(server.names).unwrap() });
        let connector = connector(&key, tls, &dialling).unwrap();
        for turn in turns.iter().cycle().take(4 * turns.len()) {
            let connected = connector.connect(&target).await;
            if turn.contains(&allowed) {
                assert!(connected.is_ok(), "{turn:?}");
            } else {
                assert_eq!(fault(&connected.err().unwrap()), Some(&Fault::AddressRefused(None)));
            }
            assert_eq!((made(&right), made(&wrong)), (usize::from(turn.contains(&allowed)), 0), "{turn:?}");
        }
    }
}
