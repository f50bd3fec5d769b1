//! What the controllers report, recorded for the tools that judge it: `tests/gitops` asks kstatus and Argo CD's Lua.

use std::path::Path;

use serde_json::{Value, json};
use tenure::crd::{CustomerTokenTtl, KonaServer, TokenPolicy, X2Gateway};
use tenure::engine::verdict::{Notes, Reason, Verdict};
use tenure::runtime::object::Reported;
use tenure::runtime::status::{set_suspended, set_verdict};

const FILE: &str = "tests/gitops/testdata/objects.json";

/// Every reason of a kind, alone and with all notes beside it; and suspended, from how it stood before.
fn objects<K: Reported>(spec: &Value) -> Vec<Value> {
    let none = Notes::default();
    let all = Notes {
        insecure: Some("The certificate is not verified.".to_owned()),
        risky: Some("Many people would be logged out.".to_owned()),
    };
    let mut lines: Vec<Value> = Vec::new();
    for (case, notes) in [("alone", &none), ("noted", &all)] {
        lines.extend(Reason::ALL.iter().map(|&reason| {
            line::<K>(case, spec, reason.as_str(), |status, object| {
                set_verdict(status, object, &verdict(reason), notes);
            })
        }));
    }
    let before = [None, Some(Reason::InSync), Some(Reason::Unreachable), Some(Reason::AuthenticationFailed)];
    let mut paused = spec.clone();
    paused["suspend"] = json!(true);
    lines.extend(before.into_iter().map(|before| {
        line::<K>("suspended", &paused, before.map_or("", Reason::as_str), |status, object| {
            if let Some(reason) = before {
                set_verdict(status, object, &verdict(reason), &none);
            }
            set_suspended(status, object, "spec.suspend is true: nothing is read or changed.");
        })
    }));
    lines
}

fn verdict(reason: Reason) -> Verdict {
    Verdict::new(reason, format!("What {} says.", reason.as_str()))
}

/// An object as its manifest and the report make it. Only the times are not the report's: they would be new every time.
fn line<K: Reported>(
    case: &str,
    spec: &Value,
    reason: &str,
    report: impl FnOnce(&mut K::Status, &K),
) -> Value {
    let mut object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": {"name": "example", "namespace": "tenure", "generation": 3}, "spec": spec,
    });
    let mut status = K::Status::default();
    report(&mut status, &serde_json::from_value(object.clone()).unwrap());
    let mut status = serde_json::to_value(status).unwrap();
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"] = json!("2026-11-22T10:00:00Z");
    }
    object["status"] = status;
    json!({"case": case, "reason": reason, "object": object})
}

#[test]
fn the_objects_that_gitops_tools_judge_are_what_the_code_reports() {
    let connection = json!({"url": "https://10.20.0.11", "credentialsSecretRef": {"name": "admin"}});
    let customer = json!({
        "serverRef": {"name": "kona-eu"}, "customerId": "1d2b7a10-4f1e-11ee-be56-0242ac120002",
        "accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400,
    });
    let lines = [
        objects::<X2Gateway>(&connection),
        objects::<TokenPolicy>(&json!({"gatewaySelector": {}, "timeoutSeconds": 28800})),
        objects::<KonaServer>(&connection),
        objects::<CustomerTokenTtl>(&customer),
    ];
    let lines: Vec<String> = lines.concat().iter().map(Value::to_string).collect();
    let fresh = format!("[\n{}\n]\n", lines.join(",\n"));
    let committed =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap_or_default();
    if fresh != committed {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("objects.json");
        std::fs::write(&path, fresh).unwrap();
        panic!("{FILE} is out of date: replace it by {}", path.display());
    }
}
