//! The operator's rights: those that `tenure_kit::access` lists, and no others.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::PostParams;
use kube::discovery::Discovery;
use kube::{Api, Client};
use serde_json::{Value, json};
use tenure_kit::access::{lease_rules, operator_rules};
use tenure_kit::namespace::TestNamespace;

use super::cluster::*;
use super::helm::*;

/// One thing that may be done: group, resource with subresource, name (or any), verb.
type Right = (String, String, Option<String>, String);

fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        assert!(rule.non_resource_urls.is_none(), "{rule:?}");
        let names = rule.resource_names.clone().filter(|names| !names.is_empty());
        let names: Vec<_> = names.map_or(vec![None], |names| names.into_iter().map(Some).collect());
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for (name, verb) in
                    names.iter().flat_map(|name| rule.verbs.iter().map(move |verb| (name, verb)))
                {
                    rights.insert((group.clone(), resource.clone(), name.clone(), verb.clone()));
                }
            }
        }
    }
    rights
}

fn rendered_rights(objects: &[Value], kind: &str, name: &str) -> BTreeSet<Right> {
    let role = find(objects, kind, name).unwrap_or_else(|| panic!("no {kind} {name}"));
    rights(&serde_json::from_value::<Vec<PolicyRule>>(role["rules"].clone()).unwrap())
}

/// What it needs where it works in all namespaces: rights that no namespace takes along.
fn cluster_wide() -> BTreeSet<Right> {
    let mut rights = rights(&operator_rules());
    assert!(rights.remove(&(String::new(), "namespaces".to_owned(), None, "watch".to_owned())));
    rights
}

#[test]
fn the_rules_are_the_operators() {
    for helm in Helm::BOTH {
        let cluster = helm.render(&json!({}));
        assert_eq!(rendered_rights(&cluster, "ClusterRole", "tenure-system:tenure"), cluster_wide());
        let values = json!({"rbac": {"scope": "namespaces", "namespaces": ["a"]}});
        let role = rendered_rights(&helm.render(&values), "Role", "tenure-system:tenure");
        assert_eq!(role, rights(&operator_rules()));
        let lease = rendered_rights(&cluster, "Role", "tenure-system:tenure:leader-election");
        assert_eq!(lease, rights(&lease_rules("tenure")));
    }
}

/// With `rbac.secretNames` the operator reads those Secrets; all else stays.
#[test]
fn secrets_can_be_limited_to_names() {
    let rendered = Helm::Four.render(&json!({"rbac": {"secretNames": ["x2", "kona"]}}));
    let limited = rendered_rights(&rendered, "ClusterRole", "tenure-system:tenure");
    let mut expected = cluster_wide();
    let any = (String::new(), "secrets".to_owned(), None, "get".to_owned());
    assert!(expected.remove(&any));
    for name in ["x2", "kona"] {
        expected.insert((String::new(), "secrets".to_owned(), Some(name.to_owned()), "get".to_owned()));
    }
    assert_eq!(limited, expected);
}

/// With `rbac.secrets: optIn` no Secret may be read unless a namespace binds the role that is made for that.
#[test]
fn secrets_can_be_left_to_each_namespace() {
    for helm in Helm::BOTH {
        let rendered = helm.render(&json!({"rbac": {"secrets": "optIn"}}));
        let mut expected = cluster_wide();
        let secrets = (String::new(), "secrets".to_owned(), None, "get".to_owned());
        assert!(expected.remove(&secrets));
        assert_eq!(rendered_rights(&rendered, "ClusterRole", "tenure-system:tenure"), expected);
        let consent = "tenure-system:tenure:secrets";
        assert_eq!(rendered_rights(&rendered, "ClusterRole", consent), BTreeSet::from([secrets]));
        let bindings = rendered.iter().filter(|object| object["roleRef"]["name"] == consent);
        assert_eq!(bindings.count(), 0);
        for values in [
            json!({"rbac": {"secrets": "optIn", "scope": "namespaces", "namespaces": ["a"]}}),
            json!({"rbac": {"secrets": "optIn", "secretNames": ["x2"]}}),
        ] {
            assert!(helm.refusal(&values).contains("/rbac/"), "{values}");
        }
    }
}

#[derive(Clone, Debug)]
pub struct Question {
    pub group: String,
    /// With its subresource.
    pub resource: String,
    pub name: Option<String>,
    pub verb: String,
    /// None: in all.
    pub namespace: Option<String>,
}

/// Whether a `ServiceAccount` may do that, by its own bindings.
pub async fn may(client: &Client, account: &str, question: &Question) -> bool {
    let (resource, subresource) = match question.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (question.resource.as_str(), None),
    };
    let attributes = ResourceAttributes {
        group: Some(question.group.clone()),
        resource: Some(resource.to_owned()),
        subresource,
        name: question.name.clone(),
        verb: Some(question.verb.clone()),
        namespace: question.namespace.clone(),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(format!("system:serviceaccount:{account}")),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

/// Waits until a right counts: the authorizer hears of a binding a moment after it is made.
pub async fn until_granted(client: &Client, account: &str, question: &Question) {
    let granted = async {
        while !may(client, account, question).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, granted).await.unwrap_or_else(|_| panic!("{account}: {question:?}"));
}

const VERBS: [&str; 13] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
    "approve",
    "*",
];

/// Everything that the API server has, subresources too.
async fn resources(client: &Client) -> BTreeSet<(String, String)> {
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let mut all = BTreeSet::from([("*".to_owned(), "*".to_owned())]);
    for group in discovery.groups() {
        for (resource, capabilities) in group.resources_by_stability() {
            all.insert((resource.group.clone(), resource.plural.clone()));
            for (below, _) in capabilities.subresources {
                all.insert((resource.group.clone(), format!("{}/{}", resource.plural, below.plural)));
            }
        }
    }
    for (resource, subresource) in [("pods", "exec"), ("serviceaccounts", "token"), ("nodes", "proxy")] {
        all.insert((String::new(), format!("{resource}/{subresource}")));
    }
    all
}

/// Asks for every verb on everything in a namespace: what is allowed beyond or short of `expected`.
async fn differences(
    client: &Client,
    account: &str,
    namespace: Option<&str>,
    expected: &BTreeSet<Right>,
) -> Vec<String> {
    let questions = resources(client).await.into_iter().flat_map(|(group, resource)| {
        VERBS.map(|verb| Question {
            group: group.clone(),
            resource: resource.clone(),
            name: None,
            verb: verb.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    });
    let questions: Vec<Question> = questions.collect();
    assert!(questions.len() > 1000, "{}", questions.len());
    let answers = stream::iter(questions).map(async |question| {
        let allowed = may(client, account, &question).await;
        (question, allowed)
    });
    let wrong = answers.buffer_unordered(32).filter_map(async |(question, allowed)| {
        let Question { group, resource, name, verb, .. } = question;
        let right = (group, resource, name, verb);
        (allowed != expected.contains(&right)).then(|| format!("{right:?} in {namespace:?}: {allowed}"))
    });
    wrong.collect().await
}

/// What a lease's name does not limit.
fn create_leases() -> Right {
    ("coordination.k8s.io".to_owned(), "leases".to_owned(), None, "create".to_owned())
}

pub fn question(group: &str, resource: &str, verb: &str, namespace: Option<&str>) -> Question {
    Question {
        group: group.to_owned(),
        resource: resource.to_owned(),
        name: None,
        verb: verb.to_owned(),
        namespace: namespace.map(str::to_owned),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_do_its_work_and_nothing_else() {
    let cluster = Cluster::alone().await;
    let (home, other) = (cluster.namespace("home").await, cluster.namespace("other").await);
    let release = Release { cluster: &cluster, helm: Helm::Four, name: "tenure", namespace: &home };
    let values = json!({"rbac": {"secretNames": []}});
    release.apply("install", &chart(), &[], &values).await.unwrap();
    let account = format!("{}:tenure", home.name());
    let first = question("coordination.k8s.io", "leases", "create", Some(home.name()));
    until_granted(&cluster.client, &account, &first).await;

    let mut expected = cluster_wide();
    for namespace in [None, Some(other.name())] {
        let wrong = differences(&cluster.client, &account, namespace, &expected).await;
        assert_eq!(wrong, [""; 0], "{namespace:?}");
    }
    expected.insert(create_leases());
    let wrong = differences(&cluster.client, &account, Some(home.name()), &expected).await;
    assert_eq!(wrong, [""; 0]);

    // Of the leases its own.
    for (name, allowed) in [("tenure", true), ("another", false)] {
        for verb in ["get", "update", "watch"] {
            let mut question = question("coordination.k8s.io", "leases", verb, Some(home.name()));
            question.name = Some(name.to_owned());
            assert_eq!(may(&cluster.client, &account, &question).await, allowed, "{question:?}");
        }
    }
    // Users get theirs by the built-in roles.
    assert_aggregated(&cluster).await;
    release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
}

async fn assert_aggregated(cluster: &Cluster) {
    let namespace = cluster.namespace("users").await;
    for (role, allowed) in [("view", false), ("edit", true), ("admin", true)] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": namespace.name()}],
        });
        namespace.apply_yaml(&binding.to_string()).await.unwrap();
        let account = format!("{}:{role}", namespace.name());
        for resource in ["x2gateways", "tokenpolicies", "konaservers", "customertokenttls"] {
            let ask =
                |verb: &str, resource: &str| question("tenure.dev", resource, verb, Some(namespace.name()));
            until_granted(&cluster.client, &account, &ask("list", resource)).await;
            for verb in ["create", "update", "patch", "delete", "deletecollection"] {
                if allowed {
                    until_granted(&cluster.client, &account, &ask(verb, resource)).await;
                }
                assert_eq!(
                    may(&cluster.client, &account, &ask(verb, resource)).await,
                    allowed,
                    "{role} {verb}"
                );
                let status = format!("{resource}/status");
                assert!(!may(&cluster.client, &account, &ask(verb, &status)).await, "{role} {verb} {status}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_scope_namespaces_other_namespaces_are_closed() {
    let cluster = Cluster::alone().await;
    let (home, own, other) =
        (cluster.namespace("home").await, cluster.namespace("own").await, cluster.namespace("other").await);
    let release = Release { cluster: &cluster, helm: Helm::Three, name: "tenure", namespace: &home };
    let values = json!({"rbac": {"scope": "namespaces", "namespaces": [own.name()]}});
    release.apply("install", &chart(), &[], &values).await.unwrap();
    let account = format!("{}:tenure", home.name());
    until_granted(&cluster.client, &account, &question("", "secrets", "get", Some(own.name()))).await;
    until_granted(
        &cluster.client,
        &account,
        &question("coordination.k8s.io", "leases", "create", Some(home.name())),
    )
    .await;

    let inside = differences(&cluster.client, &account, Some(own.name()), &rights(&operator_rules())).await;
    assert_eq!(inside, [""; 0]);
    for namespace in [None, Some(other.name())] {
        let wrong = differences(&cluster.client, &account, namespace, &BTreeSet::new()).await;
        assert_eq!(wrong, [""; 0], "{namespace:?}");
    }
    let wrong =
        differences(&cluster.client, &account, Some(home.name()), &BTreeSet::from([create_leases()])).await;
    assert_eq!(wrong, [""; 0]);
    release.run(&["uninstall", "tenure", "--no-hooks"], &Value::Null).await.unwrap();
}

/// What the hook of `helm uninstall` runs under, made as Helm makes it.
async fn hooks_account(home: &TestNamespace, values: &Value) -> (String, Vec<Value>) {
    let rendered = Helm::Four.template_as("tenure", home.name(), values).unwrap();
    let mut hooks = objects(&rendered);
    hooks.retain(|object| {
        object["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete" && object["kind"] != "Job"
    });
    for object in &hooks {
        home.apply_yaml(&object.to_string()).await.unwrap();
    }
    (format!("{}:tenure-release-finalizers", home.name()), hooks)
}

/// To see the operator's Pods end.
fn pods() -> BTreeSet<Right> {
    ["list", "watch"].map(|verb| (String::new(), "pods".to_owned(), None, verb.to_owned())).into()
}

/// To let go what the operator holds.
fn letting_go() -> BTreeSet<Right> {
    let kinds = ["x2gateways", "tokenpolicies", "konaservers", "customertokenttls"];
    let right = |kind: &str, verb: &str| ("tenure.dev".to_owned(), kind.to_owned(), None, verb.to_owned());
    kinds.iter().flat_map(|kind| ["list", "patch"].map(|verb| right(kind, verb))).collect()
}

/// Of all Deployments it may scale its own, and nothing else.
async fn assert_scales_only_its_own(cluster: &Cluster, account: &str, namespace: &str) {
    for resource in ["deployments", "deployments/scale", "deployments/status"] {
        for (name, verb) in ["tenure", "another"].iter().flat_map(|name| VERBS.map(|verb| (name, verb))) {
            let mut question = question("apps", resource, verb, Some(namespace));
            question.name = Some((*name).to_owned());
            let expected = (resource, *name, verb) == ("deployments/scale", "tenure", "patch");
            assert_eq!(may(&cluster.client, account, &question).await, expected, "{question:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_may_stop_the_operator_and_let_go_what_it_holds_and_nothing_else() {
    let cluster = Cluster::alone().await;
    cluster.install_crds().await;
    let (own, other) = (cluster.namespace("own").await, cluster.namespace("other").await);
    let everything: BTreeSet<Right> = pods().union(&letting_go()).cloned().collect();
    let scope = json!({"rbac": {"scope": "namespaces", "namespaces": [own.name()]}});
    let none = BTreeSet::new;
    let cases = [
        (json!({}), [everything, letting_go(), letting_go(), letting_go()]),
        (scope, [pods(), letting_go(), none(), none()]),
    ];
    for (values, expected) in cases {
        let home = cluster.namespace("home").await;
        let (account, hooks) = hooks_account(&home, &values).await;
        let own = Some(own.name());
        let first = question("tenure.dev", "customertokenttls", "patch", own);
        until_granted(&cluster.client, &account, &first).await;
        until_granted(&cluster.client, &account, &question("", "pods", "list", Some(home.name()))).await;
        for (namespace, expected) in [Some(home.name()), own, Some(other.name()), None].iter().zip(expected) {
            let wrong = differences(&cluster.client, &account, *namespace, &expected).await;
            assert_eq!(wrong, [""; 0], "{values} {namespace:?}");
        }
        assert_scales_only_its_own(&cluster, &account, home.name()).await;
        for hook in hooks.iter().filter(|hook| text(&hook["kind"]).starts_with("ClusterRole")) {
            home.delete_object(text(&hook["kind"]), text(&hook["metadata"]["name"])).await.unwrap();
        }
    }
}
