//! An attack by objects that are deleted: nothing of them stays.

use std::time::Duration;

use serde_json::{Value, json};
use tenure_kit::kona::{DEFAULT_TTLS, KonaOptions, KonaServer};
use tenure_kit::server::Reception;
use tenure_kit::x2::{Appliance, FACTORY_TIMEOUT, X2Fleet};

use super::super::fixture::{SOON, customer, fleet, gateway, kona_server, policy, ready, with};
use super::super::hostile::{Hostile, reference};
use super::super::world::{World, customer_id};

/// Gateways that are restored.
const RESTORED: usize = 100;
/// Gateways that have a Secret each, which is deleted with them.
const BRIEF: usize = 50;
/// Gateways that wait to be restored, since their appliances do not answer anymore.
const SILENT: usize = 30;
/// Customers that are restored, and as many that are left as they are, whose server is deleted with them.
const CUSTOMERS: usize = 20;
const STORM: Duration = Duration::from_mins(1);

/// Creates and deletes objects all the time, and waits until all are gone whose deletion does not have to wait.
pub async fn deletions(world: &World, hostile: &Hostile) {
    let fleet = fleet(RESTORED + BRIEF + SILENT);
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    hostile.credentials(&fleet).await;
    hostile.config_map("kona-ca", &kona.ca_pem().unwrap()).await;
    let server = server("kona", &kona);
    hostile.apply(server.clone()).await;
    let waiting = waiting(hostile, &fleet).await;
    let objects = objects(&fleet, &kona);
    hostile.storm(&objects, STORM).await;
    hostile.are_gone(&objects).await;
    // The allocator keeps what it once had, and a second storm finds room there.
    let before = world.memory();
    hostile.storm(&objects, STORM).await;
    hostile.are_gone(&objects).await;
    assert!(fleet.counts().write > 2 * fleet.len() as u64, "hardly anything was changed");
    assert!(fleet.appliances().take(RESTORED).all(|appliance| appliance.timeout() == FACTORY_TIMEOUT));
    for number in 0..CUSTOMERS {
        assert_eq!(kona.customer(&customer_id(number)).effective_ttls(), DEFAULT_TTLS);
    }
    give_up(hostile, &waiting).await;
    hostile.delete_all(&[server]).await;
    for appliance in fleet.appliances().take(RESTORED + BRIEF) {
        appliance.requests().wait_until(|requests| requests.open_connections() == 0).await;
    }
    world.has_forgotten(hostile.ns.name(), before).await;
}

/// Gateways that were changed and are being deleted, with their policy. Their appliances are silent.
async fn waiting(hostile: &Hostile, fleet: &X2Fleet) -> Vec<Value> {
    let appliances: Vec<_> = fleet.appliances().skip(RESTORED + BRIEF).collect();
    let mut objects: Vec<_> = appliances.iter().map(|appliance| in_group("silent", appliance)).collect();
    objects.push(restoring("silent"));
    hostile.apply_all(objects.clone()).await;
    let in_sync = hostile.ns.wait_for("TokenPolicy", "silent", SOON, |p| ready(p)["reason"] == "InSync");
    in_sync.await.unwrap();
    appliances.iter().for_each(|appliance| appliance.set_reception(Reception::Silent));
    hostile.delete_all(&objects).await;
    objects
}

/// They are still there, and go without being restored.
async fn give_up(hostile: &Hostile, waiting: &[Value]) {
    for object in waiting {
        let (kind, name) = reference(object);
        let object = hostile.ns.get(&kind, &name).await.unwrap();
        assert!(object.metadata.deletion_timestamp.is_some(), "{kind} {name}");
        let skip = json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "true"}}});
        hostile.patch(&kind, &name, [skip]).await;
    }
    hostile.are_gone(waiting).await;
}

/// What is created and deleted.
fn objects(fleet: &X2Fleet, kona: &KonaServer) -> Vec<Value> {
    let mut objects = vec![restoring("restored"), server("brief", kona)];
    objects.extend(fleet.appliances().take(RESTORED).map(|appliance| in_group("restored", &appliance)));
    for appliance in fleet.appliances().skip(RESTORED).take(BRIEF) {
        let login = json!({"username": "admin", "password": "x2-admin-password"});
        let name = appliance.name();
        objects.push(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": login}),
        );
        let its_own = json!({"spec": {"credentialsSecretRef": {"name": name}}});
        objects.push(with(in_group("brief", &appliance), its_own));
    }
    for number in 0..2 * CUSTOMERS {
        let id = customer_id(number);
        kona.add_customer(&id, "Customer");
        let (server, restores) = if number < CUSTOMERS { ("kona", "Restore") } else { ("brief", "Retain") };
        let spec = json!({"spec": {"serverRef": {"name": server}, "deletionPolicy": restores}});
        objects.push(with(customer(&format!("customer-{number}"), &id, 3600, 86_400), spec));
    }
    objects
}

fn in_group(group: &str, appliance: &Appliance) -> Value {
    with(gateway(appliance.name(), appliance), json!({"metadata": {"labels": {"group": group}}}))
}

fn restoring(group: &str) -> Value {
    let selector = json!({"matchLabels": {"group": group}});
    let spec = json!({"timeoutSeconds": 28_800, "deletionPolicy": "Restore", "gatewaySelector": selector});
    policy(group, spec)
}

fn server(name: &str, kona: &KonaServer) -> Value {
    with(kona_server(name, &kona.url()), json!({"spec": {"limits": {"requestsPerSecond": 200}}}))
}
