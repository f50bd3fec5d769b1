//! The annotations that are read, and what of them counts.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::crd::{
    APPROVE, CHANGE_REF, FLUX_REQUESTED_AT, OVERRIDE_WINDOW_UNTIL, RECONCILE_REQUESTED_AT, SKIP_RESTORE,
};

/// Longest value that counts, in bytes: one on a policy is repeated for each of its gateways.
const LONGEST: usize = 256;
/// Those that are read.
const READ: [&str; 6] =
    [APPROVE, CHANGE_REF, OVERRIDE_WINDOW_UNTIL, RECONCILE_REQUESTED_AT, SKIP_RESTORE, FLUX_REQUESTED_AT];

/// The value of an annotation, unless it is too long.
#[must_use]
pub fn value<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    let value = meta.annotations.as_ref()?.get(name)?;
    Some(value.as_str()).filter(|value| value.len() <= LONGEST)
}

/// The annotations that are ignored because they are too long.
#[must_use]
pub fn ignored(meta: &ObjectMeta) -> Vec<&'static str> {
    let is_ignored = |name: &&str| {
        let value = meta.annotations.as_ref().and_then(|all| all.get(*name));
        value.is_some_and(|value| value.len() > LONGEST)
    };
    READ.into_iter().filter(is_ignored).collect()
}

/// Drops annotations that nothing reads. Of a value that is too long, nothing is kept but that it is.
pub fn trim(annotations: &mut BTreeMap<String, String>) {
    annotations.retain(|name, _| READ.contains(&name.as_str()));
    for value in annotations.values_mut().filter(|value| value.len() > LONGEST) {
        *value = "-".repeat(LONGEST + 1);
    }
}
