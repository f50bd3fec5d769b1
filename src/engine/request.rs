//! "Reconcile now": the annotations that request it, and which of them were carried out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::crd::{FLUX_REQUESTED_AT, RECONCILE_REQUESTED_AT};

/// Longest value of the annotation, in bytes: it is kept for each object that the request covers, and repeated in its status.
const LONGEST: usize = 256;

/// The value of the annotation that requests a reconcile now; ours wins over Flux's. One that is too long requests nothing.
#[must_use]
pub fn of(meta: &ObjectMeta) -> Option<&str> {
    let annotations = meta.annotations.as_ref()?;
    let value = |name| annotations.get(name).map(String::as_str).filter(|value| value.len() <= LONGEST);
    value(RECONCILE_REQUESTED_AT).or_else(|| value(FLUX_REQUESTED_AT))
}

/// The same, unless its value is the one that was carried out last.
#[must_use]
pub fn open<'a>(meta: &'a ObjectMeta, handled: Option<&str>) -> Option<&'a str> {
    of(meta).filter(|asked| handled != Some(*asked))
}
