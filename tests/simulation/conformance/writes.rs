//! What creates, patches and replaces do.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::{Server, gateway, path_in, refusal, version};
use crate::api::Kind;

pub fn a_new_object_is_complete(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let mut sent = gateway("a", json!({}));
        sent["status"] = json!({"policy": "mine"});
        sent["spec"]["unknown"] = json!(1);
        sent["metadata"]["generation"] = json!(7);
        let (code, created) = server.create(&server.path(Kind::X2Gateway), &sent).await;
        assert_eq!(code, 201, "{created}");
        let (code, read) = server.get(&server.gateway("a")).await;
        assert_eq!((code, &read), (200, &created));
        assert_eq!(read["status"], json!({"observedGeneration": -1}));
        let spec = json!({
            "url": "https://10.20.0.11", "allowPlaintext": false, "requestTimeout": "10s", "suspend": false,
            "credentialsSecretRef": {"name": "x2-admin", "usernameKey": "username", "passwordKey": "password"},
        });
        assert_eq!(read["spec"], spec);
        let meta = &read["metadata"];
        assert_eq!((&meta["generation"], &meta["namespace"]), (&json!(1), &json!(server.namespace)));
        assert_eq!(meta["labels"], Value::Null, "what is empty is left out");
        assert!(meta["uid"].as_str().is_some_and(|uid| uid.len() == 36), "{meta}");
        assert!(meta["creationTimestamp"].as_str().is_some_and(|time| time.len() == 20), "{meta}");

        let mut unnamed = gateway("", json!({}));
        unnamed["metadata"] = json!({"generateName": "some-"});
        let (code, named) = server.create(&server.path(Kind::X2Gateway), &unnamed).await;
        let name = named["metadata"]["name"].as_str().unwrap();
        assert_eq!((code, name.len(), name.starts_with("some-")), (201, 10, true), "{name}");

        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "abc"},
        });
        let (code, secret) = server.create(&server.path(Kind::Secret), &secret).await;
        assert_eq!((code, &secret["data"], &secret["type"]), (201, &json!({"password": "YWJj"}), &json!("Opaque")));
        assert_eq!((&secret["stringData"], &secret["metadata"]["generation"]), (&Value::Null, &Value::Null));
        let path = format!("{}/s", server.path(Kind::Secret));
        let (_, rotated) = server.merge(&path, json!({"stringData": {"password": "abd"}})).await;
        assert_eq!((&rotated["data"]["password"], rotated["stringData"].is_null()), (&json!("YWJk"), true));
        assert!(version(&rotated) > version(&secret));
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": "abc"},
        });
        assert_eq!(server.create(&server.path(Kind::ConfigMap), &map).await.0, 201);
        let (code, map) = server.get(&format!("{}/ca", server.path(Kind::ConfigMap))).await;
        assert_eq!((code, &map["data"]), (200, &json!({"ca.crt": "abc"})));
    }
    .boxed_local()
}

pub fn what_does_not_fit_is_refused(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let path = server.path(Kind::X2Gateway);
        server.new_gateway("a", json!({})).await;
        let again = server.create(&path, &gateway("a", json!({}))).await;
        assert_eq!(refusal(&again), (409, "AlreadyExists"));
        let details = json!({"name": "a", "group": "tenure.dev", "kind": "x2gateways"});
        assert_eq!(again.1["details"], details);
        let missing = server.get(&server.gateway("b")).await;
        assert_eq!(refusal(&missing), (404, "NotFound"));
        assert_eq!(missing.1["details"]["kind"], "x2gateways");
        let nowhere = server.create(&path_in(Kind::X2Gateway, "nowhere"), &gateway("b", json!({}))).await;
        assert_eq!(refusal(&nowhere), (404, "NotFound"));
        assert_eq!(nowhere.1["details"], json!({"name": "nowhere", "kind": "namespaces"}));
        let mut elsewhere = gateway("b", json!({}));
        elsewhere["metadata"]["namespace"] = json!("elsewhere");
        assert_eq!(refusal(&server.create(&path, &elsewhere).await), (400, "BadRequest"));
        let mut other = gateway("b", json!({}));
        other["kind"] = json!("TokenPolicy");
        assert_eq!(refusal(&server.create(&path, &other).await), (422, "Invalid"));
        other["apiVersion"] = json!("v1");
        assert_eq!(refusal(&server.create(&path, &other).await), (400, "BadRequest"));
        for (pointer, value) in [
            ("/metadata/name", json!("Not_A_Name")),
            ("/metadata/name", json!("")),
            ("/spec/url", json!(1)),
            ("/spec/suspend", json!("yes")),
            ("/spec/credentialsSecretRef", json!({})),
            ("/spec/requestTimeout", json!("a".repeat(999))),
        ] {
            let mut wrong = gateway("b", json!({}));
            match wrong.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => wrong["spec"][pointer.trim_start_matches("/spec/")] = value,
            }
            assert_eq!(refusal(&server.create(&path, &wrong).await), (422, "Invalid"), "{wrong}");
        }
        let change = json!({"time": "2026-11-01T08:00:00Z", "to": 1, "policy": "p", "cause": "Policy"});
        let long = json!({"status": {"history": vec![change; 11]}});
        let status = format!("{}/status", server.gateway("a"));
        assert_eq!(refusal(&server.merge(&status, long).await), (422, "Invalid"));
        assert_eq!(
            refusal(&server.merge(&server.gateway("b"), json!({"metadata": {}})).await),
            (404, "NotFound")
        );
        assert_eq!(server.get("/apis/tenure.dev/v1alpha1/namespaces/default/others").await.0, 404);
    }
    .boxed_local()
}

pub fn a_write_bumps_what_it_changes(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let created = server.new_gateway("a", json!({})).await;
        let (path, status) = (server.gateway("a"), format!("{}/status", server.gateway("a")));
        let generation = |object: &Value| object["metadata"]["generation"].as_i64().unwrap();

        let (_, labelled) = server.merge(&path, json!({"metadata": {"labels": {"site": "berlin"}}})).await;
        assert!(version(&labelled) > version(&created));
        assert_eq!((generation(&labelled), &labelled["metadata"]["labels"]["site"]), (1, &json!("berlin")));
        let (code, same) = server.merge(&path, json!({"metadata": {"labels": {"site": "berlin"}}})).await;
        assert_eq!((code, &same), (200, &labelled), "a write that changes nothing is none");
        let (_, edited) = server.merge(&path, json!({"spec": {"suspend": true}})).await;
        assert_eq!((generation(&edited), &edited["spec"]["suspend"]), (2, &json!(true)));
        let (_, kept) = server.merge(&path, json!({"status": {"policy": "mine"}})).await;
        assert_eq!(kept, edited, "a status is not written there");

        let everything = json!({
            "metadata": {"labels": {"site": "paris"}, "finalizers": ["a.example.net/b"]},
            "spec": {"suspend": false}, "status": {"policy": "mine", "unknown": 1},
        });
        let (code, reported) = server.merge(&status, everything).await;
        assert_eq!(code, 200, "{reported}");
        assert!(version(&reported) > version(&edited));
        assert_eq!((generation(&reported), &reported["spec"]), (2, &edited["spec"]), "only the status is");
        let of_meta =
            |object: &Value| (object["metadata"]["labels"].clone(), object["metadata"]["finalizers"].clone());
        assert_eq!(of_meta(&reported), of_meta(&edited));
        assert_eq!(reported["status"], json!({"observedGeneration": -1, "policy": "mine"}));
        let (_, same) = server.merge(&status, json!({"status": {"policy": "mine"}})).await;
        assert_eq!(same, reported);
        let whole = json!([{"op": "add", "path": "/status", "value": {"observedGeneration": 2}}]);
        let (_, replaced) = server.patch(&status, whole).await;
        assert_eq!(replaced["status"], json!({"observedGeneration": 2}));
        let (_, removed) = server.merge(&status, json!({"status": null})).await;
        assert_eq!(removed["status"], json!({"observedGeneration": -1}), "the default comes back");
        let (_, unlabelled) = server.merge(&path, json!({"metadata": {"labels": {"site": null}}})).await;
        assert_eq!(unlabelled["metadata"]["labels"], Value::Null);
    }
    .boxed_local()
}

pub fn a_json_patch_is_applied_whole_or_not_at_all(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let created = server.new_gateway("a", json!({})).await;
        let (path, uid) = (server.gateway("a"), &created["metadata"]["uid"]);
        let test = |pointer: &str, value: Value| json!({"op": "test", "path": pointer, "value": value});
        let add = |value: Value| json!({"op": "add", "path": "/metadata/finalizers", "value": value});
        let refused = [
            json!([test("/metadata/uid", json!("another")), add(json!(["a.example.net/b"]))]),
            json!([add(json!(["a.example.net/b"])), test("/metadata/uid", json!("another"))]),
            json!([test("/spec/url", Value::Null)]),
            json!([test("/spec/none/url", Value::Null)]),
            json!([test("/spec/proxyUrl", json!("http://proxy"))]),
            json!([{"op": "remove", "path": "/metadata/finalizers"}]),
            json!([{"op": "replace", "path": "/spec/none/url", "value": "http://proxy"}]),
        ];
        for operations in refused {
            let answer = server.patch(&path, operations.clone()).await;
            assert_eq!(refusal(&answer), (422, "Invalid"), "{operations}");
        }
        assert_eq!(refusal(&server.patch(&path, json!({"op": "test"})).await), (400, "BadRequest"));
        assert_eq!(server.get(&path).await.1, created, "nothing has changed");

        let first = json!([
            test("/metadata/uid", uid.clone()),
            test("/metadata/finalizers", Value::Null),
            add(json!(["a.example.net/b"])),
        ]);
        let (code, held) = server.patch(&path, first.clone()).await;
        assert_eq!((code, &held["metadata"]["finalizers"]), (200, &json!(["a.example.net/b"])), "{held}");
        assert_eq!(held["metadata"]["generation"], 1);
        assert_eq!(refusal(&server.patch(&path, first).await), (422, "Invalid"));
        let last = json!([test("/metadata/finalizers", json!(["a.example.net/b"])), add(json!([]))]);
        let (code, released) = server.patch(&path, last).await;
        assert_eq!((code, &released["metadata"]["finalizers"]), (200, &Value::Null), "{released}");
        let replace = json!([{"op": "replace", "path": "/metadata/labels", "value": {"site": "berlin"}}]);
        let (code, replaced) = server.patch(&path, replace).await;
        assert_eq!(
            (code, &replaced["metadata"]["labels"]["site"]),
            (200, &json!("berlin")),
            "there was none"
        );
        let answer = server.patch(&server.gateway("b"), json!([])).await;
        assert_eq!(refusal(&answer), (404, "NotFound"));
    }
    .boxed_local()
}

pub fn a_replace_builds_on_a_version(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let mut object = server.new_gateway("a", json!({})).await;
        let path = server.gateway("a");
        let (_, newer) = server.merge(&path, json!({"metadata": {"labels": {"site": "berlin"}}})).await;
        object["spec"]["suspend"] = json!(true);
        assert_eq!(refusal(&server.replace(&path, &object).await), (409, "Conflict"));
        object["metadata"]["resourceVersion"] = newer["metadata"]["resourceVersion"].clone();
        object["metadata"]["generation"] = json!(9);
        object["status"] = json!({"policy": "mine"});
        let (code, replaced) = server.replace(&path, &object).await;
        assert_eq!((code, &replaced["metadata"]["labels"]), (200, &Value::Null), "{replaced}");
        assert_eq!((&replaced["status"], &replaced["metadata"]["generation"]), (&newer["status"], &json!(2)));
        object["metadata"]["resourceVersion"] = Value::Null;
        assert_eq!(refusal(&server.replace(&path, &object).await), (422, "Invalid"));
        object["metadata"]["name"] = json!("b");
        assert_eq!(refusal(&server.replace(&path, &object).await), (400, "BadRequest"));
        let stale = json!({"metadata": {"resourceVersion": newer["metadata"]["resourceVersion"]}, "spec": {"suspend": false}});
        assert_eq!(refusal(&server.merge(&path, stale).await), (409, "Conflict"));
    }
    .boxed_local()
}

pub fn a_status_builds_on_a_version(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let created = server.new_gateway("a", json!({})).await;
        let (path, status) = (server.gateway("a"), format!("{}/status", server.gateway("a")));
        let report = |seen: &Value, policy: &str| {
            json!([
                {"op": "test", "path": "/metadata/uid", "value": created["metadata"]["uid"]},
                {"op": "add", "path": "/metadata/resourceVersion", "value": seen["metadata"]["resourceVersion"]},
                {"op": "add", "path": "/status", "value": {"policy": policy}},
            ])
        };
        let (code, reported) = server.patch(&status, report(&created, "mine")).await;
        assert_eq!((code, &reported["status"]["policy"]), (200, &json!("mine")), "{reported}");
        assert!(version(&reported) > version(&created));
        let stale = server.patch(&status, report(&created, "stale")).await;
        assert_eq!(refusal(&stale), (409, "Conflict"));
        let (_, labelled) = server.merge(&path, json!({"metadata": {"labels": {"site": "berlin"}}})).await;
        let stale = server.patch(&status, report(&reported, "stale")).await;
        assert_eq!(refusal(&stale), (409, "Conflict"), "whatever has changed");
        let of_version = |seen: &Value| json!({"resourceVersion": seen["metadata"]["resourceVersion"]});
        let merge =
            |seen: &Value| json!({"metadata": of_version(seen), "status": {"policy": "stale"}});
        assert_eq!(refusal(&server.merge(&status, merge(&reported)).await), (409, "Conflict"));
        assert_eq!(server.get(&path).await.1, labelled, "nothing has changed");
        assert_eq!(server.patch(&status, report(&labelled, "mine")).await.1, labelled, "nothing is new");
        assert_eq!(server.merge(&status, merge(&labelled)).await.0, 200);
    }
    .boxed_local()
}

pub fn a_lease_after_its_deletion(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "tenure"},
            "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15},
        });
        let all = server.path(Kind::Lease);
        let path = format!("{all}/tenure");
        let (code, mut lease) = server.create(&all, &lease).await;
        assert_eq!(code, 201, "{lease}");
        let stale = lease.clone();
        lease["spec"]["holderIdentity"] = json!("b");
        let (code, renewed) = server.replace(&path, &lease).await;
        assert_eq!((code, &renewed["spec"]["holderIdentity"]), (200, &json!("b")));
        let watched = format!(
            "{all}?watch=true&fieldSelector=metadata.name%3Dtenure&resourceVersion={}",
            version(&stale)
        );
        assert_eq!(server.watch(&watched).await.event().await, ("MODIFIED".to_owned(), renewed.clone()));
        assert_eq!(refusal(&server.replace(&path, &stale).await), (409, "Conflict"));
        let mut unconditional = stale.clone();
        unconditional["metadata"]["resourceVersion"] = Value::Null;
        assert_eq!(refusal(&server.replace(&path, &unconditional).await), (422, "Invalid"));
        assert_eq!(server.delete(&path, json!({})).await.0, 200);
        assert_eq!(refusal(&server.replace(&path, &renewed).await), (409, "Conflict"));
        assert_eq!(server.get(&path).await.0, 404);
    }
    .boxed_local()
}

pub fn events_have_rules(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let path = server.path(Kind::Event);
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "a-"},
            "eventTime": "2026-11-01T08:00:00.000000Z", "action": "Reconcile", "reason": "Unreachable",
            "reportingController": "tenure.dev/tenure", "reportingInstance": "tenure-0", "type": "Warning",
            "note": "n".repeat(1024),
            "regarding": {"apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway", "name": "a", "namespace": server.namespace},
        });
        let (code, created) = server.create(&path, &event).await;
        assert_eq!(code, 201, "{created}");
        let name = created["metadata"]["name"].as_str().unwrap();
        let patch = json!({"series": {"count": 2, "lastObservedTime": "2026-11-01T08:00:01.000000Z"}});
        let (code, series) = server.merge(&format!("{path}/{name}"), patch).await;
        assert_eq!((code, &series["series"]["count"]), (200, &json!(2)), "{series}");
        for (field, value) in [
            ("note", json!("n".repeat(1025))),
            ("action", Value::Null),
            ("reportingInstance", Value::Null),
        ] {
            let mut wrong = event.clone();
            wrong[field] = value;
            let answer = server.create(&path, &wrong).await;
            assert_eq!(answer.0, 422, "{field}");
            assert_eq!(refusal(&answer), (422, "Invalid"), "{field}");
        }
    }
    .boxed_local()
}

pub fn managers_are_noted(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        server.new_gateway("a", json!({})).await;
        let path = server.gateway("a");
        server.merge(&format!("{path}?fieldManager=alice"), json!({"spec": {"suspend": true}})).await;
        let status = format!("{path}/status?fieldManager=tenure");
        let (_, object) = server.merge(&status, json!({"status": {"policy": "mine"}})).await;
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let of = |manager: &str| entries.iter().find(|entry| entry["manager"] == manager).unwrap();
        assert!(of("alice")["fieldsV1"]["f:spec"].is_object(), "{entries:?}");
        assert_eq!(
            (&of("alice")["operation"], &of("alice")["subresource"]),
            (&json!("Update"), &Value::Null)
        );
        assert_eq!(of("tenure")["subresource"], "status");
        assert!(of("tenure")["fieldsV1"]["f:status"].is_object(), "{entries:?}");
    }
    .boxed_local()
}
