//! What an object's status shows of its login.

use jiff::Timestamp;
use serde_json::json;
use tenure::crd::{Connection, CustomerTokenTtl, KonaServerStatus, X2GatewayStatus};
use tenure::engine::login::{LoginState, LogsIn as _, login_state};

fn connection(suspend: bool) -> Connection {
    serde_json::from_value(
        json!({"url": "https://a", "credentialsSecretRef": {"name": "login"}, "suspend": suspend}),
    )
    .unwrap()
}

/// A status that shows a check and a proof at a URL, with a reason and a number of refused logins.
fn status(url: &str, reason: &str, refused: usize) -> X2GatewayStatus {
    let time = "2026-01-01T00:00:00Z";
    let login = json!({"secretUid": "u", "secretResourceVersion": "1", "time": time});
    let ready = json!({"type": "Ready", "status": "True", "reason": reason, "message": "", "lastTransitionTime": time});
    serde_json::from_value(json!({"effectiveUrl": url, "lastCheckedTime": time, "lastProvenTime": time,
        "refusedLogin": vec![login; refused], "conditions": [ready]}))
    .unwrap()
}

#[test]
fn a_user_was_let_in_only_where_the_status_shows_it_and_has_no_refusal() {
    for (case, suspend, status, let_in) in [
        ("in sync", false, status("https://a", "InSync", 0), true),
        ("any other fault", false, status("https://a", "Contested", 0), true),
        ("suspended", true, status("https://a", "InSync", 0), false),
        ("another URL", false, status("https://b", "InSync", 0), false),
        ("refused", false, status("https://a", "InSync", 1), false),
        ("not let in", false, status("https://a", "AuthenticationFailed", 0), false),
        ("without the role", false, status("https://a", "AdminRoleRequired", 0), false),
        (
            "never checked",
            false,
            X2GatewayStatus { last_checked_time: None, ..status("https://a", "InSync", 0) },
            false,
        ),
    ] {
        let state =
            login_state(Some("n"), &connection(suspend), "https://a".to_owned(), Some((&status).into()));
        assert_eq!(state.let_in, let_in, "{case}");
    }
}

#[test]
fn what_a_status_shows_of_another_system_does_not_count() {
    let of = |status: Option<&X2GatewayStatus>| {
        login_state(Some("n"), &connection(false), "https://a".to_owned(), status.map(Into::into))
    };
    let there = of(Some(&status("https://b", "AuthenticationFailed", 1)));
    assert_eq!(there, of(None));
    let LoginState { proven, refused, .. } = of(Some(&status("https://a", "AuthenticationFailed", 1)));
    assert_eq!((proven, refused.len()), (Some("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap()), 1));
}

#[test]
fn a_server_proves_no_lifetime() {
    let status =
        KonaServerStatus { effective_url: Some("https://a".to_owned()), ..KonaServerStatus::default() };
    let state = login_state(Some("n"), &connection(false), "https://a".to_owned(), Some((&status).into()));
    assert_eq!((state.account.secret.as_str(), state.proven), ("login", None));
}

#[test]
fn a_customers_own_user_logs_in_only_to_prove_what_is_enforced() {
    let customer = |mode: &str, verifier: Option<&str>, url: Option<&str>| -> CustomerTokenTtl {
        let reference = verifier.map(|name| json!({"name": name}));
        serde_json::from_value(json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "CustomerTokenTtl",
            "metadata": {"name": "acme", "namespace": "n"},
            "spec": {"serverRef": {"name": "kona"}, "customerId": "1d2b7a10-0000-4000-8000-000000000000", "accessTokenTtlSeconds": 900,
                "refreshTokenTtlSeconds": 3600, "mode": mode, "verifyCredentialsSecretRef": reference},
            "status": {"effectiveUrl": url}}))
        .unwrap()
    };
    let state = customer("Enforce", Some("user"), Some("https://a")).login_state().unwrap();
    assert_eq!((&*state.account.secret, &*state.system, state.let_in), ("user", "https://a", false));
    for (mode, verifier, url) in [
        ("Observe", Some("user"), Some("https://a")),
        ("Enforce", None, Some("https://a")),
        ("Enforce", Some("user"), None),
    ] {
        assert_eq!(customer(mode, verifier, url).login_state(), None, "{mode} {verifier:?} {url:?}");
    }
}
