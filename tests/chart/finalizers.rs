//! Uninstalling leaves nothing that can never be deleted: the hook, run as the process that its Job would run.

use std::process::Output;

use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tenure_kit::access::token_kubeconfig;
use tenure_kit::namespace::TestNamespace;
use tenure_kit::operator::Operator;
use tokio::process::Command;

use super::cluster::*;
use super::helm::*;
use super::rights::{question, until_granted};

/// Runs `tenure release-finalizers` as an administrator.
async fn release_finalizers(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("release-finalizers").args(arguments).env_clear();
    command.env("KUBECONFIG", cluster.plane.kubeconfig_path()).output().await.unwrap()
}

/// What it printed, where it ended well.
fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// An object of each kind that holds our finalizer between two of others.
async fn held(namespace: &TestNamespace, name: &str, label: &str) {
    let credentials = json!({"name": "login"});
    let specs = [
        json!({"url": "https://10.20.0.11", "credentialsSecretRef": credentials}),
        json!({"gatewaySelector": {}, "timeoutSeconds": 28800}),
        json!({"url": "https://10.20.0.12", "credentialsSecretRef": credentials}),
        json!({
            "serverRef": {"name": name}, "customerId": "1d2b7a10-0f2c-11ee-be56-0242ac120002",
            "accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400,
        }),
    ];
    for (kind, spec) in KINDS.iter().zip(specs) {
        let finalizers = ["example.net/a", FINALIZER, "example.net/b"];
        let object = json!({
            "apiVersion": "tenure.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "labels": {"site": label}, "finalizers": finalizers}, "spec": spec,
        });
        namespace.apply_yaml(&object.to_string()).await.unwrap();
    }
}

async fn finalizers(namespace: &TestNamespace, name: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.push(namespace.get(kind, name).await.unwrap().finalizers().to_vec());
    }
    all
}

const OTHERS: [&str; 2] = ["example.net/a", "example.net/b"];
const ALL: [&str; 3] = ["example.net/a", FINALIZER, "example.net/b"];

#[tokio::test(flavor = "multi_thread")]
async fn without_the_kinds_there_is_nothing_to_do() {
    let cluster = Cluster::alone().await;
    let text = printed(&release_finalizers(&cluster, &["--stop-deployment=default/none"]).await);
    assert!(text.contains("There is no Deployment default/none to stop."), "{text}");
    for kind in KINDS {
        assert!(text.contains(&format!("The API server does not know the kind {kind}.")), "{text}");
    }
    assert!(text.ends_with("Finalizers released: 0. Nothing was restored.\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_finalizer_goes_and_only_within_namespaces_and_selector() {
    let cluster = Cluster::alone().await;
    cluster.install_crds().await;
    let (one, two) = (cluster.namespace("one").await, cluster.namespace("two").await);
    for namespace in [&one, &two] {
        held(namespace, "berlin", "berlin").await;
        held(namespace, "madrid", "madrid").await;
    }
    let text = printed(
        &release_finalizers(&cluster, &["--namespaces", one.name(), "--selector", "site=berlin"]).await,
    );
    for kind in KINDS {
        assert!(text.contains(&format!("{kind} {}/berlin is released.", one.name())), "{text}");
    }
    assert!(text.ends_with("Finalizers released: 4. Nothing was restored.\n"), "{text}");
    for (namespace, name, expected) in [
        (&one, "berlin", &OTHERS[..]),
        (&one, "madrid", &ALL),
        (&two, "berlin", &ALL),
        (&two, "madrid", &ALL),
    ] {
        assert_eq!(finalizers(namespace, name).await, [expected; 4], "{} {name}", namespace.name());
    }
    // Everywhere, and once more, where there is nothing left to do.
    let text = printed(&release_finalizers(&cluster, &[]).await);
    assert!(text.ends_with("Finalizers released: 12. Nothing was restored.\n"), "{text}");
    let text = printed(&release_finalizers(&cluster, &[]).await);
    assert_eq!(text, "Finalizers released: 0. Nothing was restored.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_may_not_do_is_an_error_that_names_the_kind() {
    let cluster = Cluster::alone().await;
    cluster.install_crds().await;
    let namespace = cluster.namespace("nobody").await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}});
    namespace.apply_yaml(&account.to_string()).await.unwrap();
    let kubeconfig = token_kubeconfig(&cluster.plane, namespace.name(), "nobody").await.unwrap();
    let mut command = Command::new(program());
    command.arg("release-finalizers").env_clear().env("KUBECONFIG", kubeconfig);
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the finalizers of kind TokenPolicy cannot be released"), "{text}");
    let output = release_finalizers(&cluster, &["--stop-deployment=none"]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("must be NAMESPACE/NAME"));
}

/// A Pod of the Deployment, as its controller would make it. No node will ever run it; we do.
async fn pod(release: &Release<'_>) -> DynamicObject {
    let mut template = release.deployment().await.data["spec"]["template"].clone();
    template["apiVersion"] = json!("v1");
    template["kind"] = json!("Pod");
    template["metadata"]["name"] = json!("the-operators");
    let pod: DynamicObject = serde_json::from_value(template).unwrap();
    release.namespace.api("Pod").await.unwrap().create(&PostParams::default(), &pod).await.unwrap()
}

/// Plays the Job's controller: runs its process with its arguments and its account's token, and reports its end.
async fn run_job(release: &Release<'_>, job: &DynamicObject) -> Output {
    let pod = &job.data["spec"]["template"]["spec"];
    let account = text(&pod["serviceAccountName"]);
    let (namespace, cluster) = (release.namespace, release.cluster);
    let kubeconfig = token_kubeconfig(&cluster.plane, namespace.name(), account).await.unwrap();
    let who = format!("{}:{account}", namespace.name());
    until_granted(&cluster.client, &who, &question("", "pods", "list", Some(namespace.name()))).await;
    let arguments = process(&pod["containers"][0]).0;
    let scope = arguments.iter().find_map(|argument| argument.strip_prefix("--namespaces="));
    until_granted(&cluster.client, &who, &question("tenure.dev", "x2gateways", "patch", scope)).await;
    let mut command = Command::new(program());
    command.args(arguments).env_clear().env("KUBECONFIG", kubeconfig).output().await.unwrap()
}

async fn complete(namespace: &TestNamespace, job: &DynamicObject) {
    let now = "2026-11-22T12:00:00Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": now, "lastTransitionTime": now, "reason": "Ended"});
    let status = json!({"status": {
        "startTime": now, "completionTime": now, "succeeded": 1, "uncountedTerminatedPods": {},
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
    }});
    let jobs = namespace.api("Job").await.unwrap();
    jobs.patch_status(&job.name_any(), &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// Uninstalls a release whose operator runs, playing the controllers and the kubelet. What the hook said.
pub async fn uninstall(release: &Release<'_>, mut operator: Operator) -> String {
    let namespace = release.namespace;
    let (pod, deployment) = (pod(release).await.name_any(), release.deployment().await.name_any());
    let hook = format!("{deployment}-release-finalizers");
    let arguments = ["uninstall", release.name];
    let helm = release.run(&arguments, &Value::Null);
    let controllers = async {
        let job = namespace.wait_for("Job", &hook, SOON, |_| true).await.unwrap();
        let kubelet = async {
            let stopped = |object: &DynamicObject| object.data["spec"]["replicas"] == 0;
            namespace.wait_for("Deployment", &deployment, SOON, stopped).await.unwrap();
            operator.terminate(SOON).await.unwrap();
            namespace.delete_object("Pod", &pod).await.unwrap();
        };
        let (output, ()) = tokio::join!(run_job(release, &job), kubelet);
        let said = printed(&output);
        complete(namespace, &job).await;
        said
    };
    let (uninstalled, said) = tokio::join!(helm, controllers);
    uninstalled.unwrap();
    said
}

/// An operator that runs puts its finalizers back; hence it is stopped first.
#[tokio::test(flavor = "multi_thread")]
async fn the_hook_stops_the_operator_and_lets_go_what_it_held() {
    let cluster = Cluster::alone().await;
    for helm in Helm::BOTH {
        let (home, tenant) = (cluster.restricted("home").await, cluster.namespace("tenant").await);
        let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
        let scope = json!({"rbac": {"scope": "namespaces", "namespaces": [tenant.name()]}});
        let more: &[&str] = if helm == Helm::Three { &[] } else { &["--take-ownership"] };
        release.apply("install", &chart(), more, &runnable(scope)).await.unwrap();
        let fleet = fleet();
        equip(&tenant, &fleet, json!({"timeoutSeconds": 28800, "deletionPolicy": "Restore"})).await;
        let operator = release.operator().await;
        in_sync(&tenant).await;
        let held = |object: &DynamicObject| object.finalizers() == [FINALIZER];
        for (kind, name) in [("X2Gateway", "x2"), ("TokenPolicy", "short")] {
            tenant.wait_for(kind, name, SOON, held).await.unwrap();
        }
        // While it runs it holds on.
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let policies = tenant.api("TokenPolicy").await.unwrap();
        policies.patch("short", &PatchParams::default(), &free).await.unwrap();
        tenant.wait_for("TokenPolicy", "short", SOON, held).await.unwrap();

        let said = uninstall(&release, operator).await;
        assert!(said.contains(&format!("Deployment {}/tenure is stopped.", home.name())), "{said}");
        assert!(said.ends_with("Finalizers released: 2. Nothing was restored.\n"), "{said}");
        assert_eq!(fleet.appliance(0).timeout(), 28800);
        for (kind, name) in [("X2Gateway", "x2"), ("TokenPolicy", "short")] {
            tenant.delete_object(kind, name).await.unwrap();
            tenant.wait_until_gone(kind, name, SOON).await.unwrap();
        }
        // The hook's own objects are gone, too.
        for kind in ["Job", "Role", "RoleBinding", "Deployment"] {
            let left = home.api(kind).await.unwrap().list(&kube::api::ListParams::default()).await.unwrap();
            assert!(left.items.is_empty(), "{kind}: {:?}", left.items);
        }
        let left = home.api("ServiceAccount").await.unwrap().list(&kube::api::ListParams::default()).await;
        let left: Vec<String> = left.unwrap().items.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(left, ["default"]);
    }
}

/// What there is of a release and of its hook in a namespace.
async fn left(namespace: &TestNamespace, release: &str) -> Vec<String> {
    let mut left = Vec::new();
    let instance = ListParams::default().labels(&format!("app.kubernetes.io/instance={release}"));
    for kind in ["Deployment", "Service", "ServiceAccount", "Role", "RoleBinding", "Job"] {
        let found = namespace.api(kind).await.unwrap().list(&instance).await.unwrap();
        left.extend(found.items.iter().map(|object| format!("{kind}/{}", object.name_any())));
    }
    left
}

/// Where a namespace is gone, Helm cannot make the hook's Role in it. The page about uninstalling says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_namespace_is_gone_the_release_is_told_or_goes_without_its_hook() {
    let cluster = Cluster::alone().await;
    for helm in Helm::BOTH {
        cluster.remove_crds().await;
        let home = cluster.namespace("home").await;
        let release = Release { cluster: &cluster, helm, name: "tenure", namespace: &home };
        let (gone, stays) = (cluster.namespace("gone").await, cluster.namespace("stays").await);
        let values = |namespaces: &[&str]| json!({"rbac": {"scope": "namespaces", "namespaces": namespaces}});
        release.apply("install", &chart(), &[], &values(&[gone.name(), stays.name()])).await.unwrap();
        let told = Release { name: "told", ..release };
        let mut others = values(&[gone.name(), stays.name()]);
        others["crds"] = json!({"enabled": false});
        told.apply("install", &chart(), &[], &others).await.unwrap();
        held(&stays, "berlin", "berlin").await;
        let name = gone.name().to_owned();
        gone.delete(SOON).await.unwrap();

        // Who thinks of it in time takes the namespace out, and the hook can be made.
        others["rbac"]["namespaces"] = json!([stays.name()]);
        told.apply("upgrade", &chart(), &[], &others).await.unwrap();
        told.run(&["uninstall", "told", "--no-hooks"], &Value::Null).await.unwrap();
        assert_eq!(left(&home, "told").await, [""; 0]);

        let refusal = release.run(&["uninstall", "tenure"], &Value::Null).await.unwrap_err();
        assert!(refusal.contains(&format!("namespaces \"{name}\" not found")), "{helm:?}: {refusal}");
        let refusal = release.apply("upgrade", &chart(), &[], &values(&[stays.name()])).await.unwrap_err();
        assert!(refusal.contains("has no deployed releases"), "{helm:?}: {refusal}");

        let scale = "kubectl scale deployment/tenure --replicas=0";
        cluster.shell(home.name(), &temporary("gone"), scale).await;
        let text = printed(&release_finalizers(&cluster, &["--namespaces", stays.name()]).await);
        assert!(text.ends_with("Finalizers released: 4. Nothing was restored.\n"), "{text}");
        release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
        for namespace in [&home, &stays] {
            let rest = "kubectl delete serviceaccounts,roles,rolebindings --selector app.kubernetes.io/instance=tenure";
            cluster.shell(namespace.name(), &temporary("gone"), rest).await;
            assert_eq!(left(namespace, "tenure").await, [""; 0], "{helm:?}");
        }
    }
}
