//! One remote system as the rest of the program sees it: where it is, and how it is reached.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ca::Ca;
use super::limits::Limit;
use crate::engine::login::Holder;
use crate::engine::origin::{Route, Trust};
use crate::engine::system::{KeyId, Via};
use crate::engine::url::BaseUrl;

/// Which certificates are trusted, and through which proxy: all that connections may be shared by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// Certificates that replace the system's roots.
    pub ca: Option<Arc<Ca>>,
    /// Name to verify instead of the URL's host.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// Proxy to connect through.
    pub proxy: Option<BaseUrl>,
}

/// Everything needed for an exchange with one remote system.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub base: BaseUrl,
    /// How connections are made.
    pub transport: Transport,
    /// Where the CA is from: `configmap/NAME` or `secret/NAME`.
    pub ca_source: Option<String>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// The object that the exchanges are for: they use the slots of its namespace.
    pub holder: Holder,
    /// How hard it may be asked.
    pub limit: Arc<Limit>,
    /// Whether it is asked by one that may not be the owner, and only tries to log in.
    pub is_claimants: bool,
    /// Who has answered.
    pub answered: Arc<Answered>,
}

/// The key that the peer has proven to have which answered last with success, if one has.
#[derive(Debug, Default)]
pub struct Answered(Mutex<Option<KeyId>>);

impl Answered {
    pub(super) fn note(&self, key: Option<KeyId>) {
        if key.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key;
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    /// The remote system's URL, and how it is reached.
    #[must_use]
    pub fn place(&self) -> (String, Via) {
        let Transport { proxy, server_name, .. } = &self.transport;
        (self.base.to_string(), Via::of(&self.base, proxy.as_ref(), server_name.as_deref()))
    }

    /// Where a password goes, and what vouches for the other side there.
    #[must_use]
    pub fn route(&self) -> Route<'_> {
        let Transport { ca, server_name, insecure_skip_verify, proxy } = &self.transport;
        let trust = match ca {
            _ if *insecure_skip_verify => Trust::Any,
            Some(ca) => Trust::Ca {
                source: self.ca_source.as_deref().unwrap_or_default(),
                certificates: ca.fingerprints(),
            },
            None => Trust::System,
        };
        Route { target: &self.base, proxy: proxy.as_ref(), trust, server_name: server_name.as_deref() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Bounds, Lane, Limits};
    use super::*;
    use crate::crd::Kind;

    impl Endpoint {
        /// An appliance of namespace `a` that is reached directly.
        pub(crate) fn of(url: &str) -> Self {
            let lane = Lane { kind: Kind::Gateway, url: url.to_owned(), via: Via::Direct, peer: None };
            Self {
                base: BaseUrl::parse(url).unwrap(),
                transport: Transport::default(),
                ca_source: None,
                timeout: Duration::from_secs(10),
                holder: Holder { kind: Kind::Gateway, namespace: "a".to_owned(), name: "x2".to_owned() },
                limit: Limits::default().of(lane, Bounds::ONE_AT_A_TIME),
                is_claimants: false,
                answered: Arc::default(),
            }
        }
    }
}
