//! The pages of the four kinds are made of the CRDs.

use std::fmt::Write as _;

use serde_json::Value;

use super::{hold, root};

/// What a page shows of one field.
#[derive(Debug)]
struct Field {
    path: String,
    kind: String,
    default: String,
    description: String,
    rules: Vec<String>,
}

#[test]
fn every_kind_has_a_page_made_of_its_schema() {
    let files = std::fs::read_dir(root().join("crds")).unwrap().map(|entry| entry.unwrap().path());
    let mut kinds = 0;
    for file in files {
        let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let page = page(&crd);
        assert!(page.matches("\n| `").count() > 20, "{page}");
        hold(&format!("docs/reference/{}.md", crd["spec"]["names"]["singular"].as_str().unwrap()), &page);
        kinds += 1;
    }
    assert_eq!(kinds, 4);
}

fn page(crd: &Value) -> String {
    let names = &crd["spec"]["names"];
    let (kind, short) = (names["kind"].as_str().unwrap(), names["shortNames"][0].as_str().unwrap());
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut page = String::from("<!-- Made of crds/ by tests/book: REFRESH=1 cargo test --test book -->\n\n");
    writeln!(page, "# {kind}\n\n{}\n", schema["description"].as_str().unwrap()).unwrap();
    writeln!(
        page,
        "- API version: `tenure.dev/v1alpha1`\n\
         - Short name: `{short}`; category: `tenure`; scope: namespaced\n\n\
         Fields that are not marked as required are optional. `kubectl explain {short}.spec` shows the same descriptions.\n"
    )
    .unwrap();
    for part in ["spec", "status"] {
        let mut fields = Vec::new();
        let part_schema = &schema["properties"][part];
        below(part_schema, part, &mut fields);
        table(&mut page, part, &fields);
        let own = rules(part_schema);
        let owners = std::iter::once((part, own.as_slice()))
            .chain(fields.iter().map(|field| (field.path.as_str(), field.rules.as_slice())));
        list_rules(&mut page, part, owners);
    }
    page
}

fn table(page: &mut String, part: &str, fields: &[Field]) {
    writeln!(page, "## {part}\n\n| field | type | default | description |\n| --- | --- | --- | --- |")
        .unwrap();
    for Field { path, kind, default, description, .. } in fields {
        writeln!(page, "| `{path}` | {kind} | {default} | {description} |").unwrap();
    }
    page.push('\n');
}

fn list_rules<'a>(page: &mut String, part: &str, owners: impl Iterator<Item = (&'a str, &'a [String])>) {
    let mut lines = String::new();
    for (path, rules) in owners {
        for rule in rules {
            writeln!(lines, "- `{path}`: {rule}").unwrap();
        }
    }
    if !lines.is_empty() {
        writeln!(
            page,
            "The API server rejects a {part} that violates one of these rules, with this message:\n\n{lines}"
        )
        .unwrap();
    }
}

/// The fields below a schema, depth first, in the order of their names; what everything needs comes first.
fn below(schema: &Value, path: &str, fields: &mut Vec<Field>) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut entries: Vec<(&String, &Value)> =
        schema["properties"].as_object().into_iter().flatten().collect();
    entries.sort_by_key(|(name, _)| !required.contains(&name.as_str()));
    for (name, field) in entries {
        let path = format!("{path}.{name}");
        fields.push(Field {
            kind: type_of(field),
            default: default_of(field, required.contains(&name.as_str())),
            description: cell(field["description"].as_str().unwrap_or_default()),
            rules: [Some(field), field.get("items"), field.get("additionalProperties")]
                .into_iter()
                .flatten()
                .flat_map(rules)
                .collect(),
            path: path.clone(),
        });
        // Kubernetes' own, the same everywhere.
        if name == "conditions" {
            continue;
        }
        below(field, &path, fields);
        for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if let Some(part) = field.get(key) {
                below(part, &format!("{path}{mark}"), fields);
            }
        }
    }
}

fn type_of(field: &Value) -> String {
    let number = |name: &str| field.get(name).and_then(Value::as_i64);
    if let Some(words) = field["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_str().unwrap())).collect();
        return words.join(", ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    if field["format"] == "date-time" {
        return "time".to_owned();
    }
    match field["type"].as_str().unwrap() {
        "array" => {
            let items = &field["items"];
            let of = items["type"].as_str().unwrap();
            let most = number("maxItems").map_or(String::new(), |most| format!(", at most {most}"));
            format!("list of {of}s{most}")
        }
        "integer" => match (number("minimum"), number("maximum")) {
            (Some(least), Some(most)) => format!("integer, {least} to {most}"),
            (Some(least), None) => format!("integer, {least} or more"),
            (None, Some(most)) => format!("integer, {most} or less"),
            (None, None) => "integer".to_owned(),
        },
        "object" if field.get("additionalProperties").is_some() => "map".to_owned(),
        other => other.to_owned(),
    }
}

fn default_of(field: &Value, required: bool) -> String {
    match field.get("default") {
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value) => format!("`{value}`"),
        None if required => "required".to_owned(),
        None => String::new(),
    }
}

fn rules(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let message = |rule: &Value| {
        let text = rule.get("message").or_else(|| rule.get("messageExpression")).and_then(Value::as_str);
        cell(text.unwrap_or_else(|| panic!("a rule without a message: {rule}")))
    };
    rules.map(message).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
