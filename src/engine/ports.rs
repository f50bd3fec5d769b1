//! Which ports of remote systems and proxies are connected to, so that nothing else that the operator reaches is probed.

use std::str::FromStr;

use super::url::BaseUrl;
use super::verdict::{Reason, Verdict};

/// Ports that are allowed if the operator's flag lists none, for any Secret. Another one has to be in the Secret's
/// `tenure.dev/allowed-origins`.
const USUAL: [u16; 4] = [80, 443, 8080, 8443];

/// A port, or all from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// A text that is no port and no range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a port such as 443, or a range such as 8000-8999")]
pub struct InvalidPorts;

impl FromStr for Ports {
    type Err = InvalidPorts;

    fn from_str(text: &str) -> Result<Self, InvalidPorts> {
        let port = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or(InvalidPorts);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        (first <= last).then_some(Self { first, last }).ok_or(InvalidPorts)
    }
}

impl Ports {
    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Checks a URL and its proxy against what the operator's flag lists, if it lists anything.
pub(crate) fn check_listed(
    listed: &[Ports],
    target: &BaseUrl,
    proxy: Option<&BaseUrl>,
) -> Result<(), Verdict> {
    let is_listed = |port| listed.is_empty() || listed.iter().any(|ports| ports.contains(port));
    let Some((field, port)) = other(target, proxy, is_listed) else { return Ok(()) };
    Err(refused(format!(
        "{field} uses port {port}, which this operator does not allow (--allow-ports). Use another port, or have it added to this flag."
    )))
}

/// Checks a URL and its proxy for a Secret that has no `tenure.dev/allowed-origins` to name other ports.
pub(crate) fn check_usual(
    listed: &[Ports],
    secret: &str,
    target: &BaseUrl,
    proxy: Option<&BaseUrl>,
) -> Result<(), Verdict> {
    let is_usual = |port| !listed.is_empty() || USUAL.contains(&port);
    let Some((field, port)) = other(target, proxy, is_usual) else { return Ok(()) };
    Err(refused(format!(
        "{field} uses port {port}, which is not one of 80, 443, 8080 and 8443. List the URL in the annotation tenure.dev/allowed-origins of Secret {secret}, or set --allow-ports on the operator."
    )))
}

/// The first field with a port other than these, and the port.
fn other(
    target: &BaseUrl,
    proxy: Option<&BaseUrl>,
    is_allowed: impl Fn(u16) -> bool,
) -> Option<(&'static str, u16)> {
    let ports = [("spec.url", Some(target)), ("spec.proxyUrl", proxy)];
    let mut ports = ports.into_iter().filter_map(|(field, url)| Some((field, url?.origin().2)));
    ports.find(|(_, port)| !is_allowed(*port))
}

fn refused(message: String) -> Verdict {
    Verdict::new(Reason::AddressRefused, message)
}
