//! How hard remote systems are asked, and how they answer that it was too hard.

use std::time::Duration;

use futures::future::join_all;
use tenure::clock;
use tenure::engine::access::AccessError;
use tenure::engine::remote::Fault as Seen;
use tenure::engine::system::{Peer, Via};
use tenure::engine::verdict::Reason;
use tenure::vendor::http::Purpose;
use tenure::vendor::limits::{Bounds, Lane, Limits};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::requests::Kind;
use tenure_kit::x2::{FleetOptions, X2Fleet};

use super::world::*;

fn http_date(from_now: i64) -> String {
    let at = clock::now().0 + jiff::SignedDuration::from_secs(from_now);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test]
async fn a_wait_that_is_asked_for_counts_up_to_ten_minutes() {
    let seconds = Duration::from_secs;
    for (text, least, most) in [
        ("7".to_owned(), seconds(7), seconds(7)),
        (" 600 ".to_owned(), seconds(600), seconds(600)),
        ("601".to_owned(), seconds(600), seconds(600)),
        ("18446744073709551615".to_owned(), seconds(600), seconds(600)),
        ("0".to_owned(), seconds(0), seconds(0)),
        (http_date(120), seconds(100), seconds(120)),
        (http_date(86_400), seconds(600), seconds(600)),
        (http_date(-3600), seconds(0), seconds(0)),
    ] {
        for (status, reason) in [(429, Reason::RateLimited), (503, Reason::UnexpectedAnswer)] {
            let (fleet, world) = plain();
            world.x2().log_in().await.unwrap();
            fleet.appliance(0).fault(Fault::status(status, "{}").retry_after(&text).on(Kind::Get));
            let error = world.x2().read_timeout().await.unwrap_err();
            let wait = error.retry_after().unwrap_or_else(|| panic!("{text:?} is understood"));
            assert!((least..=most).contains(&wait), "{text:?}: {wait:?}");
            let error = remote(error);
            assert_eq!((error.is_rate_limited(), error.reason()), (true, reason));
        }
    }
    for text in ["", "soon", "-1", "1.5", "Mon, 99 Foo 2026 00:00:00 GMT"] {
        let (fleet, world) = plain();
        fleet.appliance(0).fault(Fault::status(429, "{}").retry_after(text).on(Kind::Get));
        let error = world.failure().await;
        assert_eq!((error.is_rate_limited(), error.retry_after()), (true, None), "{text:?}");
    }
}

#[tokio::test]
async fn an_appliance_that_hangs_lends_its_slot_after_a_second() {
    let fleet =
        X2Fleet::start(FleetOptions { appliances: 2, tls: false, ..FleetOptions::default() }).unwrap();
    let mut world = World::of(&fleet);
    (world.remotes, world.ending) = remotes(loopback(), 1);
    let other = endpoint(&fleet.appliance(1).url(), None);
    world.x2_at(&other).log_in().await.unwrap();
    world.x2().log_in().await.unwrap();
    let gate = Gate::new();
    fleet.appliance(0).fault(Fault::gate(&gate).on(Kind::Get));
    let begun = clock::instant();
    let moving = async {
        fleet.appliance(0).requests().wait_arrived(Kind::Get, 1).await;
        let read = world.x2_at(&other).read_timeout().await;
        let waited = begun.elapsed();
        assert_eq!(fleet.appliance(0).requests().in_flight(), 1, "the first one still hangs");
        gate.open();
        (read, waited)
    };
    let mut hanging = world.x2();
    let (first, (second, waited)) = tokio::join!(hanging.read_timeout(), moving);
    assert_eq!((first, second), (Ok(86_400), Ok(86_400)));
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn there_are_as_many_exchanges_as_slots() {
    let fleet =
        X2Fleet::start(FleetOptions { appliances: 12, tls: false, ..FleetOptions::default() }).unwrap();
    let mut world = World::of(&fleet);
    (world.remotes, world.ending) = remotes(loopback(), 3);
    let endpoints: Vec<_> = fleet.appliances().map(|appliance| endpoint(&appliance.url(), None)).collect();
    let reads = endpoints.iter().map(async |endpoint| world.x2_at(endpoint).read_timeout().await);
    assert!(join_all(reads).await.into_iter().all(|read| read == Ok(86_400)));
    let peak = fleet.requests().peak_in_flight();
    assert!((1..=3).contains(&peak), "{peak}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kona_server_gets_as_many_requests_at_once_as_it_may() {
    const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";
    let kona = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    kona.add_customer(ID, "Acme");
    let mut world = World::of_kona(&kona);
    world.endpoint.limit = Limits::default().of(lane(&kona.url()), Bounds { in_flight: 3, per_second: None });
    world.kona().log_in().await.unwrap();
    let gate = Gate::new();
    kona.fault(Fault::gate(&gate).on(Kind::Get));
    let reads = join_all((0..10).map(|_| world.customer(ID)));
    let open = async {
        kona.requests().wait_arrived(Kind::Get, 3).await;
        gate.open();
    };
    let (reads, ()) = tokio::join!(reads, open);
    assert!(reads.iter().all(Result::is_ok));
    assert_eq!((kona.requests().peak_in_flight(), kona.counts().get), (3, 10));
}

#[tokio::test(start_paused = true)]
async fn requests_are_begun_at_the_rate_that_is_declared() {
    let limit = Limits::default().of(lane("a"), Bounds { in_flight: 100, per_second: Some(20) });
    let begun = clock::instant();
    let started = join_all((0..41).map(async |_| {
        let _permit = limit.enter(false).await;
        begun.elapsed()
    }));
    let mut started = started.await;
    started.sort();
    for (n, at) in (0_u32..).zip(&started) {
        let due = Duration::from_millis(50) * n;
        assert!(*at >= due && *at <= due + Duration::from_millis(5), "{n}: {at:?}");
    }
    tokio::time::advance(Duration::from_mins(1)).await;
    let before = clock::instant();
    let _passes = join_all((0..3).map(|_| limit.enter(false))).await;
    assert!(before.elapsed() >= Duration::from_millis(100), "idle time is not saved up for a burst");
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_shared_by_url_and_replaced_for_other_bounds() {
    let limits = Limits::default();
    let one = Bounds::ONE_AT_A_TIME;
    let first = limits.of(lane("a"), one);
    let held = first.enter(false).await;
    let same = limits.of(lane("a"), one);
    assert!(futures::poll!(Box::pin(same.enter(false))).is_pending(), "the same limit");
    assert!(futures::poll!(Box::pin(limits.of(lane("b"), one).enter(false))).is_ready(), "another URL");
    let wider = limits.of(lane("a"), Bounds { in_flight: 2, per_second: None });
    assert!(futures::poll!(Box::pin(wider.enter(false))).is_ready());
    drop(held);
    assert!(futures::poll!(Box::pin(same.enter(false))).is_ready());
}

#[tokio::test]
async fn an_appliance_and_a_server_of_one_url_have_a_lane_each() {
    let limits = Limits::default();
    let appliance = || limits.of(lane("a"), Bounds::ONE_AT_A_TIME);
    let server = || {
        let lane = Lane { kind: tenure::crd::Kind::Server, ..lane("a") };
        limits.of(lane, Bounds { in_flight: 2, per_second: None })
    };
    let _held = appliance().enter(false).await;
    let wide = server();
    let both = join_all([wide.enter(false), wide.enter(false)]);
    assert!(futures::poll!(Box::pin(both)).is_ready());
    assert!(
        futures::poll!(Box::pin(appliance().enter(false))).is_pending(),
        "the bounds are not the server's"
    );
}

#[tokio::test]
async fn the_rest_of_a_change_passes_those_who_only_begin() {
    let limits = Limits::default();
    let limit = limits.of(lane("a"), Bounds::ONE_AT_A_TIME);
    let held = limit.enter(false).await;
    let mut beginners: Vec<_> = (0..5).map(|_| Box::pin(limit.enter(false))).collect();
    for beginner in &mut beginners {
        assert!(futures::poll!(beginner).is_pending());
    }
    let mut urgent = Box::pin(limit.enter(true));
    assert!(futures::poll!(&mut urgent).is_pending());
    drop(held);
    // One beginner is at the front already; then it is the change's turn.
    let mut first = None;
    for beginner in &mut beginners {
        if let std::task::Poll::Ready(permit) = futures::poll!(beginner) {
            first = Some(permit);
            break;
        }
    }
    drop(first.expect("one was at the front"));
    assert!(futures::poll!(&mut urgent).is_ready());
}

#[tokio::test]
async fn an_owner_waits_for_one_claimant_and_not_for_all() {
    let (_fleet, mut world) = plain();
    world.x2().log_in().await.unwrap();
    world.endpoint.is_claimants = true;
    let limit = &world.endpoint.limit;
    let held = limit.enter(false).await;
    let mut first = Box::pin(limit.enter_as_claimant());
    assert!(futures::poll!(&mut first).is_pending());
    let mut x2 = world.x2();
    let mut second = Box::pin(x2.read_timeout());
    assert!(futures::poll!(&mut second).is_pending());
    let mut owner = Box::pin(limit.enter(false));
    assert!(futures::poll!(&mut owner).is_pending());
    drop(held);
    drop(first.await);
    assert!(futures::poll!(&mut owner).is_ready(), "it came after the second claimant, and goes first");
    assert_eq!(second.await, Ok(86_400));
}

#[tokio::test]
async fn a_pause_that_a_server_asks_for_counts_for_all_its_objects() {
    const IDS: [&str; 2] = ["1d2b7a10-0f2c-11ee-be56-0242ac120002", "1d2b7a10-0f2c-11ee-be56-0242ac120003"];
    let kona = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    IDS.into_iter().for_each(|id| drop(kona.add_customer(id, "Acme")));
    let world = World::of_kona(&kona);
    world.kona().log_in().await.unwrap();
    for (kind, status) in [(Kind::Get, 429), (Kind::Write, 429), (Kind::Get, 503), (Kind::Write, 503)] {
        let before = kona.counts();
        kona.fault(Fault::status(status, "{}").retry_after("30").on(kind).times(1));
        let first = world.rewrite(IDS[0], ALLOWED).await.unwrap_err();
        let second = world.rewrite(IDS[1], ALLOWED).await.unwrap_err();
        let spent = kona.counts() - before;
        assert_eq!((spent.get, spent.write), (1, u64::from(kind == Kind::Write)), "the second is not sent");
        assert!(second.is_unsent() && !first.is_unsent());
        let waits = [&first, &second].map(|error| error.retry_after().unwrap());
        assert!(waits[0] == Duration::from_secs(30) && waits[1] <= waits[0], "{waits:?}");
        assert_eq!(first.to_string(), second.to_string(), "stable, whichever object and request it met");
        assert_eq!(remote(first).reason(), remote(second).reason());
        super::sessions::pass(Duration::from_secs(31)).await;
        assert_eq!(world.rewrite(IDS[1], ALLOWED).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_that_limits_requests_without_a_time_is_left_alone_for_a_moment() {
    let limits = Limits::default();
    let limit = limits.of(lane("a"), Bounds::ONE_AT_A_TIME);
    limit.pause(429, Duration::from_secs(5));
    let begun = clock::instant();
    assert!(limit.enter(true).await.is_ok());
    assert_eq!(begun.elapsed().as_secs(), 5);
    limit.pause(503, Duration::from_mins(10));
    limit.pause(429, Duration::from_secs(5));
    let paused = limit.enter(true).await.unwrap_err();
    assert_eq!((paused.status, paused.left), (503, Duration::from_mins(10)), "the longer one counts");
    let wider = limits.of(lane("a"), Bounds { in_flight: 2, per_second: None });
    assert!(wider.enter(true).await.is_err(), "with other bounds, too");
    tokio::time::advance(Duration::from_mins(10)).await;
    assert!(wider.enter(true).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_a_stand_in_asks_for_does_not_count_for_the_system() {
    let behind = |proxy: &str| Lane { via: Via::Proxy(proxy.into()), ..lane("a") };
    let met = |key: u8| Some(Peer::Key([key; 16]));
    let one = Bounds::ONE_AT_A_TIME;
    for (peer, of_stand_in) in [(None, None), (met(1), None), (None, met(2)), (met(1), met(2))] {
        let limits = Limits::default();
        let direct = |bounds| limits.of(Lane { peer: peer.clone(), ..lane("a") }, bounds);
        let stand_in =
            || limits.of(Lane { peer: of_stand_in.clone(), ..behind("http://proxy.mine:8080") }, one);
        let before = direct(one);
        stand_in().pause(429, Duration::from_mins(10));
        assert!(stand_in().enter(true).await.is_err(), "the stand-in is left alone");
        let begun = clock::instant();
        for limit in [before, direct(one), limits.of(behind("http://proxy.example:8080"), one)] {
            assert!(limit.enter(false).await.is_ok(), "{peer:?} {of_stand_in:?}");
            assert!(!std::sync::Arc::ptr_eq(&limit, &stand_in()), "nor does anything else that it answered");
        }
        let wider = direct(Bounds { in_flight: 2, per_second: None });
        assert!(wider.enter(false).await.is_ok(), "with other bounds, too");
        assert!(begun.elapsed().is_zero());
    }
}

#[tokio::test]
async fn a_turn_that_never_comes_is_reported() {
    let (fleet, world) = plain();
    world.x2().log_in().await.unwrap();
    let pass = world.endpoint.limit.enter(false).await.unwrap();
    tokio::time::pause();
    let error = world.failure().await;
    tokio::time::resume();
    assert_eq!((&error.fault, error.reason()), (&Seen::NoTurn, Reason::TimedOut));
    assert_eq!(fleet.counts().get, 0, "nothing was sent");
    drop(pass);
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
}

#[tokio::test]
async fn a_turn_to_write_that_never_comes_is_reported() {
    let kona = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    let world = World::of_kona(&kona);
    let turn = world.kona().turn().expect("nothing else writes");
    tokio::time::pause();
    let kona = world.kona();
    let waited = tokio::time::timeout(Duration::from_mins(10), kona.wait_turn(Purpose::Ask)).await;
    let error = remote(waited.expect("the wait is bounded").unwrap_err());
    assert_eq!((&error.fault, error.reason()), (&Seen::NoTurn, Reason::TimedOut));
    world.ending.send_replace(true);
    assert_eq!(kona.wait_turn(Purpose::Ask).await.unwrap_err(), AccessError::NotSent);
    drop(turn);
    assert!(kona.wait_turn(Purpose::Follow).await.is_ok());
}
