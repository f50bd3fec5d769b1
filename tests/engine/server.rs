//! What a server's status shows of its login and its customers.

use jiff::Timestamp;
use serde_json::{Value, json};
use tenure::crd::{CustomerTokenTtl, KonaServer, KonaServerStatus, Time};
use tenure::engine::customer::Inputs;
use tenure::engine::login::News;
use tenure::engine::reason::Reason;
use tenure::engine::server::{Found, part, update};
use tenure::engine::tally::State;

fn server(suspend: bool) -> KonaServer {
    let connection =
        json!({"url": "https://kona.example", "credentialsSecretRef": {"name": "login"}, "suspend": suspend});
    serde_json::from_value(
        json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "KonaServer", "metadata": {"name": "kona"},
        "spec": connection}),
    )
    .unwrap()
}

/// A customer of generation 2 that requires 900 and 3600 seconds.
fn customer(mode: &str, suspend: bool, status: &Value) -> CustomerTokenTtl {
    serde_json::from_value(json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "CustomerTokenTtl",
        "metadata": {"name": "acme", "generation": 2},
        "spec": {"serverRef": {"name": "kona"}, "customerId": "1d2b7a10-0000-4000-8000-000000000000", "accessTokenTtlSeconds": 900, "refreshTokenTtlSeconds": 3600,
            "mode": mode, "suspend": suspend},
        "status": status}))
    .unwrap()
}

/// A status of a generation with a reason, the lifetimes that were read, and those that were proven.
fn status(generation: i64, reason: &str, read: [u32; 2], proven: [u32; 2]) -> Value {
    let ready = json!({"type": "Ready", "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let pair = |[access, refresh]: [u32; 2]| json!({"accessTokenTtlSeconds": access, "refreshTokenTtlSeconds": refresh});
    let mut status = pair(read);
    status["observedGeneration"] = generation.into();
    status["conditions"] = json!([ready]);
    status["proven"] = pair(proven);
    status
}

#[test]
fn a_customer_counts_by_what_it_reports_of_its_current_spec() {
    let (right, wrong) = ([900, 3600], [900, 7200]);
    for (mode, status, expected) in [
        ("Enforce", json!({}), State::Pending),
        ("Enforce", status(2, "InSync", right, right), State::InSync),
        ("Enforce", status(1, "InSync", right, right), State::Pending),
        ("Enforce", status(2, "InSync", wrong, right), State::Pending),
        ("Enforce", status(2, "AwaitingWindow", wrong, wrong), State::Pending),
        ("Enforce", status(2, "AwaitingWindow", wrong, right), State::Drifted),
        ("Enforce", status(2, "Drifted", wrong, wrong), State::Pending),
        ("Enforce", status(2, "Drifted", wrong, right), State::Drifted),
        ("Enforce", status(2, "CustomerNotFound", wrong, right), State::Failed),
        ("Observe", status(2, "Observed", right, wrong), State::InSync),
        ("Observe", status(2, "Observed", wrong, right), State::Drifted),
    ] {
        assert_eq!(part(&server(false), &customer(mode, false, &status)).state, expected, "{mode} {status}");
        assert_eq!(part(&server(true), &customer(mode, false, &status)).state, State::Suspended);
        assert_eq!(part(&server(false), &customer(mode, true, &status)).state, State::Suspended);
    }
}

#[test]
fn what_is_known_of_another_url_goes() {
    let time = |second| Some(Time(Timestamp::from_second(second).unwrap()));
    let found = |url: &str, checked| Found { effective_url: Some(url.to_owned()), checked, news: None };
    let mut status = KonaServerStatus::default();
    update(&mut status, Found { news: Some(News::LetIn), ..found("https://a", time(1)) });
    assert_eq!(status.last_checked_time, time(1));
    update(&mut status, found("https://a", None));
    assert_eq!(status.last_checked_time, time(1), "a check that failed");
    update(&mut status, found("https://b", None));
    assert_eq!((status.effective_url.as_deref(), status.last_checked_time), (Some("https://b"), None));
}

#[test]
fn a_server_that_comes_and_goes_calls_those_customers_that_wait_for_it() {
    let with = |reason: &str| KonaServer {
        status: serde_json::from_value(status(1, reason, [0, 0], [0, 0])).unwrap(),
        ..server(false)
    };
    let of = |server: &KonaServer| Inputs::of(&customer("Enforce", false, &json!({})), Some(server));
    let (fails, works) = (of(&with("Unreachable")), of(&with("InSync")));
    let calls = |before: &Inputs, now: &Inputs, reported| {
        let mut before = before.clone();
        before.overlook(now, reported);
        before != *now
    };
    assert!(calls(&fails, &works, Some(Reason::ServerNotReady)));
    assert!(!calls(&works, &fails, Some(Reason::ServerNotReady)), "it is checked at its own pace");
    assert!(!calls(&fails, &works, Some(Reason::CustomerNotFound)));
    let gone = Inputs::of(&customer("Enforce", false, &json!({})), None);
    assert!(calls(&works, &gone, Some(Reason::InSync)), "another server is another matter");
}

#[test]
fn the_annotation_that_opens_windows_calls_those_customers_that_wait_for_one() {
    let mut by_hand = customer("Enforce", false, &json!({}));
    let before = Inputs::of(&by_hand, None);
    let annotation = ("tenure.dev/override-window-until".to_owned(), "2026-01-01T00:00:00Z".to_owned());
    by_hand.metadata.annotations = Some([annotation].into_iter().collect());
    let now = Inputs::of(&by_hand, None);
    for (reported, calls) in [(Reason::AwaitingWindow, true), (Reason::InSync, false)] {
        let mut before = before.clone();
        before.overlook(&now, Some(reported));
        assert_eq!(before != now, calls, "{reported:?}");
    }
}
