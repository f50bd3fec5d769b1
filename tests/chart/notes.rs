//! What Helm tells its user after an installation: it is true, and what it tells to type works.

use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::cluster::*;
use super::helm::*;

/// The notes of a release with these values. Helm 3 renders none without a cluster.
async fn notes(release: &Release<'_>, values: &Value) -> String {
    let printed = release.apply("install", &chart(), &["--dry-run=client"], values).await.unwrap();
    printed.split_once("\nNOTES:\n").expect("there are notes").1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notes_say_what_to_do_next() {
    let cluster = Cluster::alone().await;
    let home = cluster.namespace("notes").await;
    let cases = [
        (json!({}), vec!["rollout status deployment/tenure", "kind: TokenPolicy"], vec!["WARNING"]),
        (json!({}), vec!["set listen.address to [::]", " --no-hooks\n"], vec![]),
        (json!({"listen": {"address": "[::]"}}), vec!["can pull the image."], vec!["[::]"]),
        (
            json!({"rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}}),
            vec!["manages the namespaces a, b only", "kubectl --namespace a apply"],
            vec!["WARNING"],
        ),
        (
            json!({"operator": {"selector": "site=berlin, team == net"}}),
            vec!["only manages resources that match `site=berlin, team == net`"],
            vec!["WARNING", "Add labels that match"],
        ),
        (
            json!({"operator": {"selector": "site in (berlin, madrid)"}}),
            vec!["Add labels that match `site in (berlin, madrid)`"],
            vec!["WARNING", "labels:"],
        ),
        (json!({"operator": {"denyCidr": ["10.96.0.0/12"]}}), vec![], vec!["operator.denyCidr"]),
        (json!({}), vec!["list the address\nranges of your cluster in operator.denyCidr"], vec!["optIn"]),
        (
            json!({"rbac": {"secrets": "optIn"}}),
            vec!["create rolebinding tenure-secrets --clusterrole=", ":tenure:secrets --serviceaccount="],
            vec!["WARNING"],
        ),
        (json!({"crds": {"enabled": false}}), vec!["does not install or upgrade the CRDs"], vec!["WARNING"]),
        (json!({"crds": {"keep": false}}), vec!["WARNING: crds.keep is false"], vec![]),
        (
            json!({"releaseFinalizers": {"enabled": false}}),
            vec!["WARNING: `helm uninstall` does not remove finalizers"],
            vec!["--no-hooks"],
        ),
        (json!({"rbac": {"create": false}}), vec!["WARNING: rbac.create is false"], vec![]),
    ];
    for (values, words, never) in cases {
        for helm in Helm::BOTH {
            let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
            let notes = notes(&release, &values).await;
            for word in &words {
                assert!(notes.contains(word), "{helm:?} {values}: {notes}");
            }
            for word in &never {
                assert!(!notes.contains(word), "{helm:?} {values}: {notes}");
            }
        }
    }
}

/// The commands that create something, as a user copies them.
fn script(notes: &str) -> &str {
    let begin = notes.find("\nkubectl ").and_then(|status| {
        let rest = &notes[status + 1..];
        rest.find("\nkubectl ").map(|next| status + 1 + next + 1)
    });
    let end = notes.find("\nIn mode Observe the policy").unwrap();
    &notes[begin.unwrap()..end]
}

/// In namespaces of its own, with a selector, with names of Secrets, and under bounds: the operator sees what the commands made.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_notes_work() {
    let cluster = Cluster::alone().await;
    for helm in Helm::BOTH {
        let (home, anywhere, tenant) = (
            cluster.namespace("home").await,
            cluster.namespace("anywhere").await,
            cluster.namespace("tenant").await,
        );
        let limited = json!({
            "rbac": {"scope": "namespaces", "namespaces": [tenant.name()], "secretNames": ["login"]},
            "operator": {
                "selector": "site=on,team==123", "minTimeout": 86400, "requireAllowedOrigins": true,
            },
        });
        for (values, place, labels) in
            [(json!({}), &anywhere, json!(null)), (limited, &tenant, json!({"site": "on", "team": "123"}))]
        {
            let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
            let take: &[&str] = &["--install", "--take-ownership"];
            let printed = release.apply("upgrade", &chart(), take, &values).await.unwrap();
            let folder = temporary("notes");
            std::fs::write(folder.join("FILE"), "x2-admin-password").unwrap();
            let listed = cluster.shell(anywhere.name(), &folder, script(&printed)).await;
            assert!(listed.contains("x2-berlin-1") && listed.contains("x2-sessions"), "{listed}");
            let gateway = place.get("X2Gateway", "x2-berlin-1").await.unwrap();
            let policy = place.get("TokenPolicy", "x2-sessions").await.unwrap();
            for object in [&gateway, &policy] {
                assert_eq!(json!(object.metadata.labels), labels, "{}", object.name_any());
            }
            let secret = text(&gateway.data["spec"]["credentialsSecretRef"]["name"]).to_owned();
            let secret = place.get("Secret", &secret).await.unwrap();
            if !labels.is_null() {
                assert_eq!(policy.data["spec"]["timeoutSeconds"], 86400);
                assert_eq!(secret.name_any(), "login");
                assert_eq!(
                    secret.annotations()["tenure.dev/allowed-origins"],
                    text(&gateway.data["spec"]["url"])
                );
            }
        }
        let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
        release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
    }
}
