//! The annotation that ties a Secret's password to the origins that it may be sent to.

use ipnet::IpNet;

use super::url::BaseUrl;
use super::verdict::{Reason, Verdict};

/// Checks that the password of a Secret may be sent to a URL, and through a proxy if there is one. `annotation` is the Secret's
/// `tenure.dev/allowed-origins`; whether it needs one is the operator's setting.
pub fn check(
    annotation: Option<&str>,
    is_required: bool,
    secret: &str,
    (target, proxy): (&BaseUrl, Option<&BaseUrl>),
) -> Result<(), Verdict> {
    let message = match annotation {
        None if is_required => format!(
            "This operator requires the annotation tenure.dev/allowed-origins on every Secret. Add it to Secret {secret}."
        ),
        Some(annotation) if !allows(annotation, target, proxy) => format!(
            "The annotation tenure.dev/allowed-origins of Secret {secret} does not list this URL or its proxy. Add the missing origin, or use another Secret."
        ),
        Some(_) | None => return Ok(()),
    };
    Err(Verdict::new(Reason::OriginNotAllowed, message))
}

/// Whether a Secret's `tenure.dev/allowed-origins` lets its password go to a URL, and through a proxy if there is one.
///
/// Entries are separated by commas: `https://10.20.0.0/16`, `https://*.x2.example.net:8443`,
/// `proxy=http://proxy.example:3128`. Scheme, host and port must match; a block of addresses matches addresses only.
#[must_use]
fn allows(annotation: &str, target: &BaseUrl, proxy: Option<&BaseUrl>) -> bool {
    let entries: Vec<&str> = annotation.split(',').map(str::trim).collect();
    let to_target = entries.iter().any(|entry| matches(entry, target));
    let through =
        |proxy| entries.iter().filter_map(|e| e.strip_prefix("proxy=")).any(|entry| matches(entry, proxy));
    to_target && proxy.is_none_or(through)
}

fn matches(entry: &str, url: &BaseUrl) -> bool {
    let (scheme, host, port) = url.origin();
    let Some((allowed_scheme, rest)) = entry.split_once("://") else { return false };
    if !allowed_scheme.eq_ignore_ascii_case(scheme) {
        return false;
    }
    let Some((allowed_host, allowed_port)) = split_port(rest, scheme) else { return false };
    if let Ok(block) = allowed_host.parse::<IpNet>() {
        return allowed_port == port && url.ip().is_some_and(|ip| block.contains(&ip));
    }
    let allowed_host = allowed_host.trim_end_matches('.').to_ascii_lowercase();
    let same_host = match allowed_host.strip_prefix("*.") {
        Some(domain) => host.strip_suffix(domain).is_some_and(|left| left.len() > 1 && left.ends_with('.')),
        None => host == allowed_host,
    };
    same_host && allowed_port == port
}

/// Host, or block of addresses, and port of an entry.
fn split_port<'a>(rest: &'a str, scheme: &str) -> Option<(&'a str, u16)> {
    let rest = rest.trim_end_matches('/');
    match rest.rsplit_once(':') {
        // The last colon of an IPv6 address is no port's.
        Some((host, port)) if !port.ends_with(']') && rest.parse::<IpNet>().is_err() => {
            Some((host, port.parse().ok()?))
        }
        _ => Some((rest, default_port(scheme))),
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "http" { 80 } else { 443 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(annotation: &str, url: &str, proxy: Option<&str>) -> bool {
        let proxy = proxy.map(|p| BaseUrl::parse(p).unwrap());
        allows(annotation, &BaseUrl::parse(url).unwrap(), proxy.as_ref())
    }

    #[test]
    fn scheme_host_and_port_must_match() {
        let list = "https://10.20.0.0/16, https://*.x2.example.net, https://one.example:8443";
        for url in [
            "https://10.20.3.4",
            "https://a.x2.example.net",
            "https://A.B.x2.example.net.",
            "https://one.example:8443/p",
        ] {
            assert!(allowed(list, url, None), "{url}");
        }
        for url in [
            "http://10.20.3.4",
            "https://10.21.0.1",
            "https://10.20.3.4:8443",
            "https://x2.example.net",
            "https://evilx2.example.net",
            "https://one.example",
            "https://a.x2.example.net.evil.org",
        ] {
            assert!(!allowed(list, url, None), "{url}");
        }
        assert!(!allowed("", "https://10.20.3.4", None));
    }

    #[test]
    fn a_proxy_must_be_listed_too() {
        let proxy = Some("http://proxy.example:3128");
        assert!(!allowed("https://a", "https://a", proxy));
        assert!(allowed("https://a, proxy=http://proxy.example:3128", "https://a", proxy));
        assert!(!allowed("https://a, proxy=http://proxy.example", "https://a", proxy));
        assert!(!allowed("proxy=https://a", "https://a", None));
    }

    #[test]
    fn a_block_may_name_a_port() {
        assert!(allowed("https://127.0.0.0/8:8443", "https://127.1.2.3:8443", None));
        assert!(!allowed("https://127.0.0.0/8:8443", "https://127.1.2.3", None));
    }
}
