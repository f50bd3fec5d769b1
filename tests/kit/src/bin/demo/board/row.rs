//! One object as a row of the table.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::screen::{Look, Screen};

/// The kinds, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Gateway,
    Policy,
    Server,
    Customer,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Gateway, Self::Policy, Self::Server, Self::Customer];

    /// As manifests have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "X2Gateway",
            Self::Policy => "TokenPolicy",
            Self::Server => "KonaServer",
            Self::Customer => "CustomerTokenTtl",
        }
    }

    /// As kubectl takes it.
    pub(crate) const fn short(self) -> &'static str {
        match self {
            Self::Gateway => "x2",
            Self::Policy => "tp",
            Self::Server => "kona",
            Self::Customer => "ctt",
        }
    }
}

/// What is shown of an object; a line is printed when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    object: String,
    now: String,
    wanted: String,
    ready: Ready,
    reason: String,
    /// What to do, where somebody has to.
    pub(crate) message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    True,
    /// Being worked on.
    NotYet,
    /// Somebody has to do something.
    Stalled,
}

/// The status; null where there is none.
pub(crate) fn status(object: &DynamicObject) -> &Value {
    object.data.get("status").unwrap_or(&Value::Null)
}

fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<&'a Value> {
    let conditions = status(object).get("conditions")?.as_array()?;
    conditions.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

/// Whether status and conditions speak of the present spec.
fn is_current(object: &DynamicObject) -> bool {
    let generation = json!(object.metadata.generation);
    let observed = |value: &Value| value.get("observedGeneration") == Some(&generation);
    observed(status(object)) && condition(object, "Ready").is_some_and(observed)
}

/// Whether it is ready, as its spec now is.
pub(crate) fn is_ready(object: &DynamicObject) -> bool {
    is_current(object) && field(condition(object, "Ready"), "status") == "True"
}

/// Why it is ready or not.
pub(crate) fn reason(object: &DynamicObject) -> &str {
    field(condition(object, "Ready"), "reason")
}

fn field<'a>(value: Option<&'a Value>, name: &str) -> &'a str {
    value.and_then(|value| value.get(name)).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, name: &str) -> Option<i64> {
    object.get(name).and_then(Value::as_i64)
}

/// What a policy requires: `28800s`, or `600s-43200s`.
pub(crate) fn target(policy: &DynamicObject) -> String {
    let spec = policy.data.get("spec").unwrap_or(&Value::Null);
    let seconds = |name| number(spec, name).map(|seconds| format!("{seconds}s"));
    let bound = |name| seconds(name).unwrap_or_default();
    seconds("timeoutSeconds")
        .unwrap_or_else(|| format!("{}-{}", bound("minTimeoutSeconds"), bound("maxTimeoutSeconds")))
}

impl Row {
    /// None as long as nothing is reported of the object as it now is.
    pub(crate) fn of(
        kind: Kind,
        object: &DynamicObject,
        target_of: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let ready = condition(object, "Ready").filter(|_| is_current(object))?;
        let status = status(object);
        let spec = object.data.get("spec").unwrap_or(&Value::Null);
        let (now, wanted) = match kind {
            Kind::Gateway => {
                let policy = field(Some(status), "policy");
                (
                    seconds(&[number(status, "timeoutSeconds")]),
                    target_of(policy).unwrap_or_else(|| "-".to_owned()),
                )
            }
            Kind::Policy => (format!("{} gateways", summary(status, "gateways")), target(object)),
            Kind::Server => (format!("{} customers", summary(status, "customers")), "-".to_owned()),
            Kind::Customer => {
                let pair = |of: &Value| {
                    seconds(&[number(of, "accessTokenTtlSeconds"), number(of, "refreshTokenTtlSeconds")])
                };
                (pair(status), pair(spec))
            }
        };
        let (ready, message) = match (field(Some(ready), "status"), condition(object, "Stalled")) {
            ("True", _) => (Ready::True, None),
            (_, Some(stalled)) => (Ready::Stalled, Some(field(Some(stalled), "message").to_owned())),
            _ => (Ready::NotYet, None),
        };
        let object_name = format!("{}/{}", kind.short(), object.name_any());
        Some(Self { object: object_name, now, wanted, ready, reason: reason(object).to_owned(), message })
    }

    /// The row as it is printed.
    pub(crate) fn line(&self, since: Duration, screen: &Screen) -> String {
        let Self { object, now, wanted, ready, reason, .. } = self;
        let (look, word) = match ready {
            Ready::True => (Look::Green, "True"),
            Ready::NotYet => (Look::Yellow, "False"),
            Ready::Stalled => (Look::Red, "False"),
        };
        let time = screen.paint(Look::Dim, &time(since));
        // Padded before it is painted: colours have no width.
        let ready = screen.paint(look, &format!("{word:<7}"));
        format!("  {time}{object:<22}{now:<18}{wanted:<18}{ready}{reason}")
    }
}

fn seconds(numbers: &[Option<i64>]) -> String {
    let text = |number: &Option<i64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number}s"));
    let numbers: Vec<String> = numbers.iter().map(text).collect();
    numbers.join(" / ")
}

fn summary<'a>(status: &'a Value, counts: &str) -> &'a str {
    field(status.get(counts), "summary")
}

fn time(since: Duration) -> String {
    format!("{:>6.2} s    ", since.as_secs_f64())
}

/// The names of the columns.
pub(crate) fn head() -> String {
    format!("  {:<12}{:<22}{:<18}{:<18}{:<7}REASON", "", "OBJECT", "CURRENT", "DESIRED", "READY")
}

/// A line that is no row.
pub(crate) fn note(since: Duration, object: &str, what: &str, screen: &Screen) -> String {
    format!("  {}{object:<22}{what}", screen.paint(Look::Dim, &time(since)))
}
