//! The manifests that a user starts from are what they look like: nothing in them is refused, dropped or altered.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted_and_reads_back_as_it_was_written() {
    let f = Fixture::new("examples").await;
    let mut objects = 0;
    let encrypted = |file: &PathBuf| file.to_string_lossy().ends_with(".sops.yaml");
    let gitops = files("examples/flux/token-lifetimes", "yaml").into_iter().filter(|file| !encrypted(file));
    for file in files("examples", "yaml").into_iter().chain(gitops) {
        objects += accepted(&f, &file, &std::fs::read_to_string(&file).unwrap()).await;
    }
    assert!(objects >= 20, "only {objects} objects in examples/");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pages_show_is_accepted_as_it_is_written() {
    let f = Fixture::new("pages").await;
    let mut objects = 0;
    for page in tenure_kit::book::pages(root()).unwrap() {
        for block in page.blocks() {
            match block.info.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["yaml"] => objects += accepted(&f, &page.path, &block.text).await,
                // The tests of the chart render its values; what configures other programs is YAML at least.
                ["yaml", "values" | "config"] => drop(serde_saphyr::from_str::<Value>(&block.text).unwrap()),
                ["yaml", ..] => panic!("{}: {:?}", page.path.display(), block.info),
                _ => {}
            }
        }
    }
    assert!(objects >= 15, "only {objects} objects in the pages");
    f.finish().await;
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|e| e == extension)).collect()
}

/// How many objects there are in a YAML text, each of which the API server takes and keeps as it is written.
async fn accepted(f: &Fixture, file: &Path, yaml: &str) -> usize {
    let accepted =
        f.ns.dry_run_yaml(yaml).await.unwrap_or_else(|error| panic!("{}: {error:#}", file.display()));
    let written: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    assert_eq!(accepted.len(), written.len(), "{}", file.display());
    for (accepted, mut written) in accepted.iter().zip(written) {
        // The API server keeps these encoded, as `data`.
        written.as_object_mut().unwrap().remove("stringData");
        let accepted = serde_json::to_value(accepted).unwrap();
        let differences = differences("", &written, &accepted);
        assert!(differences.is_empty(), "{}: {differences:?}", file.display());
    }
    accepted.len()
}

/// Where `found` does not hold what `wanted` says; what it has beyond that are defaults.
fn differences(path: &str, wanted: &Value, found: &Value) -> Vec<String> {
    match wanted {
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, wanted)| differences(&format!("{path}.{key}"), wanted, &found[key]))
            .collect(),
        Value::Array(items) if found.as_array().is_some_and(|found| found.len() == items.len()) => {
            let items = items.iter().enumerate();
            items.flat_map(|(i, wanted)| differences(&format!("{path}[{i}]"), wanted, &found[i])).collect()
        }
        _ if wanted == found => Vec::new(),
        _ => vec![json!({"at": path, "written": wanted, "read": found}).to_string()],
    }
}
