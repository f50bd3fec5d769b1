//! Lists: pages, selectors, metadata alone.

use axum::http::Request;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::{Server, refusal, version};
use crate::api::Kind;

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

pub fn pages(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let path = server.path(Kind::X2Gateway);
        let (_, empty) = server.get(&path).await;
        assert_eq!((&empty["kind"], &empty["items"]), (&json!("X2GatewayList"), &json!([])));
        let mut last = 0;
        for name in ["c", "a", "b"] {
            last = version(&server.new_gateway(name, json!({})).await);
        }
        let (_, all) = server.get(&path).await;
        assert_eq!(names(&all), ["a", "b", "c"]);
        assert!(version(&all) >= last);
        assert_eq!(all["items"][0]["kind"], "X2Gateway");
        let (_, first) = server.get(&format!("{path}?limit=2")).await;
        assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(1)));
        server.new_gateway("d", json!({})).await;
        server.delete(&server.gateway("c"), json!({})).await;
        let next = first["metadata"]["continue"].as_str().unwrap();
        let (_, second) = server.get(&format!("{path}?limit=2&continue={next}")).await;
        assert_eq!(names(&second), ["c"], "the pages of one list are of one moment");
        assert_eq!(version(&second), version(&first));
        assert_eq!(second["metadata"]["continue"].as_str().unwrap_or_default(), "", "this was the last page");
        assert_eq!(
            refusal(&server.get(&format!("{path}?limit=2&continue=rubbish")).await),
            (400, "BadRequest")
        );
    }
    .boxed_local()
}

pub fn selectors(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        server.new_gateway("a", json!({"site": "berlin", "tier": "gold"})).await;
        server.new_gateway("b", json!({"site": "paris"})).await;
        server.new_gateway("c", json!({})).await;
        let path = server.path(Kind::X2Gateway);
        for (selector, expected) in [
            ("labelSelector=site%3Dberlin", vec!["a"]),
            ("labelSelector=site%3D%3Dberlin", vec!["a"]),
            ("labelSelector=site%21%3Dberlin", vec!["b", "c"]),
            ("labelSelector=site", vec!["a", "b"]),
            ("labelSelector=%21site", vec!["c"]),
            ("labelSelector=site+in+%28berlin%2Cparis%29", vec!["a", "b"]),
            ("labelSelector=site+in+%28berlin%2Cparis%29%2C%21tier", vec!["b"]),
            ("labelSelector=site+notin+%28berlin%29", vec!["b", "c"]),
            ("labelSelector=site%2Ctier%3Dgold", vec!["a"]),
            ("fieldSelector=metadata.name%3Db", vec!["b"]),
            ("fieldSelector=metadata.name%21%3Db", vec!["a", "c"]),
        ] {
            let (code, list) = server.get(&format!("{path}?{selector}")).await;
            assert_eq!((code, names(&list)), (200, expected), "{selector}");
        }
        let answer = server.get(&format!("{path}?labelSelector=site+like+berlin")).await;
        assert_eq!(refusal(&answer), (400, "BadRequest"));
        let everywhere = "/apis/tenure.dev/v1alpha1/x2gateways?labelSelector=tier";
        let (_, list) = server.get(everywhere).await;
        assert!(
            list["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|item| item["metadata"]["namespace"] == *server.namespace)
        );
    }
    .boxed_local()
}

pub fn metadata_alone(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let object = server.new_gateway("a", json!({"site": "berlin"})).await;
        let request =
            |path: &str, accept: &str| Request::get(path).header("accept", accept).body(Vec::new()).unwrap();
        let one = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let answer: Value = server.client.request(request(&server.gateway("a"), one)).await.unwrap();
        let expected = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        });
        assert_eq!(answer, expected);
        let many = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let answer: Value =
            server.client.request(request(&server.path(Kind::X2Gateway), many)).await.unwrap();
        assert_eq!(
            (&answer["kind"], &answer["items"]),
            (&json!("PartialObjectMetadataList"), &json!([expected]))
        );
    }
    .boxed_local()
}
