//! The manifests of `examples/`, with the addresses, passwords and CAs of the simulated systems put in.

use std::fs;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::world::World;
use tenure_kit::program::root;

/// The files, in the order in which they are applied: credentials come before what needs them.
const FILES: [&str; 4] =
    ["x2-credentials.yaml", "x2-gateways.yaml", "kona-credentials.yaml", "kona-customers.yaml"];
/// The file of the rollout, which comes later.
const ROLLOUT: &str = "x2-rollout.yaml";
/// How long its canary is watched: nobody looks at a demo for ten minutes.
const SOAK: &str = "5s";

/// One file.
pub(crate) struct Example {
    /// Its name below `examples/`.
    pub(crate) name: &'static str,
    /// Its documents, as they are written.
    pub(crate) documents: Vec<Value>,
}

/// Reads the files that are applied at the beginning.
pub(crate) fn read() -> Result<Vec<Example>> {
    FILES.into_iter().map(Example::read).collect()
}

/// Reads the file of the rollout.
pub(crate) fn rollout() -> Result<Example> {
    Example::read(ROLLOUT)
}

impl Example {
    fn read(name: &'static str) -> Result<Self> {
        let file = root().join("examples").join(name);
        let yaml = fs::read_to_string(file).with_context(|| format!("reading examples/{name}"))?;
        let documents = serde_saphyr::from_multiple(&yaml).with_context(|| format!("examples/{name}"))?;
        Ok(Self { name, documents })
    }

    /// How many gateways it declares.
    pub(crate) fn gateways(&self) -> usize {
        self.documents.iter().filter(|document| text(document, "/kind") == "X2Gateway").count()
    }

    /// What it holds: `2 TokenPolicy, 4 X2Gateway`.
    pub(crate) fn contents(&self) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for document in &self.documents {
            let kind = text(document, "/kind");
            match counts.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, count)) => *count += 1,
                None => counts.push((kind, 1)),
            }
        }
        let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        counts.join(", ")
    }

    /// The documents for the simulated systems. This is all that the demo alters.
    ///
    /// # Errors
    /// When an example names a system that is not simulated.
    pub(crate) fn staged(&self, world: &World, interval: Option<&str>) -> Result<Vec<Value>> {
        self.documents.iter().map(|document| stage(document.clone(), world, interval)).collect()
    }
}

fn stage(mut document: Value, world: &World, interval: Option<&str>) -> Result<Value> {
    let name = text(&document, "/metadata/name").to_owned();
    let change = match text(&document, "/kind") {
        "X2Gateway" => json!({"spec": {"url": world.gateway(&name)?.url()}}),
        "KonaServer" => json!({"spec": {"url": world.kona.url()}}),
        "TokenPolicy" if document.pointer("/spec/rollout/canary/soak").is_some() => {
            json!({"spec": {"rollout": {"canary": {"soak": SOAK}}}})
        }
        "TokenPolicy" | "CustomerTokenTtl" => {
            interval.map_or(json!({}), |i| json!({"spec": {"interval": i}}))
        }
        "Secret" => {
            let (origin, username, password) = world.login(&name)?;
            let listed = text(&document, "/metadata/annotations/tenure.dev~1allowed-origins");
            let certificates = listed.split(',').map(str::trim).filter(|entry| entry.starts_with("tls="));
            let entries: Vec<&str> = std::iter::once(origin.as_str()).chain(certificates).collect();
            json!({
                "metadata": {"annotations": {"tenure.dev/allowed-origins": entries.join(", ")}},
                "stringData": {"username": username, "password": password},
            })
        }
        "ConfigMap" => json!({"data": {"ca.crt": world.ca(&name)?}}),
        other => bail!("examples/ has a {other}, which the demo does not know"),
    };
    merge(&mut document, change);
    Ok(document)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Text at a JSON pointer, or nothing.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
