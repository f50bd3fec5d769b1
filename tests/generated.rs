//! The files in `crds/` are what the code prints, and in the form that Kubernetes and its tools want; and what `tests/gitops`
//! judges is what the code reports.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "generated/gitops.rs"]
mod gitops;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

const REGENERATE: &str = "run `cargo run -q -- crds --output crds` and commit what it writes";

/// The files of `crds/`, by name.
fn files() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read_to_string(e.path()).unwrap()))
        .collect()
}

/// Calls `look` with a schema, those of its fields, entries and values, and the path of each.
fn walk(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    look(path, schema);
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), look);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(part) = schema.get(key) {
            walk(part, &format!("{path}{mark}"), look);
        }
    }
}

/// Calls `look` with every schema of every file and its path, such as `X2Gateway.spec.url`.
fn schemas(mut look: impl FnMut(&str, &Value)) {
    for text in files().values() {
        let crd: Value = serde_saphyr::from_str(text).unwrap();
        let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
        walk(schema, crd["spec"]["names"]["kind"].as_str().unwrap(), &mut look);
    }
}

#[test]
fn the_crds_are_what_the_code_prints() {
    let printed: BTreeMap<String, String> = tenure::crd::manifests().unwrap().into_iter().collect();
    let files = files();
    let expected = ["customertokenttls", "konaservers", "tokenpolicies", "x2gateways"]
        .map(|kind| format!("{kind}.tenure.dev.yaml"));
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), expected, "{REGENERATE}");
    for (name, text) in &printed {
        assert!(files.get(name) == Some(text), "crds/{name} is out of date: {REGENERATE}");
    }
    assert_eq!(printed.len(), files.len());
}

#[test]
fn the_crds_stay_small() {
    for (name, text) in files() {
        assert!((1_000..60_000).contains(&text.len()), "{name} has {} bytes", text.len());
    }
}

#[test]
fn every_field_is_described_for_kubectl_explain() {
    let mut fields = 0;
    schemas(|path, schema| {
        // A map's values and a list's entries of a simple type are described with the map or list.
        if path.ends_with("{}") || path.ends_with("[]") && schema["type"] == "string" {
            return;
        }
        fields += 1;
        let text = schema["description"].as_str().unwrap_or_default();
        assert!(text.trim().len() > 10 && text.contains(' '), "{path} is described by {text:?}");
        for noise in ["Auto-generated", "`", "<", ">", "\n"] {
            assert!(!text.contains(noise), "{path}: {text}");
        }
        // It stands alone: kubectl explain shows neither its neighbours nor what the values mean.
        for elsewhere in [" below", " within it"] {
            assert!(!text.contains(elsewhere), "{path}: {text}");
        }
        for value in schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(text.contains(value), "{path} does not explain {value}: {text}");
        }
    });
    assert!(fields > 100, "only {fields} were found");
}

#[test]
fn only_forms_that_kubernetes_knows() {
    let (mut integers, mut bounds) = (0, 0);
    schemas(|path, schema| {
        assert!(schema.get("nullable").is_none(), "{path} is nullable");
        if let Some(format) = schema.get("format").and_then(Value::as_str) {
            assert!(["int64", "date-time"].contains(&format), "{path} has format {format}");
        }
        integers += usize::from(schema["type"] == "integer" && schema["format"] == "int64");
        for bound in ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"]
        {
            if let Some(value) = schema.get(bound) {
                bounds += 1;
                assert!(value.is_i64() || value.is_u64(), "{path}: {bound} is {value}");
            }
        }
        assert_ne!(schema["type"], "number", "{path}");
        assert_ne!(schema.get("default"), Some(&Value::Array(vec![])), "{path}");
    });
    assert!(integers > 10 && bounds > 40, "{integers} integers and {bounds} bounds were found");
}

#[test]
fn every_text_list_and_map_that_users_write_is_bounded() {
    schemas(|path, schema| {
        if !path.contains(".spec.") || schema.get("enum").is_some() {
            return;
        }
        let bound = match schema["type"].as_str() {
            Some("string") => "maxLength",
            Some("array") => "maxItems",
            Some("object") if schema.get("additionalProperties").is_some() => "maxProperties",
            _ => return,
        };
        assert!(schema.get(bound).is_some(), "{path} has no {bound}");
    });
}

#[test]
fn conditions_are_a_map_by_type() {
    for (name, text) in files() {
        let crd: Value = serde_saphyr::from_str(&text).unwrap();
        let status = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status").unwrap();
        let conditions = &status["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{name}");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]), "{name}");
        assert_eq!(status["default"], serde_json::json!({"observedGeneration": -1}), "{name}");
        assert_eq!(
            crd.pointer("/spec/versions/0/subresources/status"),
            Some(&serde_json::json!({})),
            "{name}"
        );
        assert_eq!(crd["spec"]["names"]["categories"], serde_json::json!(["tenure"]), "{name}");
    }
}
