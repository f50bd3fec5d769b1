//! Our finalizer: where it is, where it is not, and that others' survive.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use tenure_kit::access::operator_rules;

use super::*;

/// Watches a kind, and tells in the end which finalizers were ever seen.
async fn watched(f: &Fixture, kind: &str) -> tokio::task::JoinHandle<Vec<String>> {
    let api = f.ns.api(kind).await.unwrap();
    let mut objects = Box::pin(watcher(api, watcher::Config::default()).touched_objects());
    tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(Ok(object)) = objects.next().await {
            seen.extend_from_slice(finalizers(&object));
            if object.metadata.name.as_deref() == Some("last") {
                break;
            }
        }
        seen
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_puts_no_finalizer_on_anything() {
    let fleet = fleet(1);
    let mut f = world("retain", &fleet).await;
    let (gateways, policies) = (watched(&f, "X2Gateway").await, watched(&f, "TokenPolicy").await);
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "revokeTokens": "OnChange", "rollout": {}})))
        .await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    fleet.appliance(0).factory_reset();
    f.look("TokenPolicy", "short", "now").await;
    let writes = fleet.counts().write;
    delete_and_wait(&f, "TokenPolicy", "short").await;
    f.reason("X2Gateway", "x2-0", "Unmanaged").await;
    delete_and_wait(&f, "X2Gateway", "x2-0").await;
    assert_eq!((fleet.counts().write, fleet.appliance(0).timeout()), (writes, 28800));
    // The end of both watches.
    f.apply(&gateway("last", &fleet.appliance(0))).await;
    f.apply(&policy("last", json!({"timeoutSeconds": 28800, "suspend": true}))).await;
    assert_eq!(gateways.await.unwrap(), [""; 0]);
    assert_eq!(policies.await.unwrap(), [""; 0]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_finalizer_follows_the_field_and_others_finalizers_survive() {
    let fleet = fleet(1);
    let f = changed_world("field", &fleet).await;
    let objects = [("TokenPolicy", "short"), ("X2Gateway", "x2-0")];
    let both = async |wanted: &[&str]| {
        for (kind, name) in objects {
            f.wait(kind, name, |object| {
                let mut present = finalizers(object).to_vec();
                present.sort();
                present == wanted
            })
            .await;
        }
    };
    both(&[FINALIZER]).await;
    for (kind, name) in objects {
        let theirs = json!({"metadata": {"finalizers": [FINALIZER, "example.net/theirs"]}});
        f.patch(kind, name, theirs).await;
    }
    let field = async |value: &str| {
        f.patch("TokenPolicy", "short", json!({"spec": {"deletionPolicy": value}})).await;
    };
    field("Retain").await;
    both(&["example.net/theirs"]).await;
    field("Restore").await;
    both(&["example.net/theirs", FINALIZER]).await;
    assert_eq!(fleet.appliance(0).counts().write, 1);

    // Restored and let go by us; they still hold it.
    delete(&f, "X2Gateway", "x2-0").await;
    let held = f.wait("X2Gateway", "x2-0", |g| finalizers(g) == ["example.net/theirs"]).await;
    assert_eq!(fleet.appliance(0).timeout(), 86400);
    assert!(held.metadata.deletion_timestamp.is_some());
    delete(&f, "TokenPolicy", "short").await;
    f.wait("TokenPolicy", "short", |p| finalizers(p) == ["example.net/theirs"]).await;
    let counts = fleet.counts();
    for (kind, name) in objects {
        f.patch(kind, name, json!({"metadata": {"finalizers": null}})).await;
        gone(&f, kind, name).await;
    }
    assert_eq!(fleet.counts(), counts);
    assert!(!f.events().await.iter().any(|(_, reason, _)| reason == "RestoreSkipped"));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_at_the_last_moment_nothing_is_restored() {
    let fleet = fleet(1);
    let f = changed_world("switch", &fleet).await;
    fleet.stop_listening().await;
    delete(&f, "TokenPolicy", "short").await;
    delete(&f, "X2Gateway", "x2-0").await;
    f.wait("X2Gateway", "x2-0", |g| ready(g)["reason"] == "Unreachable").await;
    f.patch("TokenPolicy", "short", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    gone(&f, "TokenPolicy", "short").await;
    gone(&f, "X2Gateway", "x2-0").await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_a_finalizer_objects_are_checked_and_not_changed() {
    let fleet = fleet(1);
    let mut rules = operator_rules();
    rules.iter_mut().filter(|rule| rule.verbs.contains(&"watch".to_owned())).for_each(|rule| {
        rule.verbs.retain(|verb| verb != "patch");
    });
    let mut f = Fixture::with_rights("no-patch", &rules).await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-0", &fleet.appliance(0))).await;
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    let policy = f.reason("TokenPolicy", "short", "Forbidden").await;
    let message = ready(&policy)["message"].as_str().unwrap();
    assert!(message.contains("Grant it the verb patch"), "{message}");
    let gateway = f.reason("X2Gateway", "x2-0", "AwaitingRollout").await;
    assert_eq!(status(&gateway)["timeoutSeconds"], 86400);
    assert_eq!(fleet.counts().write, 0);
    // Without Restore no finalizer is needed.
    f.patch("TokenPolicy", "short", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    f.finish().await;
}

/// Denies every finalizer of a gateway, as an admission policy of a cluster may.
struct Denial {
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Denial {
    async fn begin(f: &Fixture) -> Self {
        let (client, name) = (f.ns.client(), f.ns.name().to_owned());
        let denial = Self { policies: Api::all(client.clone()), bindings: Api::all(client), name };
        let (name, metadata) = (&denial.name, json!({"name": denial.name}));
        let rule = json!({"apiGroups": ["tenure.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
            "resources": ["x2gateways"]});
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        let policy = json!({"metadata": metadata, "spec": {
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
            "validations": [{"expression": "!has(object.metadata.finalizers)"}],
        }});
        let binding =
            json!({"metadata": metadata, "spec": {"policyName": name, "validationActions": ["Deny"]}});
        let parameters = PostParams::default();
        denial.policies.create(&parameters, &serde_json::from_value(policy).unwrap()).await.unwrap();
        denial.bindings.create(&parameters, &serde_json::from_value(binding).unwrap()).await.unwrap();
        // The API server takes a moment to enforce it.
        let gateways = f.ns.api("X2Gateway").await.unwrap();
        let probe = Patch::Merge(json!({"metadata": {"finalizers": ["example.net/probe"]}}));
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let enforced = async {
            while gateways.patch("x2-0", &dry_run, &probe).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(SOON, enforced).await.unwrap();
        denial
    }

    async fn end(self) {
        self.bindings.delete(&self.name, &DeleteParams::default()).await.unwrap();
        self.policies.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_that_are_not_accepted_show_and_are_tried_ever_more_slowly() {
    let fleet = fleet(1);
    let mut f = world("denied", &fleet).await;
    let denial = Denial::begin(&f).await;
    let unchecked = json!({"spec": {"tls": {"insecureSkipVerify": true, "caConfigMapRef": null}}});
    f.apply(&with(gateway("x2-0", &fleet.appliance(0)), unchecked)).await;
    f.request("X2Gateway", "x2-0", "first").await;
    f.start().await;
    f.reason("X2Gateway", "x2-0", "Unmanaged").await;
    f.apply(&restoring("short", json!({"timeoutSeconds": 28800}))).await;
    let gateway = f.reason("X2Gateway", "x2-0", "Forbidden").await;
    let message = ready(&gateway)["message"].as_str().unwrap();
    assert!(message.contains("Check the admission webhooks and policies"), "{message}");
    assert_eq!(condition(&gateway, "Stalled")["status"], "True");
    assert_eq!(condition(&gateway, "Insecure")["status"], "True", "it is as insecure as before");
    let counts = fleet.counts();
    assert_eq!((counts.write, counts.login), (0, 1));
    denial.end().await;
    f.request("X2Gateway", "x2-0", "again").await;
    f.reason("X2Gateway", "x2-0", "InSync").await;
    assert_eq!(finalizers(&f.get("X2Gateway", "x2-0").await), [FINALIZER]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_the_selector_loses_the_finalizer() {
    let fleet = fleet(2);
    let mut f = world("left-out", &fleet).await;
    let label = |site: &str| json!({"metadata": {"labels": {"site": site}}});
    for name in ["x2-0", "x2-1"] {
        f.patch("X2Gateway", name, label("berlin")).await;
    }
    f.apply(&with(restoring("short", json!({"timeoutSeconds": 28800})), label("berlin"))).await;
    let namespace = f.ns.name().to_owned();
    let arguments = ["--selector", "site=berlin", "--namespaces", &namespace, "--allow-cidr", "127.0.0.0/8"];
    f.start_with(&arguments).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(finalizers(&f.get("X2Gateway", "x2-0").await), [FINALIZER]);
    f.patch("X2Gateway", "x2-0", label("paris")).await;
    f.wait("X2Gateway", "x2-0", |gateway| finalizers(gateway).is_empty()).await;
    delete_and_wait(&f, "X2Gateway", "x2-0").await;
    // Nothing is restored, and what is still selected keeps its finalizer.
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    assert_eq!(finalizers(&f.get("X2Gateway", "x2-1").await), [FINALIZER]);
    f.finish().await;
}
