//! How namespaces end.

use axum::http::Request;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::{Server, gateway, refusal};
use crate::api::Kind;

pub fn ends(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let path = format!("/api/v1/namespaces/{}", server.namespace);
        // As the operator does, whose rights are in the namespace: by path, without a version.
        let mut events = server.watch(&format!("/api/v1/watch/namespaces/{}", server.namespace)).await;
        let (event, object) = events.event().await;
        assert_eq!((event.as_str(), &object["status"]["phase"]), ("ADDED", &json!("Active")));
        assert_eq!(object["metadata"]["name"], *server.namespace);
        let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let request = Request::get(&path).header("accept", metadata).body(Vec::new()).unwrap();
        let alone: Value = server.client.request(request).await.unwrap();
        assert_eq!(
            (&alone["kind"], &alone["metadata"]),
            (&json!("PartialObjectMetadata"), &object["metadata"])
        );
        server.new_gateway("a", json!({})).await;
        let finalizers = json!({"metadata": {"finalizers": ["tenure.dev/restore"]}});
        server.merge(&server.gateway("a"), finalizers).await;
        server.new_gateway("b", json!({})).await;

        let (code, namespace) = server.delete(&path, json!({})).await;
        assert_eq!((code, &namespace["status"]["phase"]), (200, &json!("Terminating")), "{namespace}");
        assert!(namespace["metadata"]["deletionTimestamp"].is_string(), "{namespace}");
        let (event, object) = events.event().await;
        assert_eq!((event.as_str(), &object["status"]["phase"]), ("MODIFIED", &json!("Terminating")));
        let refused = server.create(&server.path(Kind::X2Gateway), &gateway("c", json!({}))).await;
        assert_eq!(refusal(&refused), (403, "Forbidden"));
        let causes = &refused.1["details"]["causes"];
        assert_eq!(
            (&causes[0]["reason"], &causes[0]["field"]),
            (&json!("NamespaceTerminating"), &json!("metadata.namespace"))
        );
        let (code, edited) = server.merge(&server.gateway("a"), json!({"spec": {"suspend": true}})).await;
        assert_eq!(code, 200, "what is there can be written: {edited}");

        let all = format!("{}?watch=true&fieldSelector=metadata.name%3Da", server.path(Kind::X2Gateway));
        let mut gateways = server.watch(&all).await;
        controllers_pass(server);
        let mut object = gateways.event().await.1;
        while object["metadata"]["deletionTimestamp"].is_null() {
            object = gateways.event().await.1;
        }
        let (code, namespace) = server.get(&path).await;
        assert_eq!(
            (code, &namespace["status"]["phase"]),
            (200, &json!("Terminating")),
            "it waits for its gateway"
        );
        let (code, _) = server.merge(&server.gateway("a"), json!({"metadata": {"finalizers": null}})).await;
        assert_eq!(code, 200);
        controllers_pass(server);
        while events.event().await.0 != "DELETED" {}
        assert_eq!(server.get(&path).await.0, 404);
        assert_eq!(server.get(&server.gateway("b")).await.0, 404);
    }
    .boxed_local()
}

/// One pass of the namespace controller. On the real server it runs by itself.
fn controllers_pass(server: &Server) {
    if let Some(api) = &server.memory {
        api.step_namespaces();
    }
}
