//! Who has answered: told by the key that a peer proves to have, whichever way it is reached.

use tenure::engine::system::KeyId;
use tenure_kit::pki::Certificate;
use tenure_kit::proxy::{Onward, Proxy};
use tenure_kit::x2::X2Fleet;

use super::proxy::through;
use super::world::*;

/// The key of the peer that answers a read.
async fn met(world: &mut World) -> Option<KeyId> {
    world.endpoint.answered = std::sync::Arc::default();
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    world.endpoint.answered.key()
}

/// A proxy that leads to an appliance, whatever it is asked for.
async fn leading_to(fleet: &X2Fleet) -> Proxy {
    let appliance = fleet.appliance(0);
    let target = format!("{}:{}", appliance.address(), appliance.port());
    Proxy::start(Onward::To(target)).await.unwrap()
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
    let proxy = leading_to(&strangers).await;
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
