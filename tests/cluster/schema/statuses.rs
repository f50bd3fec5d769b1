//! The bounds of the statuses, which the operator itself has to keep.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::super::fixture::*;

const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";
const TIME: &str = "2026-11-22T10:00:00Z";

/// The refusal of a status, if there is one.
async fn refusal(f: &Fixture, kind: &str, status: &Value) -> Option<String> {
    let api = f.ns.api(kind).await.unwrap();
    let patch = Patch::Merge(json!({ "status": status }));
    match api.patch_status("bounds", &PatchParams::default().dry_run(), &patch).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

fn entries(count: usize, entry: impl Fn(usize) -> Value) -> Value {
    (0..count).map(entry).collect()
}

fn conditions(count: usize) -> Value {
    entries(
        count,
        |n| json!({"type": format!("Type{n}"), "status": "True", "reason": "A", "message": "", "lastTransitionTime": TIME}),
    )
}

fn refused_logins(count: usize) -> Value {
    entries(count, |n| json!({"secretUid": format!("{n}"), "secretResourceVersion": "1", "time": TIME}))
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_in_statuses_are_bounded() {
    let f = Fixture::new("statuses").await;
    f.apply(&gateway_at("bounds", "https://10.20.0.11")).await;
    f.apply(&policy("bounds", json!({"timeoutSeconds": 600}))).await;
    f.apply(&kona_server("bounds", "https://10.20.0.12")).await;
    f.apply(&customer("bounds", ID, 60, 60)).await;
    for kind in ["X2Gateway", "TokenPolicy", "KonaServer", "CustomerTokenTtl"] {
        assert_eq!(refusal(&f, kind, &json!({"conditions": conditions(16)})).await, None, "{kind}");
        let text = refusal(&f, kind, &json!({"conditions": conditions(17)})).await.expect(kind);
        assert!(text.contains("status.conditions") && text.contains("must have at most 16 items"), "{text}");
        let twice = json!([conditions(1)[0], conditions(1)[0]]);
        let text = refusal(&f, kind, &json!({"conditions": twice})).await.expect(kind);
        assert!(text.contains("Duplicate value"), "{text}");
    }
    for kind in ["X2Gateway", "KonaServer", "CustomerTokenTtl"] {
        assert_eq!(refusal(&f, kind, &json!({"refusedLogin": refused_logins(2)})).await, None, "{kind}");
        let text = refusal(&f, kind, &json!({"refusedLogin": refused_logins(3)})).await.expect(kind);
        assert!(text.contains("status.refusedLogin") && text.contains("must have at most 2 items"), "{text}");
    }
    let change = |_| json!({"time": TIME, "from": 1, "to": 2, "policy": "p", "cause": "Drift"});
    let ttl_change =
        |_| json!({"time": TIME, "from": {}, "to": {"accessTokenTtlSeconds": 1}, "cause": "Policy"});
    let failure = |n: usize| json!({"gateway": format!("g{n}"), "reason": "TimedOut", "message": ""});
    for (kind, field, most, list) in [
        ("X2Gateway", "history", 10, [entries(10, change), entries(11, change)]),
        ("CustomerTokenTtl", "history", 10, [entries(10, ttl_change), entries(11, ttl_change)]),
        ("TokenPolicy", "failures", 20, [entries(20, failure), entries(21, failure)]),
    ] {
        let [good, bad] = list;
        assert_eq!(refusal(&f, kind, &json!({field: good})).await, None, "{kind}");
        let text = refusal(&f, kind, &json!({field: bad})).await.expect(kind);
        assert!(text.contains(&format!("must have at most {most} items")), "{text}");
    }
    let unknown = json!({"history": [{"time": TIME, "to": 2, "policy": "p", "cause": "Whim"}]});
    assert!(refusal(&f, "X2Gateway", &unknown).await.expect("an unknown cause").contains("supported values"));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_was_never_written_is_nobodys_success() {
    let f = Fixture::new("unseen").await;
    let applied = f.apply(&gateway_at("unseen", "https://10.20.0.11")).await;
    assert_eq!(applied.data["status"], json!({"observedGeneration": -1}));
    // A status in a manifest counts as little as it does for any kind with a status of its own.
    let forged =
        with(gateway_at("forged", "https://10.20.0.13"), json!({"status": {"observedGeneration": 1}}));
    f.apply(&forged).await;
    assert_eq!(f.get("X2Gateway", "forged").await.data["status"], json!({"observedGeneration": -1}));
    f.finish().await;
}
