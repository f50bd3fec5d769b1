//! Names that YAML takes for numbers or truth values stay text wherever they stand.

use serde_json::{Map, Value, json};

use super::conformity::{check, monitoring, network, pod_monitoring, schemas};
use super::helm::*;

/// Maps whose values are text, and fields that are names.
const MAPS: [&str; 4] = ["labels", "annotations", "matchLabels", "nodeSelector"];
const NAMES: [&str; 5] = ["name", "namespace", "serviceAccountName", "priorityClassName", "interval"];

/// A release, its namespace, and values with everything that is named by them, or by more such names.
fn releases() -> Vec<(&'static str, &'static str, Value)> {
    let mut everything = monitoring();
    everything["networkPolicy"] = network()["networkPolicy"].take();
    let with = |more: Value| {
        let mut values = everything.as_object().unwrap().clone();
        values.extend(more.as_object().unwrap().clone());
        Value::Object(values)
    };
    let some = |name: &str| {
        json!({
            "rbac": {"scope": "namespaces", "namespaces": ["on", "456", "1e3"], "secretNames": [name]},
            "priorityClassName": name, "imagePullSecrets": [{"name": name}],
            "serviceAccount": {"name": name, "annotations": {"a": name}},
            "leaderElection": {"leaseName": name, "leaseNamespace": name},
            "commonLabels": {"b": name}, "podLabels": {"c": name}, "podAnnotations": {"d": name},
            "nodeSelector": {"e": name}, "service": {"annotations": {"f": name}},
        })
    };
    vec![
        ("no", "on", with(json!({}))),
        ("123", "456", with(json!({}))),
        ("123", "456", pod_monitoring()),
        ("no", "on", with(some("off"))),
        ("123", "456", with(some("0755"))),
        ("tenure", "on", with(json!({"nameOverride": "on"}))),
        ("tenure", "456", with(json!({"nameOverride": "123"}))),
        ("tenure", "on", with(json!({"fullnameOverride": "on"}))),
        ("tenure", "456", with(json!({"fullnameOverride": "123"}))),
    ]
}

fn assert_text(place: &str, value: &Value) {
    assert!(value.is_string(), "{place}: {value}");
}

fn assert_texts(place: &str, map: &Map<String, Value>) {
    for (key, value) in map {
        let place = format!("{place}/{key}");
        match value {
            Value::Object(inner) if MAPS.contains(&key.as_str()) => {
                inner.iter().for_each(|(key, value)| assert_text(&format!("{place}/{key}"), value));
            }
            value if NAMES.contains(&key.as_str()) => assert_text(&place, value),
            Value::Object(inner) => assert_texts(&place, inner),
            Value::Array(list) => {
                list.iter().filter_map(Value::as_object).for_each(|inner| assert_texts(&place, inner));
            }
            _ => {}
        }
    }
}

#[test]
fn names_are_text() {
    for (release, namespace, values) in releases() {
        for helm in Helm::BOTH {
            let rendered = helm.template_as(release, namespace, &values).unwrap();
            let objects = objects(&rendered);
            assert!(objects.len() > 15, "{}", objects.len());
            for mut object in objects {
                let place = format!("{helm:?} {release} {namespace}: {}", object["kind"]);
                if object["kind"] == "CustomResourceDefinition" {
                    // There, `name` and `labels` are words of schemas.
                    object["spec"].take();
                }
                assert_texts(&place, object.as_object().unwrap());
            }
        }
    }
}

/// The same by a reader of YAML 1.1, as Kubernetes' own are: `on` is a truth value to it.
#[tokio::test(flavor = "multi_thread")]
async fn objects_with_such_names_fit_the_schemas() {
    let schemas = schemas().await;
    for (release, namespace, values) in releases() {
        for helm in Helm::BOTH {
            let rendered = helm.template_as(release, namespace, &values).unwrap();
            let answer = check(schemas, &rendered);
            let expected =
                json!({"valid": objects(&rendered).len(), "invalid": 0, "errors": 0, "skipped": 0});
            assert_eq!(answer["summary"], expected, "{helm:?} {release} {namespace} {values}: {answer:#}");
        }
    }
}
