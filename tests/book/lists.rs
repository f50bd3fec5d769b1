//! The reference pages list what the program has, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tenure::engine::reason::{ConditionType, Kstatus, Reason};
use tenure_kit::program::root;

use super::command_line::help;
use super::page;

/// A row of a table whose first cell begins with a word in backticks, perhaps as the text of a link: that word, and the other
/// cells.
fn row(line: &str) -> Option<(&str, Vec<&str>)> {
    let mut cells = line.strip_prefix('|')?.trim_end_matches('|').split('|').map(str::trim);
    let word = cells.next()?.trim_start_matches('[').strip_prefix('`')?.split_once('`')?.0;
    Some((word, cells.collect()))
}

fn rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    text.lines().filter_map(row).collect()
}

/// The words of the rows. None comes twice.
fn words(text: &str) -> BTreeSet<&str> {
    let rows = rows(text);
    let words: BTreeSet<&str> = rows.iter().map(|(word, _)| *word).collect();
    assert_eq!(words.len(), rows.len(), "something is listed twice: {rows:?}");
    words
}

/// What is between a heading and the next one of the same level or above.
fn part<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let level = heading.split(' ').next().unwrap().len();
    let ends = (1..=level).filter_map(|level| below.find(&format!("\n{} ", "#".repeat(level))));
    &below[..ends.min().unwrap_or(below.len())]
}

fn source(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn the_page_of_events_lists_every_reason_with_its_type() {
    let text = page("docs/reference/events.md").text;
    let reasons = source("src/engine/reason.rs");
    let (_, variants) = reasons.split_once("pub enum EventReason {").unwrap();
    let (variants, _) = variants.split_once("\n}").unwrap();
    // Neither comments nor `NotReady(Reason)`.
    let own = variants.lines().filter_map(|line| line.trim().strip_suffix(','));
    let own: BTreeSet<&str> = own.filter(|word| word.chars().all(char::is_alphanumeric)).collect();
    assert!(own.contains("TimeoutChanged"), "{own:?}");
    assert_eq!(words(part(&text, "## Changes and rollouts")), own);
    let below = part(&text, "## Resources that are not ready");
    let warnings =
        Reason::ALL.iter().filter(|reason| reason.is_warning() || **reason == Reason::RolloutHalted);
    assert_eq!(words(below), warnings.map(|reason| reason.as_str()).collect::<BTreeSet<_>>());
    for (word, cells) in rows(below) {
        assert_eq!(cells[0], "Warning", "{word}");
    }
}

#[test]
fn the_page_of_conditions_lists_every_type_and_reason() {
    let text = page("docs/reference/conditions.md").text;
    let types: BTreeSet<&str> = ConditionType::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(words(part(&text, "## Condition types")), types);
    for (kstatus, heading) in [
        (Kstatus::Current, "### Ready is True"),
        (Kstatus::InProgress, "### Ready is False, Reconciling is True"),
        (Kstatus::Failed, "### Ready is False, Stalled is True"),
    ] {
        let reasons = Reason::ALL.iter().filter(|reason| reason.kstatus() == kstatus);
        let reasons: BTreeSet<&str> = reasons.map(|reason| reason.as_str()).collect();
        let below = part(&text, heading);
        assert_eq!(words(below), reasons, "{heading}");
        for reason in reasons {
            let link = format!("[`{reason}`](../troubleshooting.md#{})", reason.to_lowercase());
            assert!(below.contains(&link), "{reason} has no link {link}");
        }
    }
}

#[test]
fn the_page_of_annotations_lists_what_the_operator_knows() {
    let text = page("docs/reference/annotations.md").text;
    let source = source("src/crd.rs");
    let constants =
        source.lines().filter(|line| line.starts_with("pub const ") && line.contains(": &str = "));
    let known: BTreeSet<&str> = constants.filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(words(&text), known);
}

/// The variables of `tenure run`: each with its flag and default.
fn variables(help: &str) -> BTreeMap<&str, (&str, &str)> {
    let (mut flag, mut variable) = ("", "");
    let mut variables = BTreeMap::new();
    for line in help.lines().map(str::trim) {
        if line.starts_with("--") {
            flag = line.split([' ', '[', '=']).next().unwrap();
        } else if let Some(rest) = line.strip_prefix("[env: ") {
            variable = rest.trim_end_matches([']', '=']);
            variables.insert(variable, (flag, ""));
        } else if let Some(default) = line.strip_prefix("[default: ") {
            variables.insert(variable, (flag, default.trim_end_matches(']')));
        }
    }
    variables
}

#[test]
fn the_page_of_variables_lists_those_of_every_flag() {
    let text = page("docs/reference/environment.md").text;
    let rows = rows(part(&text, "## Variables of the operator"));
    let listed = rows.iter().map(|(word, cells)| {
        let cell = |at: usize| cells[at].trim_matches('`');
        (*word, (cell(0), cell(1)))
    });
    let help = help(&["run"]);
    let known = variables(&help);
    assert!(known.len() > 15, "{known:?}");
    assert_eq!(listed.collect::<BTreeMap<_, _>>(), known);
    assert_eq!(rows.len(), known.len(), "a variable is listed twice");
}

/// The fields of the audit line that a file logs, one on each line.
fn audit_fields(path: &str) -> BTreeSet<String> {
    let text = source(path);
    let (_, fields) = text.split_once("target: AUDIT,").unwrap();
    let fields = fields.lines().map(str::trim).take_while(|line| !line.starts_with('"'));
    fields
        .filter_map(|line| line.split([' ', ',']).find(|word| !word.is_empty()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_table_of_audit_fields_lists_them_all() {
    let text = page("docs/observability.md").text;
    let lines = ["src/controller/audit.rs", "src/controller/uses.rs"].map(audit_fields);
    assert!(lines.iter().all(|fields| fields.contains("manager") && fields.len() >= 15), "{lines:?}");
    let added = ["timestamp", "level", "message", "trace_id"].map(str::to_owned);
    let logged: BTreeSet<String> = lines.into_iter().flatten().chain(added).collect();
    let listed = words(part(&text, "### Field names in ECS and OCSF"));
    assert_eq!(listed.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), logged);
}

#[test]
fn the_table_of_triggers_lists_them_all() {
    let source = source("src/runtime/workers.rs");
    let (_, variants) = source.split_once("enum Trigger {").unwrap();
    let variants = variants.lines().map(str::trim).take_while(|line| *line != "}");
    let names = variants.filter_map(|line| line.strip_suffix(',')).map(str::to_lowercase);
    let text = page("docs/observability.md").text;
    let listed = words(part(&text, "### Triggers")).into_iter().map(str::to_owned);
    assert_eq!(listed.collect::<BTreeSet<_>>(), names.collect());
}

#[test]
fn the_page_of_values_names_each_group() {
    let text = page("docs/reference/helm-values.md").text;
    let values: Value = serde_saphyr::from_str(&source("charts/tenure/values.yaml")).unwrap();
    let table = text.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = table.filter_map(|row| row.split(" | ").nth(1));
    // In brackets are values within a group.
    let outside = cells.flat_map(|cell| cell.split('(').map(|text| text.rsplit(')').next().unwrap_or(text)));
    let named: BTreeSet<&str> = outside.flat_map(|text| text.split('`').skip(1).step_by(2)).collect();
    let groups: BTreeSet<&str> = values.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(named, groups);
}
