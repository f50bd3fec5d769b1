//! Proxies: used where one is configured, and checked like any other address.

use tenure::engine::remote::{Fault as Seen, Tls};
use tenure::engine::url::BaseUrl;
use tenure::engine::verdict::Reason;
use tenure::vendor::address::DialPolicy;
use tenure_kit::pki::Certificate;
use tenure_kit::proxy::{Onward, Proxy};

use super::world::*;

pub(crate) fn through(world: &mut World, proxy: &str) {
    world.endpoint.transport.proxy = Some(BaseUrl::parse(proxy).unwrap());
}

#[tokio::test]
async fn a_name_is_verified_also_through_a_proxy() {
    let proxy = Proxy::start(Onward::Asked).await.unwrap();
    let (fleet, mut world) = secured();
    let appliance = fleet.appliance(0);
    through(&mut world, &proxy.url());
    // Its certificate is for the address as well as for this name, and for no other.
    for (name, verified) in [(appliance.dns_name(), true), ("other.example.net", false)] {
        world.endpoint.transport.server_name = Some(name.to_owned());
        assert_eq!(world.x2().read_timeout().await.is_ok(), verified, "{name}");
    }
    appliance.set_certificate(Certificate::WrongName);
    assert_eq!(world.x2().read_timeout().await, Ok(86_400), "a certificate for this name alone");
    let logins = fleet.counts().total();
    for certificate in [Certificate::UnknownCa, Certificate::Expired] {
        appliance.set_certificate(certificate);
        world.endpoint.transport.server_name = Some(appliance.dns_name().to_owned());
        let error = world.failure().await;
        assert_eq!(error.reason(), Reason::TlsFailed, "{certificate:?}: {error}");
    }
    for name in ["127.0.0.1", "[::1]", ""] {
        world.endpoint.transport.server_name = Some(name.to_owned());
        let error = world.failure().await;
        assert_eq!(error.fault, Seen::Tls(Tls::NotAName), "{name}");
    }
    assert_eq!(fleet.counts().total(), logins, "nothing was sent");
    let asked = format!("CONNECT {}:{} HTTP/1.1\r\n", appliance.address(), appliance.port());
    for head in proxy.heads() {
        assert!(head.starts_with(&asked), "the proxy is asked for the URL's host: {head}");
    }
}

#[tokio::test]
async fn a_proxy_is_used_where_one_is_configured() {
    let proxy = Proxy::start(Onward::Asked).await.unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let (fleet, mut world) = secured();
        through(&mut world, &format!("http://{host}:{}", proxy.port()));
        assert_eq!(world.x2().read_timeout().await, Ok(86_400));
        let appliance = fleet.appliance(0);
        let head = proxy.heads().pop().unwrap();
        assert!(
            head.starts_with(&format!("CONNECT {}:{} HTTP/1.1\r\n", appliance.address(), appliance.port())),
            "{head}"
        );
        assert!(!head.to_lowercase().contains("authorization"), "the token is for the appliance: {head}");
    }
    let before = proxy.heads().len();
    let (_fleet, world) = secured();
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    assert_eq!(proxy.heads().len(), before, "and nowhere else");
}

#[tokio::test]
async fn a_proxys_address_is_checked_and_so_is_an_address_in_the_url() {
    let proxy = Proxy::start(Onward::Asked).await.unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let (_fleet, mut world) = secured();
        world.endpoint.base = BaseUrl::parse("https://192.0.2.1").unwrap();
        (world.remotes, world.ending) = remotes(DialPolicy::default(), 64);
        through(&mut world, &format!("http://{host}:{}", proxy.port()));
        let (code, reason, text) = judged(&world.failure().await);
        assert_eq!((code.as_str(), reason), ("connect", Reason::AddressRefused), "{host}: {text}");
    }
    let (_fleet, mut world) = secured();
    world.endpoint.base = BaseUrl::parse("https://169.254.169.254").unwrap();
    through(&mut world, &proxy.url());
    let error = world.failure().await;
    assert_eq!(error.reason(), Reason::AddressRefused);
    assert!(error.to_string().contains("169.254.169.254"), "{error}");
    assert_eq!(proxy.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_unreachability() {
    for answer in ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"] {
        let proxy = Proxy::start(Onward::Refused(answer)).await.unwrap();
        let (fleet, mut world) = secured();
        through(&mut world, &proxy.url());
        let (code, reason, text) = judged(&world.failure().await);
        assert_eq!((code.as_str(), reason), ("connect", Reason::Unreachable), "{answer}: {text}");
        assert!(text.contains("check the URL, the proxy and the network"), "{answer}: {text}");
        assert_eq!(fleet.requests().connections(), 0);
        assert_eq!(proxy.heads().len(), 1, "tried once");
    }
}
