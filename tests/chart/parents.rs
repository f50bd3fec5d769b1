//! The chart as one that another chart depends on.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::helm::*;

/// A chart that depends on this one, under a condition, as `helm package` and `helm dependency update` leave it.
fn parent(helm: Helm) -> PathBuf {
    let folder = temporary(&format!("parent-{helm:?}"));
    let manifest = json!({
        "apiVersion": "v2", "name": "network", "version": "1.0.0",
        "dependencies": [{"name": "tenure", "version": ">=0.0.0-0", "condition": "tenure.enabled"}],
    });
    let values = json!({
        "global": {"imageRegistry": "r.example.net"},
        "tenure": {"enabled": true, "image": {"repository": "net/tenure"}, "podLabels": {"team": "net"}},
    });
    fs::write(folder.join("Chart.yaml"), manifest.to_string()).unwrap();
    fs::write(folder.join("values.yaml"), values.to_string()).unwrap();
    let charts = folder.join("charts");
    fs::create_dir_all(&charts).unwrap();
    helm.run(&["package", path(&chart()), "--destination", path(&charts)], &Value::Null).unwrap();
    folder
}

#[test]
fn another_chart_may_depend_on_this_one_under_a_condition() {
    for helm in Helm::BOTH {
        let parent = parent(helm);
        let render = |values: Value| {
            let arguments = ["template", "edge", path(&parent), "--namespace", NAMESPACE, "--values", "-"];
            helm.run(&arguments, &values).map(|text| objects(&text))
        };
        let rendered = render(json!({"tenure": {"replicaCount": 3}})).unwrap();
        let deployment = find(&rendered, "Deployment", "edge-tenure").unwrap();
        assert_eq!(deployment["spec"]["replicas"], 3, "{helm:?}");
        let template = &deployment["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["team"], "net");
        assert!(text(&template["spec"]["containers"][0]["image"]).starts_with("r.example.net/net/tenure:"));
        assert_eq!(render(json!({"tenure": {"enabled": false}})), Ok(vec![]), "{helm:?}");

        let refusal = render(json!({"tenure": {"replicas": 3}})).unwrap_err();
        assert!(refusal.contains("additional properties 'replicas' not allowed"), "{helm:?}: {refusal}");
        let refusal = render(json!({"tenure": {"enabled": "yes"}})).unwrap_err();
        assert!(refusal.contains("at '/enabled'"), "{helm:?}: {refusal}");
    }
}

/// What a value says that only Helm reads: alone, the chart is not switched by it.
#[test]
fn on_its_own_the_chart_does_not_read_the_condition() {
    for helm in Helm::BOTH {
        assert_eq!(helm.render(&json!({"enabled": false})), helm.render(&json!({})));
    }
}
