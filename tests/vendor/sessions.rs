//! Tokens: one login for all, reused, renewed in time, and a refused password tried once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tenure::engine::access::AccessError;
use tenure::engine::login::NotTried;
use tenure::engine::verdict::Reason;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::requests::Kind;
use tenure_kit::x2::{FleetOptions, Role, X2Fleet, X2User};

use super::world::*;

/// Lets time pass for the operator; what waits for an answer goes on waiting.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_of_fifty_logs_in_once_and_comes_one_after_the_other() {
    let (fleet, world) = plain();
    let world = Arc::new(world);
    let herd = (0..50).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.x2().read_timeout().await })
    });
    for read in join_all(herd).await {
        assert_eq!(read.unwrap(), Ok(86_400));
    }
    let counts = fleet.counts();
    assert_eq!((counts.login, counts.get), (1, 50));
    assert_eq!(fleet.requests().peak_in_flight(), 1, "one request at a time for each URL");
}

#[tokio::test]
async fn a_token_is_used_for_nine_tenths_of_its_lifetime() {
    let (fleet, world) = plain();
    fleet.appliance(0).set_timeout(600);
    for (wait, logins) in [(0, 1), (530, 1), (9, 1), (2, 2), (538, 2), (3, 3)] {
        pass(Duration::from_secs(wait)).await;
        assert_eq!(world.x2().read_timeout().await, Ok(600));
        assert_eq!(fleet.counts().login, logins, "after {wait} more seconds");
    }
}

#[tokio::test]
async fn a_refused_token_leads_to_one_fresh_login() {
    let (fleet, world) = plain();
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    fleet.appliance(0).forget_tokens();
    let refused = stale(world.x2().read_timeout().await.unwrap_err());
    assert_eq!(fleet.counts().login, 1, "the Secret is read again before");
    assert_eq!(world.x2_after(Some(refused)).read_timeout().await, Ok(86_400));
    assert_eq!(fleet.counts().login, 2);
    fleet.appliance(0).fault(Fault::status(401, "{}").on(Kind::Get));
    let refused = stale(world.x2().read_timeout().await.unwrap_err());
    let error = world.x2_after(Some(refused)).read_timeout().await.unwrap_err();
    assert_eq!(error, AccessError::TokenRefused, "even a fresh one: no third login");
    assert_eq!(error.verdict("The appliance", "login").reason, Reason::AuthenticationFailed);
    assert_eq!(fleet.counts().login, 3);
}

#[tokio::test]
async fn a_herd_with_a_refused_token_logs_in_once() {
    let (fleet, world) = plain();
    world.x2().log_in().await.unwrap();
    fleet.appliance(0).forget_tokens();
    let checks = (0..20).map(async |_| {
        let refused = match world.x2().read_timeout().await {
            Ok(read) => return read,
            Err(error) => stale(error),
        };
        world.x2_after(Some(refused)).read_timeout().await.unwrap()
    });
    assert_eq!(join_all(checks).await, [86_400; 20]);
    assert_eq!(fleet.counts().login, 2);
}

#[tokio::test]
async fn a_token_belongs_to_its_secret_and_its_transport() {
    let (fleet, mut world) = plain();
    for (version, logins) in [("1", 1), ("1", 1), ("2", 2), ("2", 2)] {
        world.credentials = credentials("admin", "x2-admin-password", version);
        world.x2().log_in().await.unwrap();
        assert_eq!(fleet.counts().login, logins, "version {version}");
    }
    world.endpoint.transport.insecure_skip_verify = true;
    world.x2().log_in().await.unwrap();
    assert_eq!(fleet.counts().login, 3);
    world.credentials.identity.account.keys.1 = "other".to_owned();
    world.x2().log_in().await.unwrap();
    assert_eq!(fleet.counts().login, 4);
}

#[tokio::test]
async fn a_refused_password_is_tried_once_for_each_version_of_the_secret() {
    let (fleet, mut world) = plain();
    world.credentials = credentials("admin", "planted-wrong-password", "1");
    let error = world.x2().log_in().await.unwrap_err();
    assert_eq!(error, AccessError::Refused);
    harmless(&error);
    for _ in 0..3 {
        let error = world.x2().read_timeout().await.unwrap_err();
        assert_eq!(error, AccessError::NotTried(NotTried::Here));
        assert_eq!(error.verdict("The appliance", "login").reason, Reason::AuthenticationFailed);
        harmless(&error);
    }
    assert_eq!(fleet.counts().login, 1);
    world.credentials = credentials("admin", "x2-admin-password", "2");
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
}

#[tokio::test]
async fn what_refuses_a_password_and_what_does_not() {
    let (fleet, world) = plain();
    fleet.appliance(0).fault(Fault::status(401, "{}").on(Kind::Login));
    assert_eq!(world.x2().log_in().await, Err(AccessError::Refused));
    assert!(world.x2().log_in().await.unwrap_err().is_refusal());
    assert_eq!(fleet.counts().login, 1);
    // A 403 counts if it is the appliance's own.
    let (fleet, world) = plain();
    let own = r#"{"statusCode":403,"error":"Forbidden","message":"User is locked"}"#;
    fleet.appliance(0).fault(Fault::status(403, own).on(Kind::Login));
    assert_eq!(world.x2().log_in().await, Err(AccessError::Refused));
    // Firewalls and proxies in front of an appliance show nothing of the password.
    for status in [302, 400, 403, 404, 422, 423, 429, 500, 502, 503] {
        let (fleet, world) = plain();
        fleet.appliance(0).fault(Fault::status(status, "{}").on(Kind::Login).times(1));
        assert_eq!(remote(world.x2().log_in().await.unwrap_err()).status(), Some(status));
        assert_eq!(world.x2().log_in().await, Ok(()), "{status} shows nothing of the password");
    }
}

#[tokio::test]
async fn three_appliances_that_refuse_a_password_are_enough() {
    let options = FleetOptions { appliances: 40, tls: false, ..FleetOptions::default() };
    let fleet = X2Fleet::start(options).unwrap();
    let mut world = World::of(&fleet);
    world.credentials = credentials("admin", "planted-wrong-password", "1");
    let worlds: Vec<_> = fleet.appliances().map(|appliance| endpoint(&appliance.url(), None)).collect();
    let tries = worlds.iter().map(async |endpoint| world.x2_at(endpoint).log_in().await.unwrap_err());
    let errors = join_all(tries).await;
    let count = |expected: &AccessError| errors.iter().filter(|error| *error == expected).count();
    assert_eq!(count(&AccessError::Refused), 3);
    assert_eq!(count(&AccessError::NotTried(NotTried::InARow)), 37);
    assert_eq!(fleet.counts().login, 3);
    assert!(fleet.requests().peak_in_flight() <= 3);
}

#[tokio::test]
async fn a_login_that_fails_on_the_way_fails_for_all_who_wait_and_may_be_repeated() {
    let (fleet, world) = plain();
    let gate = Gate::new();
    fleet.appliance(0).fault(Fault::gate(&gate).on(Kind::Login).times(1));
    fleet.appliance(0).fault(Fault::reset().on(Kind::Login).times(1));
    let (mut one, mut two) = (world.x2(), world.x2());
    let open = async {
        fleet.requests().wait_arrived(Kind::Login, 1).await;
        gate.open();
    };
    let (first, second, ()) = tokio::join!(one.read_timeout(), two.read_timeout(), open);
    assert_eq!(remote(first.unwrap_err()).reason(), Reason::Unreachable);
    assert_eq!(remote(second.unwrap_err()).reason(), Reason::Unreachable);
    assert_eq!(fleet.counts().login, 1, "no caller waits for one timeout after the other");
    assert_eq!(two.read_timeout().await, Ok(86_400));
    assert_eq!(fleet.counts().login, 2);
}

#[tokio::test]
async fn a_role_that_is_taken_away_shows_at_the_next_read() {
    let (fleet, world) = plain();
    world.x2().log_in().await.unwrap();
    fleet.appliance(0).set_user(X2User::new("admin", "x2-admin-password", Role::Viewer));
    assert_eq!(world.x2().read_timeout().await, Err(AccessError::NotAdmin));
}

#[tokio::test]
async fn nothing_that_is_printed_shows_a_token() {
    let (_fleet, world) = plain();
    world.x2().log_in().await.unwrap();
    let printed = format!("{:?}", world.remotes);
    assert!(printed.contains("Sessions"), "{printed}");
    for secret in ["eyJ", "x2-admin-password"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[tokio::test]
async fn an_answer_without_a_token_accepts_nothing() {
    let options = FleetOptions { appliances: 30, tls: false, ..FleetOptions::default() };
    let fleet = X2Fleet::start(options).unwrap();
    let mut world = World::of(&fleet);
    world.credentials = credentials("admin", "planted-wrong-password", "1");
    fleet.appliance(0).fault(Fault::status(200, "{}").on(Kind::Login));
    let error = remote(world.x2().log_in().await.unwrap_err());
    assert_eq!(error.reason(), Reason::UnexpectedAnswer);
    let endpoints: Vec<_> = fleet.appliances().map(|appliance| endpoint(&appliance.url(), None)).collect();
    let tries = endpoints.iter().skip(1).map(async |endpoint| {
        let mut x2 = world.x2_at(endpoint);
        x2.log_in().await.unwrap_err()
    });
    assert_eq!(join_all(tries).await.len(), 29);
    assert_eq!(fleet.counts().login, 1 + 3, "a wrong password is tried at three places");
}

#[tokio::test]
async fn a_server_that_is_away_when_a_token_is_due_for_renewal_costs_no_login() {
    let kona = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    let (id, world) = ("1d2b7a10-0f2c-11ee-be56-0242ac120002", World::of_kona(&kona));
    kona.add_customer(id, "Acme");
    world.customer(id).await.unwrap();
    // It is renewed after 6480 seconds.
    pass(Duration::from_secs(6_600)).await;
    kona.stop_listening().await;
    assert_eq!(remote(world.customer(id).await.unwrap_err()).reason(), Reason::Unreachable);
    kona.resume_listening().unwrap();
    world.customer(id).await.unwrap();
    assert_eq!((kona.counts().login, kona.counts().refresh), (1, 1));
}
