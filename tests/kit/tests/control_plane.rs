//! The control plane is what the tests of the operator take for granted: real, killable, and with the controllers that matter.

use std::{fs, time::Duration};

use anyhow::Result;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret},
    rbac::v1::PolicyRule,
};
use kube::{Api, api::ListParams, config::Kubeconfig};
use tenure_kit::{
    access::{service_account_kubeconfig, token_kubeconfig},
    control_plane::{ControlPlane, Options, client_of, shared},
    namespace::{TestNamespace, install_crds, refusal},
};

const SOON: Duration = Duration::from_secs(30);

const OWNER_AND_OWNED: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: owner}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: owned}
";

const CRD: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.kit.example.com}
spec:
  group: kit.example.com
  names: {kind: Lamp, plural: lamps, singular: lamp}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: {watts: {type: integer}}
              x-kubernetes-validations:
                - rule: self.watts < 100
                  message: too bright
            status:
              type: object
              properties: {lit: {type: boolean}}
";

#[tokio::test]
async fn what_was_written_survives_a_kill() -> Result<()> {
    let audit_log = std::env::temp_dir().join(format!("tenure-kit-audit-{}.log", std::process::id()));
    let options = Options { audit_log: Some(audit_log.clone()), ..Options::default() };
    let mut plane = ControlPlane::start(options).await?;
    let namespace = TestNamespace::create(&plane, "kill").await?;
    namespace.apply_yaml(OWNER_AND_OWNED).await?;
    let kubeconfig = fs::read_to_string(plane.kubeconfig_path())?;

    plane.kill()?;
    assert!(namespace.get("ConfigMap", "owner").await.is_err(), "nobody answers any more");
    plane.restart().await?;

    namespace.get("ConfigMap", "owner").await?;
    assert_eq!(fs::read_to_string(plane.kubeconfig_path())?, kubeconfig, "the same port and keys");
    assert!(fs::read_to_string(&audit_log)?.contains(namespace.name()));
    let folder = plane.folder().to_owned();
    plane.stop()?;
    assert!(!folder.exists(), "nothing is left behind");
    fs::remove_file(audit_log)?;
    Ok(())
}

#[tokio::test]
async fn a_deleted_namespace_goes_with_all_it_holds() -> Result<()> {
    let namespace = TestNamespace::create(&*shared().await?, "gone").await?;
    namespace.wait_for("ServiceAccount", "default", SOON, |_| true).await?;
    let secret = namespace.secret("login", &[("username", "a"), ("password", "b")]).await?;
    assert_eq!(secret.data.map(|data| data.len()), Some(2));
    let (name, client) = (namespace.name().to_owned(), namespace.client());
    namespace.delete(SOON).await?;
    assert!(Api::<Secret>::namespaced(client, &name).list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_dropped_namespace_is_being_deleted() -> Result<()> {
    let namespace = TestNamespace::create(&*shared().await?, "dropped").await?;
    let (name, client) = (namespace.name().to_owned(), namespace.client());
    drop(namespace);
    let namespace = Api::<Namespace>::all(client).get_opt(&name).await?;
    assert!(namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()));
    Ok(())
}

#[tokio::test]
async fn what_lost_its_owner_is_collected() -> Result<()> {
    let namespace = TestNamespace::create(&*shared().await?, "garbage").await?;
    let applied = namespace.apply_yaml(OWNER_AND_OWNED).await?;
    let uid = applied[0].metadata.uid.as_deref().unwrap();
    namespace
        .apply_yaml(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: owned, ownerReferences: [\
             {{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]}}}}"
        ))
        .await?;
    namespace.delete_object("ConfigMap", "owner").await?;
    namespace.wait_until_gone("ConfigMap", "owned", SOON).await
}

#[tokio::test]
async fn a_service_account_may_do_what_it_was_granted_and_nothing_else() -> Result<()> {
    let plane = shared().await?;
    let namespace = TestNamespace::create(&plane, "rights").await?;
    namespace.apply_yaml(OWNER_AND_OWNED).await?;
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".to_owned()]),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    };
    let limited = service_account_kubeconfig(&plane, namespace.name(), &[rule]).await?;
    let client = client_of(Kubeconfig::read_from(limited)?).await?;
    Api::<ConfigMap>::namespaced(client.clone(), namespace.name()).get("owner").await?;
    let denied = Api::<Secret>::namespaced(client, namespace.name()).get("any").await.unwrap_err();
    assert!(denied.to_string().contains("forbidden"), "{denied}");

    namespace.apply_yaml("{apiVersion: v1, kind: ServiceAccount, metadata: {name: nobody}}").await?;
    let nobody = token_kubeconfig(&plane, namespace.name(), "nobody").await?;
    let client = client_of(Kubeconfig::read_from(nobody)?).await?;
    assert!(Api::<ConfigMap>::namespaced(client, namespace.name()).get("owner").await.is_err());
    Ok(())
}

#[tokio::test]
async fn custom_resources_are_served_validated_and_waited_for() -> Result<()> {
    let plane = shared().await?;
    let folder = plane.folder().join("crds");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("lamps.yaml"), CRD)?;
    install_crds(&plane, &folder).await?;

    let namespace = TestNamespace::create(&plane, "lamps").await?;
    let lamp = |watts: u32| {
        format!(
            "{{apiVersion: kit.example.com/v1, kind: Lamp, metadata: {{name: desk}}, spec: {{watts: {watts}}}}}"
        )
    };
    let refused = namespace.dry_run_yaml(&lamp(150)).await.unwrap_err();
    let status = refusal(&refused).unwrap();
    assert_eq!(status.code, 422);
    assert!(status.message.contains("too bright"), "{}", status.message);

    namespace.dry_run_yaml(&lamp(50)).await?;
    assert!(namespace.find("Lamp", "desk").await?.is_none(), "a dry run keeps nothing");
    namespace.apply_yaml(&lamp(50)).await?;
    namespace.wait_for("Lamp", "desk", SOON, |lamp| lamp.data["spec"]["watts"] == 50).await?;
    let dark = namespace
        .wait_for("Lamp", "desk", Duration::from_millis(200), |lamp| lamp.data["status"]["lit"] == true);
    let message = dark.await.unwrap_err().to_string();
    assert!(message.contains("status null"), "{message}");
    Ok(())
}
