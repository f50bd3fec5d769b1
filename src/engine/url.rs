//! Base URLs of remote systems and proxies.

use std::fmt;
use std::net::IpAddr;

use url::Url;

/// A base URL: scheme, host, port and path prefix, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl(Url);

/// Why a text is no base URL. The text itself is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Not a URL with scheme http or https and a host.
    #[error("must be scheme and host, such as https://10.20.0.11")]
    NotHttp,
    /// Holds more than a base URL may.
    #[error("must not hold a user name, a query or a fragment")]
    TooMuch,
}

impl BaseUrl {
    /// Reads a base URL and brings it into its effective form: lower-case host without trailing dot, default port left
    /// out, path without trailing slash.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let mut url = Url::parse(text).map_err(|_| InvalidUrl::NotHttp)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidUrl::NotHttp);
        }
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(InvalidUrl::TooMuch);
        }
        let host = url.host_str().ok_or(InvalidUrl::NotHttp)?.trim_end_matches('.').to_owned();
        url.set_host(Some(&host)).map_err(|_| InvalidUrl::NotHttp)?;
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The whole URL of a path below the base.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        url
    }

    /// Whether the scheme is http.
    #[must_use]
    pub(crate) fn is_plaintext(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// Scheme, host and port, the default port filled in.
    #[must_use]
    pub fn origin(&self) -> (&str, &str, u16) {
        (
            self.0.scheme(),
            self.0.host_str().unwrap_or_default(),
            self.0.port_or_known_default().unwrap_or_default(),
        )
    }

    /// The host, if it is an address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The URL itself.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_form() {
        for (text, effective) in [
            ("https://10.20.0.11", "https://10.20.0.11"),
            ("https://10.20.0.11/", "https://10.20.0.11"),
            ("https://10.20.0.11:443", "https://10.20.0.11"),
            ("HTTPS://X2.Example.NET.:8443/api/", "https://x2.example.net:8443/api"),
            ("http://[::1]:80/", "http://[::1]"),
        ] {
            assert_eq!(BaseUrl::parse(text).unwrap().to_string(), effective, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_base() {
        for text in ["ftp://a", "https://", "a", "https://u:p@a", "https://a?b", "https://a#b", "https://u@a"]
        {
            let refused = BaseUrl::parse(text).unwrap_err().to_string();
            assert!(!refused.contains("u:p"), "{refused}");
        }
    }

    #[test]
    fn joins_below_the_prefix() {
        let joined = |base: &str| BaseUrl::parse(base).unwrap().join("/api2/tokens").to_string();
        assert_eq!(joined("https://a"), "https://a/api2/tokens");
        assert_eq!(joined("https://a/x/"), "https://a/x/api2/tokens");
    }
}
