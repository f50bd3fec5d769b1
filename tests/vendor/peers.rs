//! Which peer has answered: known by the key that it proves to have, whichever way it is reached.

use std::time::Duration;

use tenure::engine::access::AccessError;
use tenure::engine::system::KeyId;
use tenure::vendor::http::Purpose;
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::pki::Certificate;
use tenure_kit::proxy::{Onward, Proxy};

use super::proxy::through;
use super::sessions::pass;
use super::world::*;

/// The key of the peer that answers a read.
async fn met(world: &mut World) -> Option<KeyId> {
    world.endpoint.answered = std::sync::Arc::default();
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    world.endpoint.answered.key()
}

/// To this system, whatever is asked for.
fn to(url: &str) -> Onward {
    Onward::To(url.trim_start_matches("https://").trim_end_matches('/').to_owned())
}

/// Connections are made through a proxy that leads to this system; the certificates of others are accepted, too.
async fn led_to(world: &mut World, url: &str) -> Proxy {
    let proxy = Proxy::start(to(url)).await.unwrap();
    through(world, &proxy.url());
    world.endpoint.transport.insecure_skip_verify = true;
    proxy
}

/// Closes the connections, and keeps the tokens.
fn disconnect(world: &mut World) {
    let (fresh, ending) = remotes(loopback(), 64);
    (world.remotes.http, world.ending) = (fresh.http, ending);
}

#[tokio::test]
async fn a_peer_is_the_same_by_all_ways() {
    let (fleet, mut world) = secured();
    let direct = met(&mut world).await;
    assert!(direct.is_some());
    assert_eq!(met(&mut world).await, direct, "on a connection that is used again");
    let proxy = Proxy::start(Onward::Asked).await.unwrap();
    through(&mut world, &proxy.url());
    assert_eq!(met(&mut world).await, direct, "through a proxy");
    world.endpoint.transport.insecure_skip_verify = true;
    assert_eq!(met(&mut world).await, direct, "where any certificate is accepted");
    world.endpoint.transport.proxy = None;
    world.endpoint.transport.insecure_skip_verify = false;
    // Renewed for the same key.
    world.endpoint.transport.server_name = Some("other.example.net".to_owned());
    fleet.appliance(0).set_certificate(Certificate::WrongName);
    assert_eq!(met(&mut world).await, direct, "with another certificate for its key");
}

#[tokio::test]
async fn a_stand_in_is_another_peer() {
    let (_fleet, mut world) = secured();
    let (strangers, _) = secured();
    let real = met(&mut world).await;
    let proxy = Proxy::start(to(&strangers.appliance(0).url())).await.unwrap();
    through(&mut world, &proxy.url());
    world.endpoint.transport.ca = strangers.ca_pem().as_deref().map(ca_of);
    let stand_in = met(&mut world).await;
    assert!(stand_in.is_some() && stand_in != real);
}

/// A certificate can be copied: where it is not verified, it shows nothing by itself.
#[tokio::test]
async fn a_copied_certificate_proves_nothing() {
    let (fleet, mut world) = secured();
    fleet.appliance(0).set_certificate(Certificate::Copied);
    assert_eq!(world.failure().await.reason(), tenure::engine::verdict::Reason::TlsFailed);
    world.endpoint.transport.insecure_skip_verify = true;
    assert_eq!(met(&mut world).await, None);
}

#[tokio::test]
async fn a_token_goes_to_no_peer_but_the_one_that_issued_it() {
    let (first, mut world) = secured();
    let (second, _) = secured();
    let proxy = led_to(&mut world, &first.appliance(0).url()).await;
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    proxy.set_onward(to(&second.appliance(0).url()));
    disconnect(&mut world);
    let refused = stale(world.x2().read_timeout().await.unwrap_err());
    assert_eq!(second.counts().total(), 0, "the token of the first one was not sent");
    assert_eq!(world.x2_after(Some(refused)).read_timeout().await, Ok(86_400));
    assert_eq!((second.counts().login, second.counts().get), (1, 1), "on the connection that there is");
    // Something else answers once more, before the login has.
    proxy.set_onward(to(&first.appliance(0).url()));
    disconnect(&mut world);
    let error = world.x2_after(Some(refused)).read_timeout().await.unwrap_err();
    assert!(remote(error).to_string().contains("different keys"));
    assert_eq!((first.counts().login, first.counts().get), (1, 1));
}

#[tokio::test]
async fn a_write_goes_to_no_peer_but_the_one_that_was_read() {
    let (first, mut world) = secured();
    let (second, _) = secured();
    let proxy = led_to(&mut world, &first.appliance(0).url()).await;
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    proxy.set_onward(to(&second.appliance(0).url()));
    disconnect(&mut world);
    assert_eq!(world.x2().set_timeout(600, ALLOWED).await, Err(AccessError::NotSent));
    assert_eq!(second.counts().total(), 0);
}

#[tokio::test]
async fn a_certificate_that_is_renewed_for_its_key_keeps_the_session() {
    let (fleet, mut world) = secured();
    world.endpoint.transport.insecure_skip_verify = true;
    for certificate in [Certificate::Good, Certificate::WrongName, Certificate::Expired] {
        fleet.appliance(0).set_certificate(certificate);
        disconnect(&mut world);
        assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    }
    assert_eq!((fleet.counts().login, fleet.counts().get), (1, 3));
}

#[tokio::test]
async fn a_refresh_token_goes_to_no_peer_but_the_one_that_issued_it() {
    const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";
    let [first, second] = [(); 2].map(|()| KonaServer::start(KonaOptions::default()).unwrap());
    for kona in [&first, &second] {
        kona.add_customer(ID, "Acme");
    }
    let mut world = World::of_kona(&first);
    let proxy = led_to(&mut world, &first.url()).await;
    world.customer(ID).await.unwrap();
    proxy.set_onward(to(&second.url()));
    disconnect(&mut world);
    let refused = stale(world.customer(ID).await.unwrap_err());
    assert_eq!(second.counts().total(), 0, "neither token was sent");
    world.kona_after(Some(refused)).read_customer(ID, Purpose::Ask).await.unwrap();
    // The token is due for renewal after 6480 seconds.
    pass(Duration::from_secs(6_600)).await;
    proxy.set_onward(to(&first.url()));
    disconnect(&mut world);
    world.customer(ID).await.unwrap();
    assert_eq!((first.counts().login, first.counts().refresh), (2, 0), "that token is the other one's");
}
