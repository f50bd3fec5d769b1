//! From Rust types to CRD manifests as the API server likes them.

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{CustomerTokenTtl, KonaServer, TokenPolicy, X2Gateway};

/// The four CRDs, each with its file name and its YAML text, sorted by name.
pub fn manifests() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    [CustomerTokenTtl::crd(), KonaServer::crd(), TokenPolicy::crd(), X2Gateway::crd()]
        .into_iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let mut manifest = serde_json::to_value(crd).unwrap_or_default();
            finish(&mut manifest);
            Ok((format!("{name}.yaml"), serde_saphyr::to_string(&manifest)?))
        })
        .collect()
}

fn finish(crd: &mut Value) {
    if let Some(schema) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(schema);
        if let Some(status) = schema.pointer_mut("/properties/status").and_then(Value::as_object_mut) {
            // An object that was never reconciled must not appear to be healthy.
            status.insert("default".to_owned(), json!({"observedGeneration": -1}));
            status.insert("description".to_owned(), json!("What the operator last saw and did."));
            as_map_of_conditions(status);
        }
    }
}

fn as_map_of_conditions(status: &mut Map<String, Value>) {
    let conditions = status.get_mut("properties").and_then(|p| p.get_mut("conditions"));
    if let Some(conditions) = conditions.and_then(Value::as_object_mut) {
        conditions.insert("x-kubernetes-list-type".to_owned(), json!("map"));
        conditions.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
    }
}

/// Removes what Rust adds and Kubernetes does not want: `nullable` (an absent field is absent), empty lists as defaults,
/// number formats that Kubernetes does not know, bounds of integers as floats, and Markdown in descriptions, which
/// `kubectl explain` would print as it stands.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("nullable");
            map.retain(|key, value| !(key == "default" && *value == json!([])));
            for bound in ["minimum", "maximum"] {
                if let Some(whole) = map.get(bound).and_then(whole_number) {
                    map.insert(bound.to_owned(), whole);
                }
            }
            if map.get("type").is_some_and(|t| t == "integer") {
                map.insert("format".to_owned(), json!("int64"));
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace(['`', '<', '>'], "").split_whitespace().collect::<Vec<_>>().join(" ");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn whole_number(bound: &Value) -> Option<Value> {
    // {:.0} of a bound is its whole number: schemas here have no other.
    bound.as_f64().and_then(|number| format!("{number:.0}").parse::<i64>().ok()).map(Value::from)
}
