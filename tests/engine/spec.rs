//! What a policy's spec is parsed to.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenure::crd::{Approval, CustomerTokenTtlSpec, GatewaySelector, Mode, TokenPolicySpec};
use tenure::engine::lifetime::{Bounds, Target};
use tenure::engine::reason::Reason;
use tenure::engine::rollout::Bound;
use tenure::engine::spec::{Customer, Policy};

fn parsed(fields: &Value, bounds: Bounds) -> Policy {
    let mut spec = json!({"gatewaySelector": {}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let spec: TokenPolicySpec = serde_json::from_value(spec).unwrap();
    Policy::parse("short", &spec, bounds, Timestamp::UNIX_EPOCH)
}

#[test]
fn a_policy_is_parsed_with_its_rank_and_interval() {
    let fields = json!({
        "timeoutSeconds": 28800, "priority": 7, "mode": "Observe", "suspend": true, "interval": "1h30m",
    });
    let policy = parsed(&fields, Bounds::default());
    assert_eq!((policy.interval, policy.target()), (Duration::from_mins(90), Some(Target::Exact(28_800))));
    let claim = policy.claim;
    assert_eq!(
        (&*claim.policy, claim.priority, claim.mode, claim.suspended),
        ("short", 7, Mode::Observe, true)
    );
    let plain = parsed(&json!({"maxTimeoutSeconds": 43200}), Bounds::default());
    assert_eq!((plain.interval, plain.claim.mode), (Duration::from_mins(10), Mode::Enforce));
    assert!(plain.rollout.is_none() && plain.windows.closed(None, Timestamp::UNIX_EPOCH).is_none());
}

#[test]
fn what_a_customer_cannot_be_checked_by_is_reported() {
    let parsed = |fields: Value| {
        let mut spec = json!({
            "serverRef": {"name": "kona"}, "customerId": "1d2b7a10-0f2c-11ee-be56-0242ac120002",
            "accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 7200,
        });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let spec: CustomerTokenTtlSpec = serde_json::from_value(spec).unwrap();
        Customer::parse(&spec, Timestamp::UNIX_EPOCH)
    };
    assert_eq!(parsed(json!({"interval": "1h30m"})).unwrap().interval, Duration::from_mins(90));
    for (fields, message) in [
        (
            json!({"interval": "soon"}),
            "spec.interval \"soon\" is not a duration: use one such as 10m or 1h30m.",
        ),
        (
            json!({"windows": [{"schedule": "0 22 * * 6", "duration": "soon"}]}),
            "In spec.windows, the duration \"soon\"",
        ),
    ] {
        let verdict = parsed(fields).unwrap_err();
        assert_eq!(verdict.reason, Reason::InvalidSpec);
        assert!(verdict.message.starts_with(message), "{verdict:?}");
    }
}

#[test]
fn a_rollout_is_parsed_with_its_bounds_and_canaries() {
    let fields = json!({"timeoutSeconds": 7200, "rollout": {
        "maxConcurrent": "25%", "maxFailures": 0,
        "canary": {"count": 3, "soak": "1h30m", "approval": "Required"},
    }});
    let rollout = parsed(&fields, Bounds::default()).rollout.unwrap();
    assert_eq!((rollout.max_concurrent, rollout.max_failures), (Bound::Percent(25), Bound::Number(0)));
    let canary = rollout.canary.unwrap();
    assert_eq!(
        (canary.count, canary.soak, canary.approval),
        (3, Duration::from_mins(90), Approval::Required)
    );
    let fields = json!({"timeoutSeconds": 7200, "rollout": {"canary": {"selector": {}}}});
    let rollout = parsed(&fields, Bounds::default()).rollout.unwrap();
    assert_eq!((rollout.max_concurrent, rollout.max_failures), (Bound::Number(10), Bound::Number(3)));
    let canary = rollout.canary.unwrap();
    assert_eq!((canary.selector, canary.soak), (Some(GatewaySelector::default()), Duration::ZERO));
}

/// Also what the schema of this version would refuse: an object may be older than the schema.
#[test]
fn what_cannot_be_parsed_is_reported_and_keeps_its_rank() {
    let narrow = Bounds { least: 3600, most: 43_200 };
    let target = |fields: Value| {
        let mut all = json!({"timeoutSeconds": 7200, "priority": 7});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    };
    let windows = json!([{"schedule": "0 22 * * *", "duration": "4h", "timeZone": "Mars/Olympus"}]);
    for (fields, bounds, why) in [
        (json!({"priority": 7}), Bounds::default(), "specify either timeoutSeconds, or"),
        (target(json!({"timeoutSeconds": 600})), narrow, "outside the operator's limits"),
        (json!({"minTimeoutSeconds": 600, "priority": 7}), narrow, "outside the operator's limits"),
        (target(json!({"windows": windows})), narrow, "the timeZone \"Mars/Olympus\" is unknown"),
        (
            target(json!({"interval": "soon"})),
            narrow,
            "interval \"soon\" is not a duration: use one such as 10m or 1h30m",
        ),
        (
            target(json!({"rollout": {"canary": {"soak": "1d"}}})),
            narrow,
            "rollout.canary.soak \"1d\" is not a duration",
        ),
        (
            target(json!({"rollout": {"maxFailures": "few"}})),
            narrow,
            "rollout.maxFailures \"few\" is neither a number nor a percentage: use one such as 10 or 10%",
        ),
        (target(json!({"rollout": {"maxConcurrent": "-1%"}})), narrow, "rollout.maxConcurrent \"-1%\""),
    ] {
        let policy = parsed(&fields, bounds);
        let error = policy.claim.target.as_ref().unwrap_err().to_string();
        assert!(error.contains(why), "{fields}: {error}");
        assert_eq!((policy.target(), policy.claim.priority), (None, 7));
    }
}

#[test]
fn a_selector_matches_as_in_kubernetes() {
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let site = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "site", "operator": operator, "values": values}]});
    let (berlin, bonn, none) =
        (labels(&[("site", "berlin")]), labels(&[("site", "bonn"), ("x", "y")]), labels(&[]));
    for (selector, selected) in [
        (json!({}), [true, true, true]),
        (json!({"matchLabels": {"site": "berlin"}}), [true, false, false]),
        (json!({"matchLabels": {"site": "bonn", "x": "y"}}), [false, true, false]),
        (site("In", json!(["berlin", "bonn"])), [true, true, false]),
        (site("In", json!([])), [false, false, false]),
        (site("NotIn", json!(["berlin"])), [false, true, true]),
        (site("Exists", Value::Null), [true, true, false]),
        (site("DoesNotExist", Value::Null), [false, false, true]),
        (
            json!({
                "matchLabels": {"x": "y"},
                "matchExpressions": [{"key": "site", "operator": "NotIn", "values": ["bonn"]}],
            }),
            [false, false, false],
        ),
    ] {
        let parsed: GatewaySelector = serde_json::from_value(selector.clone()).unwrap();
        assert_eq!(
            [&berlin, &bonn, &none].map(|labels| parsed.matches(Some(labels))),
            selected,
            "{selector}"
        );
        assert_eq!(parsed.matches(None), selected[2], "{selector}");
    }
}
