//! Watches.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::json;

use super::{Server, version};
use crate::api::Kind;

pub fn reports_changes(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let path = server.path(Kind::X2Gateway);
        let first = server.new_gateway("a", json!({})).await;
        let (_, list) = server.get(&path).await;
        let second = server.new_gateway("b", json!({})).await;
        let mut resumed =
            server.watch(&format!("{path}?watch=true&resourceVersion={}", version(&list))).await;
        let mut fresh = server.watch(&format!("{path}?watch=true&resourceVersion=0")).await;
        assert_eq!(resumed.event().await, ("ADDED".to_owned(), second.clone()), "what came after the list");
        assert_eq!(fresh.event().await, ("ADDED".to_owned(), first.clone()), "all that there is");
        assert_eq!(fresh.event().await, ("ADDED".to_owned(), second.clone()));
        let status = json!({"status": {"observedGeneration": 1}});
        let (_, reported) = server.merge(&format!("{}/status", server.gateway("a")), status.clone()).await;
        server.merge(&format!("{}/status", server.gateway("a")), status).await;
        server.delete(&server.gateway("b"), json!({})).await;
        for events in [&mut resumed, &mut fresh] {
            assert_eq!(events.event().await, ("MODIFIED".to_owned(), reported.clone()));
            let (event, object) = events.event().await;
            assert_eq!((event.as_str(), &object["metadata"]["uid"]), ("DELETED", &second["metadata"]["uid"]));
            assert!(version(&object) > version(&reported));
        }
        let one =
            format!("{path}?watch=1&resourceVersion={}&fieldSelector=metadata.name%3Dc", version(&list));
        let mut one = server.watch(&one).await;
        server.new_gateway("d", json!({})).await;
        let third = server.new_gateway("c", json!({})).await;
        assert_eq!(one.event().await, ("ADDED".to_owned(), third));
    }
    .boxed_local()
}

pub fn with_a_selector(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let path = server.path(Kind::X2Gateway);
        let (_, list) = server.get(&path).await;
        let watched =
            format!("{path}?watch=true&labelSelector=site%3Dberlin&resourceVersion={}", version(&list));
        let mut events = server.watch(&watched).await;
        let outside = server.new_gateway("a", json!({"site": "paris"})).await;
        let move_to = |site: &'static str| json!({"metadata": {"labels": {"site": site}}});
        let (_, entered) = server.merge(&server.gateway("a"), move_to("berlin")).await;
        assert!(version(&entered) > version(&outside));
        let (_, left) = server.merge(&server.gateway("a"), move_to("rome")).await;
        server.merge(&server.gateway("a"), json!({"spec": {"suspend": true}})).await;
        let (_, back) = server.merge(&server.gateway("a"), move_to("berlin")).await;
        assert_eq!(events.event().await, ("ADDED".to_owned(), entered.clone()));
        let (event, object) = events.event().await;
        assert_eq!(event, "DELETED");
        assert_eq!(object["metadata"]["labels"]["site"], "berlin", "the object as it was inside");
        assert_eq!(version(&object), version(&left), "with the version in which it left");
        assert_eq!(events.event().await, ("ADDED".to_owned(), back));
    }
    .boxed_local()
}

pub fn ends_in_time(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let path = server.path(Kind::X2Gateway);
        let (_, list) = server.get(&path).await;
        let asked = format!(
            "{path}?watch=true&timeoutSeconds=5&allowWatchBookmarks=true&resourceVersion={}",
            version(&list)
        );
        let mut events = server.watch(&asked).await;
        let object = server.new_gateway("a", json!({})).await;
        assert_eq!(events.event().await, ("ADDED".to_owned(), object.clone()));
        let (event, bookmark) = events.event().await;
        assert_eq!((event.as_str(), &bookmark["kind"]), ("BOOKMARK", &json!("X2Gateway")));
        assert!(version(&bookmark) >= version(&object), "everything up to it is known");
        while let Some(event) = events.next().await {
            assert_eq!(event["type"], "BOOKMARK");
        }
        let asked = format!("{path}?watch=true&timeoutSeconds=1&resourceVersion={}", version(&bookmark));
        assert_eq!(server.watch(&asked).await.next().await, None, "without bookmarks there are none");
    }
    .boxed_local()
}

pub fn from_too_old_a_version(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let path = server.path(Kind::X2Gateway);
        let mut events = server.watch(&format!("{path}?watch=true&resourceVersion=1")).await;
        let (event, status) = events.event().await;
        assert_eq!(
            (event.as_str(), &status["code"], &status["reason"]),
            ("ERROR", &json!(410), &json!("Expired"))
        );
        assert_eq!(events.next().await, None);
        if let Some(api) = &server.memory {
            let object = server.new_gateway("a", json!({})).await;
            let (_, list) = server.get(&format!("{path}?limit=1")).await;
            server.new_gateway("b", json!({})).await;
            api.compact(Kind::X2Gateway);
            let mut events =
                server.watch(&format!("{path}?watch=true&resourceVersion={}", version(&object))).await;
            assert_eq!(events.event().await.1["code"], 410);
            let page = format!("{path}?continue={}:{}/a", version(&list), server.namespace);
            assert_eq!(server.get(&page).await.0, 410);
        }
    }
    .boxed_local()
}
