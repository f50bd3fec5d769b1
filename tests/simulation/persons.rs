//! What persons do to roles, rivals and rollouts, and how they set it right.

use serde_json::json;

use crate::api::Kind;
use crate::manifest::{self, IN_SCOPE, NAMESPACE, OUT_OF_SCOPE};
use crate::plan::{self, GROUPS};
use crate::remote::{Device, Effect, Mood, Role, Server, System};
use crate::world::World;

/// The gateway that has the URL of another.
const RIVAL: &str = "rival";

impl World {
    /// A server gets the URL of another one, which has the same customers and users.
    pub fn move_server(&mut self) {
        let url = plan::server_url(self.internet_now().systems.len());
        let Some(name) = self.pick(Kind::KonaServer) else { return };
        let Some(object) = self.api.get(Kind::KonaServer, NAMESPACE, &name) else { return };
        let before = object.value["spec"]["url"].as_str().unwrap_or_default().to_owned();
        let make = plan::make(&mut self.rng);
        let mut server = Server::new(make);
        let ids: Vec<String> = match self.internet_now().systems.get(&before).map(|system| &system.device) {
            Some(Device::Kona(old)) => old.customers.keys().cloned().collect(),
            _ => return,
        };
        for (number, id) in ids.iter().enumerate() {
            server.customers.insert(id.clone(), plan::found(id, number, make, &mut self.rng));
        }
        let (now, customers) = (self.now, server.customers.clone());
        let system = System { device: Device::Kona(server), mood: Mood::Well };
        self.internet_now().systems.insert(url.clone(), system);
        for (id, customer) in customers {
            // What is there is nothing that the operator has set.
            let (before, after) = (customer.text(), customer.text());
            self.internet_now().foreign(&url, now, |_| Effect::Customer { id, before, after });
        }
        self.merge(Kind::KonaServer, &name, json!({"spec": {"url": url}}));
        self.secrets.clone().iter().for_each(|(name, password)| self.let_in(name, password));
    }

    /// The operator's user loses its role at a system, or gets it back.
    pub fn demote(&mut self) {
        let Some(url) = self.system() else { return };
        let role = if self.rng.bool() { Role::Viewer } else { Role::Admin };
        self.note(format!("the user at {url} is {}", role.as_str()));
        if let Some(system) = self.internet_now().systems.get_mut(&url) {
            match &mut system.device {
                Device::X2(appliance) => appliance.accounts.assign(plan::USER, role),
                Device::Kona(server) => server.accounts.assign(plan::USER, role),
            }
        }
    }

    /// A second gateway gets the URL of another, or goes again.
    pub fn clash(&mut self) {
        if self.api.get(Kind::X2Gateway, NAMESPACE, RIVAL).is_some() {
            self.note("the rival is deleted");
            let _ = self.api.delete(Kind::X2Gateway, NAMESPACE, RIVAL);
            return;
        }
        let Some(name) = self.pick(Kind::X2Gateway) else { return };
        let Some(gateway) = self.api.get(Kind::X2Gateway, NAMESPACE, &name) else { return };
        let spec = &gateway.value["spec"];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (url, secret) = (text(&spec["url"]), text(&spec["credentialsSecretRef"]["name"]));
        let group = GROUPS[self.rng.usize(0..3)];
        self.note(format!("a rival of {name} in group {group}"));
        let _ = self.api.create(manifest::gateway(RIVAL, &url, &secret, group));
    }

    /// An object leaves what the operator sees, or comes back.
    pub fn leave(&mut self) {
        let kind = Kind::OURS[self.rng.usize(0..4)];
        let Some(name) = self.pick(kind) else { return };
        let scope = if self.rng.bool() { OUT_OF_SCOPE } else { IN_SCOPE };
        self.merge(kind, &name, json!({"metadata": {"labels": {"scope": scope}}}));
    }

    /// The lifetimes of a customer are proven by a user of it, or not.
    pub fn verify(&mut self) {
        let Some(name) = self.pick(Kind::CustomerTokenTtl) else { return };
        let reference = self.rng.bool().then(|| json!({"name": plan::user_secret(&name)}));
        self.merge(Kind::CustomerTokenTtl, &name, json!({"spec": {"verifyCredentialsSecretRef": reference}}));
    }

    /// A person approves what a policy's rollout waits for, or something else.
    pub fn approve(&mut self) {
        let Some(name) = self.pick(Kind::TokenPolicy) else { return };
        let Some(policy) = self.api.get(Kind::TokenPolicy, NAMESPACE, &name) else { return };
        let hash = policy.value["status"]["rollout"]["targetHash"].as_str().unwrap_or("none").to_owned();
        self.merge(
            Kind::TokenPolicy,
            &name,
            json!({"metadata": {"annotations": {"tenure.dev/approve": hash}}}),
        );
    }

    /// Everything that waits for a person is approved, and no resource has a rival any more.
    pub fn resolve(&mut self) {
        let _ = self.api.delete(Kind::X2Gateway, NAMESPACE, RIVAL);
        for policy in self.api.all(Kind::TokenPolicy) {
            let rollout = &policy.value["status"]["rollout"];
            let (name, hash) = (policy.text("name").unwrap_or_default(), &rollout["targetHash"]);
            let approved = &policy.value["metadata"]["annotations"]["tenure.dev/approve"];
            if rollout["phase"] == "AwaitingApproval" && approved != hash {
                let name = name.to_owned();
                self.merge(
                    Kind::TokenPolicy,
                    &name,
                    json!({"metadata": {"annotations": {"tenure.dev/approve": hash}}}),
                );
            }
        }
    }
}
