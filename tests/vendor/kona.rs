//! The Kona server's sessions and customers.

use std::time::Duration;

use futures::future::join_all;
use tenure::engine::access::AccessError;
use tenure::engine::remote::Shown;
use tenure::engine::verdict::Reason;
use tenure::vendor::http::Purpose;
use tenure_kit::canary::Canary;
use tenure_kit::faults::Fault;
use tenure_kit::kona::{Failure, KonaOptions, KonaServer, TokenTtls, WritePath};
use tenure_kit::requests::Kind;

use super::sessions::pass;
use super::world::*;

const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";

fn start() -> (KonaServer, World) {
    let kona = KonaServer::start(KonaOptions { tls: false, ..KonaOptions::default() }).unwrap();
    kona.add_customer(ID, "Acme");
    let world = World::of_kona(&kona);
    (kona, world)
}

/// Logins and refreshes so far.
fn logins(kona: &KonaServer) -> (u64, u64) {
    (kona.counts().login, kona.counts().refresh)
}

#[tokio::test]
async fn a_herd_logs_in_once_and_reuses_the_token() {
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    kona.add_customer(ID, "Acme");
    let world = World::of_kona(&kona);
    assert!(join_all((0..50).map(|_| world.customer(ID))).await.iter().all(Result::is_ok));
    assert_eq!((logins(&kona), kona.counts().get), ((1, 0), 50));
}

#[tokio::test]
async fn an_expired_token_is_renewed_by_its_refresh_token() {
    let (kona, world) = start();
    for (wait, expected) in [(0, (1, 0)), (6400, (1, 0)), (100, (1, 1)), (6400, (1, 1)), (100, (1, 2))] {
        pass(Duration::from_secs(wait)).await;
        assert!(world.customer(ID).await.is_ok());
        assert_eq!(logins(&kona), expected, "after {wait} more seconds");
    }
}

#[tokio::test]
async fn a_refused_token_is_refreshed_once_and_then_there_is_one_login() {
    let (kona, world) = start();
    world.kona().log_in().await.unwrap();
    kona.expire_access_tokens();
    assert!(world.customer(ID).await.is_ok());
    assert_eq!(logins(&kona), (1, 1));
    kona.expire_all_tokens();
    let refused = stale(world.customer(ID).await.unwrap_err());
    assert_eq!(logins(&kona), (1, 2), "the Secret is read again before the login");
    assert!(world.kona_after(Some(refused)).read_customer(ID, Purpose::Ask).await.is_ok());
    assert_eq!(logins(&kona), (2, 2));
}

#[tokio::test]
async fn a_herd_with_refused_tokens_refreshes_once() {
    let (kona, world) = start();
    world.kona().log_in().await.unwrap();
    kona.expire_access_tokens();
    assert!(join_all((0..20).map(|_| world.customer(ID))).await.iter().all(Result::is_ok));
    assert_eq!(logins(&kona), (1, 1));
}

#[tokio::test]
async fn a_redirect_is_a_fault_of_the_token_and_never_followed() {
    let canary = Canary::start().unwrap();
    let (kona, world) = start();
    world.kona().log_in().await.unwrap();
    let redirect = || Fault::redirect(302, &format!("{}/login", canary.url())).on(Kind::Get);
    kona.fault(redirect().times(1));
    assert!(world.customer(ID).await.is_ok());
    assert_eq!(logins(&kona), (1, 1), "refreshed");
    kona.fault(redirect());
    let refused = stale(world.customer(ID).await.unwrap_err());
    let error = remote(world.kona_after(Some(refused)).read_customer(ID, Purpose::Ask).await.err().unwrap());
    assert_eq!(error.status(), Some(302));
    assert_eq!(logins(&kona), (2, 2), "one login, and no more");
    assert_eq!(canary.requests().connections(), 0);
}

#[tokio::test]
async fn a_server_that_is_busy_is_not_answered_with_a_login() {
    for status in [429, 503] {
        let (kona, world) = start();
        world.kona().log_in().await.unwrap();
        kona.expire_access_tokens();
        kona.fault(Fault::status(status, "{}").retry_after("30").on(Kind::Refresh));
        let error = world.customer(ID).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(30)), "{status}");
        assert_eq!(logins(&kona), (1, 1), "{status}");
    }
    let (kona, world) = start();
    world.kona().log_in().await.unwrap();
    pass(Duration::from_secs(6500)).await;
    kona.fault(Fault::status(500, Failure::General.body("Invalid refresh token scope")).on(Kind::Refresh));
    assert!(world.customer(ID).await.is_ok(), "a 500 is how it refuses a refresh token");
    assert_eq!(logins(&kona), (2, 1));
}

#[tokio::test]
async fn a_refused_password_is_tried_once() {
    let (kona, mut world) = start();
    world.credentials = credentials("tenant@example.net", "planted-wrong-password", "1");
    let error = world.kona().log_in().await.unwrap_err();
    assert_eq!(error, AccessError::Refused);
    harmless(&error);
    assert!(matches!(world.kona().log_in().await, Err(AccessError::NotTried(_))));
    assert_eq!(logins(&kona), (1, 0));
}

#[tokio::test]
async fn every_failure_of_a_read_has_its_reason() {
    for (failure, reason) in [
        (Failure::Permission, Reason::Forbidden),
        (Failure::NotFound, Reason::UnexpectedAnswer),
        (Failure::BadRequest, Reason::UnexpectedAnswer),
        (Failure::TooManyRequests, Reason::RateLimited),
        (Failure::StaleVersion, Reason::UnexpectedAnswer),
        (Failure::General, Reason::UnexpectedAnswer),
        (Failure::Database, Reason::UnexpectedAnswer),
    ] {
        let (kona, world) = start();
        kona.fault(Fault::status(failure.codes().0, failure.body("planted")).on(Kind::Get));
        let error = remote(world.customer(ID).await.err().unwrap());
        assert_eq!(
            (error.code(), error.reason(), error.path),
            (failure.codes().0.to_string(), reason, "/api/customer/{customerId}")
        );
        assert!(!error.to_string().contains(ID), "the path's template, not its ids: {error}");
    }
}

#[tokio::test]
async fn a_customer_that_is_not_the_one_meant_is_refused() {
    let other =
        r#"{"id":{"entityType":"CUSTOMER","id":"ffffffff-0f2c-11ee-be56-0242ac120002"},"title":"Other"}"#;
    for (body, why) in [
        (other, "it describes another customer"),
        ("{}", "it lacks the customer's id"),
        (r#"{"id":"1d2b7a10-0f2c-11ee-be56-0242ac120002"}"#, "it lacks the customer's id"),
        ("[]", "it is not a JSON object; check that the URL is a Kona server's"),
        ("<html>", "it is not a JSON object; check that the URL is a Kona server's"),
        (r#"{"a":1,"a":2}"#, "it has a duplicate key, which cannot be preserved"),
    ] {
        let (kona, world) = start();
        kona.fault(Fault::body(body).on(Kind::Get));
        let error = remote(world.customer(ID).await.err().unwrap());
        assert!(error.to_string().ends_with(why), "{body}: {error}");
    }
    for (bytes, fits) in [(1024 * 1024, true), (1024 * 1024 + 1, false)] {
        let (kona, world) = start();
        kona.fault(Fault::oversize_chunked(bytes).on(Kind::Get));
        assert_eq!(world.customer(ID).await.is_ok(), fits, "{bytes}");
    }
}

#[tokio::test]
async fn a_404_of_a_write_means_the_other_spelling_of_the_path() {
    for (path, writes) in
        [(WritePath::WithSlash, [1, 2]), (WritePath::WithoutSlash, [2, 3]), (WritePath::Both, [1, 2])]
    {
        let (kona, world) = start();
        kona.set_write_path(path);
        for expected in writes {
            world.rewrite(ID, ALLOWED).await.unwrap();
            assert_eq!(kona.counts().write, expected, "{path:?}: remembered");
        }
        assert_eq!(kona.created(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_customers_user_proves_its_lifetime_whatever_the_clock() {
    let (kona, world) = start();
    for (ttl, offset) in [(7200, 0), (60, 3600), (31_536_000, -3600)] {
        kona.set_admin_ttls(TokenTtls { access: ttl, refresh: 31_536_000 });
        kona.set_clock_offset(offset);
        assert_eq!(world.kona().prove(Purpose::Ask).await, Ok(u32::try_from(ttl).unwrap()));
    }
}

#[tokio::test]
async fn a_login_that_is_only_the_first_step_is_none() {
    let token = "eyJhbGciOiJIUzUxMiJ9.eyJpYXQiOjEwMDAsImV4cCI6MTMwMH0.c2ln";
    let scoped =
        format!(r#"{{"token":"{token}","refreshToken":"{token}","scope":"PRE_VERIFICATION_TOKEN"}}"#);
    for answer in [format!(r#"{{"token":"{token}"}}"#), scoped] {
        let kona = KonaServer::start(KonaOptions::default()).unwrap();
        let world = World::of_kona(&kona);
        kona.fault(Fault::status(200, answer.clone()).on(Kind::Login));
        let error = world.kona().log_in().await.unwrap_err();
        assert_eq!(error, AccessError::Half, "{answer}");
        harmless(&error);
        let verdict = error.verdict("The server", "login");
        assert_eq!(verdict.reason, Reason::AuthenticationFailed);
        assert!(verdict.message.contains("two-factor"), "{}", verdict.message);
    }
}

#[tokio::test]
async fn a_refusal_shows_the_field_that_it_names_and_whether_it_is_the_servers() {
    for (message, shown) in [
        ("Validation error: additionalInfo is malformed", Shown::Field("additionalInfo")),
        ("Invalid email address format 'planted'!", Shown::Field("email")),
        ("Customer with such title already exists!", Shown::Field("title")),
        ("planted entitled emails", Shown::Vendor),
    ] {
        let (kona, world) = start();
        kona.fault(Fault::status(400, Failure::BadRequest.body(message)).on(Kind::Write));
        let error = world.rewrite(ID, ALLOWED).await.unwrap_err();
        harmless(&error);
        assert_eq!(remote(error).shown(), Some(shown), "{message}");
    }
    let long = format!(r#"{{"errorCode":32,"message":"{}"}}"#, "x".repeat(20_000));
    for (body, shown) in [
        (Failure::NotFound.body("planted"), Some(Shown::Vendor)),
        (r#"{"timestamp":1,"status":404,"error":"Not Found","path":"/planted"}"#.to_owned(), None),
        ("<html>planted</html>".to_owned(), None),
        (String::new(), None),
        (long, None),
    ] {
        let (kona, world) = start();
        kona.fault(Fault::status(404, body.clone()).on(Kind::Get));
        let error = world.customer(ID).await.unwrap_err();
        harmless(&error);
        assert_eq!(remote(error).shown(), shown, "{body}");
    }
}
