//! What the operator is set up with: flags, and the variables that stand for them.

use std::process::Command;

use serde_json::json;
use tenure_kit::access::{lease_rules, operator_rules};
use tenure_kit::operator::Operator;

use super::fixture::*;

/// The flags of `tenure run` and their variables, as the program lists them.
fn variables() -> Vec<(String, String)> {
    let help = Command::new(program()).args(["run", "--help"]).env_clear().output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let flags = help.split("\n      --").skip(1).filter_map(|text| {
        let flag = text.split([' ', '[', '\n']).next()?;
        let variable = text.split("[env: ").nth(1)?.split(['=', ']']).next()?;
        Some((format!("--{flag}"), variable.to_owned()))
    });
    flags.collect()
}

#[test]
fn each_flag_has_a_variable_that_sets_it() {
    let variables = variables();
    assert!(variables.len() >= 18, "{variables:?}");
    for (flag, variable) in variables {
        assert_eq!(variable, format!("TENURE_{}", flag[2..].replace('-', "_").to_uppercase()));
        // Names and URLs are any text: another test sets those that are left out here.
        if ["--lease-name", "--lease-namespace", "--selector"].contains(&flag.as_str()) {
            continue;
        }
        let mut command = Command::new(program());
        command.arg("run").env_clear().env(&variable, "a:b c").env("HOME", "/nonexistent");
        let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
        let refused = said.contains(&format!("'{flag}")) || said.contains(flag.trim_start_matches('-'));
        assert!(refused && !said.contains("set KUBECONFIG"), "{variable}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_alone_set_an_operator_up() {
    let fleet = fleet(2);
    let rules = [operator_rules(), lease_rules("berlin")].concat();
    let mut f = Fixture::with_rights("variables", &rules).await;
    f.credentials(&fleet).await;
    f.apply(&gateway("mine", &fleet.appliance(0))).await;
    let elsewhere = json!({"metadata": {"labels": {"site": "paris"}}});
    f.apply(&with(gateway("other", &fleet.appliance(1)), elsewhere)).await;
    let here = json!({"metadata": {"labels": {"site": "berlin"}}});
    f.apply(&with(policy("short", json!({"timeoutSeconds": 3599})), here.clone())).await;
    f.apply(&with(policy("long", json!({"timeoutSeconds": 36001})), here)).await;
    let set = [
        ("LISTEN", "127.0.0.1:0"),
        ("NAMESPACES", f.ns.name()),
        ("SELECTOR", "site=berlin"),
        ("ALLOW_CIDR", "127.0.0.0/8"),
        ("ALLOW_PORTS", "1-65535"),
        ("MIN_TIMEOUT", "3600"),
        ("MAX_TIMEOUT", "36000"),
        ("LOG_FORMAT", "text"),
        ("LOG_LEVEL", "debug"),
        ("LEADER_ELECT", "true"),
        ("LEASE_NAME", "berlin"),
        ("LEASE_NAMESPACE", f.ns.name()),
        ("LEASE_DURATION", "1m"),
        ("LEASE_RENEW_DEADLINE", "40s"),
        ("LEASE_RETRY_PERIOD", "5s"),
    ];
    let set = set.map(|(name, value)| (format!("TENURE_{name}"), value.to_owned()));
    let run = ["run".to_owned()];
    let mut operator = Operator::spawn_exactly(program(), f.kubeconfig(), &run, &set).unwrap();
    operator.wait_for_log("at work", SOON).await.unwrap();
    for name in ["short", "long"] {
        f.reason("TokenPolicy", name, "InvalidSpec").await;
    }
    f.look("X2Gateway", "mine", "checked").await;
    let lease = f.get("Lease", "berlin").await;
    assert!(lease.data["spec"]["holderIdentity"].is_string(), "{lease:?}");
    assert_eq!(lease.data["spec"]["leaseDurationSeconds"], 60);
    assert_eq!(status(&f.get("X2Gateway", "other").await)["observedGeneration"], -1);
    let log = operator.log();
    assert!(log.contains("listen=127.0.0.1:"), "{log}");
    assert!(!log.contains('{'), "as text: {log}");
    assert!(log.contains(" INFO "), "{log}");
    assert!(operator.terminate(SOON).await.unwrap().success(), "{}", operator.log());
    f.retire(&operator);

    // Flags come before variables, and what is not a terminal gets JSON.
    let flags = ["run", "--lease-name", "tenure", "--leader-elect=false"].map(str::to_owned);
    let rest: Vec<_> = set.into_iter().filter(|(name, _)| name != "TENURE_LOG_FORMAT").collect();
    let mut operator = Operator::spawn_exactly(program(), f.kubeconfig(), &flags, &rest).unwrap();
    operator.wait_for_log("\"at work\"", SOON).await.unwrap();
    assert!(operator.log().lines().all(|line| line.starts_with('{')), "{}", operator.log());
    assert!(f.ns.get("Lease", "tenure").await.is_err());
    assert!(operator.terminate(SOON).await.unwrap().success(), "{}", operator.log());
    f.retire(&operator);
    f.finish().await;
}

/// A password goes to an unusual port only if its Secret or the operator lists that.
#[tokio::test(flavor = "multi_thread")]
async fn what_listens_at_another_port_is_asked_only_if_that_is_listed() {
    let fleet = fleet(1);
    let untouched = fleet.counts();
    let mut f = Fixture::new("ports").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2", &fleet.appliance(0))).await;
    let namespace = f.ns.name().to_owned();
    let arguments =
        ["run", "--listen", "127.0.0.1:0", "--allow-cidr", "127.0.0.0/8", "--namespaces", &namespace];
    let mut operator =
        Operator::spawn_exactly(program(), f.kubeconfig(), &arguments.map(str::to_owned), &[]).unwrap();
    let refused = f.reason("X2Gateway", "x2", "AddressRefused").await;
    let (port, message) = (fleet.appliance(0).port(), ready(&refused)["message"].as_str().unwrap());
    assert!(message.contains(&port.to_string()) && message.contains("Secret x2-admin"), "{message}");
    assert_eq!(fleet.counts(), untouched);

    // Its Secret is read again without a request.
    let origins = format!("https://127.0.0.0/8:{port}, tls=configmap/x2-ca");
    let annotations = json!({"metadata": {"annotations": {"tenure.dev/allowed-origins": origins}}});
    f.patch("Secret", "x2-admin", annotations).await;
    f.reason("X2Gateway", "x2", "Unmanaged").await;
    assert!(operator.terminate(SOON).await.unwrap().success(), "{}", operator.log());
    f.retire(&operator);

    let before = fleet.counts();
    f.start_with(&["--allow-ports", "443,8000-8099"]).await;
    f.request("X2Gateway", "x2", "now").await;
    let refused = f.reason("X2Gateway", "x2", "AddressRefused").await;
    assert!(ready(&refused)["message"].as_str().unwrap().contains("--allow-ports"), "{refused:?}");
    assert_eq!(fleet.counts(), before);
    f.finish().await;
}
