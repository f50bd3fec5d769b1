//! What has happened in a schedule, in order.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::api::{self, Verb};
use crate::remote::{Asked, Course, Effect, Entry, What};
use crate::time;

/// Something that has happened.
#[derive(Debug)]
pub enum Line {
    /// The harness has done something.
    Harness(String),
    /// A replica has logged something.
    Log(String),
    /// An object has changed.
    Api(Box<api::Write>),
    /// Something about a remote system.
    Remote(Entry),
}

/// Everything, as it became known to the harness.
#[derive(Debug, Default)]
pub struct History(Vec<(Duration, Line)>);

impl History {
    pub fn push(&mut self, at: Duration, line: Line) {
        self.0.push((at, line));
    }

    /// One line per event, by time.
    pub fn text(&self) -> String {
        let mut lines: Vec<&(Duration, Line)> = self.0.iter().collect();
        lines.sort_by_key(|(at, _)| *at);
        let mut text = String::new();
        for (at, line) in lines {
            let _ = writeln!(text, "{:>11.3} {}", at.as_secs_f64(), worded(line));
        }
        text
    }
}

fn worded(line: &Line) -> String {
    match line {
        Line::Harness(what) => format!("== {what}"),
        Line::Log(line) => format!("log    {line}"),
        Line::Api(write) => api_write(write),
        Line::Remote(entry) => remote(entry),
    }
}

fn api_write(write: &api::Write) -> String {
    let (namespace, name) = &write.key;
    let what = format!("{:?} {:?} {namespace}/{name}", write.verb, write.target.kind);
    let sub = if write.target.status { "/status" } else { "" };
    let value = |stored: &Option<std::sync::Arc<api::Stored>>| {
        stored.as_ref().map_or(Value::Null, |stored| stored.value.clone())
    };
    let (before, after) = (value(&write.before), value(&write.after));
    let mut changes = Vec::new();
    if write.verb == Verb::Delete || after.is_null() {
        changes.push(if after.is_null() { "gone".to_owned() } else { "deletion asked for".to_owned() });
    }
    differences("", &before, &after, &mut changes);
    format!("api    {} {what}{sub}: {}", write.client, changes.join(", "))
}

/// What differs between two versions of an object.
fn differences(path: &str, before: &Value, after: &Value, into: &mut Vec<String>) {
    const NOISE: [&str; 4] = ["managedFields", "resourceVersion", "uid", "creationTimestamp"];
    match (before, after) {
        (before, after) if before == after => {}
        (_, Value::Null) if path.is_empty() => {}
        (before, Value::Object(new)) => {
            let none = serde_json::Map::new();
            let old = before.as_object().unwrap_or(&none);
            let mut names: Vec<&String> = new.keys().chain(old.keys()).collect();
            names.sort();
            names.dedup();
            for name in names.into_iter().filter(|name| !NOISE.contains(&name.as_str())) {
                let at = format!("{path}.{name}");
                differences(&at, &before[name.as_str()], &after[name.as_str()], into);
            }
        }
        (_, after) => into.push(format!("{path}={after}")),
    }
}

fn remote(entry: &Entry) -> String {
    let Entry { url, what, .. } = entry;
    match what {
        What::Sent { exchange, replica, method, path, asked, fate } => {
            let course = match &fate.course {
                Course::Served => String::new(),
                other => format!(" [{other:?}]"),
            };
            let (before, after) = (fate.before.as_millis(), fate.after.as_millis());
            format!(
                "remote {replica} #{exchange} {method} {url}{path} ({before}+{after} ms) {}{course}",
                asked_of(asked)
            )
        }
        What::CarriedOut { exchange, replica, status, effect } => {
            format!("remote {replica} #{exchange} carried out: {status} {}", effect_of(effect))
        }
        What::Foreign(effect) => format!("remote {url} changed by others: {}", effect_of(effect)),
    }
}

fn asked_of(asked: &Asked) -> String {
    match asked {
        Asked::Nothing => String::new(),
        other => format!("{other:?}"),
    }
}

fn effect_of(effect: &Effect) -> String {
    match effect {
        Effect::None => String::new(),
        other => format!("{other:?}"),
    }
}

/// The wall-clock time of a write, as time that has passed.
pub fn time_of(write: &api::Write) -> Duration {
    time::passed(write.time)
}
