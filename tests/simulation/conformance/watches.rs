//! What watches tell.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::json;

use super::{Stage, version};
use crate::api::Kind;

pub fn tells_what_changes(stage: &Stage) -> LocalBoxFuture<'_, ()> {
    async {
        let path = stage.path(Kind::X2Gateway);
        let first = stage.new_gateway("a", json!({})).await;
        let (_, list) = stage.get(&path).await;
        let second = stage.new_gateway("b", json!({})).await;
        let mut resumed = stage.watch(&format!("{path}?watch=true&resourceVersion={}", version(&list))).await;
        let mut fresh = stage.watch(&format!("{path}?watch=true&resourceVersion=0")).await;
        assert_eq!(resumed.event().await, ("ADDED".to_owned(), second.clone()), "what came after the list");
        assert_eq!(fresh.event().await, ("ADDED".to_owned(), first.clone()), "all that there is");
        assert_eq!(fresh.event().await, ("ADDED".to_owned(), second.clone()));
        let status = json!({"status": {"observedGeneration": 1}});
        let (_, reported) = stage.merge(&format!("{}/status", stage.gateway("a")), status.clone()).await;
        stage.merge(&format!("{}/status", stage.gateway("a")), status).await;
        stage.delete(&stage.gateway("b"), json!({})).await;
        for events in [&mut resumed, &mut fresh] {
            assert_eq!(events.event().await, ("MODIFIED".to_owned(), reported.clone()));
            let (event, object) = events.event().await;
            assert_eq!((event.as_str(), &object["metadata"]["uid"]), ("DELETED", &second["metadata"]["uid"]));
            assert!(version(&object) > version(&reported));
        }
        let one =
            format!("{path}?watch=1&resourceVersion={}&fieldSelector=metadata.name%3Dc", version(&list));
        let mut one = stage.watch(&one).await;
        stage.new_gateway("d", json!({})).await;
        let third = stage.new_gateway("c", json!({})).await;
        assert_eq!(one.event().await, ("ADDED".to_owned(), third));
    }
    .boxed_local()
}

pub fn with_a_selector(stage: &Stage) -> LocalBoxFuture<'_, ()> {
    async {
        let path = stage.path(Kind::X2Gateway);
        let (_, list) = stage.get(&path).await;
        let watched =
            format!("{path}?watch=true&labelSelector=site%3Dberlin&resourceVersion={}", version(&list));
        let mut events = stage.watch(&watched).await;
        let outside = stage.new_gateway("a", json!({"site": "paris"})).await;
        let move_to = |site: &'static str| json!({"metadata": {"labels": {"site": site}}});
        let (_, entered) = stage.merge(&stage.gateway("a"), move_to("berlin")).await;
        assert!(version(&entered) > version(&outside));
        let (_, left) = stage.merge(&stage.gateway("a"), move_to("rome")).await;
        stage.merge(&stage.gateway("a"), json!({"spec": {"suspend": true}})).await;
        let (_, back) = stage.merge(&stage.gateway("a"), move_to("berlin")).await;
        assert_eq!(events.event().await, ("ADDED".to_owned(), entered.clone()));
        let (event, object) = events.event().await;
        assert_eq!(event, "DELETED");
        assert_eq!(object["metadata"]["labels"]["site"], "berlin", "the object as it was inside");
        assert_eq!(version(&object), version(&left), "with the version in which it left");
        assert_eq!(events.event().await, ("ADDED".to_owned(), back));
    }
    .boxed_local()
}

pub fn ends_in_time(stage: &Stage) -> LocalBoxFuture<'_, ()> {
    async {
        let path = stage.path(Kind::X2Gateway);
        let (_, list) = stage.get(&path).await;
        let asked = format!(
            "{path}?watch=true&timeoutSeconds=5&allowWatchBookmarks=true&resourceVersion={}",
            version(&list)
        );
        let mut events = stage.watch(&asked).await;
        let object = stage.new_gateway("a", json!({})).await;
        assert_eq!(events.event().await, ("ADDED".to_owned(), object.clone()));
        let (event, bookmark) = events.event().await;
        assert_eq!((event.as_str(), &bookmark["kind"]), ("BOOKMARK", &json!("X2Gateway")));
        assert!(version(&bookmark) >= version(&object), "everything up to it is known");
        while let Some(event) = events.next().await {
            assert_eq!(event["type"], "BOOKMARK");
        }
        let asked = format!("{path}?watch=true&timeoutSeconds=1&resourceVersion={}", version(&bookmark));
        assert_eq!(stage.watch(&asked).await.next().await, None, "without bookmarks there are none");
    }
    .boxed_local()
}

pub fn from_too_far_back(stage: &Stage) -> LocalBoxFuture<'_, ()> {
    async {
        let path = stage.path(Kind::X2Gateway);
        let mut events = stage.watch(&format!("{path}?watch=true&resourceVersion=1")).await;
        let (event, status) = events.event().await;
        assert_eq!(
            (event.as_str(), &status["code"], &status["reason"]),
            ("ERROR", &json!(410), &json!("Expired"))
        );
        assert_eq!(events.next().await, None);
        if let Some(api) = &stage.memory {
            let object = stage.new_gateway("a", json!({})).await;
            let (_, list) = stage.get(&format!("{path}?limit=1")).await;
            stage.new_gateway("b", json!({})).await;
            api.compact(Kind::X2Gateway);
            let mut events =
                stage.watch(&format!("{path}?watch=true&resourceVersion={}", version(&object))).await;
            assert_eq!(events.event().await.1["code"], 410);
            let page = format!("{path}?continue={}:{}/a", version(&list), stage.namespace);
            assert_eq!(stage.get(&page).await.0, 410);
        }
    }
    .boxed_local()
}
