//! Which password may go where: what `tenure.dev/allowed-origins` lists, and nothing beyond it.

use proptest::prelude::*;
use tenure::engine::connection::Restrictions;
use tenure::engine::origin::{AllowedOrigins, Fingerprint, Route, Trust, check};
use tenure::engine::reason::Reason;
use tenure::engine::url::BaseUrl;

/// What a resource may ask for, in its own words.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    url: &'static str,
    proxy: Option<&'static str>,
    roots: Roots,
    server_name: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Roots {
    System,
    ConfigMap(&'static str, &'static [Fingerprint]),
    Secret(&'static str, &'static [Fingerprint]),
    Any,
}

const ONE: Fingerprint = [0xAB; 32];
const TWO: Fingerprint = [0x0C; 32];

impl Asked {
    fn of(url: &'static str) -> Self {
        Self { url, proxy: None, roots: Roots::System, server_name: None }
    }

    /// Why it is refused under an annotation, if it is.
    fn refused(&self, annotation: &str) -> Option<String> {
        let (target, proxy) =
            (BaseUrl::parse(self.url).unwrap(), self.proxy.map(|p| BaseUrl::parse(p).unwrap()));
        let trust = match self.roots {
            Roots::System => Trust::System,
            Roots::ConfigMap(source, certificates) | Roots::Secret(source, certificates) => {
                Trust::Ca { source, certificates }
            }
            Roots::Any => Trust::Any,
        };
        let route = Route { target: &target, proxy: proxy.as_ref(), trust, server_name: self.server_name };
        let required = Restrictions { origins_required: true, ..Restrictions::default() };
        let allowed = AllowedOrigins::parse(annotation);
        let refused = check(Some(&allowed), &required, "x2-admin", route).err()?;
        assert_eq!(refused.reason, Reason::OriginNotAllowed);
        Some(refused.message)
    }

    /// The annotation that permits it, and nothing else.
    fn annotation(&self) -> String {
        let roots = match self.roots {
            Roots::System => "tls=system".to_owned(),
            Roots::ConfigMap(source, _) | Roots::Secret(source, _) => format!("tls={source}"),
            Roots::Any => "tls=insecure".to_owned(),
        };
        let proxy = self.proxy.map(|proxy| format!("proxy={proxy}"));
        let name = self.server_name.map(|name| format!("servername={name}"));
        [Some(self.url.to_owned()), Some(roots), proxy, name]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn allowed(annotation: &str, url: &'static str, proxy: Option<&'static str>) -> bool {
    Asked { proxy, ..Asked::of(url) }.refused(annotation).is_none()
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
    for block in
        ["2001:db8::/32", "[2001:db8::]/32", "[2001:db8::/32]", "[2001:db8::]/32:443", "[2001:db8::/32]:443"]
    {
        assert!(allowed(&format!("https://{block}"), "https://[2001:db8:1::7]", None), "{block}");
        assert!(!allowed(&format!("https://{block}"), "https://[2001:db9::7]", None), "{block}");
    }
}

#[test]
fn only_listed_certificates_are_trusted() {
    let asked = Asked::of("https://10.20.0.11");
    let with = |roots| Asked { roots, ..asked.clone() };
    let ca = with(Roots::ConfigMap("configmap/x2-ca", &[ONE]));
    let both = with(Roots::Secret("secret/x2-ca", &[ONE, TWO]));
    let (any, hex) = (with(Roots::Any), "ab".repeat(32));
    let colons = ["AB"; 32].join(":");
    let pinned = format!("tls=sha256:{hex}");
    let also = format!("{pinned}, tls=sha256:{}", "0c".repeat(32));
    for (tls, refused) in [
        ("", [false, true, true, true]),
        ("tls=system", [false, true, true, true]),
        ("tls=insecure", [true, true, true, false]),
        ("tls=configmap/x2-ca", [true, false, true, true]),
        ("tls=secret/x2-ca", [true, true, false, true]),
        ("tls=secret/x2-ca, tls=system", [false, true, false, true]),
        ("tls=configmap/other", [true, true, true, true]),
        (pinned.as_str(), [true, false, true, true]),
        (&format!("tls=sha256:{colons}"), [true, false, true, true]),
        (&also, [true, false, false, true]),
        // What is not understood permits nothing, and is no reason to fall back on the system's roots.
        ("tls=", [true; 4]),
        ("tls=all", [true; 4]),
        ("tls=sha256:ab", [true; 4]),
        (&format!("{pinned}ab"), [true; 4]),
    ] {
        let annotation = format!("https://10.20.0.0/16, {tls}");
        let found = [&asked, &ca, &both, &any].map(|asked| asked.refused(&annotation).is_some());
        assert_eq!(found, refused, "{annotation}");
    }
}

#[test]
fn only_listed_names_are_verified_instead_of_the_host() {
    let named = |server_name| Asked { server_name: Some(server_name), ..Asked::of("https://x2.example.net") };
    let list = "https://x2.example.net, servername=X2-1.example.net.";
    // That of the URL is verified anyway.
    for (name, is_refused) in [("x2-1.example.net", false), ("x2.example.net", false), ("evil.example", true)]
    {
        assert_eq!(named(name).refused(list).is_some(), is_refused, "{name}");
    }
}

#[test]
fn without_tls_nothing_is_trusted() {
    let plain = Asked { roots: Roots::Any, server_name: Some("a"), ..Asked::of("http://10.20.0.11") };
    assert_eq!(plain.refused("http://10.20.0.11"), None);
    let proxied = Asked { proxy: Some("https://proxy.example"), ..plain };
    assert!(proxied.refused("http://10.20.0.11, proxy=https://proxy.example").is_some());
}

#[test]
fn a_message_names_the_missing_entry() {
    let ca = Roots::ConfigMap("configmap/x2-ca", &[ONE]);
    for (asked, missing) in [
        (Asked { roots: Roots::Any, ..Asked::of("https://a") }, "tls=insecure"),
        (Asked { roots: ca, ..Asked::of("https://a") }, "tls=configmap/x2-ca"),
        (Asked { server_name: Some("b"), ..Asked::of("https://a") }, "servername=b"),
        (Asked::of("https://b:8443/x2"), "list https://b:8443. Add"),
        (Asked { proxy: Some("http://p:3128"), ..Asked::of("https://a") }, "list proxy=http://p:3128. Add"),
    ] {
        let message = asked.refused("https://a").unwrap();
        assert!(message.contains("Secret x2-admin") && message.contains(missing), "{message}");
    }
    let long = "https://a,".repeat(2_000);
    assert!(Asked::of("https://a").refused(&long).unwrap().contains("longer than 16 KiB"));
}

#[test]
fn a_secret_without_the_annotation_is_bound_only_if_that_is_required() {
    let target = BaseUrl::parse("https://a").unwrap();
    let route = Route { target: &target, proxy: None, trust: Trust::Any, server_name: None };
    let required = Restrictions { origins_required: true, ..Restrictions::default() };
    assert!(check(None, &Restrictions::default(), "x2-admin", route).is_ok());
    assert!(check(None, &required, "x2-admin", route).is_err());
}

#[test]
fn an_unusual_port_has_to_be_listed_by_the_secret_or_by_the_operator() {
    let checked = |allowed: Option<&str>, ports: &str, url: &str, proxy: Option<&str>| {
        let (target, proxy) = (BaseUrl::parse(url).unwrap(), proxy.map(|p| BaseUrl::parse(p).unwrap()));
        let ports = ports.split_terminator(',').map(|ports| ports.parse().unwrap()).collect();
        let restrictions = Restrictions { ports, ..Restrictions::default() };
        let route = Route { target: &target, proxy: proxy.as_ref(), trust: Trust::System, server_name: None };
        check(allowed.map(AllowedOrigins::parse).as_ref(), &restrictions, "x2-admin", route)
    };
    for url in ["https://a", "http://a", "http://a:8080", "https://a:8443", "https://a:443/p"] {
        assert_eq!(checked(None, "", url, Some("http://proxy:8080")), Ok(()), "{url}");
    }
    for (url, proxy, field, port) in [
        ("https://a:9443", None, "spec.url", "9443"),
        ("http://a:22", None, "spec.url", "22"),
        ("https://a", Some("http://proxy:3128"), "spec.proxyUrl", "3128"),
    ] {
        let refused = checked(None, "", url, proxy).unwrap_err();
        assert_eq!(refused.reason, Reason::AddressRefused);
        for part in [field, port, "allowed-origins", "x2-admin", "--allow-ports"] {
            assert!(refused.message.contains(part), "{refused:?}");
        }
        let listed = format!("{url}, proxy={}", proxy.unwrap_or_default());
        assert_eq!(checked(Some(&listed), "", url, proxy), Ok(()));
        // What the operator lists was checked before any Secret was read.
        assert_eq!(checked(None, "1-65535", url, proxy), Ok(()));
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let url = prop_oneof![
        Just("https://10.20.0.11"),
        Just("https://x2.example.net"),
        Just("https://x2.example.net:8443")
    ];
    let proxy =
        prop_oneof![Just(None), Just(Some("http://proxy.example:3128")), Just(Some("https://proxy.example"))];
    let roots = prop_oneof![
        Just(Roots::System),
        Just(Roots::ConfigMap("configmap/x2-ca", &[ONE])),
        Just(Roots::ConfigMap("configmap/other", &[TWO])),
        Just(Roots::Secret("secret/x2-ca", &[ONE, TWO])),
        Just(Roots::Any),
    ];
    let server_name = prop_oneof![Just(None), Just(Some("x2-1.example.net")), Just(Some("evil.example"))];
    (url, proxy, roots, server_name).prop_map(|(url, proxy, roots, server_name)| Asked {
        url,
        proxy,
        roots,
        server_name,
    })
}

proptest! {
    #[test]
    fn what_is_listed_is_permitted_and_any_change_that_widens_trust_is_refused(listed in asked(), other in asked()) {
        let annotation = listed.annotation();
        prop_assert_eq!(listed.refused(&annotation), None);
        // To leave out the proxy or the name is to trust less.
        let is_within = other.url == listed.url
            && other.roots == listed.roots
            && (other.proxy.is_none() || other.proxy == listed.proxy)
            && (other.server_name.is_none() || other.server_name == listed.server_name);
        prop_assert_eq!(other.refused(&annotation).is_none(), is_within, "{:?} under {}", other, annotation);
    }

    #[test]
    fn no_annotation_is_taken_for_more_than_it_lists(entries in "(.{0,40}|(tls|servername|proxy)=[a-z:, ]{0,20}){0,3}") {
        let asked = Asked { roots: Roots::Any, ..Asked::of("https://10.20.0.11") };
        let list = format!("https://10.20.0.11, {entries}");
        let is_listed = list.split(',').any(|entry| entry.trim() == "tls=insecure");
        prop_assert_eq!(asked.refused(&list).is_none(), is_listed, "{}", list);
    }
}
