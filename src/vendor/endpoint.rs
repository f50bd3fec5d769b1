//! One remote system as the rest of the program sees it: where it is, and how it is reached.

use std::sync::Arc;
use std::time::Duration;

use super::ca::Ca;
use super::limits::Limit;
use crate::engine::origin::{Route, Trust};
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
    /// Whose slots the exchanges use.
    pub namespace: String,
    /// How hard it may be asked.
    pub limit: Arc<Limit>,
}

impl Endpoint {
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
