//! JSON patches and merge patches, as the API server applies them.

use json_patch::jsonptr::Pointer;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::Value;

use super::refusal::Refusal;

/// In which form a patch was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
}

impl PatchKind {
    pub fn of_content_type(content_type: Option<&str>) -> Result<Self, Refusal> {
        match content_type {
            Some("application/json-patch+json") => Ok(Self::Json),
            Some("application/merge-patch+json") => Ok(Self::Merge),
            _ => Err(Refusal::new(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }

    /// What a patch makes of an object.
    pub fn apply(self, object: &Value, patch: Value) -> Result<Value, Refusal> {
        let mut patched = object.clone();
        match self {
            Self::Merge if patch.is_object() => json_patch::merge(&mut patched, &patch),
            Self::Merge => {
                return Err(Refusal::bad_request("json: cannot unmarshal the patch into an object"));
            }
            Self::Json => {
                let Patch(operations) = serde_json::from_value(patch)
                    .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
                for operation in operations {
                    if !holds_for_nothing(&patched, &operation) {
                        json_patch::patch(&mut patched, &[lenient(operation)]).map_err(|_| rejected())?;
                    }
                }
            }
        }
        Ok(patched)
    }
}

/// The server's library replaces what is not there, too.
fn lenient(operation: PatchOperation) -> PatchOperation {
    match operation {
        PatchOperation::Replace(replace) => {
            PatchOperation::Add(AddOperation { path: replace.path, value: replace.value })
        }
        other => other,
    }
}

/// A test for null passes if there is nothing at its path, but for its parent.
fn holds_for_nothing(object: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let there = |pointer: &Pointer| object.pointer(pointer.as_str()).is_some();
    test.value.is_null() && !there(&test.path) && test.path.parent().is_some_and(there)
}

fn rejected() -> Refusal {
    Refusal::new(422, "Invalid", "the server rejected our request due to an error in our request")
}
