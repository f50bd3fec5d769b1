//! What the API server does with a structural schema: prunes, defaults and validates. CEL rules are the harness's to add.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// One node of a CRD's `openAPIV3Schema`.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    kind: String,
    int_or_string: bool,
    keeps_unknown: bool,
    default: Option<Value>,
    required: Vec<String>,
    allowed: Vec<Value>,
    least: Option<f64>,
    most: Option<f64>,
    shortest: Option<usize>,
    longest: Option<usize>,
    properties: BTreeMap<String, Schema>,
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
}

impl Schema {
    /// The schemas of our CRDs, by plural.
    pub fn of_crds() -> BTreeMap<String, Self> {
        let manifests = tenure::crd::manifests().expect("the CRDs are printed");
        let schema = |(_, yaml): &(String, String)| {
            let crd: Value = serde_saphyr::from_str(yaml).expect("a CRD is YAML");
            let plural = crd["spec"]["names"]["plural"].as_str().expect("a CRD has a plural").to_owned();
            (plural, Self::of(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
        };
        manifests.iter().map(schema).collect()
    }

    fn of(node: &Value) -> Self {
        let size = |names: [&str; 2]| {
            names.iter().find_map(|name| node[*name].as_u64()).and_then(|size| usize::try_from(size).ok())
        };
        let child =
            |name: &str| node.get(name).filter(|node| node.is_object()).map(|node| Box::new(Self::of(node)));
        let texts = node["required"].as_array().into_iter().flatten();
        let properties = node["properties"].as_object().into_iter().flatten();
        Self {
            kind: node["type"].as_str().unwrap_or_default().to_owned(),
            int_or_string: node["x-kubernetes-int-or-string"] == true,
            keeps_unknown: node["x-kubernetes-preserve-unknown-fields"] == true,
            default: node.get("default").cloned(),
            required: texts.filter_map(Value::as_str).map(str::to_owned).collect(),
            allowed: node["enum"].as_array().cloned().unwrap_or_default(),
            least: node["minimum"].as_f64(),
            most: node["maximum"].as_f64(),
            shortest: size(["minLength", "minItems"]),
            longest: size(["maxLength", "maxItems"]),
            properties: properties.map(|(name, node)| (name.clone(), Self::of(node))).collect(),
            additional: child("additionalProperties"),
            items: child("items"),
        }
    }

    /// Removes what the schema does not know and adds what it sets by default. Of a whole object, metadata stays as it is, and so
    /// does what has not changed.
    pub fn complete(&self, object: &mut Value, old: Option<&Value>) {
        let Some(fields) = object.as_object_mut() else { return };
        fields.retain(|name, _| {
            matches!(name.as_str(), "apiVersion" | "kind" | "metadata") || self.properties.contains_key(name)
        });
        for (name, schema) in &self.properties {
            let known = old.and_then(|old| old.get(name));
            if known.is_none() || fields.get(name) != known {
                schema.complete_field(name, fields);
            }
        }
    }

    fn complete_fields(&self, fields: &mut Map<String, Value>) {
        self.properties.iter().for_each(|(name, schema)| schema.complete_field(name, fields));
    }

    fn complete_field(&self, name: &str, fields: &mut Map<String, Value>) {
        if let Some(default) = &self.default
            && fields.get(name).is_none_or(Value::is_null)
        {
            fields.insert(name.to_owned(), default.clone());
        }
        if let Some(value) = fields.get_mut(name) {
            self.complete_value(value);
        }
    }

    fn complete_value(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if let Some(schema) = &self.additional {
                    fields.values_mut().for_each(|value| schema.complete_value(value));
                } else if !self.keeps_unknown && self.kind == "object" {
                    fields.retain(|name, _| self.properties.contains_key(name));
                }
                self.complete_fields(fields);
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|value| schema.complete_value(value));
                }
            }
            _ => {}
        }
    }

    /// What is wrong with an object, if anything is. Metadata is not looked at, and what has not changed passes, so that a status
    /// can be written even if the spec does not fit any more ("ratcheting").
    pub fn fault(&self, object: &Value, old: Option<&Value>) -> Option<String> {
        let missing = self.required.iter().find(|name| object.get(name).is_none());
        let changed =
            |name: &str| object.get(name).filter(|value| old.and_then(|old| old.get(name)) != Some(value));
        missing.map(|name| format!("{name}: Required value")).or_else(|| {
            self.properties.iter().find_map(|(name, schema)| schema.fault_at(name, changed(name)?))
        })
    }

    fn fault_at(&self, path: &str, value: &Value) -> Option<String> {
        let fits = match value {
            Value::Null => false,
            Value::Bool(_) => self.kind == "boolean",
            Value::Number(number) => {
                let whole = number.is_i64() || number.is_u64();
                self.kind == "number" || (whole && (self.int_or_string || self.kind == "integer"))
            }
            Value::String(_) => self.int_or_string || self.kind == "string",
            Value::Array(_) => self.kind == "array",
            Value::Object(_) => self.kind == "object",
        };
        if !fits && !self.keeps_unknown {
            return Some(format!("{path}: Invalid value: must be of type {}", self.kind));
        }
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            return Some(format!("{path}: Unsupported value: {value}"));
        }
        if self.is_out_of_bounds(value) {
            return Some(format!("{path}: Invalid value: out of bounds"));
        }
        match value {
            Value::Object(fields) => {
                let missing = self.required.iter().find(|name| !fields.contains_key(*name));
                missing.map(|name| format!("{path}.{name}: Required value")).or_else(|| {
                    fields.iter().find_map(|(name, value)| {
                        let schema = self.properties.get(name).or(self.additional.as_deref())?;
                        schema.fault_at(&format!("{path}.{name}"), value)
                    })
                })
            }
            Value::Array(items) => {
                let schema = self.items.as_deref()?;
                items
                    .iter()
                    .enumerate()
                    .find_map(|(at, value)| schema.fault_at(&format!("{path}[{at}]"), value))
            }
            _ => None,
        }
    }

    fn is_out_of_bounds(&self, value: &Value) -> bool {
        let size = match value {
            Value::String(text) => Some(text.chars().count()),
            Value::Array(items) => Some(items.len()),
            _ => None,
        };
        let number = value.as_f64();
        number.is_some_and(|n| {
            self.least.is_some_and(|least| n < least) || self.most.is_some_and(|most| n > most)
        }) || size.is_some_and(|n| {
            self.shortest.is_some_and(|shortest| n < shortest)
                || self.longest.is_some_and(|longest| n > longest)
        })
    }
}
