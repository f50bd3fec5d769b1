//! Which remote system an object is about: its effective URL, and the peer that was met there.

use std::sync::Arc;

use super::url::BaseUrl;
use crate::crd::Connection;

/// The first half of the SHA-256 of a peer's public key.
pub type KeyId = [u8; 16];

/// How the host of a URL is reached. What answers is the same for all that reach it in the same way, whichever certificates
/// they accept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// By its own address.
    Direct,
    /// The same, and this name is sent as SNI.
    Name(Arc<str>),
    /// Through this proxy.
    Proxy(Arc<str>),
}

impl Via {
    /// How a URL is reached. Behind a proxy the SNI stays the URL's host.
    #[must_use]
    pub fn of(base: &BaseUrl, proxy: Option<&BaseUrl>, server_name: Option<&str>) -> Self {
        let name = server_name.map(str::to_ascii_lowercase);
        let name = name.filter(|name| !base.is_plaintext() && name != base.origin().1);
        match (proxy, name) {
            (Some(proxy), _) => Self::Proxy(proxy.to_string().into()),
            (None, Some(name)) => Self::Name(name.into()),
            (None, None) => Self::Direct,
        }
    }
}

/// The peer that was met at a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// One that has proven to have this key.
    Key(KeyId),
    /// One that has proven nothing, as over http: whatever is reached in this way.
    Via(Via),
}

/// What a spec shows of its remote system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The effective URL.
    pub url: String,
    /// How it is reached.
    pub via: Via,
    /// The peer, if none has to be met to know it.
    pub peer: Option<Peer>,
}

impl Place {
    /// The remote system of a connection; none if its URL is none.
    #[must_use]
    pub fn of(connection: &Connection) -> Option<Self> {
        let base = BaseUrl::parse(&connection.url).ok()?;
        // A proxy that cannot be used is refused before anything is sent.
        let proxy = connection.proxy_url.as_deref().and_then(|proxy| BaseUrl::parse(proxy).ok());
        let server_name = connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        let via = Via::of(&base, proxy.as_ref(), server_name);
        let peer = base.is_plaintext().then(|| Peer::Via(via.clone()));
        Some(Self { url: base.to_string(), via, peer })
    }
}
