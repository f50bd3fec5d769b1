//! The chart's admission policies: what the API server then accepts and what it rejects, from tenants and from the operator.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tenure_kit::access::{service_account_kubeconfig, token_kubeconfig};
use tenure_kit::namespace::TestNamespace;

use super::cluster::*;
use super::helm::*;

/// Time between two tries. Nothing shows when the API server begins to ask a policy.
const AGAIN: Duration = Duration::from_millis(50);

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "tenure.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec})
}

fn with(mut base: Value, more: Value) -> Value {
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}

fn gateway(more: Value) -> Value {
    object(
        "X2Gateway",
        with(json!({"url": "https://10.20.0.11", "credentialsSecretRef": {"name": "x"}}), more),
    )
}

fn server(more: Value) -> Value {
    object(
        "KonaServer",
        with(json!({"url": "https://10.20.1.11", "credentialsSecretRef": {"name": "x"}}), more),
    )
}

/// A policy within all bounds.
fn policy(more: Value) -> Value {
    let spec = json!({"gatewaySelector": {}, "timeoutSeconds": 7200, "rollout": {}});
    object("TokenPolicy", with(spec, more))
}

fn customer(access: u32, refresh: u32) -> Value {
    let id = "1d2b7a10-0000-4000-8000-000000000000";
    object(
        "CustomerTokenTtl",
        json!({
            "serverRef": {"name": "a"}, "customerId": id,
            "accessTokenTtlSeconds": access, "refreshTokenTtlSeconds": refresh,
        }),
    )
}

/// Why the API server would not create an object in a namespace, if so.
async fn refusal(client: &Client, namespace: &TestNamespace, object: &Value) -> Option<String> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace.name(), &resource(text(&object["kind"])));
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let object = serde_json::from_value(object.clone()).unwrap();
    api.create(&params, &object).await.err().map(|error| error.to_string())
}

/// Why the API server would not edit an object, if so.
async fn edit_refusal(
    client: &Client,
    namespace: &TestNamespace,
    kind: &str,
    edit: &Value,
) -> Option<String> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace.name(), &resource(kind));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    api.patch("a", &params, &Patch::Merge(edit)).await.err().map(|error| error.to_string())
}

/// Waits until something is rejected: a policy counts a moment after it is created.
async fn until_rejected(word: &str, refusal: impl AsyncFn() -> Option<String>) {
    let rejected = async {
        while !refusal().await.is_some_and(|refusal| refusal.contains(word)) {
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(SOON, rejected).await.unwrap_or_else(|_| panic!("{word}"));
}

/// A client with the token of an account.
async fn client_of(kubeconfig: &Path) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A user of a namespace who may do this with policies.
async fn user(cluster: &Cluster, namespace: &TestNamespace, verbs: &[&str]) -> Client {
    let rule = PolicyRule {
        api_groups: Some(vec!["tenure.dev".to_owned()]),
        resources: Some(vec!["tokenpolicies".to_owned()]),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    };
    client_of(&service_account_kubeconfig(&cluster.plane, namespace.name(), &[rule]).await.unwrap()).await
}

/// In the namespaces of the release, and nowhere else.
fn values(namespaces: &[&TestNamespace]) -> Value {
    let names: Vec<&str> = namespaces.iter().map(|namespace| namespace.name()).collect();
    let first = json!({"matchLabels": {"kubernetes.io/metadata.name": names[0]}});
    json!({
        "rbac": {"scope": "namespaces", "namespaces": names},
        "admissionPolicies": {
            "operatorWrites": true, "forbidPlaintext": true, "forbidInsecureTls": true,
            "requireRollout": true, "restrictPriority": true,
            "timeouts": [{"namespaceSelector": first, "minSeconds": 3600, "maxSeconds": 86400}],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_admission_policies_forbid_is_rejected_with_a_sentence() {
    let cluster = Cluster::alone().await;
    let (home, tenant, other) = (
        cluster.namespace("home").await,
        cluster.namespace("tenant").await,
        cluster.namespace("other").await,
    );
    let elsewhere = cluster.namespace("elsewhere").await;
    let release = Release { cluster: &cluster, helm: Helm::Four, name: "tenure", namespace: &home };
    release.apply("install", &chart(), &[], &values(&[&tenant, &other])).await.unwrap();
    let client = &cluster.client;
    for (rejected, word) in [
        (gateway(json!({"url": "http://10.20.0.11", "allowPlaintext": true})), "forbidPlaintext"),
        (server(json!({"allowPlaintext": true})), "forbidPlaintext"),
        (gateway(json!({"tls": {"insecureSkipVerify": true}})), "forbidInsecureTls"),
        (server(json!({"tls": {"insecureSkipVerify": true}})), "forbidInsecureTls"),
        (object("TokenPolicy", json!({"gatewaySelector": {}, "timeoutSeconds": 7200})), "requireRollout"),
        (policy(json!({"timeoutSeconds": 3599})), "spec.timeoutSeconds must be >= 3600"),
        (policy(json!({"timeoutSeconds": 86401})), "spec.timeoutSeconds must be <= 86400"),
        (
            object("TokenPolicy", json!({"gatewaySelector": {}, "rollout": {}, "minTimeoutSeconds": 600})),
            "spec.minTimeoutSeconds must be >= 3600",
        ),
        (customer(3599, 7200), "spec.accessTokenTtlSeconds must be >= 3600"),
        (customer(3600, 86401), "spec.refreshTokenTtlSeconds must be <= 86400"),
    ] {
        until_rejected(word, async || refusal(client, &tenant, &rejected).await).await;
        assert_eq!(refusal(client, &elsewhere, &rejected).await, None, "{word} elsewhere");
    }
    for accepted in [
        gateway(json!({"tls": {"serverName": "x2.example.net"}})),
        server(json!({})),
        policy(json!({})),
        object("TokenPolicy", json!({"gatewaySelector": {}, "timeoutSeconds": 3600, "mode": "Observe"})),
        customer(3600, 86400),
    ] {
        assert_eq!(refusal(client, &tenant, &accepted).await, None, "{accepted}");
    }
    // The bounds are those of one namespace.
    assert_eq!(refusal(client, &other, &policy(json!({"timeoutSeconds": 600}))).await, None);

    let high = policy(json!({"priority": 1}));
    let member = user(&cluster, &tenant, &["create", "patch"]).await;
    until_rejected("restrictPriority", async || refusal(&member, &tenant, &high).await).await;
    assert_eq!(refusal(&member, &tenant, &policy(json!({}))).await, None);
    let lead = user(&cluster, &tenant, &["create", "patch", "set-priority"]).await;
    assert_eq!(refusal(&lead, &tenant, &high).await, None);
    release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_are_checked_and_what_was_there_before_only_once_its_spec_is_edited() {
    let cluster = Cluster::alone().await;
    let (home, tenant) = (cluster.namespace("home").await, cluster.namespace("tenant").await);
    cluster.install_crds().await;
    // Each breaks rules that the release brings.
    for before in [
        gateway(json!({"url": "http://10.20.0.11", "allowPlaintext": true})),
        server(json!({"tls": {"insecureSkipVerify": true}})),
        object("TokenPolicy", json!({"gatewaySelector": {}, "timeoutSeconds": 600, "priority": 1})),
        customer(600, 600),
    ] {
        tenant.apply_yaml(&before.to_string()).await.unwrap();
    }
    let release = Release { cluster: &cluster, helm: Helm::Four, name: "tenure", namespace: &home };
    release.apply("install", &chart(), &["--take-ownership"], &values(&[&tenant])).await.unwrap();
    let client = &cluster.client;
    let refused =
        async |kind: &str, spec: &Value| edit_refusal(client, &tenant, kind, &json!({"spec": spec})).await;
    for (kind, spec, word) in [
        ("X2Gateway", json!({"suspend": true}), "forbidPlaintext"),
        ("KonaServer", json!({"requestTimeout": "20s"}), "forbidInsecureTls"),
        ("TokenPolicy", json!({"timeoutSeconds": 7200}), "requireRollout"),
        ("TokenPolicy", json!({"rollout": {}}), "spec.timeoutSeconds must be >= 3600"),
        (
            "CustomerTokenTtl",
            json!({"refreshTokenTtlSeconds": 7200}),
            "spec.accessTokenTtlSeconds must be >= 3600",
        ),
    ] {
        until_rejected(word, async || refused(kind, &spec).await).await;
    }
    for (kind, spec) in [
        ("X2Gateway", json!({"url": "https://10.20.0.11", "allowPlaintext": null})),
        ("KonaServer", json!({"tls": null})),
        ("TokenPolicy", json!({"timeoutSeconds": 7200, "rollout": {}})),
        ("CustomerTokenTtl", json!({"accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 3600})),
    ] {
        assert_eq!(refused(kind, &spec).await, None, "{kind} {spec}");
        // A spec that stays as it is breaks no rule.
        let around = json!({"metadata": {"labels": {"site": "berlin"}, "finalizers": [FINALIZER]}});
        assert_eq!(edit_refusal(client, &tenant, kind, &around).await, None, "{kind}");
    }
    let member = user(&cluster, &tenant, &["patch"]).await;
    let prioritized = async |spec: Value| {
        let valid = with(json!({"timeoutSeconds": 7200, "rollout": {}}), spec);
        edit_refusal(&member, &tenant, "TokenPolicy", &json!({"spec": valid})).await
    };
    until_rejected("restrictPriority", async || prioritized(json!({"priority": 2})).await).await;
    assert_eq!(prioritized(json!({"suspend": true})).await, None, "the priority is that of before");
    release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_write_its_finalizer_and_the_status_only() {
    let cluster = Cluster::alone().await;
    let (home, tenant) = (cluster.namespace("home").await, cluster.namespace("tenant").await);
    let release = Release { cluster: &cluster, helm: Helm::Four, name: "tenure", namespace: &home };
    // What is there before may break the rules for tenants, and does not keep the operator from its finalizer.
    cluster.install_crds().await;
    let manifest = gateway(json!({"url": "http://10.20.0.11", "allowPlaintext": true}));
    tenant.apply_yaml(&manifest.to_string()).await.unwrap();
    let take = ["--take-ownership"];
    release.apply("install", &chart(), &take, &values(&[&tenant])).await.unwrap();
    let kubeconfig = token_kubeconfig(&cluster.plane, home.name(), "tenure").await.unwrap();
    let client = client_of(&kubeconfig).await;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), tenant.name(), &resource("X2Gateway"));
    let patch = async |patch: Value| {
        let answer = api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await;
        answer.err().map(|error| error.to_string())
    };
    // Also once the first of these edits was accepted, and only the second one is not.
    let label =
        async |site: &str| patch(json!({"metadata": {"labels": {"site": site}}})).await.unwrap_or_default();
    until_rejected("operatorWrites", async || Some(label("berlin").await + &label("hamburg").await)).await;
    for change in [
        // Breaks no other rule: of several the API server names one, which differs.
        json!({"spec": {"url": "https://10.20.0.11", "allowPlaintext": null}}),
        json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": "now"}}}),
        json!({"metadata": {"finalizers": ["example.net/other"]}}),
    ] {
        let refusal = patch(change.clone()).await.unwrap_or_else(|| panic!("{change}"));
        assert!(refusal.contains("operatorWrites"), "{change}: {refusal}");
    }
    assert_eq!(patch(json!({"metadata": {"finalizers": [FINALIZER]}})).await, None);
    assert_eq!(patch(json!({"metadata": {"finalizers": []}})).await, None);
    let status = json!({"status": {"timeoutSeconds": 3600}});
    api.patch_status("a", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
}

/// In scope `cluster` the policies are everywhere, and name the release's account.
#[test]
fn the_policies_name_what_they_are_for() {
    for helm in Helm::BOTH {
        let values = json!({"admissionPolicies": {"operatorWrites": true, "requireRollout": true}});
        let objects = helm.render(&values);
        let name = format!("tenure.{NAMESPACE}.operator-writes");
        let policy = find(&objects, "ValidatingAdmissionPolicy", &name).unwrap();
        let condition = text(&policy["spec"]["matchConditions"][0]["expression"]);
        assert!(condition.contains(&format!("system:serviceaccount:{NAMESPACE}:tenure")), "{condition}");
        let binding = find(&objects, "ValidatingAdmissionPolicyBinding", &name).unwrap();
        assert_eq!(binding["spec"].get("matchResources"), None);
        let policies = objects.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy");
        assert_eq!(policies.count(), 2);
        assert!(helm.render(&json!({})).iter().all(|object| object["kind"] != "ValidatingAdmissionPolicy"));
    }
}
