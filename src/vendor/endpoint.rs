//! One remote system as the rest of the program sees it: where it is, and how it is reached.

use std::sync::Arc;
use std::time::Duration;

use super::limits::Limit;
use crate::engine::url::BaseUrl;

/// Which certificates are trusted, and through which proxy: all that connections may be shared by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// PEM certificates that replace the system's roots.
    pub ca: Option<Arc<str>>,
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
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Whose slots the exchanges use.
    pub namespace: String,
    /// How hard it may be asked.
    pub limit: Arc<Limit>,
}
