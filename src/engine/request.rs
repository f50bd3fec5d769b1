//! "Reconcile now": the annotations that request it, and which of them were carried out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::annotation;
use crate::crd::{FLUX_REQUESTED_AT, RECONCILE_REQUESTED_AT};

/// The value of the annotation that requests a reconcile now; ours wins over Flux's. One that is too long requests nothing.
#[must_use]
pub fn of(meta: &ObjectMeta) -> Option<&str> {
    annotation::value(meta, RECONCILE_REQUESTED_AT).or_else(|| annotation::value(meta, FLUX_REQUESTED_AT))
}

/// The same, unless its value is the one that was carried out last.
#[must_use]
pub fn open<'a>(meta: &'a ObjectMeta, handled: Option<&str>) -> Option<&'a str> {
    of(meta).filter(|asked| handled != Some(*asked))
}
