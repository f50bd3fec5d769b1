//! Which resources are served, and what a request asks for.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use url::form_urlencoded;

use super::schema::Schema;

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    X2Gateway,
    TokenPolicy,
    KonaServer,
    CustomerTokenTtl,
    Secret,
    ConfigMap,
    Namespace,
    Event,
    Lease,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::X2Gateway,
        Self::TokenPolicy,
        Self::KonaServer,
        Self::CustomerTokenTtl,
        Self::Secret,
        Self::ConfigMap,
        Self::Namespace,
        Self::Event,
        Self::Lease,
    ];
    /// Those that tenure defines.
    pub const OURS: [Self; 4] =
        [Self::X2Gateway, Self::TokenPolicy, Self::KonaServer, Self::CustomerTokenTtl];

    /// What is served under this kind.
    pub fn resource(self) -> &'static Resource {
        &RESOURCES[self as usize]
    }

    /// The kind of an object, by its fields `apiVersion` and `kind`.
    pub fn of(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let resource = kind.resource();
            object["kind"] == resource.kind && object["apiVersion"] == resource.api_version
        })
    }
}

/// One resource type.
#[derive(Debug)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub api_version: String,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
    /// Its schema; only custom resources have one, and with it a status subresource and a generation.
    pub schema: Option<Schema>,
    /// Whether a replace may leave the resource version out.
    pub unconditional: bool,
}

impl Resource {
    /// Its name in messages.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

static RESOURCES: LazyLock<[Resource; 9]> = LazyLock::new(|| {
    let schemas = Schema::of_crds();
    Kind::ALL.map(|kind| {
        let (group, version, name, plural) = match kind {
            Kind::X2Gateway => ("tenure.dev", "v1alpha1", "X2Gateway", "x2gateways"),
            Kind::TokenPolicy => ("tenure.dev", "v1alpha1", "TokenPolicy", "tokenpolicies"),
            Kind::KonaServer => ("tenure.dev", "v1alpha1", "KonaServer", "konaservers"),
            Kind::CustomerTokenTtl => ("tenure.dev", "v1alpha1", "CustomerTokenTtl", "customertokenttls"),
            Kind::Secret => ("", "v1", "Secret", "secrets"),
            Kind::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Kind::Namespace => ("", "v1", "Namespace", "namespaces"),
            Kind::Event => ("events.k8s.io", "v1", "Event", "events"),
            Kind::Lease => ("coordination.k8s.io", "v1", "Lease", "leases"),
        };
        Resource {
            group,
            version,
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            kind: name,
            plural,
            namespaced: kind != Kind::Namespace,
            schema: schemas.get(plural).cloned(),
            unconditional: matches!(kind, Kind::Secret | Kind::ConfigMap | Kind::Namespace),
        }
    })
});

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Replace,
    Patch,
    Delete,
}

impl Verb {
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    /// None: all namespaces, or a resource without any.
    pub namespace: Option<String>,
    pub name: Option<String>,
    /// Whether the status subresource is meant.
    pub status: bool,
    /// Whether the path says so itself, in the old form `/api/v1/watch/…`.
    pub watch: bool,
}

impl Target {
    /// Reads a request's path. None if nothing is served there.
    pub fn of_path(path: &str) -> Option<Self> {
        let mut segments = path.trim_start_matches('/').split('/');
        let (group, version) = match segments.next()? {
            "api" => ("", segments.next()?),
            "apis" => (segments.next()?, segments.next()?),
            _ => return None,
        };
        let mut rest: Vec<&str> = segments.collect();
        let watch = rest.first() == Some(&"watch");
        if watch {
            rest.remove(0);
        }
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", _, "status"] => (None, rest.as_slice()),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (plural, name, status) = match rest {
            [plural] => (plural, None, false),
            [plural, name] => (plural, Some((*name).to_owned()), false),
            [plural, name, "status"] => (plural, Some((*name).to_owned()), true),
            _ => return None,
        };
        let kind = Kind::ALL.into_iter().find(|kind| {
            let resource = kind.resource();
            resource.plural == *plural && resource.group == group && resource.version == version
        })?;
        Some(Self { kind, namespace, name, status, watch })
    }

    /// What a method does here.
    pub fn verb(&self, method: &str, query: &Query) -> Option<Verb> {
        Some(match (method, &self.name) {
            ("GET", _) if self.watch || query.is_true("watch") => Verb::Watch,
            ("GET", Some(_)) => Verb::Get,
            ("GET", None) => Verb::List,
            ("POST", None) => Verb::Create,
            ("PUT", Some(_)) => Verb::Replace,
            ("PATCH", Some(_)) => Verb::Patch,
            ("DELETE", Some(_)) => Verb::Delete,
            _ => return None,
        })
    }
}

/// A request's parameters.
#[derive(Clone, Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    pub fn of(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// A parameter that says something.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}
