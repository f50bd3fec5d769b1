//! What becomes of objects that are deleted.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::{Server, refusal, version};
use crate::api::Kind;

pub fn without_finalizers(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let object = server.new_gateway("a", json!({})).await;
        let path = server.gateway("a");
        for conditions in [json!({"uid": "another"}), json!({"resourceVersion": "1"})] {
            let answer = server.delete(&path, json!({"preconditions": conditions})).await;
            assert_eq!(refusal(&answer), (409, "Conflict"), "{conditions}");
        }
        let conditions = json!({"preconditions": {"uid": object["metadata"]["uid"]}});
        let (code, gone) = server.delete(&path, conditions).await;
        assert_eq!((code, &gone["kind"], &gone["status"]), (200, &json!("Status"), &json!("Success")));
        assert_eq!(gone["details"]["uid"], object["metadata"]["uid"]);
        assert_eq!(refusal(&server.delete(&path, json!({})).await), (404, "NotFound"));
        assert_eq!(server.get(&path).await.0, 404);
        let another = server.new_gateway("a", json!({})).await;
        assert_ne!(another["metadata"]["uid"], object["metadata"]["uid"]);
    }
    .boxed_local()
}

pub fn with_finalizers(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        server.new_gateway("a", json!({"site": "berlin"})).await;
        let path = server.gateway("a");
        let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
        let both = json!(["a.example.net/b", "tenure.dev/restore"]);
        let (_, held) = server.merge(&path, finalizers(both.clone())).await;
        let (code, leaving) = server.delete(&path, json!({})).await;
        assert_eq!((code, &leaving["kind"]), (200, &json!("X2Gateway")), "{leaving}");
        let meta = &leaving["metadata"];
        assert!(meta["deletionTimestamp"].is_string(), "{meta}");
        assert_eq!((&meta["deletionGracePeriodSeconds"], &meta["generation"]), (&json!(0), &json!(2)));
        assert!(version(&leaving) > version(&held));
        let (code, again) = server.delete(&path, json!({})).await;
        assert_eq!((code, &again), (200, &leaving), "a second deletion changes nothing");

        let more = json!(["a.example.net/b", "tenure.dev/restore", "c.example.net/d"]);
        assert_eq!(refusal(&server.merge(&path, finalizers(more)).await), (422, "Invalid"));
        let (code, edited) = server.merge(&path, json!({"spec": {"suspend": true}})).await;
        assert_eq!((code, &edited["metadata"]["generation"]), (200, &json!(3)), "it can be edited");
        let status = json!({"status": {"policy": "mine"}});
        let (code, reported) = server.merge(&format!("{path}/status"), status).await;
        assert_eq!((code, &reported["status"]["policy"]), (200, &json!("mine")));
        let (_, undone) = server.merge(&path, json!({"metadata": {"deletionTimestamp": null}})).await;
        assert_eq!(undone["metadata"]["deletionTimestamp"], meta["deletionTimestamp"]);

        let watched =
            format!("{}?watch=1&resourceVersion={}", server.path(Kind::X2Gateway), version(&undone));
        let mut events = server.watch(&watched).await;
        let (code, one) = server.merge(&path, finalizers(json!(["tenure.dev/restore"]))).await;
        assert_eq!((code, &one["metadata"]["finalizers"]), (200, &json!(["tenure.dev/restore"])));
        let last = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": ["tenure.dev/restore"]},
            {"op": "add", "path": "/metadata/finalizers", "value": []},
        ]);
        let (code, released) = server.patch(&path, last).await;
        assert_eq!((code, &released["metadata"]["finalizers"]), (200, &Value::Null), "{released}");
        assert_eq!(version(&released), version(&one), "the answer is the object as it was sent");
        assert_eq!(server.get(&path).await.0, 404);
        let (event, object) = events.event().await;
        assert_eq!((event.as_str(), &object), ("MODIFIED", &one));
        let (event, object) = events.event().await;
        assert_eq!(
            (event.as_str(), &object["metadata"]["finalizers"]),
            ("DELETED", &one["metadata"]["finalizers"])
        );
        assert!(version(&object) > version(&one), "the event has a version of its own");
    }
    .boxed_local()
}
