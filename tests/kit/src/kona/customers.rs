//! The customers of a simulated server: how they are stored, replaced and created.

use std::collections::BTreeMap;

use super::{
    answers::{self, Failure},
    fields::{Fields, looks_like_markup, token_ttls},
};
use crate::server::Reply;

/// The largest `additionalInfo` the server takes.
const INFO_LIMIT: usize = 100_000;

/// The fields of a customer on the vendor's page.
const DOCUMENTED: [&str; 20] = [
    "additionalInfo",
    "address",
    "address2",
    "city",
    "country",
    "createdTime",
    "customerSubscriptionId",
    "customerSubscriptionName",
    "customerSubscriptionSince",
    "devicesCount",
    "email",
    "gatewaysCount",
    "id",
    "name",
    "phone",
    "providerId",
    "state",
    "subCustomersCount",
    "title",
    "zip",
];

/// How a GET shows an `additionalInfo` that is stored as an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InfoForm {
    /// As it was stored.
    #[default]
    AsStored,
    /// As a string that holds the object, as the vendor's page documents the answer.
    AsString,
}

/// All customers, by id; each is the text a GET answers.
pub(super) struct Customers {
    texts: BTreeMap<String, String>,
    created: Vec<String>,
    pub(super) info_form: InfoForm,
}

impl Customers {
    pub(super) const fn new(info_form: InfoForm) -> Self {
        Self { texts: BTreeMap::new(), created: Vec::new(), info_form }
    }

    /// The stored text.
    pub(super) fn text(&self, id: &str) -> Option<&str> {
        self.texts.get(id).map(String::as_str)
    }

    pub(super) fn insert(&mut self, id: &str, text: String) {
        self.texts.insert(id.to_owned(), text);
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.texts.remove(id);
    }

    /// Ids of customers made by bodies without an id.
    pub(super) fn created(&self) -> &[String] {
        &self.created
    }

    fn fields(&self, id: &str) -> Option<Fields> {
        Fields::parse(self.text(id)?)
    }

    /// The raw value of one stored field.
    pub(super) fn field(&self, id: &str, name: &str) -> Option<String> {
        self.fields(id)?.get(name).map(str::to_owned)
    }

    /// The lifetimes set for this customer's users.
    pub(super) fn token_ttls(&self, id: &str) -> (Option<u64>, Option<u64>) {
        token_ttls(self.field(id, "additionalInfo").as_deref())
    }

    /// A change behind the operator's back; bumps the version where there is one.
    pub(super) fn edit(&mut self, id: &str, change: impl FnOnce(&mut Fields)) -> bool {
        let Some(mut fields) = self.fields(id) else { return false };
        change(&mut fields);
        if let Some(version) = version_of(&fields) {
            fields.set("version", &(version + 1).to_string());
        }
        self.insert(id, fields.text());
        true
    }

    /// The answer to a GET.
    pub(super) fn show(&self, id: &str) -> Reply {
        if !is_uuid(id) {
            return answers::failure(Failure::BadRequest, "Invalid UUID string");
        }
        let Some(text) = self.text(id) else {
            return answers::not_found();
        };
        Reply::json(200, self.in_form(text).unwrap_or_else(|| text.to_owned()))
    }

    fn in_form(&self, text: &str) -> Option<String> {
        if self.info_form == InfoForm::AsStored {
            return None;
        }
        let mut fields = Fields::parse(text)?;
        let info = fields.get("additionalInfo").filter(|info| info.starts_with('{'))?;
        let quoted = serde_json::to_string(info).ok()?;
        fields.set("additionalInfo", &quoted);
        Some(fields.text())
    }

    /// The answer to a POST: replaces the whole object, or creates one.
    pub(super) fn save(&mut self, body: &str) -> Reply {
        let Some(sent) = Fields::parse(body) else {
            return answers::failure(Failure::BadRequest, "Malformed JSON");
        };
        let info = sent.get("additionalInfo").unwrap_or("null");
        if info.len() > INFO_LIMIT || looks_like_markup(info) {
            return answers::failure(Failure::BadRequest, "Validation error: additionalInfo is malformed");
        }
        match sent.present("id").map(customer_id) {
            None => self.create(sent),
            Some(None) => answers::failure(Failure::BadRequest, "Invalid customer id"),
            Some(Some(id)) => self.replace(&id, sent),
        }
    }

    fn create(&mut self, mut fields: Fields) -> Reply {
        let id = format!("00000000-0000-4000-8000-{:012}", self.created.len() + 1);
        fields.set("id", &format!(r#"{{"entityType":"CUSTOMER","id":"{id}"}}"#));
        let text = fields.text();
        self.insert(&id, text.clone());
        self.created.push(id);
        Reply::json(200, text)
    }

    /// What the body leaves out becomes null. The answer is the body with its new version, not what a GET shows.
    fn replace(&mut self, id: &str, mut sent: Fields) -> Reply {
        let Some(stored) = self.fields(id) else {
            return answers::not_found();
        };
        if let Some(version) = version_of(&stored) {
            let current = version.to_string();
            if sent.present("version").is_some_and(|theirs| theirs != current) {
                return answers::failure(
                    Failure::StaleVersion,
                    "Customer was already changed by someone else",
                );
            }
            sent.set("version", &(version + 1).to_string());
        }
        let echo = sent.text();
        let known = stored.names().chain(DOCUMENTED);
        let missing: Vec<_> = known.filter(|name| sent.get(name).is_none()).map(str::to_owned).collect();
        for name in missing {
            sent.set(&name, "null");
        }
        self.insert(id, sent.text());
        Reply::json(200, echo)
    }
}

fn version_of(fields: &Fields) -> Option<u64> {
    fields.get("version")?.parse().ok()
}

/// The id in `{"entityType":"CUSTOMER","id":"…"}`.
fn customer_id(raw: &str) -> Option<String> {
    let id = Fields::parse(raw)?;
    let text = |name| serde_json::from_str::<String>(id.get(name)?).ok();
    (text("entityType")? == "CUSTOMER").then(|| text("id")).flatten().filter(|id| is_uuid(id))
}

pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
