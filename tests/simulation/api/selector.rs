//! Label and field selectors.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector as Labels, SelectorExt as _};
use serde_json::Value;

use super::refusal::Refusal;
use super::resource::{Query, Target};

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    namespace: Option<String>,
    name: Option<String>,
    labels: Labels,
    /// Paths, values, and whether they must be equal.
    fields: Vec<(String, String, bool)>,
}

impl Selection {
    pub fn of(target: &Target, query: &Query) -> Result<Self, Refusal> {
        Ok(Self {
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            labels: query.get("labelSelector").map_or_else(|| Ok(Labels::default()), labels)?,
            fields: query.get("fieldSelector").map_or_else(|| Ok(Vec::new()), fields)?,
        })
    }

    /// Whether a selector leaves some objects out.
    pub fn is_filtered(&self) -> bool {
        !self.labels.selects_all() || !self.fields.is_empty()
    }

    pub fn holds(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        self.namespace.as_ref().is_none_or(|namespace| meta["namespace"] == **namespace)
            && self.name.as_ref().is_none_or(|name| meta["name"] == **name)
            && (self.labels.selects_all() || self.labels.matches(&labels_of(meta)))
            && self.fields.iter().all(|(path, value, equal)| {
                let field = path.split('.').fold(object, |node, name| &node[name]);
                (field.as_str().unwrap_or_default() == value) == *equal
            })
    }
}

fn labels_of(meta: &Value) -> BTreeMap<String, String> {
    let labels = meta["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn fields(text: &str) -> Result<Vec<(String, String, bool)>, Refusal> {
    let term = |term: &str| {
        let (path, value, equal) = match term.split_once("!=") {
            Some((path, value)) => (path, value, false),
            None => term
                .split_once("==")
                .or_else(|| term.split_once('='))
                .map(|(path, value)| (path, value, true))
                .ok_or_else(|| Refusal::bad_request(format!("invalid selector: '{term}'")))?,
        };
        Ok((path.to_owned(), value.to_owned(), equal))
    };
    text.split(',').map(term).collect()
}

fn labels(text: &str) -> Result<Labels, Refusal> {
    let mut expressions = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // A comma between brackets separates values, not terms.
        let closed = rest.find('(').filter(|open| rest.find(',').is_none_or(|comma| *open < comma));
        let from = match closed {
            Some(open) => open + rest[open..].find(')').ok_or_else(|| unparsable(text))?,
            None => 0,
        };
        let end = rest[from..].find(',').map_or(rest.len(), |comma| from + comma);
        expressions.push(expression(rest[..end].trim()).ok_or_else(|| unparsable(text))?);
        rest = rest.get(end + 1..).unwrap_or_default().trim();
    }
    Ok(expressions.into_iter().collect())
}

fn unparsable(text: &str) -> Refusal {
    Refusal::bad_request(format!("unable to parse requirement: {text}"))
}

fn expression(term: &str) -> Option<Expression> {
    if let Some((head, values)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
        let mut words = head.split_whitespace();
        let (key, operator) = (words.next()?.to_owned(), words.next()?);
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match operator {
            "in" => Some(Expression::In(key, values)),
            "notin" => Some(Expression::NotIn(key, values)),
            _ => None,
        };
    }
    let pair = |separator| {
        term.split_once(separator).map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
    };
    if let Some((key, value)) = pair("!=") {
        return Some(Expression::NotEqual(key, value));
    }
    if let Some((key, value)) = pair("==").or_else(|| pair("=")) {
        return Some(Expression::Equal(key, value));
    }
    if term.is_empty() || term.contains(char::is_whitespace) {
        return None;
    }
    Some(match term.strip_prefix('!') {
        Some(key) => Expression::DoesNotExist(key.to_owned()),
        None => Expression::Exists(term.to_owned()),
    })
}
