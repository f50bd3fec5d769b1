//! What goes wrong on the way, and what it is taken for.

use std::time::Duration;

use tenure::engine::access::AccessError;
use tenure::engine::verdict::Reason;
use tenure_kit::canary::Canary;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;
use tenure_kit::server::Reception;

use super::world::*;

const BROKEN: (&str, Reason) = ("connect", Reason::Unreachable);
const LATE: (&str, Reason) = ("timeout", Reason::TimedOut);
const NONSENSE: (&str, Reason) = ("protocol", Reason::UnexpectedAnswer);

#[tokio::test]
async fn every_fault_of_an_exchange_has_its_code_and_its_reason() {
    let echo = r#"{"message":"no: x2-admin-password eyJhbGciOi planted"}"#;
    let unexpected = |code: &'static str| (code, Reason::UnexpectedAnswer);
    for (fault, expected, words) in [
        (Fault::reset(), BROKEN, "the connection was reset before the answer was complete"),
        (Fault::reset().after_effect(), BROKEN, "the connection was reset before the answer was complete"),
        (Fault::truncate(), BROKEN, "before the answer was complete"),
        (
            Fault::html(),
            NONSENSE,
            "GET /api2/token/timeout returned an unexpected response: it is not JSON; check that the URL is an X2 appliance's",
        ),
        (Fault::body(r#"{"timeout_seconds":"#), NONSENSE, "not JSON"),
        (Fault::body(vec![0xff, 0xfe, 0]), NONSENSE, "not JSON"),
        (Fault::body(""), NONSENSE, "not JSON"),
        (Fault::oversize(64 * 1024 + 1), NONSENSE, "the answer is too long"),
        (Fault::oversize_chunked(8 << 20), NONSENSE, "the answer is too long"),
        (
            Fault::status(404, echo),
            unexpected("404"),
            "GET /api2/token/timeout returned status 404: check that the URL is the API's base",
        ),
        (Fault::status(400, echo), unexpected("400"), "GET /api2/token/timeout returned status 400"),
        (Fault::status(418, echo), unexpected("418"), "status 418"),
        (Fault::status(409, echo), unexpected("409"), "status 409"),
        (Fault::status(429, echo), ("429", Reason::RateLimited), "status 429"),
        (Fault::status(500, echo), unexpected("500"), "status 500"),
        (Fault::status(503, echo), unexpected("503"), "status 503"),
        (
            Fault::redirect(302, "http://192.0.2.1/planted"),
            unexpected("302"),
            "GET /api2/token/timeout returned a redirect, which is never followed: correct the URL",
        ),
        (Fault::status(304, ""), unexpected("304"), "redirect"),
    ] {
        let (fleet, world) = plain();
        world.x2().log_in().await.unwrap();
        let described = format!("{fault:?}");
        fleet.appliance(0).fault(fault.on(Kind::Get));
        let error = world.failure().await;
        let (code, reason, text) = judged(&error);
        assert_eq!((code.as_str(), reason), expected, "{described}: {text}");
        assert!(text.contains(words), "{described}: {text}");
        assert!(!text.contains("127."), "the URL is not repeated: {text}");
    }
}

#[tokio::test]
async fn an_answer_up_to_the_cap_is_read() {
    let (fleet, world) = plain();
    world.x2().log_in().await.unwrap();
    for fault in [Fault::oversize(64 * 1024), Fault::oversize_chunked(64 * 1024)] {
        fleet.appliance(0).fault(fault.on(Kind::Get).times(1));
        assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    }
}

#[tokio::test]
async fn silence_and_slowness_end_at_the_request_timeout() {
    for fault in [Fault::hang(), Fault::hang().after_effect(), Fault::drip(Duration::from_millis(200))] {
        let (fleet, mut world) = plain();
        world.x2().log_in().await.unwrap();
        world.endpoint.timeout = Duration::from_millis(300);
        fleet.appliance(0).fault(fault.on(Kind::Get));
        let begun = tenure::clock::instant();
        let (code, reason, text) = judged(&world.failure().await);
        assert_eq!((code.as_str(), reason), LATE, "{text}");
        assert_eq!(text, "GET /api2/token/timeout timed out after requestTimeout");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        fleet.appliance(0).requests().wait_until(|requests| requests.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_made() {
    for (reception, expected, words) in [
        (Reception::Reset, BROKEN, "the connection was reset"),
        (Reception::Silent, LATE, "timed out after requestTimeout"),
    ] {
        let (fleet, mut world) = secured();
        if reception == Reception::Silent {
            world.endpoint.timeout = Duration::from_millis(300);
        }
        fleet.appliance(0).set_reception(reception);
        let (code, reason, text) = judged(&remote(world.x2().log_in().await.unwrap_err()));
        assert_eq!((code.as_str(), reason), expected, "{text}");
        assert!(text.contains(words), "{text}");
    }
    let (fleet, world) = secured();
    fleet.stop_listening().await;
    let (code, reason, text) = judged(&world.failure().await);
    assert_eq!((code.as_str(), reason), BROKEN);
    assert_eq!(text, "the connection was refused: check the URL's port, and whether the service is running");
    let (_, mut world) = secured();
    world.endpoint.base = tenure::engine::url::BaseUrl::parse("https://nowhere.invalid").unwrap();
    let (code, reason, text) = judged(&world.failure().await);
    assert_eq!((code.as_str(), reason), BROKEN);
    assert_eq!(text, "the host name does not resolve: check the URL and DNS");
}

#[tokio::test]
async fn plain_http_where_tls_is_spoken_and_the_other_way_round() {
    let (fleet, mut world) = plain();
    let https = fleet.appliance(0).url().replace("http:", "https:");
    world.endpoint = endpoint(&https, None);
    let (code, reason, text) = judged(&world.failure().await);
    assert_eq!((code.as_str(), reason), ("tls", Reason::TlsFailed), "{text}");
    assert_eq!(text, "the TLS handshake failed: check that the port speaks TLS 1.2 or newer");
    let (fleet, mut world) = secured();
    world.endpoint = endpoint(&fleet.appliance(0).url().replace("https:", "http:"), None);
    let (code, _, text) = judged(&world.failure().await);
    assert_eq!(code, "connect", "{text}");
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let canary = Canary::start().unwrap();
    for status in [301, 302, 303, 307, 308] {
        for kind in [Kind::Login, Kind::Get, Kind::Write] {
            let (fleet, world) = plain();
            fleet
                .appliance(0)
                .fault(Fault::redirect(status, &format!("{}/api2/tokens", canary.url())).on(kind));
            let mut x2 = world.x2();
            let failed = match kind {
                Kind::Write => x2.set_timeout(600, ALLOWED).await.map(|()| 0),
                _ => x2.read_timeout().await,
            };
            let error = remote(failed.unwrap_err());
            assert_eq!(error.status(), Some(status));
            assert_eq!(fleet.counts().of(kind), 1, "once");
        }
    }
    assert_eq!((canary.counts().total(), canary.requests().connections()), (0, 0));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_not_repeated() {
    for fault in [Fault::reset(), Fault::truncate(), Fault::status(503, "{}")] {
        let (fleet, world) = plain();
        let appliance = fleet.appliance(0);
        appliance.fault(fault.after_effect().on(Kind::Write));
        let error = remote(world.x2().set_timeout(600, ALLOWED).await.unwrap_err());
        assert!(["connect", "503"].contains(&error.code().as_str()), "{error}");
        assert_eq!((appliance.timeout(), appliance.counts().write), (600, 1), "who reads finds it out");
        assert_eq!(world.x2().read_timeout().await, Ok(600));
    }
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_is_opened_anew() {
    let (fleet, world) = secured();
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    fleet.appliance(0).hang_up();
    fleet.appliance(0).requests().wait_until(|requests| requests.open_connections() == 0).await;
    // The client may learn of it a moment too late: once, and no request is lost but this one.
    let again = match world.x2().read_timeout().await {
        Err(error) => {
            assert_eq!(remote(error).reason(), Reason::Unreachable);
            world.x2().read_timeout().await
        }
        read => read,
    };
    assert_eq!(again, Ok(86_400));
    assert_eq!(fleet.counts().login, 1, "the token is kept");
}

#[tokio::test]
async fn an_operator_that_ends_begins_nothing_and_finishes_what_it_began() {
    let (fleet, world) = plain();
    world.x2().log_in().await.unwrap();
    world.ending.send_replace(true);
    assert_eq!(world.x2().read_timeout().await, Err(AccessError::NotSent));
    assert_eq!(world.x2().set_timeout(600, ALLOWED).await, Err(AccessError::NotSent));
    assert_eq!((fleet.counts().get, fleet.counts().write), (0, 0));

    world.ending.send_replace(false);
    let gate = Gate::new();
    fleet.appliance(0).fault(Fault::gate(&gate).on(Kind::Write));
    let mut x2 = world.x2();
    let ending = async {
        fleet.appliance(0).requests().wait_arrived(Kind::Write, 1).await;
        world.ending.send_replace(true);
        gate.open();
    };
    let (written, ()) = tokio::join!(x2.set_timeout(600, ALLOWED), ending);
    assert_eq!(written, Ok(()));
    assert_eq!(x2.prove().await, Ok(600), "the rest of a change");
}
