//! What the server itself writes into an object's metadata.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::store::Origin;

/// Metadata that only the server sets.
pub const SERVERS_OWN: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "resourceVersion",
];
/// Sets a field as it is in another object, or removes it. Mostly it is the same, and to compare is faster than to copy.
pub fn keep(object: &mut Value, from: &Value, field: &str) {
    if object.get(field) == from.get(field) {
        return;
    }
    match from.get(field).filter(|value| !value.is_null()) {
        Some(value) => object[field] = value.clone(),
        None => drop(object.as_object_mut().and_then(|fields| fields.remove(field))),
    }
}

pub fn added_finalizer(old: &Value, new: &Value) -> Option<String> {
    let finalizers =
        |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let known = finalizers(old);
    let added = finalizers(new).into_iter().find(|finalizer| !known.contains(finalizer))?;
    Some(added.as_str().unwrap_or_default().to_owned())
}

pub fn bump_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    object["metadata"]["generation"] = json!(generation + 1);
}

/// Notes the manager of a write, on custom resources only: the operator reads no others. Of the fields only the first name is
/// noted.
pub fn note_manager(origin: &Origin, object: &mut Value, spec: bool) {
    let Origin { target, manager, .. } = origin;
    let resource = target.kind.resource();
    if resource.schema.is_none() {
        return;
    }
    let part = match (target.status, spec) {
        (true, _) => "f:status",
        (false, true) => "f:spec",
        (false, false) => "f:metadata",
    };
    let entries = &mut object["metadata"]["managedFields"];
    if entries.is_null() {
        *entries = json!([]);
    }
    let Some(entries) = entries.as_array_mut() else { return };
    let own =
        |entry: &Value| entry["manager"] == **manager && entry["subresource"].is_string() == target.status;
    if let Some(entry) = entries.iter_mut().find(|entry| own(entry)) {
        entry["time"] = json!(second(origin.time));
        entry["fieldsV1"][part] = json!({});
        return;
    }
    let mut entry = json!({
        "manager": manager, "operation": "Update", "apiVersion": resource.api_version,
        "time": second(origin.time), "fieldsType": "FieldsV1", "fieldsV1": {part: {}},
    });
    if target.status {
        entry["subresource"] = json!("status");
    }
    entries.push(entry);
}

pub fn second(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

pub fn uid(high: u64, low: u64) -> String {
    let (first, second, third) = (high >> 32, high >> 16 & 0xFFFF, high & 0xFFF);
    let (fourth, last) = (low >> 48 & 0x3FFF | 0x8000, low & 0xFFFF_FFFF_FFFF);
    format!("{first:08x}-{second:04x}-4{third:03x}-{fourth:04x}-{last:012x}")
}
