//! What users set to null, which takes a default away, is as good as empty, or refused with a sentence.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::conformity::{monitoring, network, pod_monitoring};
use super::documents::documented;
use super::helm::*;

/// Every value, and every section of values.
fn paths() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for value in documented() {
        let mut path = value.path.as_str();
        while let Some((section, _)) = path.rsplit_once('.') {
            paths.insert(path.to_owned());
            path = section;
        }
        paths.insert(path.to_owned());
    }
    paths
}

/// Values with all templates in use but the CRDs, which take their time, and something at a path.
fn with(path: &str, value: Value) -> Value {
    let mut values = if path.starts_with("podMonitor") { pod_monitoring() } else { monitoring() };
    values["networkPolicy"] = network()["networkPolicy"].take();
    values["crds"] = json!({"enabled": false});
    let place = path.split('.').fold(&mut values, |place, key| &mut place[key]);
    *place = value;
    values
}

/// Nothing, in the form of a value's default.
fn nothing(path: &str) -> Value {
    let default = documented().into_iter().find(|value| value.path == path).map(|value| value.default);
    match default {
        Some(Value::Array(_)) => json!([]),
        Some(Value::String(_)) => json!(""),
        // Null on top of a default takes its entries away, which an empty map does not.
        Some(Value::Object(map)) => {
            Value::Object(map.into_iter().map(|(key, _)| (key, Value::Null)).collect())
        }
        _ => Value::Null,
    }
}

#[test]
fn null_is_nothing_or_is_refused() {
    let (mut taken, mut refused) = (0, 0);
    for path in paths() {
        for helm in Helm::BOTH {
            match helm.template(&with(&path, Value::Null)) {
                Ok(rendered) => {
                    let empty = helm.template(&with(&path, nothing(&path)));
                    assert_eq!(Ok(objects(&rendered)), empty.map(|text| objects(&text)), "{helm:?} {path}");
                    taken += 1;
                }
                Err(refusal) => {
                    let key = path.rsplit('.').next().unwrap();
                    let says = refusal.contains(&format!("missing property '{key}'"))
                        || refusal
                            .contains(&format!("{path} or podDisruptionBudget.minAvailable must be set"));
                    assert!(says, "{helm:?} {path}: {refusal}");
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 50 && refused > 50, "{taken} taken, {refused} refused");
}
