//! What the real kubectl shows of the kinds.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::fixture::*;

const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";

async fn world(name: &str) -> Fixture {
    let f = Fixture::new(name).await;
    f.apply(&gateway_at("x2-berlin-1", "https://10.20.0.11")).await;
    f.apply(&policy("short-sessions", json!({"timeoutSeconds": 28_800}))).await;
    f.apply(&kona_server("kona-eu", "https://10.20.0.12")).await;
    f.apply(&customer("acme", ID, 3600, 86_400)).await;
    f
}

const MESSAGE: &str = "All is as it should be.";

/// Writes a status that is ready, with a message.
async fn report(f: &Fixture, kind: &str, name: &str, mut status: Value) {
    status["conditions"] = json!([{
        "type": "Ready", "status": "True", "reason": "InSync", "message": MESSAGE, "lastTransitionTime": "2026-11-22T10:00:00Z",
    }]);
    let api = f.ns.api(kind).await.unwrap();
    let patch = kube::api::Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &kube::api::PatchParams::default(), &patch).await.unwrap();
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_short_names() {
    let f = world("columns").await;
    let proven = (k8s_openapi::jiff::Timestamp::now() - Duration::from_hours(72)).to_string();
    let gateway = json!({
        "desiredTimeoutSeconds": 28_800, "timeoutSeconds": 86_400, "policy": "short-sessions", "lastProvenTime": proven,
    });
    report(&f, "X2Gateway", "x2-berlin-1", gateway).await;
    let rollout = json!({
        "phase": "Canary", "targetHash": "0", "startedTime": "2026-11-22T10:00:00Z", "changed": 0, "failed": 0,
    });
    report(&f, "TokenPolicy", "short-sessions", json!({ "rollout": rollout })).await;
    report(&f, "KonaServer", "kona-eu", json!({})).await;
    report(&f, "CustomerTokenTtl", "acme", json!({ "lastProvenTime": proven })).await;
    for (short, wide, header) in [
        ("x2", false, "NAME DESIRED TIMEOUT POLICY READY REASON AGE"),
        ("x2", true, "NAME URL DESIRED TIMEOUT POLICY READY REASON AGE PROVEN MESSAGE"),
        ("tp", false, "NAME TARGET GATEWAYS MODE READY REASON AGE"),
        ("tp", true, "NAME TARGET GATEWAYS MODE READY REASON AGE PHASE MESSAGE"),
        ("kona", false, "NAME URL CUSTOMERS READY REASON AGE"),
        ("kona", true, "NAME URL CUSTOMERS READY REASON AGE MESSAGE"),
        ("ctt", false, "NAME SERVER CUSTOMER ACCESS REFRESH READY REASON AGE"),
        ("ctt", true, "NAME SERVER CUSTOMER ACCESS REFRESH READY REASON AGE PROVEN MESSAGE"),
    ] {
        let output = f.kubectl(&["get", short, "-o", if wide { "wide" } else { "" }]).await;
        assert_eq!(words(output.lines().next().unwrap()), words(header), "{short}");
    }
    let row = f.kubectl(&["get", "x2", "-o", "wide", "--no-headers"]).await;
    let expected =
        ["x2-berlin-1", "https://10.20.0.11", "28800", "86400", "short-sessions", "True", "InSync"];
    assert_eq!(words(&row)[..7], expected);
    // The date of the proof comes as an age, as that of the creation does.
    for (kind, beside) in [("x2", Some("3d")), ("ctt", Some("3d")), ("tp", Some("Canary")), ("kona", None)] {
        let row = f.kubectl(&["get", kind, "-o", "wide", "--no-headers"]).await;
        let (before, message) = row.trim_end().split_at(row.find(MESSAGE).unwrap());
        assert_eq!(message, MESSAGE, "{kind}");
        assert!(beside.is_none_or(|word| words(before).last() == Some(&word)), "{kind}: {row}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_category_lists_the_lot() {
    let f = world("category").await;
    let mut names: Vec<String> =
        f.kubectl(&["get", "tenure", "-o", "name"]).await.lines().map(str::to_owned).collect();
    names.sort();
    let expected = [
        "customertokenttl.tenure.dev/acme",
        "konaserver.tenure.dev/kona-eu",
        "tokenpolicy.tenure.dev/short-sessions",
        "x2gateway.tenure.dev/x2-berlin-1",
    ];
    assert_eq!(names, expected);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_what_a_field_is_for() {
    let f = Fixture::new("explain").await;
    for (field, kind, words) in [
        ("x2", "<Object>", "One Profitap X2 appliance"),
        ("x2.spec.url", "<string>", "scheme and host, such as https://10.20.0.11"),
        ("x2.spec.tls.serverName", "<string>", "SNI"),
        ("x2.status.provenTimeoutSeconds", "<integer>", "newly issued token"),
        ("tp.spec.gatewaySelector", "<Object>", "{} selects all of them"),
        (
            "tp.spec.rollout.canary.approval",
            "<string>",
            "the annotation tenure.dev/approve of this policy equals status.rollout.targetHash",
        ),
        ("tp.spec.mode", "<string>", "Observe only reports"),
        ("kona.spec.limits.maxConcurrent", "<integer>", "Maximum concurrent requests, 1 to 256"),
        ("ctt.spec.customerId", "<string>", "lower-case UUID"),
        ("ctt.status.original", "<map[string]string>", "first write"),
    ] {
        let text = f.kubectl(&["explain", field]).await;
        assert!(text.contains(kind), "{field}: {text}");
        let description =
            text.split("DESCRIPTION:").nth(1).unwrap_or_else(|| panic!("{field} has no description: {text}"));
        assert!(
            description.split_whitespace().collect::<Vec<_>>().join(" ").contains(words),
            "{field}: {text}"
        );
    }
    f.finish().await;
}
