//! Dashboards of several releases in one Grafana.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::helm::*;

/// The longest UID that Grafana accepts.
const LONGEST: usize = 40;

/// What tells the dashboard of a release apart: its file, and its UID.
fn file_and_uid(helm: Helm, release: &str, namespace: &str, values: &Value) -> (String, String) {
    let mut values = values.clone();
    values["dashboards"] = json!({"enabled": true, "namespace": "grafana"});
    let rendered = objects(&helm.template_as(release, namespace, &values).unwrap());
    let is_dashboard = |object: &&Value| {
        object["kind"] == "ConfigMap" && object["metadata"]["labels"]["grafana_dashboard"] == "1"
    };
    let map = rendered.iter().find(is_dashboard).unwrap();
    let files = map["data"].as_object().unwrap();
    assert_eq!(files.len(), 1);
    let (file, dashboard) = files.iter().next().unwrap();
    let dashboard: Value = serde_json::from_str(text(dashboard)).unwrap();
    (file.clone(), text(&dashboard["uid"]).to_owned())
}

/// A sidecar writes the files of all namespaces into one folder, and Grafana keeps one dashboard of a UID.
#[test]
fn no_release_replaces_the_dashboard_of_another() {
    let long = "a-namespace-whose-name-has-sixty-three-characters-because-it-can";
    let (long, other) = (&long[..63], format!("{}x", &long[..62]));
    let name = "a-release-whose-name-has-fifty-three-characters-in-it";
    let none = json!({});
    let releases = [
        ("tenure", "berlin", none.clone()),
        ("tenure", "madrid", none.clone()),
        ("east", "berlin", none.clone()),
        ("tenure", "berlin", json!({"nameOverride": "west"})),
        ("tenure", "berlin", json!({"namespaceOverride": "paris"})),
        (name, long, none.clone()),
        (name, &other, none.clone()),
        // Both names may contain a dash, so it would not show where the first one ends.
        ("tenure", "a-b", none.clone()),
        ("b-tenure", "a", none),
    ];
    for helm in Helm::BOTH {
        let all = releases
            .iter()
            .map(|(release, namespace, values)| file_and_uid(helm, release, namespace, values));
        let (files, uids): (BTreeSet<_>, BTreeSet<_>) = all.unzip();
        assert_eq!((files.len(), uids.len()), (releases.len(), releases.len()), "{files:?} {uids:?}");
        for uid in uids {
            assert!(
                uid.len() <= LONGEST && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
                "{uid}"
            );
        }
    }
}
