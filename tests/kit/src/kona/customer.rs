//! The handle by which a test looks at one customer and meddles with it.

use std::sync::Arc;

use super::{Hall, TokenTtls, fields::Fields};
use crate::{
    faults::{Fault, Faults},
    requests::{Counts, Requests, Tally},
};

/// What is kept of the requests about one customer.
pub(super) struct Desk {
    pub(super) id: Arc<str>,
    pub(super) tally: Arc<Tally>,
    pub(super) faults: Faults,
}

impl Desk {
    pub(super) fn new(id: &str) -> Self {
        Self { id: Arc::from(id), tally: Arc::default(), faults: Faults::default() }
    }
}

/// One customer of a server.
#[derive(Clone)]
pub struct Customer {
    hall: Arc<Hall>,
    desk: Arc<Desk>,
}

impl Customer {
    pub(super) fn new(hall: Arc<Hall>, id: &str) -> Self {
        let desk = hall.desk(id);
        Self { hall, desk }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.desk.id
    }

    /// The stored text, as a GET answers it; `None` when there is no such customer.
    #[must_use]
    pub fn json(&self) -> Option<String> {
        self.hall.customers.lock().text(self.id()).map(str::to_owned)
    }

    /// Stores this text, byte for byte.
    ///
    /// # Panics
    /// When the text is no JSON object.
    pub fn put_raw(&self, text: &str) {
        assert!(Fields::parse(text).is_some(), "a customer is a JSON object");
        self.hall.customers.lock().insert(self.id(), text.to_owned());
    }

    /// Deletes the customer.
    pub fn delete(&self) {
        self.hall.customers.lock().remove(self.id());
    }

    /// The raw JSON of one field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        self.hall.customers.lock().field(self.id(), name)
    }

    /// A colleague's change behind the operator's back: sets one field to raw JSON and bumps the version, if any.
    ///
    /// # Panics
    /// When there is no such customer, or the value is no JSON.
    pub fn set_field(&self, name: &str, raw: &str) {
        self.edit(|fields| fields.set(name, raw));
    }

    /// As [`set_field`](Self::set_field), taking the field away.
    ///
    /// # Panics
    /// When there is no such customer.
    pub fn remove_field(&self, name: &str) {
        self.edit(|fields| fields.remove(name));
    }

    fn edit(&self, change: impl FnOnce(&mut Fields)) {
        assert!(self.hall.customers.lock().edit(self.id(), change), "no customer {}", self.id());
    }

    /// The lifetimes set for its users, in seconds: access and refresh, each where it is set.
    #[must_use]
    pub fn token_ttls(&self) -> (Option<u64>, Option<u64>) {
        self.hall.customers.lock().token_ttls(self.id())
    }

    /// The lifetimes its users' new tokens have: what is set, or the server's defaults.
    #[must_use]
    pub fn effective_ttls(&self) -> TokenTtls {
        self.hall.ttls_for(Some(&super::Scope::CustomerUser(self.id().to_owned())))
    }

    /// Adds a fault that strikes requests about this customer.
    pub fn fault(&self, fault: Fault) {
        self.desk.faults.add(fault);
    }

    /// Removes this customer's faults; what already waits goes on waiting.
    pub fn clear_faults(&self) {
        self.desk.faults.clear();
    }

    /// Requests about this customer, by kind; logins are those of its users.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.desk.tally.counts()
    }

    /// Its part of the log and its requests in flight, and ways to wait for requests.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests::of_object(&self.hall.premises.log, &self.desk.tally, &self.desk.id)
    }
}

/// A customer with exactly the fields of the vendor's page and no lifetime set.
pub(super) fn documented(id: &str, title: &str) -> String {
    let title = serde_json::to_string(title).expect("a string");
    format!(
        concat!(
            r#"{{"additionalInfo":null,"address":"Hauptstrasse 1","address2":null,"city":"Berlin","#,
            r#""country":"Germany","createdTime":1700000000123,"customerSubscriptionId":{{"entityType":"#,
            r#""CUSTOMER_SUBSCRIPTION","id":"7c9e6679-7425-40de-944b-e07fc1f90ae7"}},"#,
            r#""customerSubscriptionName":"Standard","customerSubscriptionSince":1700000000456,"#,
            r#""devicesCount":12,"email":"ops@example.net","gatewaysCount":3,"id":{{"entityType":"#,
            r#""CUSTOMER","id":"{id}"}},"name":{title},"phone":"+49 30 123","providerId":{{"entityType":"#,
            r#""PROVIDER","id":"16fd2706-8baf-433b-82eb-8c7fada847da"}},"state":"BE","#,
            r#""subCustomersCount":0,"title":{title},"zip":"10115"}}"#,
        ),
        id = id,
        title = title,
    )
}
