//! Who governs a gateway.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tenure::crd::{TokenPolicy, X2Gateway};
use tenure::engine::gateway::Regime;
use tenure::engine::governance::{Governance, Policies, Policy};
use tenure::engine::lifetime::{Bounds, InvalidTarget, Target};
use tenure::engine::spec;

pub(crate) fn merged(mut base: Value, patch: Value) -> Value {
    match (&mut base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                let before = base.remove(&key).unwrap_or(Value::Null);
                base.insert(key, merged(before, value));
            }
        }
        (base, patch) => *base = patch,
    }
    base
}

/// A policy that restores, for all gateways of Berlin.
pub(crate) fn policy(name: &str, patch: Value) -> (String, Option<Policy>) {
    let base = json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy",
        "metadata": {"name": name, "uid": name, "finalizers": ["tenure.dev/restore"]},
        "spec": {
            "gatewaySelector": {"matchLabels": {"site": "berlin"}}, "timeoutSeconds": 7200, "deletionPolicy": "Restore",
        },
    });
    let object: TokenPolicy = serde_json::from_value(merged(base, patch)).unwrap();
    let spec = spec::Policy::parse(name, &object.spec, Bounds::default(), Timestamp::UNIX_EPOCH);
    (name.to_owned(), Some(Policy { object: Arc::new(object), spec: Arc::new(spec) }))
}

pub(crate) fn gateway(patch: Value) -> X2Gateway {
    let base = json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway",
        "metadata": {"name": "x2", "uid": "x2", "labels": {"site": "berlin"}},
        "spec": {"url": "https://x2.example.net", "credentialsSecretRef": {"name": "x2-admin"}},
    });
    serde_json::from_value(merged(base, patch)).unwrap()
}

/// A gateway whose value a policy has set.
pub(crate) fn changed_by(name: &str, patch: Value) -> X2Gateway {
    let change = json!({
        "time": "2026-11-22T22:00:00Z", "from": 43200, "to": 7200, "cause": "Policy", "policy": name,
    });
    gateway(merged(json!({"status": {"policy": name, "history": [change]}}), patch))
}

pub(crate) fn deleted() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-11-22T22:00:00Z"}})
}

fn elsewhere() -> Value {
    json!({"metadata": {"labels": {"site": "bonn"}}})
}

fn governance(
    policies: impl IntoIterator<Item = (String, Option<Policy>)>,
    gateway: &X2Gateway,
) -> Governance {
    policies.into_iter().collect::<Policies>().governance(gateway)
}

fn enforced(policy: &str) -> Regime {
    Regime::Enforced { policy: policy.to_owned(), target: Ok(Target::Exact(7200)), suspended: false }
}

fn left(policy: &str) -> Regime {
    Regime::Left { policy: policy.to_owned() }
}

#[test]
fn the_highest_of_those_that_select_a_gateway_governs_it_and_observers_do_not() {
    let observer =
        || policy("a", json!({"spec": {"mode": "Observe", "interval": "5m", "timeoutSeconds": 600}}));
    let target = Target::Exact(600);
    for (policies, gateway, regime, interval) in [
        (vec![], gateway(json!({})), Regime::Unmanaged, 600),
        (vec![policy("a", json!({}))], gateway(elsewhere()), Regime::Unmanaged, 600),
        (vec![policy("a", deleted())], gateway(json!({})), Regime::Unmanaged, 600),
        (vec![observer()], gateway(json!({})), Regime::Observed(vec![("a".to_owned(), target)]), 300),
        (
            vec![observer(), policy("b", json!({"spec": {"interval": "1h"}}))],
            gateway(json!({})),
            enforced("b"),
            3600,
        ),
        (
            vec![policy("b", json!({})), policy("c", json!({"spec": {"priority": 1, "interval": "1h"}}))],
            gateway(json!({})),
            enforced("c"),
            3600,
        ),
    ] {
        let found = governance(policies, &gateway);
        assert_eq!((found.regime.clone(), found.interval), (regime, Duration::from_secs(interval)));
        assert_eq!(found.policy.as_ref().map(Policy::name), found.regime.policy());
    }
}

#[test]
fn a_policy_that_restores_is_left_when_it_or_the_gateway_goes_or_it_does_not_select_it_any_more() {
    let plain = || policy("a", json!({}));
    for (policies, gateway, regime) in [
        (vec![plain()], changed_by("a", json!({})), enforced("a")),
        (vec![plain()], changed_by("a", elsewhere()), left("a")),
        (vec![plain()], changed_by("a", deleted()), left("a")),
        (vec![policy("a", deleted())], changed_by("a", json!({})), left("a")),
        // The next policy's value comes before the original one.
        (vec![policy("a", deleted()), policy("b", json!({}))], changed_by("a", json!({})), enforced("b")),
        // Nothing was changed.
        (vec![plain()], gateway(merged(elsewhere(), json!({"status": {"policy": "a"}}))), Regime::Unmanaged),
        // It does not restore, or not now, or its deletion does not wait any more.
        (
            vec![policy("a", json!({"spec": {"deletionPolicy": "Retain"}}))],
            changed_by("a", elsewhere()),
            Regime::Unmanaged,
        ),
        (
            vec![policy("a", json!({"spec": {"suspend": true}}))],
            changed_by("a", elsewhere()),
            Regime::Unmanaged,
        ),
        (
            vec![policy("a", merged(deleted(), json!({"metadata": {"finalizers": []}})))],
            changed_by("a", json!({})),
            Regime::Unmanaged,
        ),
        // The one that wrote last restores, whichever is in force.
        (
            vec![policy("a", json!({})), policy("b", json!({"spec": {"mode": "Observe"}}))],
            changed_by("a", merged(elsewhere(), json!({"status": {"policy": "b"}}))),
            left("a"),
        ),
    ] {
        assert_eq!(governance(policies, &gateway).regime, regime, "{:?}", gateway.status);
    }
    let later = governance([plain()], &changed_by("a", json!({})));
    assert!(later.restores() && later.restorer.is_some_and(|policy| policy.name() == "a"));
}

#[test]
fn a_policy_that_is_not_understood_keeps_its_gateways_and_changes_nothing() {
    let unknown = || ("a".to_owned(), None);
    let found =
        governance([unknown(), policy("b", json!({"spec": {"priority": 9}}))], &changed_by("a", json!({})));
    let (policy_name, target) = ("a".to_owned(), Err(InvalidTarget::Undecodable));
    assert_eq!(found.regime, Regime::Enforced { policy: policy_name, target, suspended: false });
    assert!(found.policy.is_none() && found.restorer.is_none());
    assert_eq!(governance([unknown(), policy("b", json!({}))], &gateway(json!({}))).regime, enforced("b"));
}

#[test]
fn requests_of_the_policies_that_govern_or_observe_cover_a_gateway() {
    let asked = |name: &str, patch: Value| {
        let asked = json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": "now"}}});
        policy(name, merged(asked, patch))
    };
    let policies = [
        asked("a", json!({"spec": {"mode": "Observe"}})),
        asked("b", json!({"spec": {"priority": 1}})),
        asked("c", json!({})),
        asked("d", json!({"spec": {"mode": "Observe"}, "status": {"lastHandledReconcileAt": "now"}})),
    ];
    let request = |name: &str| (name.to_owned(), "now".to_owned());
    assert_eq!(governance(policies, &gateway(json!({}))).requests, [request("a"), request("b")]);
    // Also while the governor is not understood.
    let observer = asked("z", json!({"spec": {"mode": "Observe"}}));
    let held = governance([("a".to_owned(), None), observer], &changed_by("a", json!({})));
    assert_eq!(held.requests, [request("z")]);
}

#[test]
fn a_change_of_a_gateway_concerns_the_policies_that_select_it_or_whose_value_it_has() {
    let policies: Policies = [
        policy("a", json!({})),
        policy("b", json!({"spec": {"gatewaySelector": {"matchLabels": {"site": "bonn"}}}})),
        policy("c", json!({"spec": {"gatewaySelector": {"matchLabels": {"site": "bonn"}}}})),
        ("d".to_owned(), None),
        ("e".to_owned(), None),
    ]
    .into_iter()
    .collect();
    for (gateway, concerned) in [
        (gateway(json!({})), vec!["a"]),
        (changed_by("b", json!({})), vec!["a", "b"]),
        (changed_by("b", json!({"status": {"policy": "d"}})), vec!["a", "b", "d"]),
        (gateway(elsewhere()), vec!["b", "c"]),
    ] {
        let found: Vec<&str> = policies.concerned(&gateway.metadata, gateway.status.as_ref()).collect();
        assert_eq!(found, concerned, "{:?}", gateway.status);
    }
}

#[test]
fn a_closed_window_keeps_changes_from_being_made_unless_it_is_opened_manually() {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let window = json!({"spec": {"windows": [{"schedule": "0 22 * * *", "duration": "4h"}]}});
    let opened =
        |until: &str| json!({"metadata": {"annotations": {"tenure.dev/override-window-until": until}}});
    let closed = |patch: Value| {
        let found = governance([policy("a", merged(window.clone(), patch))], &gateway(json!({})));
        found.closed_window(now).map(|closed| (closed.next.to_string(), closed.note.is_some()))
    };
    let next = "2026-11-22T22:00:00Z".to_owned();
    assert_eq!(closed(json!({})), Some((next.clone(), false)));
    assert_eq!(closed(opened("2026-11-22T13:00:00Z")), None);
    assert_eq!(closed(opened("2026-11-22T11:00:00Z")), Some((next.clone(), false)));
    assert_eq!(closed(opened("tonight")), Some((next, true)));
    assert!(governance([policy("a", json!({}))], &gateway(json!({}))).closed_window(now).is_none());
}

#[test]
fn an_original_value_is_owed_for_the_policy_that_wrote_it_whichever_governs_now() {
    let owes = |policies: [(String, Option<Policy>); 2], status: Value| {
        let gateway = changed_by("a", json!({"status": status}));
        governance(policies, &gateway).owes_original(&gateway)
    };
    let original = || json!({"originalTimeoutSeconds": 43200});
    let retains = json!({"spec": {"priority": 1, "deletionPolicy": "Retain"}});
    let both = || [policy("a", json!({})), policy("b", retains.clone())];
    assert!(owes(both(), original()));
    assert!(!owes(both(), json!({})), "the original value is unknown");
    let retained = policy("a", json!({"spec": {"deletionPolicy": "Retain"}}));
    assert!(!owes([retained, policy("b", retains.clone())], original()));
}

#[test]
fn a_spec_is_parsed_once_per_generation() {
    let generation = |generation: u32| {
        let patch =
            json!({"metadata": {"generation": generation}, "spec": {"timeoutSeconds": 3600 + generation}});
        policy("a", patch).1.unwrap()
    };
    let known: Policies = [("a".to_owned(), Some(generation(1)))].into_iter().collect();
    let parse = |policy: &Policy| known.parse(&policy.object, Bounds::default(), Timestamp::UNIX_EPOCH).spec;
    assert!(Arc::ptr_eq(&parse(&generation(1)), &known.get("a").unwrap().spec));
    assert_eq!(parse(&generation(2)).target(), Some(Target::Exact(3602)));
    let Policy { object, .. } = generation(1);
    let again = TokenPolicy {
        metadata: ObjectMeta { uid: Some("other".to_owned()), ..object.metadata.clone() },
        ..(*object).clone()
    };
    let again = Policy { object: Arc::new(again), ..generation(1) };
    assert!(!Arc::ptr_eq(&parse(&again), &known.get("a").unwrap().spec), "created again");
}
