//! What all objects and systems must have come to once nothing happens any more.

use serde_json::Value;

use crate::api::{Api, Kind};
use crate::intent::{Target, governing, is_out_of_scope};
use crate::remote::{Device, State, token_ttls};

/// What is not yet as it must be, in words. `is_awaited`: whether our finalizer is still to be removed from an object that is
/// out of scope. It may have left while no process ran, and no later one sees it.
pub fn unmet(api: &Api, internet: &State, is_awaited: impl Fn(Kind, &Value) -> bool) -> Vec<String> {
    let mut unmet = Vec::new();
    for kind in Kind::OURS {
        for object in api.all(kind) {
            let object = &object.value;
            let mut complain =
                |what: String| unmet.push(format!("{kind:?} {}: {what}", object["metadata"]["name"]));
            if is_out_of_scope(object) {
                if !object["metadata"]["finalizers"].is_null() && is_awaited(kind, object) {
                    complain("is out of scope and has a finalizer of ours".to_owned());
                }
                continue;
            }
            if !object["metadata"]["deletionTimestamp"].is_null() {
                complain("is still being deleted".to_owned());
                continue;
            }
            if let Err(what) = current(object) {
                complain(what);
            }
            let met = match kind {
                Kind::X2Gateway => gateway(api, internet, object),
                Kind::TokenPolicy => policy(object),
                Kind::KonaServer => server(object),
                _ => customer(api, internet, object),
            };
            if let Err(what) = met {
                complain(what);
            }
        }
    }
    unmet
}

/// The status must be about the present generation, and so must each condition.
fn current(object: &Value) -> Result<(), String> {
    let generation = &object["metadata"]["generation"];
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stale = conditions.iter().any(|condition| condition["observedGeneration"] != *generation);
    let present = |kind: &str| conditions.iter().any(|condition| condition["type"] == *kind);
    if object["status"]["observedGeneration"] != *generation
        || stale
        || !(present("Ready") || present("Suspended"))
    {
        return Err("its status is not about its present generation".to_owned());
    }
    if present("Reconciling") && present("Stalled") {
        return Err("it is Reconciling and Stalled at once".to_owned());
    }
    Ok(())
}

/// The reason of an object's condition Ready.
pub fn reason(object: &Value) -> &str {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    ready.and_then(|ready| ready["reason"].as_str()).unwrap_or_default()
}

fn ready(object: &Value, reasons: &[&str]) -> Result<(), String> {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap_or(&Value::Null);
    let as_expected = reasons.iter().any(|reason| ready["reason"] == **reason);
    as_expected
        .then_some(())
        .ok_or_else(|| format!("is {} and not {}: {}", ready["reason"], reasons.join(", "), ready["message"]))
}

fn gateway(api: &Api, internet: &State, gateway: &Value) -> Result<(), String> {
    if gateway["spec"]["suspend"] == true {
        return Ok(());
    }
    let url = gateway["spec"]["url"].as_str().unwrap_or_default();
    let Some(Device::X2(appliance)) = internet.systems.get(url).map(|system| &system.device) else {
        return Err("has no appliance".to_owned());
    };
    let set = appliance.timeout;
    if gateway["status"]["timeoutSeconds"] != set {
        return Err(format!("shows another timeout than {set}: {}", gateway["status"]["timeoutSeconds"]));
    }
    let policy = governing(api, gateway);
    // What was begun stays on record: its tokens may have to be revoked when the policy is resumed.
    if policy.as_ref().is_some_and(|policy| policy.suspended) {
        return ready(gateway, &["InSync", "Drifted"]);
    }
    if !gateway["status"]["pending"].is_null() {
        return Err(format!("has a change pending: {}", gateway["status"]["pending"]));
    }
    let Some(policy) = policy else {
        return ready(gateway, &["Unmanaged", "Observed"]);
    };
    if !policy.target.admits(set) {
        let Target { least, most } = policy.target;
        return Err(format!("its appliance has {set} and not {least}-{most} of policy {}", policy.name));
    }
    if gateway["status"]["policy"] != *policy.name {
        return Err(format!("shows policy {} and not {}", gateway["status"]["policy"], policy.name));
    }
    if gateway["status"]["provenTimeoutSeconds"] != set {
        return Err(format!("has proven {} and not {set}", gateway["status"]["provenTimeoutSeconds"]));
    }
    ready(gateway, &["InSync"])
}

fn policy(policy: &Value) -> Result<(), String> {
    if policy["spec"]["suspend"] == true {
        return Ok(());
    }
    ready(policy, &["InSync", "Overridden", "Observed", "NoGatewaysMatch"])?;
    let (phase, matched) = (&policy["status"]["rollout"]["phase"], &policy["status"]["gateways"]["matched"]);
    // What is still soaking has not come to its end.
    let complete = phase.is_null() || phase == "Complete" || *matched == 0;
    if complete { Ok(()) } else { Err(format!("its rollout is in phase {phase}")) }
}

fn server(server: &Value) -> Result<(), String> {
    if server["spec"]["suspend"] == true {
        return Ok(());
    }
    ready(server, &["InSync"])
}

fn customer(api: &Api, internet: &State, customer: &Value) -> Result<(), String> {
    if customer["spec"]["suspend"] == true {
        return Ok(());
    }
    let namespace = customer["metadata"]["namespace"].as_str().unwrap_or_default();
    let server = customer["spec"]["serverRef"]["name"].as_str().unwrap_or_default();
    let server = api.get(Kind::KonaServer, namespace, server);
    let Some(server) = server.filter(|server| !is_out_of_scope(&server.value)) else {
        return ready(customer, &["ServerNotFound"]);
    };
    if server.value["spec"]["suspend"] == true {
        return Ok(());
    }
    let url = server.value["spec"]["url"].as_str().unwrap_or_default();
    let Some(Device::Kona(remote)) = internet.systems.get(url).map(|system| &system.device) else {
        return Err("has no server".to_owned());
    };
    let id = customer["spec"]["customerId"].as_str().unwrap_or_default();
    let set = remote.customers.get(id).map(token_ttls).unwrap_or_default();
    let desired = (
        customer["spec"]["accessTokenTtlSeconds"].as_u64(),
        customer["spec"]["refreshTokenTtlSeconds"].as_u64(),
    );
    if set != desired {
        return Err(format!("its customer has {set:?} and not {desired:?}"));
    }
    let proven = &customer["status"]["proven"];
    let shows = |name: &str, seconds: Option<u64>| proven[name].as_u64() == seconds;
    let verified = shows("accessTokenTtlSeconds", desired.0) && shows("refreshTokenTtlSeconds", desired.1);
    if !customer["spec"]["verifyCredentialsSecretRef"].is_null() && !verified {
        return Err(format!("has proven {proven} and not {desired:?}"));
    }
    ready(customer, &["InSync"])
}
