//! Objects as the API server holds them.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::crd::{Condition, Kind, Time};
use crate::engine::annotation;
use crate::engine::audit::{APPROVAL, SPEC};
pub use crate::engine::key::Key;

/// A kind whose status we write.
pub trait Reported:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// Which one.
    const KIND: Kind;
    /// Its status.
    type Status: Clone + Default + PartialEq + Serialize + Send;
    /// The current status.
    fn status(&self) -> Option<&Self::Status>;
    /// Times that alone are no reason to write: of the last check and of the last proof.
    fn times(status: &mut Self::Status) -> [Option<&mut Option<Time>>; 2];
    /// When the lifetime that is required of it was last verified, by a login or by a check that finds the verified values,
    /// and the longest lifetime that was read, in seconds.
    fn proof_and_lifetime(&self) -> (Option<&Time>, Option<u32>);
    /// Generation and conditions that every report sets.
    fn head(status: &mut Self::Status) -> (&mut Option<i64>, &mut Vec<Condition>);
    /// The generation that the status is about.
    fn observed_generation(status: &Self::Status) -> Option<i64>;
    /// The current conditions.
    fn conditions(status: &Self::Status) -> &[Condition];
    /// The request to reconcile that was carried out last.
    fn last_handled(status: &Self::Status) -> Option<&str>;
    /// The same, to be brought up to date.
    fn handled(status: &mut Self::Status) -> &mut Option<String>;
}

/// An object as it was last seen.
#[derive(Debug)]
pub(crate) enum Entry<K> {
    /// Decoded.
    Valid(Arc<K>),
    /// Accepted by the API server under another schema, and not understood by this one.
    Undecodable(Arc<ObjectMeta>),
}

impl<K> Clone for Entry<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Valid(object) => Self::Valid(Arc::clone(object)),
            Self::Undecodable(meta) => Self::Undecodable(Arc::clone(meta)),
        }
    }
}

impl<K: ResourceExt> Entry<K> {
    /// Takes an object from a watch.
    #[must_use]
    pub(crate) fn of(guard: DeserializeGuard<K>) -> Self {
        match guard.0 {
            Ok(mut object) => {
                trim(object.meta_mut());
                Self::Valid(Arc::new(object))
            }
            Err(mut invalid) => {
                trim(&mut invalid.metadata);
                Self::Undecodable(Arc::new(invalid.metadata))
            }
        }
    }

    /// The object's metadata.
    #[must_use]
    pub(crate) fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Valid(object) => object.meta(),
            Self::Undecodable(meta) => meta,
        }
    }

    /// The object, if it was understood.
    #[must_use]
    pub(crate) fn valid(&self) -> Option<&Arc<K>> {
        match self {
            Self::Valid(object) => Some(object),
            Self::Undecodable(_) => None,
        }
    }
}

/// Drops what nothing reads and would take more memory than the object: what `kubectl apply` or a user annotates it with, and
/// all of its managed fields but the names of the managers that last changed its spec and its approval.
fn trim(meta: &mut ObjectMeta) {
    meta.annotations.iter_mut().for_each(annotation::trim);
    meta.annotations.take_if(|annotations| annotations.is_empty());
    let fields = meta.managed_fields.take().unwrap_or_default();
    let mut kept: Vec<_> = [SPEC, APPROVAL].into_iter().filter_map(|field| last_of(&fields, field)).collect();
    kept.shrink_to_fit();
    meta.managed_fields = Some(kept).filter(|kept| !kept.is_empty());
}

/// The manager that last changed a field, and nothing else of its entry: a status is ours to write.
fn last_of(entries: &[ManagedFieldsEntry], field: &str) -> Option<ManagedFieldsEntry> {
    let has_set = |entry: &&ManagedFieldsEntry| {
        entry.subresource.is_none()
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer(field).is_some())
    };
    let last = entries.iter().filter(has_set).max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    let (manager, fields_v1) = (last.manager.clone(), Some(FieldsV1(field.into())));
    Some(ManagedFieldsEntry { manager, fields_v1, ..ManagedFieldsEntry::default() })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::core::WatchEvent;
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::{APPROVE, CHANGE_REF, TokenPolicy};

    fn entry(manager: &str, second: i64, subresource: Option<&str>, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            time: Some(Time(jiff::Timestamp::from_second(second).unwrap())),
            subresource: subresource.map(str::to_owned),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    fn read(text: &str) -> Entry<TokenPolicy> {
        Entry::of(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn of_an_object_that_does_not_fit_the_metadata_is_read() {
        let metadata = r#""metadata": {"name": "a", "namespace": "berlin", "uid": "1"}"#;
        let spec = r#"{"timeoutSeconds": 3600, "gatewaySelector": {"matchLabels": {"site": "a"}}}"#;
        let valid = read(&format!("{{{metadata}, \"spec\": {spec}}}"));
        assert_eq!(valid.valid().unwrap().spec.timeout_seconds, Some(3600));
        for rest in ["", r#", "spec": {"timeoutSeconds": "an hour"}"#, r#", "spec": 7"#] {
            let entry = read(&format!("{{{metadata}{rest}}}"));
            assert!(entry.valid().is_none(), "{rest}");
            assert_eq!(Key::of(entry.meta()), Key::new("berlin", "a"));
            assert_eq!(entry.meta().uid.as_deref(), Some("1"));
        }
        assert!(serde_json::from_str::<DeserializeGuard<TokenPolicy>>("[]").is_err());
    }

    #[test]
    fn an_event_of_a_watch_may_name_its_type_last() {
        let metadata = json!({"name": "a", "namespace": "berlin"});
        let policy = json!({"metadata": metadata, "spec": {"timeoutSeconds": 3600, "gatewaySelector": {}}});
        let text = format!("{{\"object\": {policy}, \"type\": \"ADDED\"}}");
        let event = serde_json::from_str::<WatchEvent<DeserializeGuard<TokenPolicy>>>(&text).unwrap();
        let WatchEvent::Added(guard) = event else { panic!("an object was added") };
        assert!(Entry::of(guard).valid().is_some());
    }

    #[test]
    fn only_annotations_that_are_read_are_kept() {
        let annotated = |names: &[&str]| {
            let annotations = names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
            ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() }
        };
        let read = ["reconcile.fluxcd.io/requestedAt", "tenure.dev/reconcile-requested-at"];
        let applied = "kubectl.kubernetes.io/last-applied-configuration";
        let mut meta = annotated(&[read[0], read[1], applied]);
        trim(&mut meta);
        assert_eq!(meta, annotated(&read));
        let mut meta = annotated(&[applied]);
        trim(&mut meta);
        assert_eq!(meta, ObjectMeta::default());
    }

    #[test]
    fn the_last_managers_of_the_spec_and_of_the_approval_are_kept_and_nothing_else() {
        let spec = || json!({"f:spec": {"f:timeoutSeconds": {}}});
        let annotation = |name: &str| json!({"f:metadata": {"f:annotations": {format!("f:{name}"): {}}}});
        let mut meta = ObjectMeta {
            managed_fields: Some(vec![
                entry("argocd", 10, None, spec()),
                entry("alice", 20, None, spec()),
                entry("flux", 15, None, spec()),
                entry("bob", 25, None, annotation(APPROVE)),
                entry("carol", 24, None, annotation(APPROVE)),
                entry("labels", 30, None, json!({"f:metadata": {}})),
                entry("ticket", 35, None, annotation(CHANGE_REF)),
                entry("tenure", 40, Some("status"), json!({"f:spec": {}, "f:status": {}})),
            ]),
            ..ObjectMeta::default()
        };
        trim(&mut meta);
        assert_eq!(meta.managed_fields.as_ref().map(Vec::capacity), Some(2));
        let last = |manager: &str, field: &str| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            fields_v1: Some(FieldsV1(json!(field))),
            ..ManagedFieldsEntry::default()
        };
        assert_eq!(meta.managed_fields, Some(vec![last("alice", SPEC), last("bob", APPROVAL)]));
        let mut none = ObjectMeta {
            managed_fields: Some(vec![entry("tenure", 1, Some("status"), json!({}))]),
            ..ObjectMeta::default()
        };
        trim(&mut none);
        assert_eq!(none.managed_fields, None);
    }
}
