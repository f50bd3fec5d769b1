//! TokenPolicy: the lifetime, the selector and the rest.

use serde_json::{Value, json};

use super::super::fixture::*;
use super::{Case, accepts, field, judge, long, refuses, values};

const EXACT_OR_RANGE: &str = "specify either timeoutSeconds (exactly this lifetime), or minTimeoutSeconds, maxTimeoutSeconds or both (a range)";
const INTERVAL: &str =
    "must be a duration between 30s and 24h in hours, minutes and seconds, such as 10m or 1h30m";
const LABEL_KEY: &str = "must be a label's key, such as site or example.net/site";
const LABEL_VALUE: &str = "must be a label's value: letters, digits, '-', '_' and '.'";

async fn judge_policy(name: &str, spec: Value, cases: Vec<Case>) {
    let f = Fixture::new(name).await;
    let base = json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy", "metadata": {"name": "bounds"},
        "spec": with(json!({"gatewaySelector": {}}), spec),
    });
    judge(&f, &base, cases).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_wants_a_lifetime_or_a_range() {
    let mut cases = Vec::new();
    for name in ["timeoutSeconds", "minTimeoutSeconds", "maxTimeoutSeconds"] {
        let least = "should be greater than or equal to 600";
        cases.extend(field(name, &values(&[600, 2_592_000]), least, &values(&[599, 0, -600])));
        cases.extend(field(
            name,
            &[],
            "should be less than or equal to 2592000",
            &values(&[2_592_001, i64::MAX]),
        ));
    }
    let range = |least: i64, most: i64| json!({"minTimeoutSeconds": least, "maxTimeoutSeconds": most});
    let exact_and = |field: &str| json!({"timeoutSeconds": 28_800, field: 28_800});
    cases.extend([
        accepts(range(600, 2_592_000)),
        accepts(range(600, 600)),
        refuses("", "minTimeoutSeconds must not be greater than maxTimeoutSeconds", range(601, 600)),
        refuses("", EXACT_OR_RANGE, json!({})),
        refuses("", EXACT_OR_RANGE, exact_and("minTimeoutSeconds")),
        refuses("", EXACT_OR_RANGE, exact_and("maxTimeoutSeconds")),
        refuses("", EXACT_OR_RANGE, with(range(600, 700), json!({"timeoutSeconds": 650}))),
        refuses("", "timeoutSeconds", json!({"timeoutSeconds": "28800"})),
        refuses("", "timeoutSeconds", json!({"timeoutSeconds": 28_800.5})),
    ]);
    judge_policy("lifetime", json!({}), cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_mode_and_interval_are_bounded() {
    let mut cases = field(
        "priority",
        &values(&[-1000, 0, 1000]),
        "should be less than or equal to 1000",
        &values(&[1001]),
    );
    cases.extend(field("priority", &[], "should be greater than or equal to -1000", &values(&[-1001])));
    let modes = "supported values: \"Enforce\", \"Observe\"";
    cases.extend(field("mode", &values(&["Enforce", "Observe"]), modes, &values(&["enforce", "", "Off"])));
    let good = ["30s", "10m", "24h", "1h30m", "86400s", "23h59m60s"];
    let bad = ["", "29s", "0s", "24h1s", "86401s", "25h", "10", "10 m", "1.5h", "-10m", "1d", "10m1h", "m"];
    cases.extend(field("interval", &values(&good), INTERVAL, &values(&bad)));
    cases.push(refuses("interval", "may not be more than 16", json!({"interval": "00001h00001m00001s"})));
    cases.push(accepts(json!({"suspend": true})));
    cases.push(refuses("", "suspend", json!({"suspend": "true"})));
    cases.push(refuses("", "field not declared in schema", json!({"timeoutSecond": 1})));
    judge_policy("policy", json!({"timeoutSeconds": 28_800}), cases).await;
}

fn requirement(requirement: Value) -> Value {
    json!({"gatewaySelector": {"matchExpressions": [requirement]}})
}

fn operators() -> Vec<Case> {
    let values = "In and NotIn need at least one entry in values; Exists and DoesNotExist take none";
    let mut cases = Vec::new();
    for operator in ["In", "NotIn"] {
        cases.push(accepts(requirement(json!({"key": "site", "operator": operator, "values": ["a", ""]}))));
        cases.push(refuses(
            "gatewaySelector",
            values,
            requirement(json!({"key": "site", "operator": operator})),
        ));
        let empty = requirement(json!({"key": "site", "operator": operator, "values": []}));
        cases.push(refuses("gatewaySelector", values, empty));
    }
    for operator in ["Exists", "DoesNotExist"] {
        cases.push(accepts(requirement(json!({"key": "site", "operator": operator}))));
        cases.push(accepts(requirement(json!({"key": "site", "operator": operator, "values": []}))));
        let some = requirement(json!({"key": "site", "operator": operator, "values": ["a"]}));
        cases.push(refuses("gatewaySelector", values, some));
    }
    let unknown = requirement(json!({"key": "site", "operator": "Gt", "values": ["1"]}));
    cases.push(refuses(
        "gatewaySelector",
        "supported values: \"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"",
        unknown,
    ));
    cases.push(refuses("gatewaySelector", "Required value", requirement(json!({"key": "site"}))));
    cases.push(refuses("gatewaySelector", "Required value", requirement(json!({"operator": "Exists"}))));
    cases
}

fn label_forms() -> Vec<Case> {
    let mut cases = Vec::new();
    let exists = |key: &str| requirement(json!({"key": key, "operator": "Exists"}));
    let carries = |key: &str, value: &str| json!({"gatewaySelector": {"matchLabels": {key: value}}});
    let within = |value: &str| requirement(json!({"key": "site", "operator": "In", "values": [value]}));
    for key in ["site", "example.net/site", "app.kubernetes.io/part_of", "A", "9"] {
        cases.extend([accepts(exists(key)), accepts(carries(key, "a"))]);
    }
    for key in ["a b", "-a", "a-", "/site", "example.net/", "a/b/c", "Example/site", "ä"] {
        cases.push(refuses("gatewaySelector.matchExpressions[0].key", LABEL_KEY, exists(key)));
        cases.push(refuses("gatewaySelector.matchLabels", LABEL_KEY, carries(key, "a")));
    }
    cases.push(refuses("gatewaySelector", "should be at least 1 chars long", exists("")));
    cases.push(refuses("gatewaySelector.matchLabels", LABEL_KEY, carries("", "a")));
    for value in ["berlin", "", "a_b.c-D", "9", &long(63)] {
        cases.extend([accepts(carries("site", value)), accepts(within(value))]);
    }
    for value in ["a b", "-a", "a-", "a/b", "ä"] {
        cases.push(refuses("gatewaySelector.matchLabels", LABEL_VALUE, carries("site", value)));
        cases.push(refuses("gatewaySelector.matchExpressions[0].values", LABEL_VALUE, within(value)));
    }
    cases.push(refuses("gatewaySelector", "may not be more than 63", carries("site", &long(64))));
    cases.push(refuses("gatewaySelector", "may not be more than 63", within(&long(64))));
    cases.push(accepts(exists(&format!("{}/{}", long(253), long(63)))));
    cases.push(refuses(
        "gatewaySelector",
        "may not be more than 317",
        exists(&format!("{}/{}", long(253), long(64))),
    ));
    cases
}

fn sizes() -> Vec<Case> {
    let labels = |count: usize| {
        let labels: serde_json::Map<String, Value> =
            (0..count).map(|n| (format!("key-{n}"), json!("a"))).collect();
        json!({"gatewaySelector": {"matchLabels": labels}})
    };
    let requirements = |count: usize| {
        let list: Vec<Value> =
            (0..count).map(|n| json!({"key": format!("key-{n}"), "operator": "Exists"})).collect();
        json!({"gatewaySelector": {"matchExpressions": list}})
    };
    let entries = |count: usize| {
        let list: Vec<Value> = (0..count).map(|n| json!(format!("value-{n}"))).collect();
        requirement(json!({"key": "site", "operator": "In", "values": list}))
    };
    vec![
        accepts(labels(32)),
        refuses("gatewaySelector.matchLabels", "must have at most 32 items", labels(33)),
        accepts(requirements(32)),
        refuses("gatewaySelector.matchExpressions", "must have at most 32 items", requirements(33)),
        accepts(entries(64)),
        refuses("gatewaySelector.matchExpressions[0].values", "must have at most 64 items", entries(65)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_selects_by_labels() {
    let mut cases = [operators(), label_forms(), sizes()].into_iter().flatten().collect::<Vec<_>>();
    cases.push(accepts(json!({"gatewaySelector": {}})));
    cases.push(refuses("gatewaySelector", "Required value", json!({"gatewaySelector": null})));
    judge_policy("selector", json!({"timeoutSeconds": 28_800}), cases).await;
}
