//! A namespace that attacks, and what an attack keeps up.

use std::any::Any;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tenure_kit::clock;
use tenure_kit::namespace::TestNamespace;
use tenure_kit::x2::X2Fleet;
use tokio::task::JoinSet;

use super::fixture::SOON;
use super::world::World;

/// Requests to the API server that are under way at the same time.
const AT_ONCE: usize = 16;
/// Longest status of an object, in bytes.
const LONGEST_STATUS: usize = 16 * 1024;

/// A namespace of an attacker's own. Dropping it ends the attack.
pub struct Hostile {
    pub ns: TestNamespace,
    tasks: Mutex<JoinSet<()>>,
    kept: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl Hostile {
    pub async fn new(world: &World, name: &str) -> Self {
        let ns = TestNamespace::create(&world.f.plane, name).await.unwrap();
        Self { ns, tasks: Mutex::default(), kept: Mutex::default() }
    }

    pub async fn apply(&self, object: Value) {
        self.apply_all([object]).await;
    }

    pub async fn apply_all(&self, objects: impl IntoIterator<Item = Value>) {
        let apply = async |object: Value| self.ns.apply_yaml(&object.to_string()).await.map(drop);
        at_once(objects.into_iter().map(apply)).await.unwrap();
    }

    /// Requests the deletion of objects.
    pub async fn delete_all(&self, objects: &[Value]) {
        let all = objects.iter().map(reference);
        at_once(all.map(async |(kind, name)| self.ns.delete_object(&kind, &name).await)).await.unwrap();
    }

    /// Creates and deletes objects again and again.
    pub async fn storm(&self, objects: &[Value], time: Duration) {
        let begun = clock::instant();
        self.apply_all(objects.to_vec()).await;
        while begun.elapsed() < time {
            self.delete_all(objects).await;
            // One whose deletion ends at this moment is created the next time.
            let apply = async |object: Value| {
                let _ = self.ns.apply_yaml(&object.to_string()).await;
                Ok(())
            };
            at_once(objects.iter().cloned().map(apply)).await.unwrap();
        }
        self.delete_all(objects).await;
    }

    /// Waits until objects are gone.
    pub async fn are_gone(&self, objects: &[Value]) {
        let all = objects.iter().map(reference);
        at_once(all.map(async |(kind, name)| self.ns.wait_until_gone(&kind, &name, SOON).await))
            .await
            .unwrap();
    }

    /// The Secret and the ConfigMap that `gateway` and `kona_server` name.
    pub async fn credentials(&self, fleet: &X2Fleet) {
        self.secrets().await;
        self.config_map("x2-ca", &fleet.ca_pem().unwrap()).await;
    }

    /// Those without a CA.
    pub async fn secrets(&self) {
        for (name, user, password) in [
            ("x2-admin", "admin", "x2-admin-password"),
            ("kona-admin", "tenant@example.net", "kona-admin-password"),
        ] {
            self.ns.secret(name, &[("username", user), ("password", password)]).await.unwrap();
        }
    }

    pub async fn config_map(&self, name: &str, ca: &str) {
        let data = json!({"ca.crt": ca});
        self.apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}),
        )
        .await;
    }

    /// Merges something into objects of a kind, each another one.
    pub async fn patch_all(&self, kind: &str, edits: impl IntoIterator<Item = (String, Value)>) {
        let api = self.ns.api(kind).await.unwrap();
        let all = edits.into_iter().map(async |(name, patch)| {
            api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            Ok(())
        });
        at_once(all).await.unwrap();
    }

    /// Merges one patch after the other into an object.
    pub async fn patch(&self, kind: &str, name: &str, patches: impl IntoIterator<Item = Value>) {
        let api = self.ns.api(kind).await.unwrap();
        for patch in patches {
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        }
    }

    /// Merges one patch after the other into objects of a kind, for as long as the attack lasts.
    pub async fn keep_patching(&self, kind: &str, patch: impl Fn(u64) -> (String, Value) + Send + 'static) {
        let api = self.ns.api(kind).await.unwrap();
        self.go_on(async move {
            for (name, patch) in (0..).map(patch) {
                if api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.is_err() {
                    // The API server is gone.
                    break;
                }
            }
        });
    }

    /// Does something for as long as the attack lasts.
    pub fn go_on(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap().spawn(task);
    }

    /// Keeps a server for as long as the attack lasts.
    pub fn keep(&self, server: impl Any + Send) {
        self.kept.lock().unwrap().push(Box::new(server));
    }

    /// No status is longer than it may be, and no task has failed.
    pub async fn statuses_are_small(&self) {
        for kind in ["X2Gateway", "TokenPolicy", "KonaServer", "CustomerTokenTtl"] {
            for object in self.ns.api(kind).await.unwrap().list(&ListParams::default()).await.unwrap() {
                let length = object.data["status"].to_string().len();
                assert!(length <= LONGEST_STATUS, "{kind} {:?}: {length} bytes", object.metadata.name);
            }
        }
        assert!(self.tasks.lock().unwrap().try_join_next().is_none(), "an attack has ended early");
    }
}

/// Makes requests, some of them at the same time.
async fn at_once(
    requests: impl Iterator<Item = impl Future<Output = anyhow::Result<()>>>,
) -> anyhow::Result<()> {
    futures::stream::iter(requests).buffer_unordered(AT_ONCE).try_collect().await
}

/// Kind and name of an object.
pub fn reference(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["name"]))
}
