//! Releases side by side, and objects of our kinds among a release's own.

use serde_json::{Value, json};

use super::cluster::*;
use super::helm::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_work_side_by_side_each_in_its_own_namespaces() {
    let cluster = Cluster::alone().await;
    let home = cluster.restricted("home").await;
    let (berlin, madrid) = (cluster.namespace("berlin").await, cluster.namespace("madrid").await);
    let first = Release { cluster: &cluster, helm: Helm::Three, name: "berlin", namespace: &home };
    let second = Release { name: "madrid", helm: Helm::Four, ..first };
    let values = |namespace: &str, crds: bool| {
        let scope = json!({"scope": "namespaces", "namespaces": [namespace]});
        let environment = json!([{"name": "TENURE_METRICS_PER_OBJECT", "value": "true"}]);
        runnable(json!({"rbac": scope, "crds": {"enabled": crds}, "extraEnv": environment}))
    };
    first.apply("install", &chart(), &[], &values(berlin.name(), true)).await.unwrap();
    // Without the switch it wants the CRDs, which are the first one's.
    let refusal = second.apply("install", &chart(), &[], &values(madrid.name(), true)).await.unwrap_err();
    assert!(refusal.contains("invalid ownership metadata"), "{refusal}");
    let notes = second.apply("install", &chart(), &[], &values(madrid.name(), false)).await.unwrap();
    assert!(notes.contains("does not install or upgrade the CRDs"), "{notes}");

    let (berlins, madrids) = (fleet(), fleet());
    equip(&berlin, &berlins, json!({"timeoutSeconds": 28800})).await;
    equip(&madrid, &madrids, json!({"timeoutSeconds": 43200})).await;
    let operator = first.operator().await;
    in_sync(&berlin).await;
    assert_eq!((berlins.appliance(0).timeout(), madrids.appliance(0).timeout()), (28800, 86400));
    assert_eq!(madrids.requests().connections(), 0);
    let status = &madrid.get("TokenPolicy", "short").await.unwrap().data["status"];
    assert_eq!(status, &json!({"observedGeneration": -1}), "the first one has not touched it");

    let other = second.operator().await;
    in_sync(&madrid).await;
    let metrics = other.metrics().await.unwrap();
    assert!(metrics.contains("tenure_last_success_timestamp_seconds{"), "the environment counts: {metrics}");
    assert_eq!((berlins.appliance(0).timeout(), madrids.appliance(0).timeout()), (28800, 43200));
    // The end of one is not the other's.
    drop(operator);
    first.run(&["uninstall", "berlin", "--no-hooks"], &Value::Null).await.unwrap();
    madrids.appliance(0).factory_reset();
    let again = json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": "now"}}});
    let policies = madrid.api("TokenPolicy").await.unwrap();
    let again = kube::api::Patch::Merge(again);
    policies.patch("short", &kube::api::PatchParams::default(), &again).await.unwrap();
    let looked = |policy: &kube::api::DynamicObject| policy.data["status"]["lastHandledReconcileAt"] == "now";
    madrid.wait_for("TokenPolicy", "short", SOON, looked).await.unwrap();
    assert_eq!(madrids.appliance(0).timeout(), 43200);
    second.run(&["uninstall", "madrid", "--no-hooks"], &Value::Null).await.unwrap();
}

/// Why the notes warn of it: Helm asks the API server for every kind before it installs the first object.
#[tokio::test(flavor = "multi_thread")]
async fn our_kinds_in_extra_objects_need_the_crds_first() {
    let cluster = Cluster::alone().await;
    let policy = json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy", "metadata": {"name": "mine"},
        "spec": {"gatewaySelector": {}, "timeoutSeconds": 28800},
    });
    for helm in Helm::BOTH {
        cluster.remove_crds().await;
        let home = cluster.namespace("home").await;
        let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
        let values = json!({"extraObjects": [policy]});
        let refusal = release.apply("install", &chart(), &[], &values).await.unwrap_err();
        assert!(refusal.contains("ensure CRDs are installed first"), "{helm:?}: {refusal}");

        release.apply("upgrade", &chart(), &["--install"], &json!({})).await.unwrap();
        for values in [values, json!({"extraObjects": [policy.to_string()]})] {
            let notes = release.apply("upgrade", &chart(), &[], &values).await.unwrap();
            assert!(
                notes.contains("WARNING: extraObjects contains the TokenPolicy mine"),
                "{helm:?}: {notes}"
            );
        }
        home.get("TokenPolicy", "mine").await.unwrap();
        release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
        home.wait_until_gone("TokenPolicy", "mine", SOON).await.unwrap();
    }
}
