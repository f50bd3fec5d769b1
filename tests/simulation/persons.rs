//! What persons do to roles, rivals and rollouts, and how they set it right.

use serde_json::json;

use crate::api::Kind;
use crate::manifest::{self, IN_SCOPE, NAMESPACE, OUT_OF_SCOPE};
use crate::plan::{self, GROUPS};
use crate::remote::{Device, Role};
use crate::world::World;

/// The gateway that has the URL of another.
const RIVAL: &str = "rival";

impl World {
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
