//! The API server takes what it is told, and the answer is lost.

use tenure_kit::faults::{Fault, Gate};
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::requests::Kind;

use super::fixture::*;

/// Lets the API server take the report of the change that is held up behind the gate, without an answer, and then asks
/// for another look. Returns how many changes are recorded.
async fn recorded(
    mut f: Fixture,
    kind: &str,
    name: &str,
    gate: &Gate,
    arrived: impl AsyncFnOnce(&Fixture),
) -> usize {
    let relay = f.relay().await;
    f.start().await;
    arrived(&f).await;
    relay.mute();
    gate.open();
    f.wait(kind, name, |object| status(object)["history"].is_array()).await;
    relay.down();
    f.operator().wait_for_log("the API server did not accept a status", SOON).await.unwrap();
    relay.mend();
    let object = f.look(kind, name, "again").await;
    let count = status(&object)["history"].as_array().unwrap().len();
    f.finish().await;
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_change_is_recorded_once() {
    let fleet = fleet(1);
    let gate = Gate::new();
    // The proof of the change comes after it.
    fleet.appliance(0).fault(Fault::gate(&gate).on(Kind::Login).skip(1));
    let f = Fixture::new("unheard").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", serde_json::json!({"timeoutSeconds": 28800}))).await;
    let appliance = fleet.appliance(0);
    let arrived = async |_: &Fixture| appliance.requests().wait_arrived(Kind::Login, 2).await;
    assert_eq!(recorded(f, "X2Gateway", "x2-1", &gate, arrived).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_change_is_recorded_once() {
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    let acme = kona.add_customer("1d2b7a10-0000-4000-8000-000000000001", "Acme");
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Get).skip(1));
    let f = Fixture::new("unheard").await;
    f.kona(&kona).await;
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    let arrived = async |f: &Fixture| {
        acme.requests().wait_arrived(Kind::Get, 2).await;
        // A write in the middle would take its connection along, and no other opens.
        f.wait("KonaServer", "kona", |server| {
            ready(server)["reason"] == "InSync" && status(server)["customers"]["pending"] == 1
        })
        .await;
    };
    assert_eq!(recorded(f, "CustomerTokenTtl", "acme", &gate, arrived).await, 1);
}
