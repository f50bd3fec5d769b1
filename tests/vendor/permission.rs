//! A write's last permission is asked when nothing but its bytes is left to be sent.

mod connection;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tenure::engine::access::AccessError;
use tenure::vendor::http::Purpose;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::requests::Kind;
use tenure_kit::x2::{FleetOptions, X2Fleet};

use super::world::*;

const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";

/// Two appliances and one slot, and a gate that holds the first one's reads.
fn one_slot() -> (X2Fleet, World, Gate) {
    let options = FleetOptions { appliances: 2, tls: false, ..FleetOptions::default() };
    let fleet = X2Fleet::start(options).unwrap();
    let mut world = World::of(&fleet);
    (world.remotes, world.ending) = remotes(loopback(), 1);
    let gate = Gate::new();
    fleet.appliance(0).fault(Fault::gate(&gate).on(Kind::Get));
    (fleet, world, gate)
}

#[tokio::test]
async fn a_write_that_is_no_longer_permitted_when_it_gets_its_slot_is_not_sent() {
    let (fleet, world, gate) = one_slot();
    let second = endpoint(&fleet.appliance(1).url(), None);
    let mut writing = world.x2_at(&second);
    writing.log_in().await.unwrap();
    world.x2().log_in().await.unwrap();
    let open = AtomicBool::new(true);
    let may_send = || open.load(Relaxed);
    let mut reading = world.x2();
    let closing = async {
        fleet.appliance(0).requests().wait_arrived(Kind::Get, 1).await;
        open.store(false, Relaxed);
        gate.open();
    };
    let (read, written, ()) =
        tokio::join!(reading.read_timeout(), writing.set_timeout(600, &may_send), closing);
    assert_eq!((read, written), (Ok(86_400), Err(AccessError::NotSent)));
    assert_eq!(fleet.counts().write, 0);
    open.store(true, Relaxed);
    assert_eq!(
        writing.set_timeout(600, &may_send).await,
        Ok(()),
        "an ordinary outcome: the next may be sent"
    );
}

#[tokio::test]
async fn a_write_that_waits_when_the_operator_ends_is_not_sent() {
    let (fleet, world, gate) = one_slot();
    let second = endpoint(&fleet.appliance(1).url(), None);
    let mut writing = world.x2_at(&second);
    writing.log_in().await.unwrap();
    world.x2().log_in().await.unwrap();
    let mut reading = world.x2();
    let ending = async {
        fleet.appliance(0).requests().wait_arrived(Kind::Get, 1).await;
        world.ending.send_replace(true);
        gate.open();
    };
    let (read, written, ()) = tokio::join!(reading.read_timeout(), writing.set_timeout(600, ALLOWED), ending);
    assert_eq!((read, written), (Err(AccessError::NotAwaited), Err(AccessError::NotSent)));
    assert_eq!(fleet.counts().write, 0);
}

#[tokio::test]
async fn a_revocation_that_follows_no_write_of_this_time_is_asked_for_like_one() {
    let (fleet, world) = plain();
    let mut x2 = world.x2();
    assert_eq!(x2.revoke_tokens(&|| false).await, Err(AccessError::NotSent));
    assert_eq!(fleet.counts().delete, 0);
    x2.set_timeout(600, ALLOWED).await.unwrap();
    world.ending.send_replace(true);
    assert_eq!(x2.revoke_tokens(&|| false).await, Ok(()), "the rest of a change");
    assert_eq!(fleet.counts().delete, 1);
}

#[tokio::test]
async fn between_a_customers_read_and_its_write_nobody_else_is_served() {
    let kona = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    kona.add_customer(ID, "Acme");
    let world = World::of_kona(&kona);
    world.rewrite(ID, ALLOWED).await.unwrap();
    let gate = Gate::new();
    kona.fault(Fault::gate(&gate).on(Kind::Get).times(1));
    let others = async {
        kona.requests().wait_arrived(Kind::Get, 2).await;
        let reads = futures::future::join_all((0..5).map(|_| world.customer(ID)));
        let (reads, ()) = tokio::join!(reads, async { gate.open() });
        reads
    };
    let (written, reads) = tokio::join!(world.rewrite(ID, ALLOWED), others);
    assert!(written.is_ok() && reads.iter().all(Result::is_ok));
    let kinds: Vec<_> = kona.requests().entries().into_iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds[3..5], [Kind::Get, Kind::Write], "{kinds:?}");
}

#[tokio::test]
async fn a_customers_write_that_is_not_permitted_is_not_sent() {
    let kona = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    kona.add_customer(ID, "Acme");
    let world = World::of_kona(&kona);
    assert_eq!(world.rewrite(ID, &|| false).await, Err(AccessError::NotSent));
    world.ending.send_replace(true);
    assert_eq!(world.kona().read_customer(ID, Purpose::Ask).await.err(), Some(AccessError::NotSent));
    assert_eq!(kona.counts().write, 0);
}

#[tokio::test]
async fn a_token_is_taken_at_the_end_of_the_queue() {
    let kona = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    kona.add_customer(ID, "Acme");
    let world = World::of_kona(&kona);
    world.kona().log_in().await.unwrap();
    // It is renewed after 6480 seconds.
    super::sessions::pass(Duration::from_secs(6400)).await;
    let gate = Gate::new();
    kona.fault(Fault::gate(&gate).on(Kind::Get).times(1));
    let first = world.customer(ID);
    let expiring = async {
        kona.requests().wait_arrived(Kind::Get, 1).await;
        let queue = futures::future::join_all((0..10).map(|_| world.customer(ID)));
        let expire = async {
            // All of them have asked for a token by now, and wait.
            tokio::task::yield_now().await;
            super::sessions::pass(Duration::from_secs(200)).await;
            kona.expire_access_tokens();
            gate.open();
        };
        tokio::join!(queue, expire).0
    };
    // The first one may have waited too long.
    let (_, queue) = tokio::join!(first, expiring);
    let failed: Vec<_> = queue.into_iter().filter_map(Result::err).collect();
    assert_eq!(failed, []);
    let gets = kona.requests().entries().into_iter().filter(|entry| entry.kind == Kind::Get);
    let refused = gets.skip(1).filter(|entry| entry.status == Some(401)).count();
    assert_eq!((refused, kona.counts().login, kona.counts().refresh), (0, 1, 1));
}

#[tokio::test]
async fn the_path_of_customers_is_found_out_by_one_write() {
    let options = KonaOptions {
        tls: false,
        write_path: tenure_kit::kona::WritePath::WithoutSlash,
        ..KonaOptions::default()
    };
    let kona = KonaServer::start(options).unwrap();
    let ids: Vec<_> = (0..8).map(|n| format!("1d2b7a10-0f2c-11ee-be56-{n:012}")).collect();
    ids.iter().for_each(|id| drop(kona.add_customer(id, "Acme")));
    let mut world = World::of_kona(&kona);
    let bounds = tenure::vendor::limits::Bounds { in_flight: 8, per_second: None };
    world.endpoint.limit = tenure::vendor::limits::Limits::default().of(lane(&kona.url()), bounds);
    world.kona().log_in().await.unwrap();
    let writes = ids.iter().map(async |id| {
        let client = world.kona();
        let turn = client.wait_turn(Purpose::Ask).await?;
        let fresh = client.read_customer(id, Purpose::Ask).await?;
        let outgoing = tenure::vendor::kona::Outgoing { id, object: &fresh.customer };
        client.write_customer(&outgoing, fresh.seat, turn, ALLOWED).await
    });
    assert!(futures::future::join_all(writes).await.iter().all(Result::is_ok));
    assert_eq!(kona.counts().write, 9, "one found out");
    assert!(kona.created().is_empty());
}
