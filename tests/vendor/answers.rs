//! Answers that cannot be used: what they contain, and how tokens look.

use tenure::engine::access::AccessError;
use tenure::engine::remote::{Fault as Seen, Malformed};
use tenure::engine::verdict::Reason;
use tenure_kit::faults::Fault;
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::raw::TOKEN;
use tenure_kit::requests::Kind;
use tenure_kit::x2::{PutEffect, TokenShape};

use super::world::*;

#[tokio::test]
async fn a_setting_is_a_whole_number_of_sensible_size() {
    for (body, expected) in [
        (r#"{"timeout_seconds":1}"#, Ok(1)),
        (r#"{"timeout_seconds":2147483647,"other":[]}"#, Ok(2_147_483_647)),
        (r#"{"timeout_seconds":2147483648}"#, Err("timeout_seconds is out of range")),
        (r#"{"timeout_seconds":0}"#, Err("timeout_seconds is out of range")),
        (r#"{"timeout_seconds":-600}"#, Err("timeout_seconds is out of range")),
        (r#"{"timeout_seconds":"600"}"#, Err("timeout_seconds is not a whole number")),
        (r#"{"timeout_seconds":600.5}"#, Err("timeout_seconds is not a whole number")),
        (r#"{"timeout_seconds":1e400}"#, Err("it is not JSON; check that the URL is an X2 appliance's")),
        (r#"{"timeout_seconds":99999999999999999999}"#, Err("timeout_seconds is not a whole number")),
        (r#"{"timeout_seconds":null}"#, Err("timeout_seconds is not a whole number")),
        (r#"{"timeout":600}"#, Err("timeout_seconds is missing")),
        ("[600]", Err("timeout_seconds is missing")),
        ("600", Err("timeout_seconds is missing")),
        ("{}", Err("timeout_seconds is missing")),
    ] {
        let (fleet, world) = plain();
        world.x2().log_in().await.unwrap();
        fleet.appliance(0).fault(Fault::body(body).on(Kind::Get));
        match (world.x2().read_timeout().await, expected) {
            (Ok(read), Ok(seconds)) => assert_eq!(read, seconds),
            (Err(error), Err(why)) => {
                let error = remote(error);
                assert_eq!(
                    (error.code().as_str(), error.reason()),
                    ("protocol", Reason::UnexpectedAnswer),
                    "{body}: {error}"
                );
                assert!(error.to_string().ends_with(why), "{body}: {error}");
            }
            (read, _) => panic!("{body}: {read:?}"),
        }
    }
}

#[tokio::test]
async fn a_failure_that_only_the_body_states_is_one() {
    let stated = |code: u16| {
        format!(r#"{{"statusCode":{code},"error":"x","message":"planted","timeout_seconds":600}}"#)
    };
    for code in [400, 404, 409, 429, 500, 503] {
        let (fleet, world) = plain();
        fleet.appliance(0).fault(Fault::body(stated(code)).on(Kind::Get).times(1));
        let error = world.failure().await;
        assert_eq!((error.method, error.path, error.status()), ("GET", "/api2/token/timeout", Some(code)));
        fleet.appliance(0).fault(Fault::body(stated(code)).on(Kind::Write).times(1));
        let error = remote(world.x2().set_timeout(700, ALLOWED).await.unwrap_err());
        assert_eq!((error.method, error.path, error.status()), ("PUT", "/api2/token/timeout", Some(code)));
    }
    let (fleet, world) = plain();
    fleet.appliance(0).fault(Fault::body(stated(403)).on(Kind::Get).times(1));
    assert_eq!(world.x2().read_timeout().await, Err(AccessError::NotAdmin));
    fleet.appliance(0).fault(Fault::body(stated(401)).on(Kind::Get).times(1));
    let refused = stale(world.x2().read_timeout().await.unwrap_err());
    assert_eq!(world.x2_after(Some(refused)).read_timeout().await, Ok(86_400));
    fleet.appliance(0).fault(Fault::body(stated(401)).on(Kind::Write).times(1));
    let refused = stale(world.x2().set_timeout(700, ALLOWED).await.unwrap_err());
    assert_eq!(world.x2_after(Some(refused)).set_timeout(700, ALLOWED).await, Ok(()));
    fleet.appliance(0).fault(Fault::body(stated(200)).on(Kind::Get).times(1));
    assert_eq!(world.x2().read_timeout().await, Ok(600), "a success that is stated");
}

#[tokio::test]
async fn a_refused_login_that_only_the_body_states_is_not_repeated() {
    let (fleet, world) = plain();
    let body = r#"{"statusCode":401,"error":"Unauthorized","message":"Invalid username or password"}"#;
    fleet.appliance(0).fault(Fault::body(body).on(Kind::Login));
    assert_eq!(world.x2().log_in().await, Err(AccessError::Refused));
    assert!(matches!(world.x2().log_in().await, Err(AccessError::NotTried(_))));
    assert_eq!(fleet.counts().login, 1);
    let (fleet, world) = plain();
    fleet.appliance(0).fault(Fault::body(r#"{"statusCode":500}"#).on(Kind::Login));
    let error = remote(world.x2().log_in().await.unwrap_err());
    assert_eq!((error.method, error.path, error.status()), ("POST", "/api2/tokens", Some(500)));
}

#[tokio::test]
async fn tokens_without_a_lifetime_are_no_proof() {
    let text = |text: &str| TokenShape::Text(text.to_owned());
    // {"exp":1,"nbf":2}: it ends before it begins.
    let backwards = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEsIm5iZiI6Mn0.c2ln";
    let lifetime = "its token has no exp and nbf claims";
    for (shape, why) in [
        (TokenShape::WithoutExp, lifetime),
        (TokenShape::WithoutNbf, lifetime),
        (text("nonsense"), lifetime),
        (text("a.b.c"), lifetime),
        (text("eyJhbGciOiJIUzI1NiJ9.!!!.c2ln"), lifetime),
        (text(backwards), lifetime),
        (text(""), lifetime),
        (TokenShape::Missing, "it contains no token; check that the URL is an X2 appliance's"),
    ] {
        let (fleet, world) = plain();
        fleet.appliance(0).set_token_shape(shape);
        let error = remote(world.x2().log_in().await.unwrap_err());
        assert!(error.to_string().ends_with(why), "{error}");
    }
}

#[tokio::test]
async fn a_token_longer_than_8_kib_is_not_kept() {
    let token = |length: usize| format!("{TOKEN}{}", "x".repeat(length - TOKEN.len()));
    let (longest, longer) = (token(8 * 1024), token(8 * 1024 + 1));
    let long = Malformed::LongToken;
    assert_eq!(long.to_string(), "its token is longer than 8 KiB; check that the URL is correct");
    for (token, expected) in [(&longest, Ok(())), (&longer, Err(Seen::Malformed(long)))] {
        let (fleet, world) = plain();
        fleet.appliance(0).set_token_shape(TokenShape::Text(token.clone()));
        let logged_in = world.x2().log_in().await;
        assert_eq!(logged_in.map_err(|error| remote(error).fault), expected);
    }
    for (access, refresh, expected) in [
        (&longest, &longest, Ok(())),
        (&longer, &longest, Err(Seen::Malformed(long))),
        (&longest, &longer, Err(Seen::Malformed(long))),
    ] {
        let kona = KonaServer::start(KonaOptions::default()).unwrap();
        let tokens = format!(r#"{{"token":"{access}","refreshToken":"{refresh}"}}"#);
        kona.fault(Fault::body(tokens).on(Kind::Login));
        let logged_in = World::of_kona(&kona).kona().log_in().await;
        assert_eq!(logged_in.map_err(|error| remote(error).fault), expected);
    }
}

#[tokio::test]
async fn an_appliances_clock_does_not_matter() {
    for offset in [-3600, 3600, -86_400 * 365, 86_400 * 365] {
        let (fleet, world) = plain();
        fleet.appliance(0).set_clock_offset(offset);
        let mut x2 = world.x2();
        assert_eq!(x2.prove().await, Ok(86_400), "{offset}");
        x2.set_timeout(600, ALLOWED).await.unwrap();
        assert_eq!(x2.fresh_lifetime(), None, "what was proven before the change proves nothing");
        assert_eq!(x2.prove().await, Ok(600));
        assert_eq!(x2.fresh_lifetime(), Some(600));
    }
}

#[tokio::test]
async fn a_fresh_token_shows_what_a_write_really_did() {
    for (effect, read, proven) in [
        (PutEffect::Applied, 600, 600),
        (PutEffect::ShownOnly, 600, 86_400),
        (PutEffect::Dropped, 86_400, 86_400),
    ] {
        let (fleet, world) = plain();
        fleet.appliance(0).set_put_effect(effect);
        let mut x2 = world.x2();
        x2.set_timeout(600, ALLOWED).await.unwrap();
        assert_eq!((x2.read_timeout().await, x2.prove().await), (Ok(read), Ok(proven)), "{effect:?}");
        assert_eq!(fleet.appliance(0).requests().written(), [r#"{"timeout_seconds":600}"#]);
    }
}

#[tokio::test]
async fn a_user_without_the_role_is_told_so() {
    let (fleet, mut world) = plain();
    world.credentials = credentials("viewer", "x2-viewer-password", "1");
    let error = world.x2().log_in().await.unwrap_err();
    assert_eq!(error, AccessError::NotAdmin);
    let verdict = error.verdict("The appliance", "login");
    assert_eq!(verdict.reason, Reason::AdminRoleRequired);
    assert!(verdict.message.contains("Secret login lacks the role admin"), "{}", verdict.message);
    assert_eq!(fleet.counts().get, 0);
    assert!(!format!("{:?}", world.credentials).contains("x2-viewer-password"));
}
