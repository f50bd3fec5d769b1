//! What has to be said twice is the same in both places: CRDs, values and their schema, the table of values, defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::helm::*;

fn values() -> String {
    fs::read_to_string(chart().join("values.yaml")).unwrap()
}

/// A value that users set.
pub struct Documented {
    pub path: String,
    pub default: Value,
    pub description: String,
}

/// Values by their comments that begin with two dashes, in the file's order.
pub fn documented() -> Vec<Documented> {
    let text = values();
    let all: Value = serde_saphyr::from_str(&text).unwrap();
    let (mut found, mut description, mut place): (_, Option<String>, Vec<&str>) = (vec![], None, vec![]);
    for line in text.lines() {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("# -- ") {
            description = Some(comment.to_owned());
        } else if let Some(more) = line.strip_prefix("# ") {
            description = description.map(|text| format!("{text} {more}"));
        } else if let Some((key, _)) = line.split_once(':') {
            place.truncate(depth);
            place.push(key);
            if let Some(description) = description.take() {
                let default = all.pointer(&format!("/{}", place.join("/"))).unwrap().clone();
                found.push(Documented { path: place.join("."), default, description });
            }
        } else {
            description = None;
        }
    }
    found
}

/// All values that are no maps with entries.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        None => drop(found.insert(path.trim_start_matches('.').to_owned())),
        Some(map) => {
            for (key, value) in map {
                leaves(value, &format!("{path}.{key}"), found);
            }
        }
    }
}

#[test]
fn every_value_is_documented() {
    let documented = documented();
    let paths: Vec<&str> = documented.iter().map(|value| value.path.as_str()).collect();
    let mut all = BTreeSet::new();
    leaves(&serde_saphyr::from_str(&values()).unwrap(), "", &mut all);
    assert!(all.len() > 60, "{all:?}");
    for leaf in all {
        let covered = paths.iter().any(|path| leaf == *path || leaf.starts_with(&format!("{path}.")));
        assert!(covered, "{leaf} has no comment that begins with two dashes");
    }
    for Documented { path, description, .. } in &documented {
        assert!(description.ends_with('.') && description.len() > 8, "{path}: {description}");
    }
}

const BEGIN: &str = "<!-- values: made of the comments in values.yaml -->\n";
const END: &str = "<!-- end of values -->\n";

#[test]
fn the_readme_has_the_table_of_values() {
    let row = |Documented { path, default, description }: Documented| {
        format!("| `{path}` | `{default}` | {} |\n", description.replace('|', "\\|"))
    };
    let rows: String = documented().into_iter().map(row).collect();
    let table = format!("| value | default | description |\n| --- | --- | --- |\n{rows}");
    let file = chart().join("README.md");
    let readme = fs::read_to_string(&file).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the beginning is marked");
    let (present, after) = rest.split_once(END).expect("the end is marked");
    if present != table {
        let fresh = temporary("readme").join("README.md");
        fs::write(&fresh, [before, BEGIN, &table, END, after].concat()).unwrap();
        panic!("the table is out of date: cp {} {}", fresh.display(), file.display());
    }
}

/// What a schema knows under a path.
fn known<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |schema, key| schema["properties"].get(key))
}

fn schema_paths(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        found.insert(path.trim_start_matches('.').to_owned());
        return;
    };
    // A parent chart's values for all charts may be any.
    assert!(path == ".global" || schema["additionalProperties"] == false, "{path} takes anything");
    for (key, schema) in properties {
        schema_paths(schema, &format!("{path}.{key}"), found);
    }
}

#[test]
fn the_schema_knows_the_values_and_no_others() {
    let text = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let documented: BTreeSet<String> = documented().into_iter().map(|value| value.path).collect();
    for path in &documented {
        assert!(known(&schema, path).is_some(), "{path} is not in the schema");
    }
    let mut paths = BTreeSet::new();
    schema_paths(&schema, "", &mut paths);
    for path in paths {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let helms = path == "enabled" || path.starts_with("global.");
        let known = documented.contains(&path) || documented.contains(parent) || helms;
        assert!(known, "{path} is no value");
    }
}

#[test]
fn the_charts_crds_are_the_projects() {
    let read = |folder: &str| -> BTreeMap<_, _> {
        let files = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap());
        files.map(|file| (file.file_name(), fs::read_to_string(file.path()).unwrap())).collect()
    };
    let (projects, charts) = (read("crds"), read("charts/tenure/files/crds"));
    assert_eq!(projects.len(), 4);
    assert!(projects == charts, "out of date: cp crds/*.yaml charts/tenure/files/crds/");
    for helm in Helm::BOTH {
        let rendered = helm.render(&Value::Null);
        for text in projects.values() {
            let crd: Value = serde_saphyr::from_str(text).unwrap();
            let name = crd["metadata"]["name"].as_str().unwrap();
            let ours = find(&rendered, "CustomResourceDefinition", name).unwrap();
            assert!(ours["spec"] == crd["spec"], "{helm:?}: {name}");
            assert_eq!(ours["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        }
    }
}

#[test]
fn the_chart_has_the_programs_version() {
    let text = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(manifest["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// The chart writes the operator's defaults down: they are the operator's own.
#[test]
fn the_defaults_are_the_operators() {
    let help = Command::new(program()).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let values: Value = serde_saphyr::from_str(&values()).unwrap();
    let listen = format!("{}:{}", text(&values["listen"]["address"]), values["listen"]["port"]);
    let operator = &values["operator"];
    let seconds = |name: &str| format!("{}s", values["leaderElection"][name]);
    let pairs = [
        ("--listen", listen),
        ("--concurrency", operator["concurrency"].to_string()),
        ("--min-timeout", operator["minTimeout"].to_string()),
        ("--max-timeout", operator["maxTimeout"].to_string()),
        ("--lease-duration", seconds("leaseDurationSeconds")),
        ("--lease-renew-deadline", seconds("renewDeadlineSeconds")),
        ("--lease-retry-period", seconds("retryPeriodSeconds")),
        ("--log-level", text(&values["log"]["level"]).to_owned()),
    ];
    for (flag, value) in pairs {
        let section = help.split(&format!("{flag} <")).nth(1).unwrap_or_else(|| panic!("no {flag}: {help}"));
        let default = section.split("[default: ").nth(1).unwrap().split(']').next().unwrap();
        assert_eq!(default, value, "{flag}");
    }
}

/// Every flag of the operator is a value of the chart.
#[test]
fn every_flag_can_be_set() {
    let help = Command::new(program()).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags = help.lines().filter_map(|line| line.trim_start().split_once("--").map(|(_, flag)| flag));
    let templates = fs::read_dir(chart().join("templates")).unwrap();
    let templates: String = templates.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let flags = flags.filter_map(|flag| flag.split([' ', '[', '=']).next()).filter(|flag| *flag != "help");
    let mut count = 0;
    for flag in flags {
        count += 1;
        assert!(templates.contains(&format!("--{flag}")), "--{flag} is set by no value");
    }
    assert!(count >= 15, "only {count} flags were found: {help}");
}

/// A duration that a source names, in seconds.
fn seconds(file: &str, name: &str) -> u64 {
    let source = fs::read_to_string(root().join(file)).unwrap();
    let value = source.split(&format!("const {name}: Duration = Duration::from_secs(")).nth(1);
    let value =
        value.and_then(|rest| rest.split(')').next()).unwrap_or_else(|| panic!("no {name} in {file}"));
    value.parse().unwrap()
}

/// Kubernetes must not end a Pod that still finishes its writes, writes its last events, hands its Lease over, or sends
/// its last traces.
#[test]
fn a_pod_has_the_time_that_the_operator_needs_to_end() {
    let [writes, events] = ["GRACE", "FLUSH"].map(|name| seconds("src/controller/operator.rs", name));
    let (lease, traces) =
        (seconds("src/leader.rs", "API_TIMEOUT"), seconds("src/telemetry/traces.rs", "LAST_FLUSH"));
    let needed = writes + events + lease + traces;
    let place = "terminationGracePeriodSeconds";
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap();
    assert!(schema["properties"][place]["minimum"].as_u64().unwrap() > needed);
    let documented = documented().into_iter().find(|value| value.path == place).unwrap();
    assert!(documented.description.contains(&format!("needs at most {needed}")), "{needed}");
    assert!(documented.default.as_u64().unwrap() > needed);
}
