//! Changes that spread over gateways few at a time, canaries first, and no further where too many fail.

mod approval;
mod bounds;
mod canaries;
mod causes;
mod drifts;
mod fleet;
mod guard;
mod survival;
mod trace;

use futures::StreamExt as _;
use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use tenure_kit::faults::Fault;
use tenure_kit::requests::Kind;
use tenure_kit::x2::X2Fleet;

use super::fixture::*;
use trace::Trace;

/// What appliances are set to before anything is done.
const FACTORY: u64 = 86400;

/// Gateways that are called as the appliances are, and the policy `fleet` for all of them.
pub struct World {
    pub f: Fixture,
    pub fleet: X2Fleet,
}

impl World {
    /// Of so many appliances the first `gateways` have resources. The operator is not started yet.
    pub async fn new(name: &str, appliances: usize, gateways: usize) -> Self {
        let world = Self { f: Fixture::new(name).await, fleet: fleet(appliances) };
        world.f.credentials(&world.fleet).await;
        futures::stream::iter(0..gateways).for_each_concurrent(8, |index| world.add(index)).await;
        world
    }

    pub async fn add(&self, index: usize) {
        self.f.apply(&gateway(&self.name(index), &self.fleet.appliance(index))).await;
    }

    pub fn name(&self, index: usize) -> String {
        self.fleet.appliance(index).name().to_owned()
    }

    pub fn names(&self, indices: impl IntoIterator<Item = usize>) -> Vec<String> {
        indices.into_iter().map(|index| self.name(index)).collect()
    }

    /// Applies the policy with this in its spec; 28800 s unless that says something else.
    pub async fn policy(&self, spec: Value) {
        self.f.apply(&policy("fleet", with(json!({"timeoutSeconds": 28800}), spec))).await;
    }

    pub async fn edit(&self, spec: Value) {
        self.f.patch("TokenPolicy", "fleet", json!({"spec": spec})).await;
    }

    pub async fn now(&self) -> DynamicObject {
        self.f.get("TokenPolicy", "fleet").await
    }

    pub async fn until(&self, wanted: impl FnMut(&DynamicObject) -> bool) -> DynamicObject {
        self.f.wait("TokenPolicy", "fleet", wanted).await
    }

    /// Waits until the rollout has got this far, for the present spec.
    pub async fn phase(&self, phase: &str) -> DynamicObject {
        self.until(|p| is_current(p) && rollout(p)["phase"] == phase).await
    }

    /// Waits until the policy's present target is proven everywhere.
    pub async fn complete(&self) -> DynamicObject {
        self.until(|p| is_current(p) && rollout(p)["phase"] == "Complete" && ready(p)["reason"] == "InSync")
            .await
    }

    /// Waits until all of these report that their turn has not come.
    pub async fn waiting(&self, indices: impl IntoIterator<Item = usize>) {
        for index in indices {
            self.f.reason("X2Gateway", &self.name(index), "AwaitingRollout").await;
        }
    }

    /// The gateways under change, by what their statuses say.
    pub async fn pending(&self) -> Vec<String> {
        let gateways = self.f.ns.api("X2Gateway").await.unwrap().list(&ListParams::default()).await.unwrap();
        gateways.items.iter().filter(|g| is_under_way(g)).map(ResourceExt::name_any).collect()
    }

    pub fn trace(&self) -> Trace {
        Trace::of(&self.fleet)
    }

    /// How many have been written to.
    pub fn writes(&self) -> u64 {
        self.fleet.counts().write
    }

    pub async fn arrived(&self, writes: u64) {
        self.fleet.requests().wait_arrived(Kind::Write, writes).await;
    }

    /// From this appliance on, every write is answered like this.
    pub fn refuse(&self, from: usize, fault: &Fault) {
        for appliance in self.fleet.appliances().skip(from) {
            appliance.fault(fault.clone());
        }
    }

    pub fn heal(&self) {
        self.fleet.appliances().for_each(|appliance| appliance.clear_faults());
    }
}

pub fn rollout(policy: &DynamicObject) -> &Value {
    &status(policy)["rollout"]
}

/// What the policy's status says of how it stands with its rollout, without counts.
pub fn is_under_way(gateway: &DynamicObject) -> bool {
    !status(gateway)["pending"].is_null() && ready(gateway)["reason"] == "Progressing"
}

pub fn refused() -> Fault {
    Fault::status(500, "{}").on(Kind::Write)
}

/// Whether a text names these gateways.
pub fn names_all(text: &str, names: &[String]) -> bool {
    names.iter().all(|name| text.contains(name.as_str()))
}
