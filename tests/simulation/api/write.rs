//! Writes: what a create, a replace, a patch and a delete do to an object, in the API server's order.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::Validator;
use super::meta::{SERVERS_OWN, added_finalizer, bump_generation, keep, note_manager, second, uid};
use super::patch::PatchKind;
use super::refusal::Refusal;
use super::resource::{Kind, Resource};
use super::store::{Key, Origin, State, Stored};

/// Letters and digits that the server completes names with.
const SUFFIX: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// What became of a delete.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone.
    Gone(Arc<Stored>),
    /// It waits for its finalizers.
    Waits(Arc<Stored>),
}

impl State {
    pub fn create(
        &mut self,
        origin: &Origin,
        mut object: Value,
        check: &Validator,
    ) -> Result<Arc<Stored>, Refusal> {
        let resource = origin.target.kind.resource();
        belongs(resource, &object)?;
        let namespace = Self::place(origin, &object)?;
        let name = self.name(&object, resource)?;
        self.is_open(resource, &namespace, &name)?;
        let key = (namespace, name);
        let old = object["metadata"].take();
        let mut meta = json!({
            "name": key.1, "uid": uid(self.mint(), self.mint()), "creationTimestamp": second(origin.time),
        });
        for field in ["generateName", "labels", "annotations", "finalizers", "ownerReferences"] {
            keep(&mut meta, &old, field);
        }
        if resource.namespaced {
            meta["namespace"] = json!(key.0);
        }
        object["metadata"] = meta;
        if resource.schema.is_some() {
            object["metadata"]["generation"] = json!(1);
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
        prepare(origin.target.kind, &mut object, None);
        validate(origin.target.kind, &key.1, &object, None, check)?;
        origin.is_admitted()?;
        if self.get(origin.target.kind, &key).is_some() {
            return Err(Refusal::already_exists(resource, &key.1));
        }
        let spec = !object["spec"].is_null();
        note_manager(origin, &mut object, spec);
        Ok(self.commit(origin, key, Some(object)))
    }

    /// Where an object is created.
    fn place(origin: &Origin, object: &Value) -> Result<String, Refusal> {
        let namespace = origin.target.namespace.clone().unwrap_or_default();
        match object["metadata"]["namespace"].as_str() {
            Some(own) if !own.is_empty() && own != namespace => Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            )),
            _ => Ok(namespace),
        }
    }

    fn name(&mut self, object: &Value, resource: &Resource) -> Result<String, Refusal> {
        let meta = &object["metadata"];
        if let Some(name) = meta["name"].as_str().filter(|name| !name.is_empty()) {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            if name.len() > 253 || !name.chars().all(fits) {
                return Err(Refusal::invalid(resource, name, "metadata.name: Invalid value"));
            }
            return Ok(name.to_owned());
        }
        let Some(stem) = meta["generateName"].as_str().filter(|stem| !stem.is_empty()) else {
            return Err(Refusal::invalid(
                resource,
                "",
                "metadata.name: Required value: name or generateName is required",
            ));
        };
        let number = self.mint();
        let letter =
            |place: usize| char::from(SUFFIX[usize::from(number.to_le_bytes()[place]) % SUFFIX.len()]);
        let stem: String = stem.chars().take(58).collect();
        Ok((0..5).map(letter).fold(stem, |name, letter| name + &letter.to_string()))
    }

    /// Whether something may be created in a namespace.
    fn is_open(&self, resource: &Resource, namespace: &str, name: &str) -> Result<(), Refusal> {
        if !resource.namespaced {
            return Ok(());
        }
        match self.get(Kind::Namespace, &(String::new(), namespace.to_owned())) {
            None => Err(Refusal::not_found(Kind::Namespace.resource(), namespace)),
            Some(one) if one.text("deletionTimestamp").is_some() => {
                Err(Refusal::terminating(resource, namespace, name))
            }
            Some(_) => Ok(()),
        }
    }

    pub fn replace(
        &mut self,
        origin: &Origin,
        object: Value,
        check: &Validator,
    ) -> Result<Arc<Stored>, Refusal> {
        let resource = origin.target.kind.resource();
        belongs(resource, &object)?;
        let name = origin.target.name.clone().unwrap_or_default();
        if object["metadata"]["name"] != *name {
            return Err(Refusal::bad_request("the name of the object does not match the name on the URL"));
        }
        let (key, old) = match self.named(&origin.target) {
            // What was replaced was there, or could have been created by this.
            Err(_) if origin.target.kind == Kind::Lease => return Err(Refusal::modified(resource, &name)),
            found => found?,
        };
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if version.is_empty() && !resource.unconditional {
            let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
            return Err(Refusal::invalid(resource, &name, why));
        }
        self.update(origin, key, &old, object, check)
    }

    pub fn patch(
        &mut self,
        origin: &Origin,
        patch: (PatchKind, Value),
        check: &Validator,
    ) -> Result<Arc<Stored>, Refusal> {
        let (key, old) = self.named(&origin.target)?;
        let new = patch.0.apply(&old.value, patch.1)?;
        self.update(origin, key, &old, new, check)
    }

    fn update(
        &mut self,
        origin: &Origin,
        key: Key,
        old: &Arc<Stored>,
        new: Value,
        check: &Validator,
    ) -> Result<Arc<Stored>, Refusal> {
        let kind = origin.target.kind;
        let resource = kind.resource();
        is_current(resource, &key.1, old, &new)?;
        let mut next = merged(origin, old, new);
        prepare(kind, &mut next, Some(&old.value));
        if next == old.value {
            return origin.is_admitted().map(|()| Arc::clone(old));
        }
        if let Some(added) =
            added_finalizer(&old.value, &next).filter(|_| old.text("deletionTimestamp").is_some())
        {
            let why = format!(
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
                 found new finalizers []string{{\"{added}\"}}"
            );
            return Err(Refusal::invalid(resource, &key.1, why));
        }
        validate(kind, &key.1, &next, Some(&old.value), check)?;
        origin.is_admitted()?;
        let spec = resource.schema.is_some() && next["spec"] != old.value["spec"];
        if spec {
            bump_generation(&mut next);
        }
        note_manager(origin, &mut next, spec);
        let is_going = old.text("deletionTimestamp").is_some() && kind != Kind::Namespace;
        if is_going && next["metadata"]["finalizers"].is_null() {
            // The last finalizer is never stored as gone: the object is. The answer is the object as it was sent.
            self.commit(origin, key, None);
            return Ok(Stored::new(next, old.version));
        }
        Ok(self.commit(origin, key, Some(next)))
    }

    pub fn delete(&mut self, origin: &Origin, options: &Value) -> Result<Deleted, Refusal> {
        let kind = origin.target.kind;
        let resource = kind.resource();
        let (key, old) = self.named(&origin.target)?;
        let conditions = &options["preconditions"];
        for (field, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            if let (Some(wanted), found) = (conditions[field].as_str(), old.text(field).unwrap_or_default())
                && wanted != found
            {
                let why = format!(
                    "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}"
                );
                return Err(Refusal::conflict(resource, &key.1, why));
            }
        }
        origin.is_admitted()?;
        if kind != Kind::Namespace && old.value["metadata"]["finalizers"].is_null() {
            return Ok(Deleted::Gone(self.commit(origin, key, None)));
        }
        if old.text("deletionTimestamp").is_some() {
            return Ok(Deleted::Waits(old));
        }
        let mut next = old.value.clone();
        next["metadata"]["deletionTimestamp"] = json!(second(origin.time));
        if kind == Kind::Namespace {
            next["status"]["phase"] = json!("Terminating");
        } else {
            next["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        }
        if resource.schema.is_some() {
            bump_generation(&mut next);
        }
        Ok(Deleted::Waits(self.commit(origin, key, Some(next))))
    }

    /// Keeps an object that no rule would let pass, as if it had been accepted under another schema.
    pub fn plant(&mut self, origin: &Origin, edit: impl FnOnce(&mut Value)) -> Result<Arc<Stored>, Refusal> {
        let (key, old) = self.named(&origin.target)?;
        let mut next = old.value.clone();
        edit(&mut next);
        bump_generation(&mut next);
        Ok(self.commit(origin, key, Some(next)))
    }

    /// What the namespace controller does in one pass: it deletes everything in a namespace that is being deleted, and the
    /// namespace when nothing is left. `origin` names the namespace. True if it is gone.
    pub fn empty_namespace(&mut self, origin: &Origin, namespace: &str) -> bool {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.resource().namespaced) {
            let inside = self.table(kind).objects.keys().filter(|key| key.0 == namespace);
            for key in inside.cloned().collect::<Vec<_>>() {
                let mut origin = origin.clone();
                origin.target.kind = kind;
                (origin.target.namespace, origin.target.name) = (Some(key.0), Some(key.1));
                self.delete(&origin, &Value::Null).expect("what is there can be deleted");
            }
        }
        let left =
            Kind::ALL.iter().any(|kind| self.table(*kind).objects.keys().any(|key| key.0 == namespace));
        if !left {
            self.commit(origin, (String::new(), namespace.to_owned()), None);
        }
        !left
    }
}

/// The object is of the kind that is asked for.
fn belongs(resource: &Resource, object: &Value) -> Result<(), Refusal> {
    let (version, kind) = (&object["apiVersion"], &object["kind"]);
    if *version == resource.api_version && *kind == resource.kind {
        return Ok(());
    }
    if *version == resource.api_version && resource.schema.is_some() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Refusal::invalid(
            resource,
            name,
            format!("kind: Invalid value: {kind}: must be {}", resource.kind),
        ));
    }
    let message =
        format!("{version}, Kind={kind} in the body is not {}, Kind={}", resource.api_version, resource.kind);
    Err(Refusal::bad_request(message))
}

/// A write builds on the version and on the object that are there.
fn is_current(resource: &Resource, name: &str, old: &Stored, new: &Value) -> Result<(), Refusal> {
    let given = |field: &str| new["metadata"][field].as_str().filter(|value| !value.is_empty());
    if let Some(uid) = given("uid").filter(|uid| Some(*uid) != old.text("uid")) {
        let found = old.text("uid").unwrap_or_default();
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
        return Err(Refusal::conflict(resource, name, why));
    }
    match given("resourceVersion") {
        Some(version) if version != old.version.to_string() => Err(Refusal::modified(resource, name)),
        _ => Ok(()),
    }
}

/// Of what was sent, what a write to this part of the object may change.
fn merged(origin: &Origin, old: &Stored, mut new: Value) -> Value {
    let has_status = origin.target.kind.resource().schema.is_some();
    if origin.target.status {
        ["apiVersion", "kind", "metadata", "spec"].iter().for_each(|field| keep(&mut new, &old.value, field));
        return new;
    }
    if has_status {
        keep(&mut new, &old.value, "status");
    }
    let was = &old.value["metadata"];
    SERVERS_OWN.iter().for_each(|field| keep(&mut new["metadata"], was, field));
    new
}

/// What the server makes of an object before it compares or keeps it.
fn prepare(kind: Kind, object: &mut Value, old: Option<&Value>) {
    if let Some(meta) = object["metadata"].as_object_mut() {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            let empty = meta.get(field).is_some_and(|value| {
                value.is_null()
                    || value.as_object().is_some_and(serde_json::Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty)
            });
            if empty {
                meta.remove(field);
            }
        }
    }
    if let Some(schema) = &kind.resource().schema {
        schema.complete(object, old);
    }
    if kind == Kind::Namespace && object["status"].is_null() {
        object["spec"]["finalizers"] = json!(["kubernetes"]);
        object["status"]["phase"] = json!("Active");
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = object["metadata"]["name"].clone();
    }
    if kind == Kind::Secret {
        encode(object);
    }
}

/// `stringData` of a Secret is written only.
fn encode(secret: &mut Value) {
    let Some(fields) = secret.as_object_mut() else { return };
    let plain = fields.remove("stringData").unwrap_or_default();
    for (key, value) in plain.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        secret["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
    if secret["type"].is_null() {
        secret["type"] = json!("Opaque");
    }
}

fn validate(
    kind: Kind,
    name: &str,
    new: &Value,
    old: Option<&Value>,
    check: &Validator,
) -> Result<(), Refusal> {
    let resource = kind.resource();
    let fault = match (&resource.schema, kind) {
        (Some(schema), _) => schema.fault(new, old),
        (None, Kind::Event) => event_fault(new),
        (None, _) => None,
    };
    let fault = fault.or_else(|| check(kind, new, old));
    fault.map_or(Ok(()), |fault| Err(Refusal::invalid(resource, name, fault)))
}

/// What of the server's rules an operator may run into.
fn event_fault(event: &Value) -> Option<String> {
    let missing = ["eventTime", "reportingController", "reportingInstance", "action", "reason", "type"];
    if let Some(field) = missing.into_iter().find(|field| event[*field].as_str().is_none_or(str::is_empty)) {
        return Some(format!("{field}: Required value"));
    }
    let too_long = [("note", 1024), ("action", 128), ("reason", 128), ("reportingInstance", 128)];
    let too_long =
        too_long.into_iter().find(|(field, most)| event[*field].as_str().is_some_and(|t| t.len() > *most));
    too_long.map(|(field, most)| format!("{field}: Invalid value: can have at most {most} characters"))
}
