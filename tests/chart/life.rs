//! A release from its installation to its end, by Helm 3 and by Helm 4: what users have declared survives all of it.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tenure_kit::namespace::TestNamespace;

use super::cluster::*;
use super::finalizers::uninstall;
use super::helm::*;

/// A chart of an earlier version: CRDs without change windows and rollouts, fewer rights, one replica.
const EARLIER: &str = "tests/chart/fixtures/tenure-0.0.1.tgz";

async fn uid(namespace: &TestNamespace, kind: &str, name: &str) -> String {
    namespace.get(kind, name).await.unwrap().uid().unwrap()
}

/// Whether the cluster's CRDs are those of this version.
async fn crds_are_new(cluster: &Cluster) -> bool {
    let crds = cluster.crds().await;
    assert_eq!(crds.len(), 4);
    let policies = crds.iter().find(|crd| crd.spec.names.plural == "tokenpolicies").unwrap();
    serde_json::to_string(&policies.spec).unwrap().contains("maxConcurrent")
}

/// Edits the policy. Until the API server goes by a new schema it drops the fields that it does not know.
async fn edit_in_new_schema(namespace: &TestNamespace, patch: &Value) {
    let policies = namespace.api("TokenPolicy").await.unwrap();
    let edited = async {
        loop {
            let edited =
                policies.patch("short", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
            if edited.data["spec"].get("rollout").is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, edited).await.expect("the new schema is served");
}

async fn walk(helm: Helm) {
    let cluster = Cluster::alone().await;
    let (home, tenant) = (cluster.restricted("home").await, cluster.namespace("tenant").await);
    let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
    let fleet = fleet();

    // An earlier version, with resources.
    let installed = release.apply("install", &root().join(EARLIER), &[], &json!({})).await.unwrap();
    assert!(installed.contains("NOTES:") && installed.contains("rollout status"), "{installed}");
    assert!(!crds_are_new(&cluster).await);
    equip(&tenant, &fleet, json!({"timeoutSeconds": 28800})).await;
    let gateway = uid(&tenant, "X2Gateway", "x2").await;

    // This version, as packaged: its CRDs, its rights, its operator.
    let package = helm.package();
    release.apply("upgrade", &package, &[], &runnable(json!({}))).await.unwrap();
    assert!(crds_are_new(&cluster).await);
    assert_eq!(uid(&tenant, "X2Gateway", "x2").await, gateway);
    let operator = release.operator().await;
    in_sync(&tenant).await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    assert_eq!(operator.get("/readyz").await.unwrap().0, 200);
    // Which only this version's CRDs and rights allow.
    let patch = json!({"spec": {"timeoutSeconds": 43200, "deletionPolicy": "Restore", "rollout": {}}});
    edit_in_new_schema(&tenant, &patch).await;
    in_sync(&tenant).await;
    assert_eq!(fleet.appliance(0).timeout(), 43200);

    // Its end: what users have declared stays, and what was set stays set.
    let said = uninstall(&release, operator).await;
    assert!(said.ends_with("Finalizers released: 2. Nothing was restored.\n"), "{said}");
    assert!(crds_are_new(&cluster).await);
    assert_eq!(uid(&tenant, "X2Gateway", "x2").await, gateway);
    assert_eq!(fleet.appliance(0).timeout(), 43200);

    // Another release takes the CRDs over only where that is asked for.
    let another = Release { name: "another", ..release };
    let refusal = another.apply("install", &package, &[], &runnable(json!({}))).await.unwrap_err();
    assert!(refusal.contains("invalid ownership metadata"), "{refusal}");
    another.apply("install", &package, &["--take-ownership"], &runnable(json!({}))).await.unwrap();
    for crd in cluster.crds().await {
        assert_eq!(crd.annotations()["meta.helm.sh/release-name"], "another");
    }
    assert_eq!(uid(&tenant, "X2Gateway", "x2").await, gateway);
    let operator = another.operator().await;
    in_sync(&tenant).await;
    uninstall(&another, operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_installation_to_uninstallation_by_helm_3() {
    walk(Helm::Three).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_installation_to_uninstallation_by_helm_4() {
    walk(Helm::Four).await;
}

/// A release that Helm 3 has made is one that Helm 4 goes on with.
#[tokio::test(flavor = "multi_thread")]
async fn helm_4_upgrades_what_helm_3_has_installed() {
    let cluster = Cluster::alone().await;
    let home = cluster.namespace("home").await;
    let three = Release { cluster: &cluster, helm: Helm::Three, name: "tenure", namespace: &home };
    three.apply("install", &root().join(EARLIER), &[], &json!({})).await.unwrap();
    let four = Release { helm: Helm::Four, ..three };
    four.apply("upgrade", &Helm::Four.package(), &[], &json!({"replicaCount": 3})).await.unwrap();
    assert!(crds_are_new(&cluster).await);
    assert_eq!(four.deployment().await.data["spec"]["replicas"], 3);
    four.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
}

/// As the page about upgrading says: the former operator is there again, with the former kinds, and what users have declared stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_puts_the_former_operator_and_kinds_back() {
    let cluster = Cluster::alone().await;
    for helm in Helm::BOTH {
        cluster.remove_crds().await;
        let (home, tenant) = (cluster.namespace("home").await, cluster.namespace("tenant").await);
        let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
        let role = async || {
            let role = home.get("ClusterRole", &format!("{}:tenure", home.name())).await.unwrap();
            role.data["rules"].clone()
        };
        release.apply("install", &root().join(EARLIER), &[], &json!({})).await.unwrap();
        equip(&tenant, &fleet(), json!({"timeoutSeconds": 28800})).await;
        let declared = (uid(&tenant, "X2Gateway", "x2").await, uid(&tenant, "TokenPolicy", "short").await);
        let (deployment, rules) = (release.deployment().await.data["spec"].take(), role().await);

        let package = helm.package();
        for _ in 0..2 {
            release.apply("upgrade", &package, &[], &json!({})).await.unwrap();
            edit_in_new_schema(&tenant, &json!({"spec": {"rollout": {}}})).await;
            assert!(crds_are_new(&cluster).await);
            assert_ne!(release.deployment().await.data["spec"], deployment);
            assert_ne!(role().await, rules);

            release.run(&["rollback", "tenure"], &Value::Null).await.unwrap();
            assert!(!crds_are_new(&cluster).await, "{helm:?}");
            assert_eq!(release.deployment().await.data["spec"], deployment, "{helm:?}");
            assert_eq!(role().await, rules, "{helm:?}");
            let kept = (uid(&tenant, "X2Gateway", "x2").await, uid(&tenant, "TokenPolicy", "short").await);
            assert_eq!(kept, declared, "{helm:?}");
            let policy = tenant.get("TokenPolicy", "short").await.unwrap();
            assert_eq!(policy.data["spec"]["timeoutSeconds"], 28800);
        }
        release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
    }
}

/// Kinds of an earlier version that `kubectl apply -f crds/` has installed become a release's own, and new.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_takes_over_the_kinds_that_kubectl_has_installed() {
    let cluster = Cluster::alone().await;
    for helm in Helm::BOTH {
        cluster.remove_crds().await;
        let home = cluster.namespace("home").await;
        let earlier = root().join(EARLIER);
        let rendered = helm.run(&["template", "tenure", path(&earlier)], &Value::Null).unwrap();
        let folder = temporary("crds");
        for mut crd in objects(&rendered).into_iter().filter(|o| o["kind"] == "CustomResourceDefinition") {
            let name = crd["metadata"]["name"].clone();
            crd["metadata"] = json!({"name": name});
            std::fs::write(folder.join(format!("{}.json", text(&name))), crd.to_string()).unwrap();
        }
        cluster.shell(home.name(), &folder, "for crd in *.dev.json; do kubectl apply -f $crd; done").await;
        let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
        let refusal = release.apply("install", &chart(), &[], &json!({})).await.unwrap_err();
        assert!(refusal.contains("invalid ownership metadata"), "{helm:?}: {refusal}");
        // Helm 4 goes by field managers, and kubectl is another one.
        let more: &[&str] = if helm == Helm::Three {
            &["--take-ownership"]
        } else {
            &["--take-ownership", "--force-conflicts"]
        };
        release.apply("install", &chart(), more, &json!({})).await.unwrap();
        assert!(crds_are_new(&cluster).await);
        release.apply("upgrade", &chart(), &[], &json!({"replicaCount": 3})).await.unwrap();
        release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
    }
}

/// Without an election there is no moment with two operators, which an upgrade changes in both directions.
#[tokio::test(flavor = "multi_thread")]
async fn the_election_is_switched_off_and_on() {
    let cluster = Cluster::alone().await;
    for helm in Helm::BOTH {
        let home = cluster.namespace("home").await;
        let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
        let values = |enabled: bool| json!({"replicaCount": 1, "crds": {"enabled": false}, "leaderElection": {"enabled": enabled}});
        release.apply("install", &chart(), &[], &values(true)).await.unwrap();
        for (enabled, strategy) in [(true, "RollingUpdate"), (false, "Recreate"), (true, "RollingUpdate")] {
            release.apply("upgrade", &chart(), &[], &values(enabled)).await.unwrap();
            assert_eq!(release.deployment().await.data["spec"]["strategy"]["type"], strategy, "{helm:?}");
        }
        release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
    }
}

/// CRDs that do not stay take everything with them, and nothing hangs.
#[tokio::test(flavor = "multi_thread")]
async fn without_keep_everything_goes() {
    let cluster = Cluster::alone().await;
    let (home, tenant) = (cluster.namespace("home").await, cluster.namespace("tenant").await);
    let release = Release { cluster: &cluster, helm: Helm::Four, name: "tenure", namespace: &home };
    let values = runnable(json!({"crds": {"keep": false}}));
    release.apply("install", &chart(), &[], &values).await.unwrap();
    let fleet = fleet();
    equip(&tenant, &fleet, json!({"timeoutSeconds": 28800, "deletionPolicy": "Restore"})).await;
    let operator = release.operator().await;
    in_sync(&tenant).await;
    uninstall(&release, operator).await;
    cluster.until_crds_are_gone().await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
}
