//! "Reconcile now": the annotations that ask for a look, and which of them were carried out.

use kube::ResourceExt;

use crate::crd::{FLUX_REQUESTED_AT, RECONCILE_REQUESTED_AT};

/// The value of the annotation that requests a reconcile now; ours wins over Flux's.
pub fn of(object: &impl ResourceExt) -> Option<&str> {
    let annotations = object.annotations();
    annotations.get(RECONCILE_REQUESTED_AT).or_else(|| annotations.get(FLUX_REQUESTED_AT)).map(String::as_str)
}

/// The same, where its last value was not carried out yet.
pub fn open<'a>(object: &'a impl ResourceExt, handled: Option<&str>) -> Option<&'a str> {
    of(object).filter(|asked| handled != Some(*asked))
}
