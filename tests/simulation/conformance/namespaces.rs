//! How namespaces end.

use axum::http::Request;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::{Stage, gateway, refusal};
use crate::api::Kind;

pub fn ends(stage: &Stage) -> LocalBoxFuture<'_, ()> {
    async {
        let path = format!("/api/v1/namespaces/{}", stage.namespace);
        // As the operator does, whose rights are in the namespace: by path, without a version.
        let mut events = stage.watch(&format!("/api/v1/watch/namespaces/{}", stage.namespace)).await;
        let (event, object) = events.event().await;
        assert_eq!((event.as_str(), &object["status"]["phase"]), ("ADDED", &json!("Active")));
        assert_eq!(object["metadata"]["name"], *stage.namespace);
        let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let request = Request::get(&path).header("accept", metadata).body(Vec::new()).unwrap();
        let alone: Value = stage.client.request(request).await.unwrap();
        assert_eq!(
            (&alone["kind"], &alone["metadata"]),
            (&json!("PartialObjectMetadata"), &object["metadata"])
        );
        stage.new_gateway("a", json!({})).await;
        let finalizers = json!({"metadata": {"finalizers": ["tenure.dev/restore"]}});
        stage.merge(&stage.gateway("a"), finalizers).await;
        stage.new_gateway("b", json!({})).await;

        let (code, namespace) = stage.delete(&path, json!({})).await;
        assert_eq!((code, &namespace["status"]["phase"]), (200, &json!("Terminating")), "{namespace}");
        assert!(namespace["metadata"]["deletionTimestamp"].is_string(), "{namespace}");
        let (event, object) = events.event().await;
        assert_eq!((event.as_str(), &object["status"]["phase"]), ("MODIFIED", &json!("Terminating")));
        let refused = stage.create(&stage.path(Kind::X2Gateway), &gateway("c", json!({}))).await;
        assert_eq!(refusal(&refused), (403, "Forbidden"));
        let causes = &refused.1["details"]["causes"];
        assert_eq!(
            (&causes[0]["reason"], &causes[0]["field"]),
            (&json!("NamespaceTerminating"), &json!("metadata.namespace"))
        );
        let (code, edited) = stage.merge(&stage.gateway("a"), json!({"spec": {"suspend": true}})).await;
        assert_eq!(code, 200, "what is there can be written: {edited}");

        let all = format!("{}?watch=true&fieldSelector=metadata.name%3Da", stage.path(Kind::X2Gateway));
        let mut gateways = stage.watch(&all).await;
        controllers_pass(stage);
        let mut object = gateways.event().await.1;
        while object["metadata"]["deletionTimestamp"].is_null() {
            object = gateways.event().await.1;
        }
        let (code, namespace) = stage.get(&path).await;
        assert_eq!(
            (code, &namespace["status"]["phase"]),
            (200, &json!("Terminating")),
            "it waits for its gateway"
        );
        let (code, _) = stage.merge(&stage.gateway("a"), json!({"metadata": {"finalizers": null}})).await;
        assert_eq!(code, 200);
        controllers_pass(stage);
        while events.event().await.0 != "DELETED" {}
        assert_eq!(stage.get(&path).await.0, 404);
        assert_eq!(stage.get(&stage.gateway("b")).await.0, 404);
    }
    .boxed_local()
}

/// On the real server the namespace controller needs no telling.
fn controllers_pass(stage: &Stage) {
    if let Some(api) = &stage.memory {
        api.step_namespaces();
    }
}
