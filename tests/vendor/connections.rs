//! Certificates, names and addresses.

use tenure::engine::remote::{Fault as Seen, Tls};
use tenure::engine::url::BaseUrl;
use tenure::engine::verdict::Reason;
use tenure::vendor::address::DialPolicy;
use tenure_kit::canary::Canary;
use tenure_kit::pki::Certificate;

use super::world::*;

const REFUSED: (&str, Reason) = ("tls", Reason::TlsFailed);

#[tokio::test]
async fn a_bad_certificate_says_what_to_do_and_gets_no_password() {
    for (certificate, words) in [
        (Certificate::UnknownCa, "signed by an unknown CA: set tls.caSecretRef or tls.caConfigMapRef"),
        (Certificate::WrongName, "is for another name: correct the URL, or set tls.serverName"),
        (Certificate::Expired, "has expired: renew it"),
    ] {
        let (fleet, world) = secured();
        fleet.appliance(0).set_certificate(certificate);
        let (code, reason, text) = judged(&world.failure().await);
        assert_eq!((code.as_str(), reason), REFUSED, "{certificate:?}: {text}");
        assert!(text.contains(words), "{certificate:?}: {text}");
        assert_eq!(fleet.counts().total(), 0, "nothing was sent");
    }
}

#[tokio::test]
async fn a_ca_that_is_named_replaces_all_others() {
    let (fleet, mut world) = secured();
    let (strangers, _) = secured();
    world.endpoint.transport.ca = strangers.ca_pem().as_deref().map(ca_of);
    let (code, reason, _) = judged(&world.failure().await);
    assert_eq!((code.as_str(), reason), REFUSED);
    world.endpoint.transport.ca = None;
    assert_eq!(judged(&world.failure().await).1, Reason::TlsFailed, "the system's roots do not know it");
    world.endpoint.transport.ca = fleet.ca_pem().as_deref().map(ca_of);
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_ca() {
    let (fleet, world) = secured();
    let appliance = fleet.appliance(0);
    let trusting = |pem: &str| {
        let mut world = World::of(&fleet);
        world.endpoint.transport.ca = Some(ca_of(pem));
        world
    };
    appliance.set_certificate(Certificate::SelfSigned);
    let own = appliance.certificate_pem().unwrap();
    assert_eq!(trusting(&own).x2().read_timeout().await, Ok(86_400));
    // One of a bundle, such as that of a fleet.
    let bundle = [&fleet.ca_pem().unwrap(), &*own].concat();
    assert_eq!(trusting(&bundle).x2().read_timeout().await, Ok(86_400));
    // Another one than the one that is listed.
    appliance.set_certificate(Certificate::SelfSigned);
    let (other, renewed) = (trusting(&own), appliance.certificate_pem().unwrap());
    let mut named = trusting(&renewed);
    named.endpoint.transport.server_name = Some("other.example.net".to_owned());
    for (world, words) in
        [(world, "is self-signed: "), (other, "is self-signed: "), (named, "is for another name")]
    {
        let (code, reason, text) = judged(&world.failure().await);
        assert_eq!((code.as_str(), reason), REFUSED, "{text}");
        assert!(text.contains(words), "{text}");
    }
    appliance.set_certificate(Certificate::ExpiredSelfSigned);
    let expired = trusting(&appliance.certificate_pem().unwrap());
    assert!(judged(&expired.failure().await).2.contains("has expired"));
}

#[tokio::test]
async fn a_check_that_is_switched_off_is_off() {
    for certificate in [Certificate::UnknownCa, Certificate::WrongName, Certificate::Expired] {
        let (fleet, mut world) = secured();
        fleet.appliance(0).set_certificate(certificate);
        world.endpoint.transport.insecure_skip_verify = true;
        assert_eq!(world.x2().read_timeout().await, Ok(86_400), "{certificate:?}");
        world.endpoint.transport.insecure_skip_verify = false;
        assert_eq!(
            judged(&world.failure().await).1,
            Reason::TlsFailed,
            "connections are not shared with those unchecked"
        );
    }
}

#[tokio::test]
async fn the_name_to_verify_is_sent_as_sni_and_the_host_stays_the_urls() {
    let (fleet, mut world) = secured();
    let appliance = fleet.appliance(0);
    world.endpoint.transport.server_name = Some(appliance.dns_name().to_owned());
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    for entry in appliance.requests().entries() {
        assert_eq!(entry.server_name.as_deref(), Some(appliance.dns_name()));
        assert_eq!(entry.host, Some(format!("{}:{}", appliance.address(), appliance.port())));
    }
    world.endpoint.transport.server_name = Some("other.example.net".to_owned());
    let (code, reason, text) = judged(&world.failure().await);
    assert_eq!((code.as_str(), reason), REFUSED, "{text}");
    appliance.set_certificate(Certificate::WrongName);
    assert_eq!(world.x2().read_timeout().await, Ok(86_400), "a certificate for this name");
    world.endpoint.transport.server_name = None;
    assert_eq!(judged(&world.failure().await).1, Reason::TlsFailed);
}

#[tokio::test]
async fn two_appliances_that_share_a_name_are_told_apart() {
    let options = tenure_kit::x2::FleetOptions { appliances: 2, ..tenure_kit::x2::FleetOptions::default() };
    let fleet = tenure_kit::x2::X2Fleet::start(options).unwrap();
    fleet.appliance(1).set_timeout(700);
    let mut world = World::of(&fleet);
    for appliance in fleet.appliances() {
        appliance.set_certificate(Certificate::WrongName);
    }
    for (index, timeout) in [(0, 86_400), (1, 700), (0, 86_400)] {
        world.endpoint = endpoint(&fleet.appliance(index).url(), fleet.ca_pem());
        world.endpoint.transport.server_name = Some("other.example.net".to_owned());
        assert_eq!(world.x2().read_timeout().await, Ok(timeout), "{index}");
    }
}

#[tokio::test]
async fn idle_connections_are_bounded_in_number_whatever_the_fleet() {
    let options = tenure_kit::x2::FleetOptions { appliances: 70, ..tenure_kit::x2::FleetOptions::default() };
    let fleet = tenure_kit::x2::X2Fleet::start(options).unwrap();
    let mut world = World::of(&fleet);
    for index in (0..70).chain([69, 0]) {
        world.endpoint = endpoint(&fleet.appliance(index).url(), fleet.ca_pem());
        assert_eq!(world.x2().read_timeout().await, Ok(86_400), "{index}");
    }
    assert_eq!(fleet.appliance(69).requests().connections(), 1, "kept");
    assert_eq!(fleet.appliance(0).requests().connections(), 2, "closed for others, and made again");
}

#[tokio::test]
async fn special_addresses_are_not_dialled_unless_allowed() {
    let (fleet, mut world) = secured();
    (world.remotes, world.ending) = remotes(DialPolicy::default(), 64);
    let (code, reason, text) = judged(&world.failure().await);
    assert_eq!((code.as_str(), reason), ("connect", Reason::AddressRefused));
    assert_eq!(
        text,
        "the address 127.1.0.1 is not an allowed destination; to allow it, add it to --allow-cidr on the operator, or remove it from --deny-cidr, which takes precedence"
    );
    let port = fleet.appliance(0).port();
    for host in [
        "localhost",
        "LOCALHOST.",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ] {
        world.endpoint.base = BaseUrl::parse(&format!("https://{host}:{port}")).unwrap();
        let error = world.failure().await;
        assert_eq!(error.reason(), Reason::AddressRefused, "{host}: {error}");
        let is_name = host.to_ascii_lowercase().starts_with("localhost");
        assert_eq!(
            error.to_string().starts_with("its address"),
            is_name,
            "stable, wherever it leads: {error}"
        );
    }
    assert_eq!(fleet.requests().connections(), 0);
}

#[tokio::test]
async fn what_is_denied_is_not_dialled_though_allowed() {
    let (fleet, mut world) = secured();
    let dial = DialPolicy { deny: vec!["127.1.0.0/16".parse().unwrap()], ..loopback() };
    (world.remotes, world.ending) = remotes(dial, 64);
    assert_eq!(world.failure().await.reason(), Reason::AddressRefused);
    assert_eq!(fleet.requests().connections(), 0);
}

#[tokio::test]
async fn a_name_to_verify_leads_to_no_other_address() {
    let canary = Canary::start().unwrap();
    let (_fleet, mut world) = secured();
    // TEST-NET-1, which may be dialled and where nothing answers; the name is the canary's address in several spellings.
    let url = canary.url().replace("http:", "https:").replace("127.0.0.1", "192.0.2.1");
    (world.remotes, world.ending) = remotes(DialPolicy::default(), 64);
    for name in ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "[::1]", ""] {
        world.endpoint = endpoint(&url, None);
        world.endpoint.transport.server_name = Some(name.to_owned());
        let error = world.failure().await;
        assert_eq!(error.fault, Seen::Tls(Tls::NotAName), "{name}");
    }
    // The address behind the URL is what is checked, whatever the name.
    world.endpoint = endpoint(&canary.url().replace("http:", "https:"), None);
    world.endpoint.transport.server_name = Some("x2.example.net".to_owned());
    assert_eq!(world.failure().await.reason(), Reason::AddressRefused);
    assert_eq!(canary.requests().connections(), 0);
}
