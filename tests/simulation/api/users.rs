//! What users, controllers and the harness do, at once and without being judged.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Api;
use super::patch::PatchKind;
use super::refusal::Refusal;
use super::resource::{Kind, Target, Verb};
use super::store::{Origin, Stored};

/// The name of the client that these requests come from.
pub const USER: &str = "user";

impl Api {
    /// An object as it is now. The namespace of a `Namespace` is "".
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.state().get(kind, &(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a kind, by namespace and name.
    pub fn all(&self, kind: Kind) -> Vec<Arc<Stored>> {
        self.state().table(kind).objects.values().cloned().collect()
    }

    /// Creates an object, in the namespace that it names.
    pub fn create(&self, object: Value) -> Result<Arc<Stored>, Refusal> {
        let kind = Kind::of(&object).ok_or_else(|| Refusal::of_code(404))?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let origin = self.origin(Verb::Create, kind, &namespace, &name);
        self.state().create(&origin, object, &*self.validator())
    }

    /// Merges something into an object, but not into its status.
    pub fn merge(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<Arc<Stored>, Refusal> {
        let origin = self.origin(Verb::Patch, kind, namespace, name);
        self.state().patch(&origin, (PatchKind::Merge, patch), &*self.validator())
    }

    /// Merges something into an object's status, as a foreign writer does.
    pub fn merge_status(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        status: &Value,
    ) -> Result<Arc<Stored>, Refusal> {
        let mut origin = self.origin(Verb::Patch, kind, namespace, name);
        origin.target.status = true;
        let patch = (PatchKind::Merge, json!({"status": status}));
        self.state().patch(&origin, patch, &*self.validator())
    }

    /// Replaces an object by what a function makes of it.
    pub fn edit(
        &self,
        kind: Kind,
        (namespace, name): (&str, &str),
        edit: impl FnOnce(&mut Value),
    ) -> Result<Arc<Stored>, Refusal> {
        let old = self.get(kind, namespace, name).ok_or_else(|| Refusal::not_found(kind.resource(), name))?;
        let mut object = old.value.clone();
        edit(&mut object);
        let origin = self.origin(Verb::Replace, kind, namespace, name);
        self.state().replace(&origin, object, &*self.validator())
    }

    /// Edits an object as if the rules were others: what comes out need not fit its schema.
    pub fn plant(
        &self,
        kind: Kind,
        (namespace, name): (&str, &str),
        edit: impl FnOnce(&mut Value),
    ) -> Result<Arc<Stored>, Refusal> {
        let origin = self.origin(Verb::Replace, kind, namespace, name);
        self.state().plant(&origin, edit)
    }

    /// Sets a label, or removes it.
    pub fn label(
        &self,
        kind: Kind,
        (namespace, name): (&str, &str),
        label: &str,
        value: Option<&str>,
    ) -> Result<Arc<Stored>, Refusal> {
        self.merge(kind, namespace, name, json!({"metadata": {"labels": {label: value}}}))
    }

    /// Sets an annotation, or removes it.
    pub fn annotate(
        &self,
        kind: Kind,
        (namespace, name): (&str, &str),
        annotation: &str,
        value: Option<&str>,
    ) -> Result<Arc<Stored>, Refusal> {
        self.merge(kind, namespace, name, json!({"metadata": {"annotations": {annotation: value}}}))
    }

    /// Asks for an object's deletion.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<(), Refusal> {
        let origin = self.origin(Verb::Delete, kind, namespace, name);
        self.state().delete(&origin, &Value::Null).map(drop)
    }

    /// One pass of the namespace controller over all namespaces that are being deleted. True if one of them still waits for
    /// something in it.
    pub fn step_namespaces(&self) -> bool {
        let mut waits = false;
        for namespace in self.all(Kind::Namespace) {
            if let Some(name) =
                namespace.text("name").filter(|_| namespace.text("deletionTimestamp").is_some())
            {
                let origin = self.origin(Verb::Delete, Kind::Namespace, "", name);
                waits |= !self.state().empty_namespace(&origin, name);
            }
        }
        waits
    }

    fn origin(&self, verb: Verb, kind: Kind, namespace: &str, name: &str) -> Origin {
        let namespace = Some(namespace).filter(|_| kind.resource().namespaced);
        let target = Target {
            kind,
            namespace: namespace.map(str::to_owned),
            name: Some(name.to_owned()),
            status: false,
            watch: false,
        };
        let time = self.now();
        Origin {
            sent: time,
            time,
            client: Arc::from(USER),
            verb,
            target,
            manager: USER.to_owned(),
            denial: None,
        }
    }
}
