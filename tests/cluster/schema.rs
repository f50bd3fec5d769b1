//! What the API server refuses, with a sentence that says what to do, and what it makes of a manifest that it accepts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::doc_markdown,
    clippy::needless_pass_by_value,
    reason = "tests"
)]

mod connections;
mod customers;
mod defaults;
mod kubectl;
mod policies;
mod rollouts;
mod statuses;
mod windows;

use serde_json::{Value, json};

use super::fixture::*;

/// What is wanted of the API server for one change of a manifest.
enum Want {
    Accepted,
    /// The field that the refusal names, and words it contains.
    Refused(&'static str, &'static str),
}

/// A change of a manifest's spec, and what is wanted of the API server.
struct Case {
    spec: Value,
    want: Want,
}

fn accepts(spec: Value) -> Case {
    Case { spec, want: Want::Accepted }
}

fn refuses(field: &'static str, words: &'static str, spec: Value) -> Case {
    Case { spec, want: Want::Refused(field, words) }
}

/// Accepts some values of a field and refuses others.
fn field(name: &'static str, good: &[Value], words: &'static str, bad: &[Value]) -> Vec<Case> {
    let path = |value: &Value| {
        let mut path: Vec<&str> = name.split('.').collect();
        path.reverse();
        path.into_iter().fold(value.clone(), |inner, key| json!({ key: inner }))
    };
    let good = good.iter().map(|value| accepts(path(value)));
    good.chain(bad.iter().map(|value| refuses(name, words, path(value)))).collect()
}

/// Holds every case against the API server, and reports all that are not as wanted at once.
async fn judge(f: &Fixture, base: &Value, cases: impl IntoIterator<Item = Case>) {
    let mut wrong = Vec::new();
    for Case { spec, want } in cases {
        let manifest = without_nulls(with(base.clone(), json!({ "spec": spec })));
        let answer = f.ns.dry_run_yaml(&manifest.to_string()).await;
        let refusal = answer.err().map(|error| {
            tenure_kit::namespace::refusal(&error).unwrap_or_else(|| panic!("{error:#}")).message.clone()
        });
        match (want, refusal) {
            (Want::Accepted, None) => {}
            (Want::Accepted, Some(refusal)) => wrong.push(format!("{spec} is refused: {refusal}")),
            (Want::Refused(..), None) => wrong.push(format!("{spec} is accepted")),
            (Want::Refused(field, words), Some(refusal)) => {
                let named = field.is_empty() || refusal.contains(&format!("spec.{field}"));
                if !named || !refusal.contains(words) {
                    wrong.push(format!("{spec} is refused with other words than {words:?}: {refusal}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A case's null stands for a field that is left out.
fn without_nulls(manifest: Value) -> Value {
    match manifest {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key, without_nulls(value))).collect()
        }
        other => other,
    }
}

/// Values as JSON.
fn values<T: Into<Value> + Clone>(list: &[T]) -> Vec<Value> {
    list.iter().cloned().map(Into::into).collect()
}

/// The same letter many times.
fn long(length: usize) -> String {
    "a".repeat(length)
}
