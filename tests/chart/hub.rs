//! What the chart tells Artifact Hub about itself.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::cluster::{Cluster, KINDS};
use super::helm::*;

fn manifest() -> Value {
    serde_saphyr::from_str(&fs::read_to_string(chart().join("Chart.yaml")).unwrap()).unwrap()
}

fn annotation(name: &str) -> String {
    text(&manifest()["annotations"][format!("artifacthub.io/{name}")]).to_owned()
}

/// An annotation that is a list in YAML.
fn list(name: &str) -> Vec<Value> {
    serde_saphyr::from_str(&annotation(name)).unwrap()
}

#[test]
fn the_license_is_the_projects() {
    let cargo = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(cargo.contains(&format!("\nlicense = \"{}\"\n", annotation("license"))), "{cargo}");
}

#[test]
fn the_icon_is_the_books() {
    let manifest = manifest();
    let icon = text(&manifest["icon"]).strip_prefix("data:image/svg+xml;base64,").unwrap();
    let file = fs::read(root().join("docs/theme/favicon.svg")).unwrap();
    assert_eq!(icon, STANDARD.encode(file));
}

/// Runs what the release workflow does to the chart before it is packaged.
#[test]
fn a_release_names_its_image_and_its_source() {
    let workflow = fs::read_to_string(root().join(".github/workflows/release.yaml")).unwrap();
    let (_, step) = workflow.split_once("      - name: chart, of exactly this image\n").unwrap();
    let (_, script) = step.split_once("        run: |\n").unwrap();
    let (edits, _) = script.split_once("          helm template ").unwrap();
    let folder = temporary("release");
    let copy = folder.join("charts/tenure");
    fs::create_dir_all(&copy).unwrap();
    for file in ["Chart.yaml", "values.yaml"] {
        fs::copy(chart().join(file), copy.join(file)).unwrap();
    }
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut shell = Command::new("bash");
    shell.args(["-euc", edits]).current_dir(&folder);
    shell.env("IMAGE", "registry.example/tenure").env("DIGEST", &digest);
    shell.env("GITHUB_SERVER_URL", "https://git.example").env("GITHUB_REPOSITORY", "net/tenure");
    assert!(shell.status().unwrap().success());
    let read = |file: &str| -> Value {
        serde_saphyr::from_str(&fs::read_to_string(copy.join(file)).unwrap()).unwrap()
    };
    let (manifest, values) = (read("Chart.yaml"), read("values.yaml"));
    let address = "https://git.example/net/tenure";
    assert_eq!((&manifest["home"], &manifest["sources"]), (&json!(address), &json!([address])));
    let list = |name: &str| -> Value {
        serde_saphyr::from_str(text(&manifest["annotations"][format!("artifacthub.io/{name}")])).unwrap()
    };
    let image = format!("registry.example/tenure@{digest}");
    assert_eq!(list("images"), json!([{"name": "tenure", "image": image}]));
    assert_eq!(list("links"), json!([{"name": "source", "url": address}]));
    assert_eq!(values["image"]["repository"], "registry.example/tenure");
    assert_eq!(values["image"]["digest"], digest);
}

/// A version that is not released, or is marked as one before a release.
#[test]
fn a_version_that_is_not_released_is_a_prerelease() {
    let version = text(&manifest()["version"]).to_owned();
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let unreleased = changelog.contains(&format!("\n## {version} – unreleased\n"));
    let expected = unreleased || version.contains('-');
    assert_eq!(annotation("prerelease"), expected.to_string());
}

#[test]
fn the_kinds_are_those_of_the_crds() {
    let place = |kind: &Value, version: &Value, name: &Value| {
        [kind, version, name].map(|value| text(value).to_owned())
    };
    let listed = list("crds");
    let shown: BTreeSet<_> =
        listed.iter().map(|crd| place(&crd["kind"], &crd["version"], &crd["name"])).collect();
    let crd = |name: String| -> Value {
        serde_saphyr::from_str(&fs::read_to_string(root().join("crds").join(name)).unwrap()).unwrap()
    };
    let files = fs::read_dir(root().join("crds")).unwrap();
    let crds = files.map(|file| crd(file.unwrap().file_name().into_string().unwrap()));
    let present: BTreeSet<_> = crds
        .map(|crd| {
            let spec = &crd["spec"];
            place(&spec["names"]["kind"], &spec["versions"][0]["name"], &crd["metadata"]["name"])
        })
        .collect();
    assert_eq!(shown, present);
    assert!(listed.iter().all(|crd| crd["displayName"].is_string() && crd["description"].is_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_the_example_of_each_kind() {
    let cluster = Cluster::alone().await;
    cluster.install_crds().await;
    let namespace = cluster.namespace("hub").await;
    let examples = list("crdsExamples");
    assert_eq!(json!(examples.iter().map(|example| &example["kind"]).collect::<Vec<_>>()), json!(KINDS));
    for example in examples {
        let taken = namespace.dry_run_yaml(&example.to_string()).await;
        taken.unwrap_or_else(|error| panic!("{error:#}: {example:#}"));
    }
}
