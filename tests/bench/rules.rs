//! `cargo bench --bench rules`: how long the rules compute at a time, with fleets of several sizes.
//!
//! It prints figures and judges none.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "test equipment")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tenure::crd::{TokenPolicy, X2Gateway};
use tenure::engine::governance::{Policies, Policy};
use tenure::engine::key::Key;
use tenure::engine::lifetime::Bounds;
use tenure::engine::ownership::{ClaimId, Claimed, Table, Trial};
use tenure::engine::policy::{Fleet, Hold, Report};
use tenure::engine::rollout::Machine;
use tenure::engine::system::Via;

/// Each figure is the median of this many tries.
const TRIES: usize = 21;

fn main() {
    for size in [200, 1_000, 3_000, 10_000] {
        println!("{size} gateways");
        println!("  a plan of a policy with a rollout: {:?}", planning(size));
        println!("  who governs each of them, with 200 policies: {:?}", governing(size));
        println!("  a change of one claim, if all claim one URL: {:?}", claiming(size));
    }
}

/// The median of what this takes.
fn median<T>(mut work: impl FnMut() -> T) -> Duration {
    let time = |_| {
        let begun = Instant::now();
        black_box(work());
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..TRIES).map(time).collect();
    times.sort();
    times.get(TRIES / 2).copied().unwrap()
}

fn policies(count: usize) -> Policies {
    let policy = |number| {
        let name = format!("policy-{number}");
        let policy: TokenPolicy = serde_json::from_value(json!({
            "apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy",
            "metadata": {"name": name, "namespace": "berlin", "uid": name, "generation": 1},
            "spec": {
                "gatewaySelector": {"matchLabels": {"site": "berlin"}}, "timeoutSeconds": 7200, "priority": number,
                "rollout": {"maxConcurrent": "5%", "maxFailures": "10%"},
            },
        }))
        .unwrap();
        let policy = Policies::default().parse(&Arc::new(policy), Bounds::default(), Timestamp::UNIX_EPOCH);
        (name, Some(policy))
    };
    (0..count).map(policy).collect()
}

/// Gateways that a policy has yet to change.
fn gateways(size: usize) -> Vec<Arc<X2Gateway>> {
    let gateway = |number| {
        let (name, ready) = (
            format!("x2-{number}"),
            json!({
                "type": "Ready", "status": "False", "reason": "AwaitingRollout", "message": "The rollout has not reached it.",
                "observedGeneration": 1, "lastTransitionTime": "2026-11-22T22:00:00Z",
            }),
        );
        let gateway = json!({
            "apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway",
            "metadata": {
                "name": name, "namespace": "berlin", "uid": name, "generation": 1, "labels": {"site": "berlin"},
            },
            "spec": {"url": "https://x2.example.net", "credentialsSecretRef": {"name": "x2-admin"}},
            "status": {
                "observedGeneration": 1, "conditions": [ready], "policy": "policy-0", "timeoutSeconds": 43200,
                "provenTimeoutSeconds": 43200,
            },
        });
        Arc::new(serde_json::from_value(gateway).unwrap())
    };
    (0..size).map(gateway).collect()
}

/// What the task of a policy computes in one go: the state of all gateways, the decision, and the status.
fn planning(size: usize) -> Duration {
    let (policies, gateways) = (policies(1), gateways(size));
    let policy: &Policy = policies.get("policy-0").unwrap();
    let regimes: Vec<_> =
        gateways.iter().map(|gateway| Arc::new(policies.governance(gateway).regime)).collect();
    let mut machine = Machine::default();
    median(|| {
        let survey = machine.survey(policy.spec.target(), policy.spec.interval, Duration::ZERO);
        let known: HashMap<_, _> = gateways.iter().map(Arc::as_ptr).zip(&regimes).collect();
        let both = gateways.iter().map(|gateway| (&gateway.metadata, Some(gateway)));
        let fleet = Fleet::of(policy, both, |gateway| Arc::clone(known.get(&Arc::as_ptr(gateway)).unwrap()));
        let parts = fleet.parts();
        let decision = fleet.decide(&survey, None, Timestamp::UNIX_EPOCH);
        let now = Timestamp::UNIX_EPOCH;
        let report = Report { policy, parts: &parts, decision: Some(&decision), hold: Hold::InPlace, now };
        report.status(&report.verdict(), None)
    })
}

/// What is found out again if all policies are new; in the operator other tasks go on in between.
fn governing(size: usize) -> Duration {
    let (policies, gateways) = (policies(200), gateways(size));
    median(|| {
        gateways.iter().filter(|gateway| policies.governance(gateway).regime.policy().is_some()).count()
    })
}

/// What the events of a check cost if all gateways claim one URL: the oldest is suspended or resumed, an outcome is recorded,
/// and its standing found.
fn claiming(size: usize) -> Duration {
    let claimed = |suspended| {
        let (object, via) = ("https://x2.example.net".to_owned(), Via::Direct);
        Some(Claimed { object, suspended, trial: Trial::Untried, via, peer: None })
    };
    let id = |number: usize| {
        let name = format!("x2-{number}");
        let created = Timestamp::from_second(number.try_into().unwrap()).unwrap();
        ClaimId { created, key: Key::new("berlin", &*name), uid: name.into() }
    };
    let (mut table, oldest) = (Table::default(), id(0));
    (0..size).for_each(|number| drop(table.set(&id(number), claimed(false))));
    let mut suspended = false;
    median(|| {
        suspended = !suspended;
        let rivals = table.set(&oldest, claimed(suspended));
        (rivals, table.record(&oldest, Trial::NoAnswer), table.standing(&oldest))
    })
}
