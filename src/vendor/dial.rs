//! How connections are made: through which client, and only to addresses that may be dialled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::ClientConfig;

use super::address::DialPolicy;
use super::endpoint::{Endpoint, Transport};
use crate::engine::remote::{Broken, Fault, Tls};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);

/// Exchanges with the same key share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    transport: Transport,
    host: String,
    port: u16,
}

impl ClientKey {
    /// What the connections to an endpoint are shared by.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let (_, host, port) = endpoint.base.origin();
        Self { transport: endpoint.transport.clone(), host: host.to_owned(), port }
    }
}

/// A client that keeps to the rules for addresses.
pub(super) fn build(key: &ClientKey, tls: ClientConfig, dial: &Arc<DialPolicy>) -> Result<Client, Fault> {
    let unusable = |_| Fault::Tls(Tls::Settings);
    let Transport { server_name, proxy, .. } = &key.transport;
    // Without a proxy the URL carries the name to verify in place of the host.
    let dialled = server_name.as_ref().filter(|_| proxy.is_none()).map(|_| key.host.clone());
    let builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("tenure/", env!("CARGO_PKG_VERSION")))
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1)
        .dns_resolver(CheckedResolver { dial: Arc::clone(dial), dialled })
        .tls_backend_preconfigured(tls);
    let builder = match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.url().clone()).map_err(unusable)?),
        None => builder.no_proxy(),
    };
    builder.build().map_err(unusable)
}

/// Resolves names and lets only those addresses through that may be dialled.
struct CheckedResolver {
    dial: Arc<DialPolicy>,
    dialled: Option<String>,
}

/// Carries a fault of ours through the HTTP library.
#[derive(Debug, thiserror::Error)]
#[error("not dialled")]
pub(super) struct DialError(pub(super) Fault);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let dial = Arc::clone(&self.dial);
        let host = self.dialled.clone().unwrap_or_else(|| name.as_str().to_owned());
        Box::pin(async move {
            let unknown = || DialError(Fault::Unreachable(Broken::NoName));
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host, 0)).await.map_err(|_| unknown())?.collect();
            let allowed: Vec<SocketAddr> = found.iter().copied().filter(|at| dial.allows(at.ip())).collect();
            match (allowed.is_empty(), found.first()) {
                (false, _) => Ok(Box::new(allowed.into_iter()) as Addrs),
                (true, Some(_)) => Err(DialError(Fault::AddressRefused(None)).into()),
                (true, None) => Err(unknown().into()),
            }
        })
    }
}
