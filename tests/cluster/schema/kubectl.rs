//! What the real kubectl shows of the kinds.

use serde_json::json;

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

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_short_names() {
    let f = world("columns").await;
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "InSync", "message": "", "lastTransitionTime": "2026-11-22T10:00:00Z",
    });
    let status = json!({"desiredTimeoutSeconds": 28_800, "timeoutSeconds": 86_400, "policy": "short-sessions", "conditions": [ready]});
    let api = f.ns.api("X2Gateway").await.unwrap();
    let patch = kube::api::Patch::Merge(json!({ "status": status }));
    api.patch_status("x2-berlin-1", &kube::api::PatchParams::default(), &patch).await.unwrap();
    for (short, wide, header) in [
        ("x2", false, "NAME DESIRED TIMEOUT POLICY READY REASON AGE"),
        ("x2", true, "NAME URL DESIRED TIMEOUT POLICY READY REASON AGE"),
        ("tp", false, "NAME TARGET GATEWAYS MODE READY REASON AGE"),
        ("kona", false, "NAME URL CUSTOMERS READY REASON AGE"),
        ("ctt", false, "NAME SERVER CUSTOMER ACCESS REFRESH READY REASON AGE"),
    ] {
        let output = f.kubectl(&["get", short, "-o", if wide { "wide" } else { "" }]).await;
        assert_eq!(words(output.lines().next().unwrap()), words(header), "{short}");
    }
    let row = f.kubectl(&["get", "x2", "-o", "wide", "--no-headers"]).await;
    let expected =
        ["x2-berlin-1", "https://10.20.0.11", "28800", "86400", "short-sessions", "True", "InSync"];
    assert_eq!(words(&row)[..7], expected);
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
