//! A second namespace, with one gateway and its policy: it is deleted and comes back, and at times the operator does not see it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Kind;
use crate::manifest::{self, NAMESPACE};
use crate::plan;
use crate::replica::Replica;
use crate::world::World;

/// Its name.
pub const DEPOT: &str = "depot";
const URL: &str = "https://10.0.2.1";
/// Name of its Secret, which no other has.
const SECRET: &str = "depot";
/// What the namespace controller leaves to others before it deletes what is in a namespace.
const NOTICE: Duration = Duration::from_secs(5);

/// What has happened to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depot {
    /// When its deletion has begun, until it is gone.
    ends: Option<Duration>,
    /// Whether the operator is started with `--namespaces`.
    listed: bool,
}

impl Depot {
    /// Whether its deletion has taken longer than that.
    pub fn has_hung(&self, now: Duration, patience: Duration) -> bool {
        self.ends.is_some_and(|ends| now > ends + patience)
    }
}

fn placed(mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(DEPOT);
    object
}

impl World {
    /// Makes the namespace, what is in it, and its appliance.
    pub fn lay_out_depot(&mut self) {
        let password = plan::password(&mut self.rng);
        self.oracles.planted.push(password.clone());
        self.secrets.insert(SECRET.to_owned(), password.clone());
        self.add_appliance(URL, &password);
        self.create_depot();
        self.depot.listed = self.rng.bool();
        if self.depot.listed {
            self.outside.namespaces = vec![NAMESPACE, DEPOT];
        }
    }

    fn create_depot(&mut self) {
        let password = self.secrets[SECRET].clone();
        let mut spec = plan::target(&mut self.rng);
        spec.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        spec["interval"] = json!(plan::interval(self.knobs.shape, &mut self.rng));
        spec["deletionPolicy"] = json!("Restore");
        self.note("namespace depot is created");
        self.create(manifest::namespace(DEPOT));
        self.create(placed(manifest::secret(SECRET, plan::USER, &password)));
        self.create(placed(manifest::gateway("gw", URL, SECRET, "a")));
        self.create(placed(manifest::policy("depot", "a", &spec)));
        // Its user may have lost its role while there was no gateway.
        self.let_in(SECRET, &password);
    }

    /// The namespace is deleted, or comes back.
    pub fn end_depot(&mut self) {
        if self.api.get(Kind::Namespace, "", DEPOT).is_none() {
            self.create_depot();
        } else if self.depot.ends.is_none() {
            self.note("namespace depot is deleted");
            let _ = self.api.delete(Kind::Namespace, "", DEPOT);
            self.depot.ends = Some(self.now);
        }
    }

    /// It comes back, if it is to be there.
    pub fn bring_back_depot(&mut self) {
        if self.knobs.namespaces && self.api.get(Kind::Namespace, "", DEPOT).is_none() {
            self.create_depot();
        }
    }

    /// The policy has another target.
    pub fn edit_depot(&mut self) {
        let target = plan::target(&mut self.rng);
        self.note(format!("TokenPolicy depot: {target}"));
        let _ = self.api.merge(Kind::TokenPolicy, DEPOT, "depot", json!({"spec": target}));
    }

    /// Processes that start from now on see it, or not; those that run are asked to end.
    pub fn list_namespaces(&mut self, all: bool) {
        if !self.depot.listed || all == (self.outside.namespaces.len() == 2) {
            return;
        }
        self.outside.namespaces = if all { vec![NAMESPACE, DEPOT] } else { vec![NAMESPACE] };
        self.note(format!("--namespaces {}", self.outside.namespaces.join(",")));
        self.places.iter_mut().filter_map(|place| place.process.as_mut()).for_each(Replica::end);
    }

    /// The namespace controller works on.
    pub fn step_namespaces(&mut self) {
        if self.depot.has_hung(self.now, NOTICE) && !self.api.step_namespaces() {
            self.note("namespace depot is gone");
            self.depot.ends = None;
        }
    }
}
