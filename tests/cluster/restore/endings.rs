//! The end of a namespace that holds the operator's rights, too: as the chart grants them in some namespaces only.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use serde_json::json;
use tenure::crd::{RESTORE, TokenPolicy};
use tenure_kit::access::operator_rules;
use tokio::time::timeout;

use super::*;

const RBAC: &str = "rbac.authorization.k8s.io";

/// A namespace with its rights, for ServiceAccounts of another, and a fleet that is to be restored.
async fn furnish(f: &Fixture, name: &str, fleet: &X2Fleet) {
    let role = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": {"name": "tenure"}, "rules": operator_rules(),
    });
    let binding = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": {"name": "tenure"},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "tenure"},
        "subjects": [{"kind": "Group", "apiGroup": RBAC, "name": format!("system:serviceaccounts:{}", f.ns.name())}],
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x2-admin"},
        "stringData": {"username": "admin", "password": "x2-admin-password"},
    });
    let ca = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x2-ca"}, "data": {"ca.crt": fleet.ca_pem()},
    });
    let short = restoring("short", json!({"timeoutSeconds": 28800}));
    let gateways =
        fleet.appliances().enumerate().map(|(n, appliance)| gateway(&format!("x2-{n}"), &appliance));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    f.ns.apply_yaml(&namespace.to_string()).await.unwrap();
    for mut manifest in [role, binding, secret, ca, short].into_iter().chain(gateways) {
        manifest["metadata"]["namespace"] = json!(name);
        f.ns.apply_yaml(&manifest.to_string()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_takes_our_rights_along_goes_comes_back_and_holds_up_no_other() {
    let fleet = fleet(2);
    // It has no rights but those of the other namespace.
    let mut f = Fixture::with_rights("home", &[]).await;
    let name = format!("{}-doomed", f.ns.name());
    let namespaces: Api<Namespace> = Api::all(f.ns.client());
    let policies: Api<TokenPolicy> = Api::namespaced(f.ns.client(), &name);
    // Which of the rights and the resources goes first is a matter of chance.
    for round in 0..3 {
        furnish(&f, &name, &fleet).await;
        if round == 0 {
            f.start_with(&["--namespaces", &name, "--allow-cidr", "127.0.0.0/8", "--log-level", "trace"])
                .await;
        }
        let is_held = |policy: Option<&TokenPolicy>| {
            policy.is_some_and(|policy| {
                let gateways = policy.status.as_ref().and_then(|status| status.gateways.as_ref());
                gateways.is_some_and(|gateways| gateways.in_sync == 2)
                    && policy.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == RESTORE)
            })
        };
        timeout(2 * SOON, await_condition(policies.clone(), "short", is_held)).await.unwrap().unwrap();
        let namespace = namespaces.get(&name).await.unwrap();
        namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
        let uid = namespace.metadata.uid.unwrap();
        let gone = is_deleted(&uid);
        timeout(SOON, await_condition(namespaces.clone(), &name, gone))
            .await
            .expect("the namespace goes")
            .unwrap();
        assert_eq!(fleet.standing_at(28800), 2, "round {round}: what was set is left as it is");
        fleet.appliances().for_each(|appliance| appliance.factory_reset());
    }
    // A namespace that is gone holds up no other, whoever begins anew.
    f.operator.as_mut().unwrap().kill().await.unwrap();
    furnish(&f, f.ns.name(), &fleet).await;
    let both = format!("{name},{}", f.ns.name());
    f.start_with(&["--namespaces", &both, "--allow-cidr", "127.0.0.0/8", "--log-level", "trace"]).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(fleet.standing_at(28800), 2);
    f.finish().await;
}
