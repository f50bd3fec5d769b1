//! The annotation that ties a Secret's password to where it may be sent, and to what vouches for the other side there.

use std::fmt;
use std::iter;
use std::str::FromStr;

use ipnet::IpNet;

use super::connection::Restrictions;
use super::ports;
use super::url::BaseUrl;
use super::verdict::{Reason, Verdict};

/// Longest `tenure.dev/allowed-origins` that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// A certificate's SHA-256.
pub type Fingerprint = [u8; 32];

/// Where a password is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The remote system.
    pub target: &'a BaseUrl,
    /// The proxy in between.
    pub proxy: Option<&'a BaseUrl>,
    /// Which certificates are accepted.
    pub trust: Trust<'a>,
    /// The name that is verified instead of the URL's host.
    pub server_name: Option<&'a str>,
}

/// Which certificates a connection accepts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Those that the system's roots vouch for.
    System,
    /// Those that a CA of the resource's namespace vouches for.
    Ca {
        /// `configmap/NAME` or `secret/NAME`.
        source: &'a str,
        /// SHA-256 of each of the CA's certificates.
        certificates: &'a [Fingerprint],
    },
    /// Any.
    Any,
}

/// The entry that permits it.
impl fmt::Display for Trust<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("tls=system"),
            Self::Ca { source, .. } => write!(f, "tls={source}"),
            Self::Any => f.write_str("tls=insecure"),
        }
    }
}

/// What a Secret's `tenure.dev/allowed-origins` lists. Entries are separated by commas:
///
/// - `https://10.20.0.0/16`, `https://*.x2.example.net:8443`: remote systems. Scheme, host and port must match; a block of
///   addresses matches addresses only.
/// - `proxy=http://proxy.example:3128`: a proxy.
/// - `tls=system`, `tls=configmap/NAME`, `tls=secret/NAME`, `tls=sha256:HEX` (a CA's certificate), `tls=insecure`: which
///   certificates are accepted. If there is none of them, the system's roots count.
/// - `servername=x2.example.net`: a name that may be verified instead of the URL's host.
///
/// An entry of another form permits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    targets: Vec<Origin>,
    proxies: Vec<Origin>,
    certificates: Option<Vec<Accepted>>,
    server_names: Vec<String>,
    is_too_long: bool,
}

/// Certificates that may be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Accepted {
    System,
    /// `configmap/NAME` or `secret/NAME`.
    Named(String),
    Certificate(Fingerprint),
    Any,
}

impl FromStr for Accepted {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "system" => return Ok(Self::System),
            "insecure" => return Ok(Self::Any),
            _ => {}
        }
        if let Some(hex) = text.strip_prefix("sha256:") {
            return fingerprint(hex).map(Self::Certificate).ok_or(());
        }
        let is_named = ["configmap/", "secret/"].iter().any(|kind| text.starts_with(kind));
        is_named.then(|| Self::Named(text.to_owned())).ok_or(())
    }
}

/// Reads a fingerprint, with or without colons between its bytes.
fn fingerprint(hex: &str) -> Option<Fingerprint> {
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = hex.chars().filter(|c| *c != ':').map(digit).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok()
}

impl AllowedOrigins {
    /// Reads the annotation's value.
    #[must_use]
    pub fn parse(annotation: &str) -> Self {
        let mut allowed = Self::default();
        if annotation.len() > LONGEST {
            return Self { is_too_long: true, ..allowed };
        }
        for entry in annotation.split(',').map(str::trim) {
            match entry.split_once('=') {
                Some(("proxy", origin)) => allowed.proxies.extend(origin.parse()),
                Some(("tls", accepted)) => {
                    allowed.certificates.get_or_insert_default().extend(accepted.parse::<Accepted>());
                }
                Some(("servername", name)) => allowed.server_names.push(host_name(name)),
                _ => allowed.targets.extend(entry.parse()),
            }
        }
        allowed
    }

    /// Checks that a password may be sent along a route.
    fn check(&self, secret: &str, route: Route<'_>) -> Result<(), Verdict> {
        if self.is_too_long {
            return Err(refused(format!(
                "The annotation tenure.dev/allowed-origins of Secret {secret} is longer than 16 KiB. Shorten it."
            )));
        }
        let lists = |origins: &[Origin], url: &BaseUrl| origins.iter().any(|origin| origin.matches(url));
        let proxy = route.proxy.map(|proxy| ("proxy=", &self.proxies, proxy));
        for (key, listed, url) in iter::once(("", &self.targets, route.target)).chain(proxy) {
            if !lists(listed, url) {
                let origin = url.url().origin().ascii_serialization();
                return Err(refused(format!(
                    "The annotation tenure.dev/allowed-origins of Secret {secret} does not list {key}{origin}. Add this entry, or use another Secret."
                )));
            }
        }
        self.missing(route).map_or(Ok(()), |missing| {
            Err(refused(format!(
                "The annotation tenure.dev/allowed-origins of Secret {secret} does not list {missing}. Add this entry, or change spec.tls."
            )))
        })
    }

    /// The entry that a route needs beyond its URL and proxy, if it is not listed.
    fn missing(&self, Route { target, proxy, trust, server_name }: Route<'_>) -> Option<String> {
        if [Some(target), proxy].into_iter().flatten().all(BaseUrl::is_plaintext) {
            return None;
        }
        if !self.accepts(trust) {
            return Some(trust.to_string());
        }
        let (_, host, _) = target.origin();
        let is_listed = |name: &String| *name == host || self.server_names.contains(name);
        server_name.map(host_name).filter(|name| !is_listed(name)).map(|name| format!("servername={name}"))
    }

    fn accepts(&self, trust: Trust<'_>) -> bool {
        let Some(listed) = &self.certificates else { return matches!(trust, Trust::System) };
        match trust {
            Trust::System => listed.contains(&Accepted::System),
            Trust::Any => listed.contains(&Accepted::Any),
            // Each certificate of a CA vouches for any server.
            Trust::Ca { source, certificates } => {
                let is_pinned = |certificate| listed.contains(&Accepted::Certificate(certificate));
                listed.iter().any(|accepted| matches!(accepted, Accepted::Named(named) if named == source))
                    || (!certificates.is_empty() && certificates.iter().copied().all(is_pinned))
            }
        }
    }
}

/// Checks that the password of a Secret may be sent along a route. `allowed` is what the Secret's
/// `tenure.dev/allowed-origins` lists; whether it needs one, for any port or for an unusual one, is the operator's setting.
pub fn check(
    allowed: Option<&AllowedOrigins>,
    restrictions: &Restrictions,
    secret: &str,
    route: Route<'_>,
) -> Result<(), Verdict> {
    match allowed {
        Some(allowed) => allowed.check(secret, route),
        None if restrictions.origins_required => Err(refused(format!(
            "This operator requires the annotation tenure.dev/allowed-origins on every Secret. Add it to Secret {secret}."
        ))),
        None => ports::check_usual(&restrictions.ports, secret, route.target, route.proxy),
    }
}

fn refused(message: String) -> Verdict {
    Verdict::new(Reason::OriginNotAllowed, message)
}

/// A host's name as it is compared: without trailing dot, in lower case.
fn host_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// A scheme, hosts and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    hosts: Hosts,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Block(IpNet),
    /// All below a domain.
    Domain(String),
    One(String),
}

impl FromStr for Origin {
    type Err = ();

    fn from_str(entry: &str) -> Result<Self, ()> {
        let (scheme, rest) = entry.split_once("://").ok_or(())?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(rest, &scheme).ok_or(())?;
        let hosts = match (host.replace(['[', ']'], "").parse(), host.strip_prefix("*.")) {
            (Ok(block), _) => Hosts::Block(block),
            (Err(_), Some(domain)) => Hosts::Domain(host_name(domain)),
            (Err(_), None) => Hosts::One(host_name(host)),
        };
        Ok(Self { scheme, hosts, port })
    }
}

impl Origin {
    fn matches(&self, url: &BaseUrl) -> bool {
        let (scheme, host, port) = url.origin();
        let is_host = match &self.hosts {
            Hosts::Block(block) => url.ip().is_some_and(|ip| block.contains(&ip)),
            Hosts::Domain(domain) => {
                host.strip_suffix(domain.as_str()).is_some_and(|left| left.len() > 1 && left.ends_with('.'))
            }
            Hosts::One(name) => host == name,
        };
        self.scheme == scheme && is_host && self.port == port
    }
}

/// Host, or block of addresses, and port of an entry.
fn split_port<'a>(rest: &'a str, scheme: &str) -> Option<(&'a str, u16)> {
    let rest = rest.trim_end_matches('/');
    match rest.rsplit_once(':') {
        // The last colon of an IPv6 address is no port's.
        Some((host, port)) if !port.contains(']') && rest.parse::<IpNet>().is_err() => {
            Some((host, port.parse().ok()?))
        }
        _ => Some((rest, default_port(scheme))),
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "http" { 80 } else { 443 }
}
