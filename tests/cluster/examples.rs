//! The manifests that a user starts from are what they look like: nothing in them is refused, dropped or altered.

use serde_json::{Value, json};

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted_and_reads_back_as_it_was_written() {
    let f = Fixture::new("examples").await;
    let files = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut objects = 0;
    for file in files {
        let yaml = std::fs::read_to_string(&file).unwrap();
        let accepted =
            f.ns.dry_run_yaml(&yaml).await.unwrap_or_else(|error| panic!("{}: {error:#}", file.display()));
        let written: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        assert_eq!(accepted.len(), written.len(), "{}", file.display());
        for (accepted, mut written) in accepted.iter().zip(written) {
            // The API server keeps these encoded, as `data`.
            written.as_object_mut().unwrap().remove("stringData");
            let accepted = serde_json::to_value(accepted).unwrap();
            let differences = differences("", &written, &accepted);
            assert!(differences.is_empty(), "{}: {differences:?}", file.display());
        }
        objects += accepted.len();
    }
    assert!(objects >= 14, "only {objects} objects in examples/");
    f.finish().await;
}

/// Where `found` does not hold what `wanted` says; what it has beyond that are defaults.
fn differences(path: &str, wanted: &Value, found: &Value) -> Vec<String> {
    match wanted {
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, wanted)| differences(&format!("{path}.{key}"), wanted, &found[key]))
            .collect(),
        _ if wanted == found => Vec::new(),
        _ => vec![json!({"at": path, "written": wanted, "read": found}).to_string()],
    }
}
