//! What the record of writes says of one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tenure::crd::{Kind, TtlSeconds};
use tenure::engine::access::AccessError;
use tenure::engine::audit::{Line, Operation, lifetimes};
use tenure::engine::change::Outcome;
use tenure::engine::remote::{Broken, Fault, Malformed, RemoteError};

#[test]
fn an_error_shows_no_more_of_a_write_than_it_can() {
    use Operation::{RevokeTokens, SetCustomer, SetTimeout};
    let status = |code| Fault::Status { code, retry_after: None };
    let remote = |method, path, fault| AccessError::Remote(RemoteError { method, path, fault });
    let (timeout, tokens) = ("/api2/token/timeout", "/api2/tokens");
    for (operation, error, expected) in [
        (SetTimeout, remote("PUT", timeout, status(400)), Outcome::Refused),
        (SetTimeout, remote("PUT", timeout, status(503)), Outcome::Sent),
        (SetTimeout, remote("PUT", timeout, Fault::TimedOut), Outcome::Sent),
        (SetTimeout, remote("PUT", timeout, Fault::Unreachable(Broken::Lost)), Outcome::Sent),
        (SetTimeout, AccessError::NotAwaited, Outcome::Sent),
        (SetTimeout, AccessError::NotSent, Outcome::Prepared),
        (SetTimeout, remote("POST", tokens, Fault::TimedOut), Outcome::Prepared),
        (SetTimeout, AccessError::Refused, Outcome::Prepared),
        (SetTimeout, AccessError::TokenRefused, Outcome::Refused),
        (RevokeTokens, remote("DELETE", tokens, Fault::TimedOut), Outcome::Sent),
        (RevokeTokens, remote("POST", tokens, status(500)), Outcome::Prepared),
        (SetCustomer, remote("POST", "/api/customer/", status(409)), Outcome::Refused),
        (SetCustomer, remote("POST", "/api/customer", Fault::Malformed(Malformed::Long)), Outcome::Sent),
        (SetCustomer, remote("POST", "/api/auth/login", Fault::TimedOut), Outcome::Prepared),
    ] {
        assert_eq!(operation.outcome(&error), expected, "{operation:?} {error:?}");
    }
}

#[test]
fn lifetimes_are_written_in_order() {
    let ttl = TtlSeconds { access_token_ttl_seconds: Some(3600), refresh_token_ttl_seconds: None };
    assert_eq!(lifetimes(ttl), "3600/none");
}

#[test]
fn only_an_accepted_write_is_proven() {
    let line = || Line::new(Operation::SetTimeout, "https://a", Kind::Gateway, &ObjectMeta::default());
    let mut accepted = line();
    accepted.answered(&Ok(()));
    assert_eq!(
        (accepted.outcome, accepted.error.as_deref(), accepted.proof()),
        (Outcome::Applied, None, ("unknown", None))
    );
    accepted.saw(false, &60);
    assert_eq!(accepted.proof(), ("no", Some("60")));
    accepted.saw(true, &3600);
    assert_eq!(accepted.proof(), ("yes", Some("3600")));
    let mut failed = line();
    failed.answered::<()>(&Err(AccessError::NotAwaited));
    failed.saw(true, &3600);
    assert_eq!((failed.outcome, failed.proof()), (Outcome::Sent, ("unknown", None)));
    assert_eq!(failed.error.as_deref(), Some("the answer was not awaited"));
}
