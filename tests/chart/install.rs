//! The manifests for kubectl and kustomize are what the chart renders, without what only Helm reads.
//!
//! `REFRESH=1 cargo test --test chart install` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use serde_json::{Value, json};
use tenure_kit::access::token_kubeconfig;
use tenure_kit::control_plane;
use tenure_kit::namespace::until_served;
use tenure_kit::operator::Operator;

use super::cluster::*;
use super::helm::*;
use super::pods::pod;

const HEADER: &str = "# Made of charts/tenure by tests/chart: REFRESH=1 cargo test --test chart install\n";
const HELMS: [&str; 2] = ["app.kubernetes.io/managed-by", "helm.sh/chart"];

/// The folder of the manifests, once they are written anew where that is asked for.
fn folder() -> PathBuf {
    static REFRESHED: Once = Once::new();
    let folder = root().join("examples/install");
    REFRESHED.call_once(|| {
        if std::env::var_os("REFRESH").is_some() {
            fs::write(folder.join("install.yaml"), manifests(Helm::Four)).unwrap();
        }
    });
    folder
}

fn text_of_file() -> String {
    fs::read_to_string(folder().join("install.yaml")).unwrap()
}

fn installed() -> Vec<Value> {
    objects(&text_of_file())
}

/// What has to be in the file: a namespace whose Pods are as restricted as those of the chart, and what the chart renders.
fn manifests(helm: Helm) -> String {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    let mut all = vec![namespace];
    all.extend(helm.render(&json!({"crds": {"keep": false}, "releaseFinalizers": {"enabled": false}})));
    let document = |mut object: Value| {
        strip(&mut object);
        format!("---\n{}", serde_saphyr::to_string(&object).unwrap())
    };
    [HEADER.to_owned()].into_iter().chain(all.into_iter().map(document)).collect()
}

/// Takes away what is Helm's, and the Lease's namespace, which is that of the Pod by default, wherever that is.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !HELMS.contains(&key.as_str()));
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => {
            let place = json!(format!("--lease-namespace={NAMESPACE}"));
            list.retain(|entry| *entry != place);
            list.iter_mut().for_each(strip);
        }
        _ => {}
    }
}

#[test]
fn the_manifests_are_the_charts() {
    let [three, four] = Helm::BOTH.map(manifests);
    assert_eq!(three, four);
    assert!(
        text_of_file() == four,
        "examples/install/install.yaml is out of date: run `REFRESH=1 cargo test --test chart install` and commit \
         what it writes"
    );
    assert!(!four.contains("helm") && !four.contains("Helm"), "Helm has no part in this");
}

/// What kustomize makes of a folder.
fn kustomize(folder: &Path) -> Vec<Value> {
    let kubectl = control_plane::kubectl().unwrap();
    let output = Command::new(kubectl).arg("kustomize").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    objects(&String::from_utf8(output.stdout).unwrap())
}

/// Objects by kind and name.
fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    objects.into_iter().map(|object| (name(&object), object)).collect()
}

#[test]
fn the_base_is_the_manifests() {
    assert_eq!(by_name(kustomize(&folder())), by_name(installed()));
}

#[test]
fn kustomize_sets_the_image_and_the_namespace() {
    let overlay = temporary("overlay");
    let base = overlay.join("base");
    fs::create_dir(&base).unwrap();
    for file in ["install.yaml", "kustomization.yaml"] {
        fs::copy(folder().join(file), base.join(file)).unwrap();
    }
    let image = json!({"name": "registry.example/tenure", "newName": "r.example.net/t", "newTag": "1"});
    let values = json!({"resources": ["base"], "namespace": "network", "images": [image]});
    fs::write(overlay.join("kustomization.yaml"), values.to_string()).unwrap();
    let rendered = kustomize(&overlay);
    assert_eq!(rendered.len(), installed().len());
    let container =
        &find(&rendered, "Deployment", "tenure").unwrap()["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "r.example.net/t:1");
    assert!(!container["args"].to_string().contains(NAMESPACE), "{}", container["args"]);
    find(&rendered, "Namespace", "network").expect("the namespace is renamed");
    let places = rendered.iter().flat_map(|object| {
        let subjects = object["subjects"].as_array().cloned().unwrap_or_default();
        subjects.into_iter().chain([object["metadata"].clone()]).map(|of| of["namespace"].clone())
    });
    let places: Vec<Value> = places.filter(|place| !place.is_null()).collect();
    assert!(places.len() > 8 && places.iter().all(|place| place == "network"), "{places:?}");
}

/// As the page about the installation describes it; and the Pods are let in, and find all rights that they need.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_installs_an_operator_that_works() {
    let cluster = Cluster::alone().await;
    let scratch = temporary("install");
    let install = format!("kubectl apply --server-side -k '{}'", path(&folder()));
    cluster.shell("default", &scratch, &install).await;
    until_served(&cluster.plane, &KINDS).await.unwrap();

    let installed = installed();
    let template = &find(&installed, "Deployment", "tenure").unwrap()["spec"]["template"];
    fs::write(scratch.join("pod.json"), pod(template, "operator").to_string()).unwrap();
    let create = "kubectl create --dry-run=server -f pod.json";
    cluster.shell(NAMESPACE, &scratch, create).await;

    let (mut arguments, _) = process(&template["spec"]["containers"][0]);
    let listen = arguments.iter_mut().find(|argument| argument.starts_with("--listen=")).unwrap();
    "--listen=127.0.0.1:0".clone_into(listen);
    // In a Pod that is its namespace.
    let environment = [("TENURE_LEASE_NAMESPACE".to_owned(), NAMESPACE.to_owned())];
    let kubeconfig = token_kubeconfig(&cluster.plane, NAMESPACE, "tenure").await.unwrap();
    let mut operator = Operator::spawn_exactly(program(), &kubeconfig, &arguments, &environment).unwrap();
    operator.wait_for_log("\"at work\"", SOON).await.unwrap();
    assert!(operator.terminate(SOON).await.unwrap().success(), "{}", operator.log());
    cluster.shell("default", &scratch, &format!("kubectl delete -k '{}'", path(&folder()))).await;
}
