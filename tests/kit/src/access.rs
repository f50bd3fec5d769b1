//! `ServiceAccount`s with given rights, so that a program can be run under exactly its own.

use std::{fs::File, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        authorization::v1::{
            NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
        },
        core::v1::{Namespace, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, PostParams},
    config::{AuthInfo, Kubeconfig, NamedAuthInfo},
};
use tokio::time::{sleep, timeout};

use crate::control_plane::ControlPlane;

/// Longer than any test, and than the demo is left running.
const TOKEN_SECONDS: i64 = 12 * 3600;
const EFFECT_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The operator's rights, all of them: what its chart grants in some namespaces. In all of them it watches none.
#[must_use]
pub fn operator_rules() -> Vec<PolicyRule> {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(ToString::to_string).collect()),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    };
    let kinds = ["x2gateways", "tokenpolicies", "konaservers", "customertokenttls"];
    let statuses = kinds.map(|kind| format!("{kind}/status"));
    let statuses: Vec<&str> = statuses.iter().map(String::as_str).collect();
    vec![
        rule("tenure.dev", &kinds, &["get", "list", "watch", "patch"]),
        rule("tenure.dev", &statuses, &["patch"]),
        rule("events.k8s.io", &["events"], &["create"]),
        rule("", &["secrets", "configmaps"], &["get"]),
        rule("", &["namespaces"], &["get", "watch"]),
    ]
}

/// The rights to elect a leader, in the namespace of the lease.
#[must_use]
pub fn lease_rules(name: &str) -> Vec<PolicyRule> {
    let rule = |verbs: &[&str]| PolicyRule {
        api_groups: Some(vec!["coordination.k8s.io".to_owned()]),
        resources: Some(vec!["leases".to_owned()]),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    };
    // What is created has no name yet that a rule could ask for.
    let named =
        PolicyRule { resource_names: Some(vec![name.to_owned()]), ..rule(&["get", "update", "watch"]) };
    vec![rule(&["create"]), named]
}

/// Makes a `ServiceAccount` with these rights in every namespace, and a kubeconfig with its token.
///
/// The rights go with the namespace.
///
/// # Errors
/// When the API server refuses any of it.
pub async fn service_account_kubeconfig(
    plane: &ControlPlane,
    namespace: &str,
    rules: &[PolicyRule],
) -> Result<PathBuf> {
    let client = plane.client().await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let mut account = ServiceAccount::default();
    account.metadata.generate_name = Some("limited-".to_owned());
    let account =
        accounts.create(&PostParams::default(), &account).await.context("making a ServiceAccount")?;
    let account = account.name_any();
    grant(&client, namespace, &account, rules).await?;
    token_kubeconfig(plane, namespace, &account).await
}

/// A kubeconfig with a fresh token of a `ServiceAccount` that is already there, such as a chart's.
///
/// # Errors
/// When there is no such account.
pub async fn token_kubeconfig(plane: &ControlPlane, namespace: &str, account: &str) -> Result<PathBuf> {
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client().await?, namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
    let answer = answer.with_context(|| format!("a token for {namespace}/{account}"))?;
    let token = answer.status.map(|status| status.token);
    let token = token.ok_or_else(|| anyhow!("the API server answered without a token"))?;
    let kubeconfig = with_token(plane.kubeconfig()?, token)?;

    let path = plane.folder().join(format!("{namespace}.{account}.kubeconfig"));
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("making {}", path.display()))?;
    file.write_all(&serde_json::to_vec(&kubeconfig)?)?;
    Ok(path)
}

/// The same cluster and context with another user.
fn with_token(mut kubeconfig: Kubeconfig, token: String) -> Result<Kubeconfig> {
    let current = kubeconfig.current_context.clone();
    kubeconfig.contexts.retain(|context| Some(&context.name) == current.as_ref());
    let context = kubeconfig.contexts.first_mut().and_then(|context| context.context.as_mut());
    let context = context.ok_or_else(|| anyhow!("the kubeconfig has no current context"))?;
    let user = "service-account".to_owned();
    context.user = Some(user.clone());
    let token = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    kubeconfig.auth_infos =
        vec![NamedAuthInfo { name: user, auth_info: Some(token), ..NamedAuthInfo::default() }];
    Ok(kubeconfig)
}

/// Binds a `ServiceAccount` to a `ClusterRole` with these rules, and waits until they count.
async fn grant(client: &Client, namespace: &str, account: &str, rules: &[PolicyRule]) -> Result<()> {
    let owner =
        Api::<Namespace>::all(client.clone()).get(namespace).await.context("reading the namespace")?;
    let name = format!("{namespace}:{account}");
    let role = ClusterRole {
        metadata: owned(&name, &owner)?,
        rules: Some(rules.to_vec()),
        ..ClusterRole::default()
    };
    let binding = ClusterRoleBinding {
        metadata: owned(&name, &owner)?,
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name,
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account.to_owned(),
            namespace: Some(namespace.to_owned()),
            ..Subject::default()
        }]),
    };
    let params = PostParams::default();
    Api::all(client.clone()).create(&params, &role).await.context("making a ClusterRole")?;
    Api::all(client.clone()).create(&params, &binding).await.context("making a ClusterRoleBinding")?;
    let Some(first) = rules.first() else { return Ok(()) };
    let question = access_review(format!("system:serviceaccount:{namespace}:{account}"), first);
    timeout(EFFECT_TIMEOUT, until_allowed(client, question))
        .await
        .context("the rights had no effect in time")?
}

/// Cluster-wide objects that the garbage collector removes with the namespace.
fn owned(name: &str, owner: &Namespace) -> Result<ObjectMeta> {
    let owner: OwnerReference = owner.owner_ref(&()).ok_or_else(|| anyhow!("a namespace without a uid"))?;
    Ok(ObjectMeta {
        name: Some(name.to_owned()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    })
}

/// The authorizer sees a new binding a moment later, and sees all its rules at once: asking for one of them is enough.
async fn until_allowed(client: &Client, question: SubjectAccessReview) -> Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    loop {
        let answer =
            reviews.create(&PostParams::default(), &question).await.context("asking for the rights")?;
        if answer.status.is_some_and(|status| status.allowed) {
            return Ok(());
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn access_review(user: String, rule: &PolicyRule) -> SubjectAccessReview {
    let first = |values: &Option<Vec<String>>| values.as_ref().and_then(|values| values.first().cloned());
    let verb = rule.verbs.first().cloned();
    let mut spec = SubjectAccessReviewSpec { user: Some(user), ..SubjectAccessReviewSpec::default() };
    if let Some(path) = first(&rule.non_resource_urls) {
        spec.non_resource_attributes = Some(NonResourceAttributes { path: Some(path), verb });
    } else {
        let resource = first(&rule.resources).unwrap_or_default();
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), Some(subresource.to_owned())),
            None => (resource, None),
        };
        spec.resource_attributes = Some(ResourceAttributes {
            group: first(&rule.api_groups),
            resource: Some(resource),
            subresource,
            name: first(&rule.resource_names),
            verb,
            ..ResourceAttributes::default()
        });
    }
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}
