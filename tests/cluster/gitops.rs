//! Several who apply, one operator: nobody takes a field from another, and nothing is ever different from what was applied.

use kube::ResourceExt as _;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::x2::X2Fleet;

use super::fixture::*;

const CUSTOMER: &str = "1d2b7a10-4f1e-11ee-be56-0242ac120002";
const OBJECTS: [(&str, &str); 4] =
    [("X2Gateway", "x2-0"), ("TokenPolicy", "short"), ("KonaServer", "kona"), ("CustomerTokenTtl", "acme")];

/// Applies without taking anything from anybody.
async fn apply_as(f: &Fixture, manager: &str, manifest: &Value) -> DynamicObject {
    let api = f.ns.api(manifest["kind"].as_str().unwrap()).await.unwrap();
    let name = manifest["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply(manager), &Patch::Apply(manifest)).await.unwrap()
}

/// What is kept in git: an object of each kind, with a way back for those that have one.
fn repository(fleet: &X2Fleet, kona: &KonaServer) -> [Value; 4] {
    let restoring = json!({"spec": {"deletionPolicy": "Restore"}});
    [
        gateway("x2-0", &fleet.appliance(0)),
        json!({
            "apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy", "metadata": {"name": "short"},
            "spec": {"gatewaySelector": {}, "timeoutSeconds": 28800, "deletionPolicy": "Restore"},
        }),
        kona_server("kona", &kona.url()),
        with(customer("acme", CUSTOMER, 3600, 86400), restoring),
    ]
}

/// What another team adds to the policy: a label, and how often it looks.
fn overlay() -> Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy",
        "metadata": {"name": "short", "labels": {"team": "berlin"}}, "spec": {"interval": "24h"},
    })
}

/// An appliance and a customer that two managers have declared, brought to what they want.
async fn world(name: &str) -> (Fixture, X2Fleet, KonaServer) {
    let (fleet, kona) = (fleet(1), KonaServer::start(KonaOptions::default()).unwrap());
    kona.add_customer(CUSTOMER, "Acme");
    let mut f = Fixture::new(name).await;
    f.credentials(&fleet).await;
    f.ns.secret("kona-admin", &[("username", "tenant@example.net"), ("password", "kona-admin-password")])
        .await
        .unwrap();
    f.config_map("kona-ca", &kona.ca_pem().unwrap()).await;
    for manifest in repository(&fleet, &kona) {
        apply_as(&f, "git", &manifest).await;
    }
    apply_as(&f, "overlay", &overlay()).await;
    f.start().await;
    for (kind, name) in OBJECTS {
        f.reason(kind, name, "InSync").await;
    }
    f.wait("TokenPolicy", "short", |p| status(p)["gateways"]["summary"] == "1/1").await;
    f.wait("KonaServer", "kona", |k| status(k)["customers"]["summary"] == "1/1").await;
    (f, fleet, kona)
}

/// The names of the fields below `path` in what a manager has written.
fn owned(fields: &Value, path: &[&str]) -> Vec<String> {
    let found = path.iter().fold(fields, |fields, key| &fields[*key]);
    found.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).filter(|key| key != ".").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_again_changes_nothing_and_the_operator_owns_no_field_of_a_spec() {
    let (f, fleet, kona) = world("managers").await;
    for manifest in repository(&fleet, &kona).iter().chain([&overlay()]) {
        let (kind, name) =
            (manifest["kind"].as_str().unwrap(), manifest["metadata"]["name"].as_str().unwrap());
        let before = f.get(kind, name).await;
        let manager = if *manifest == overlay() { "overlay" } else { "git" };
        assert_eq!(version(&apply_as(&f, manager, manifest).await), version(&before), "{kind}");
    }
    for (kind, name) in OBJECTS {
        let object = f.get(kind, name).await;
        let others = object
            .managed_fields()
            .iter()
            .filter(|entry| !["git", "overlay"].contains(&entry.manager.as_deref().unwrap()));
        let (mut statuses, mut finalizers) = (0, 0);
        for entry in others {
            let fields = json!(entry.fields_v1);
            let parts = owned(&fields, &[]);
            if entry.subresource.as_deref() == Some("status") {
                assert_eq!(parts, ["f:status"], "{kind}: {fields}");
                statuses += 1;
            } else {
                assert_eq!(parts, ["f:metadata"], "{kind}: {fields}");
                assert_eq!(owned(&fields, &["f:metadata"]), ["f:finalizers"], "{kind}: {fields}");
                finalizers += 1;
            }
        }
        assert_eq!((statuses, finalizers), (1, usize::from(kind != "KonaServer")), "{kind}");
    }
    let spec = &f.get("TokenPolicy", "short").await.data["spec"];
    assert_eq!((&spec["timeoutSeconds"], &spec["interval"]), (&json!(28800), &json!("24h")));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_finds_no_difference_and_a_suspension_by_hand_outlives_the_next_apply() {
    let (f, fleet, kona) = world("diff").await;
    let file = f.plane.folder().join(format!("{}.json", f.ns.name()));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": repository(&fleet, &kona)});
    std::fs::write(&file, list.to_string()).unwrap();
    let file = file.to_str().unwrap();
    // It ends with 1 where there is a difference. The label and the interval are not in the file.
    f.kubectl(&["diff", "--server-side", "--field-manager", "git", "-f", file]).await;

    f.patch("TokenPolicy", "short", json!({"spec": {"suspend": true}})).await;
    let suspended = |p: &DynamicObject| is_current(p) && condition(p, "Suspended")["status"] == "True";
    f.wait("TokenPolicy", "short", suspended).await;
    f.kubectl(&["apply", "--server-side", "--field-manager", "git", "-f", file]).await;
    assert!(suspended(&f.get("TokenPolicy", "short").await));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_wait_returns_when_the_edit_is_on_every_gateway() {
    let fleet = fleet(5);
    let mut f = Fixture::new("wait").await;
    f.credentials(&fleet).await;
    f.start().await;
    for (index, appliance) in fleet.appliances().enumerate() {
        f.apply(&gateway(&format!("x2-{index}"), &appliance)).await;
    }
    for seconds in [28800, 7200, 14400] {
        f.apply(&policy("short", json!({"timeoutSeconds": seconds}))).await;
        f.kubectl(&["wait", "tp/short", "--for=condition=Ready", "--timeout=60s"]).await;
        assert_eq!(fleet.standing_at(seconds), 5);
    }
    f.kubectl(&["wait", "x2", "--all", "--for=condition=Ready", "--timeout=60s"]).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_config_map_for_argo_cd_adds_to_the_one_that_is_there() {
    let f = Fixture::new("argocd").await;
    let apply = async |name: &str, text: &str, manager: &[&str]| {
        let file = f.plane.folder().join(format!("{}-{name}.yaml", f.ns.name()));
        std::fs::write(&file, text).unwrap();
        let file = ["apply", "--server-side", "-f", file.to_str().unwrap()];
        f.kubectl(&[&file, manager].concat()).await;
    };
    // As Argo CD is installed: by the same command, under kubectl's own name.
    let installed = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": {"url": "https://argo.example.net"},
    });
    apply("installed", &installed.to_string(), &[]).await;
    let ours = std::fs::read_to_string(root().join("examples/argocd/argocd-cm.yaml")).unwrap();
    let ours = ours.replace("namespace: argocd", &format!("namespace: {}", f.ns.name()));
    apply("ours", &ours, &["--field-manager=tenure"]).await;
    let map = f.get("ConfigMap", "argocd-cm").await;
    assert_eq!(map.data["data"]["url"], "https://argo.example.net");
    assert_eq!(map.data["data"].as_object().unwrap().len(), 1 + 2 * 4);
    f.finish().await;
}
