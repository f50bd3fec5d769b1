//! The Pods of the chart pass the strictest Pod Security level.

use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use super::cluster::*;
use super::helm::*;

/// The Pod that a controller makes of a template.
pub fn pod(template: &Value, name: &str) -> Value {
    let mut pod = template.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(name);
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_pass_the_level_restricted() {
    let cluster = Cluster::alone().await;
    let namespace = cluster.restricted("restricted").await;
    let api: Api<DynamicObject> = namespace.api("Pod").await.unwrap();
    let create = async |pod: Value| {
        let pod: DynamicObject = serde_json::from_value(pod).unwrap();
        api.create(&PostParams::default(), &pod).await
    };
    let rendered = Helm::Four.render(&json!({}));
    for account in ["tenure", "tenure-release-finalizers"] {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}});
        namespace.apply_yaml(&account.to_string()).await.unwrap();
    }
    for (kind, name) in [("Deployment", "tenure"), ("Job", "tenure-release-finalizers")] {
        let template = &find(&rendered, kind, name).unwrap()["spec"]["template"];
        let pod = pod(template, &kind.to_lowercase());
        let made = create(pod.clone()).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let volumes = made.data["spec"]["volumes"].as_array().unwrap();
        assert_eq!(volumes.len(), 1, "only its token: {volumes:?}");

        // That the level is enforced at all, and each setting is needed.
        let loosened = [
            ("/spec/securityContext/runAsNonRoot", json!(false), "runAsNonRoot"),
            ("/spec/securityContext/seccompProfile", json!({"type": "Unconfined"}), "seccompProfile"),
            (
                "/spec/containers/0/securityContext/allowPrivilegeEscalation",
                json!(true),
                "allowPrivilegeEscalation",
            ),
            ("/spec/containers/0/securityContext/capabilities", json!({}), "unrestricted capabilities"),
        ];
        for (pointer, value, word) in loosened {
            let mut pod = pod.clone();
            *pod.pointer_mut(pointer).unwrap() = value;
            pod["metadata"]["name"] = json!("loose");
            let refusal = create(pod).await.map(drop).unwrap_err().to_string();
            assert!(
                refusal.contains("violates PodSecurity") && refusal.contains(word),
                "{pointer}: {refusal}"
            );
        }
    }
}

#[test]
fn nothing_of_a_pod_can_be_written_and_its_user_is_not_chosen() {
    let rendered = Helm::Four.render(&json!({}));
    for (kind, name) in [("Deployment", "tenure"), ("Job", "tenure-release-finalizers")] {
        let pod = &find(&rendered, kind, name).unwrap()["spec"]["template"]["spec"];
        let containers = pod["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1);
        assert_eq!(containers[0]["securityContext"]["readOnlyRootFilesystem"], true);
        // OpenShift refuses any user but those of the namespace's range. That of the image is a number, which is not root's.
        let context = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(pod["securityContext"], context);
        assert!(pod.get("volumes").is_none() && pod["automountServiceAccountToken"] == true);
        assert!(containers[0]["resources"]["requests"]["memory"].is_string());
    }
    let account = find(&rendered, "ServiceAccount", "tenure").unwrap();
    assert_eq!(account["automountServiceAccountToken"], false);
}

#[test]
fn probes_ask_the_port_that_the_operator_listens_on() {
    let rendered = Helm::Four.render(&json!({"listen": {"port": 9090}}));
    let deployment = find(&rendered, "Deployment", "tenure").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["ports"], json!([{"name": "http", "containerPort": 9090, "protocol": "TCP"}]));
    for (probe, page) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": page, "port": "http"}), "{probe}");
    }
    assert!(container["args"].as_array().unwrap().contains(&json!("--listen=0.0.0.0:9090")));
    let service = find(&rendered, "Service", "tenure").unwrap();
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
    assert_eq!(service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]);
}
