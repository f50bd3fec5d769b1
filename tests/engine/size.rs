//! A message has at most 1 KiB and a status at most 16 KiB, whatever specs, annotations and servers contain.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use serde_json::json;
use tenure::crd::{
    Approval, Cause, Change, CustomerCounts, CustomerTokenTtlStatus, KonaServerStatus, Phase, RefusedLogin,
    Time, TtlChange, TtlSeconds, X2GatewayStatus,
};
use tenure::engine::contest::Contest;
use tenure::engine::customer::{
    ACCESS, Made, Original, REFRESH, Reading, put_on_record, set_read, unrecordable,
};
use tenure::engine::gateway::{Prior, Regime, Seen, Step, decide};
use tenure::engine::lifetime::Target;
use tenure::engine::policy::{Hold, Report};
use tenure::engine::reason::Reason;
use tenure::engine::request;
use tenure::engine::rollout::{Canary, Choice, Decision, Member, Rules, Scene, Standing, plan};
use tenure::engine::tally::{Part, State};
use tenure::engine::text::printable;
use tenure::engine::verdict::{Notes, Verdict, conditions};

use super::governance::policy;

const MESSAGE: usize = 1024;
const STATUS: usize = 16 * 1024;

/// Names as long as Kubernetes permits, or shorter.
fn name(length: usize, number: usize) -> String {
    format!("{number:0>length$}")
}

fn observed(policies: usize, length: usize) -> String {
    let wants = (0..policies).map(|number| (name(length, number), Target::Exact(2_591_999))).collect();
    let seen = Seen { timeout: 2_592_000, written: false, read_back: false, token: None, proofs: 0 };
    match decide(&Regime::Observed(wants), &Prior::default(), seen, Contest::default(), Duration::ZERO) {
        Step::Report(verdict) => verdict.message,
        step => panic!("{step:?}"),
    }
}

#[test]
fn policies_that_observe_are_named_as_far_as_there_is_room() {
    for policies in [1, 3, 4, 1_000] {
        let message = observed(policies, 253);
        assert!(message.len() <= MESSAGE, "{policies}: {}", message.len());
        assert!(message.ends_with("Observe mode: nothing is changed."), "{policies}: {message}");
        assert_eq!(message.matches("TokenPolicy").count(), policies.min(3));
        assert_eq!(message.contains(&format!("and {} more", policies.saturating_sub(3))), policies > 3);
    }
}

#[test]
fn an_annotation_that_is_too_long_requests_nothing() {
    let asked = |ours: usize, flux: usize| {
        let annotations = BTreeMap::from([
            ("tenure.dev/reconcile-requested-at".to_owned(), "o".repeat(ours)),
            ("reconcile.fluxcd.io/requestedAt".to_owned(), "f".repeat(flux)),
        ]);
        let meta = ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() };
        request::of(&meta).map(str::to_owned)
    };
    assert_eq!(asked(256, 1), Some("o".repeat(256)));
    assert_eq!(asked(257, 256), Some("f".repeat(256)));
    assert_eq!(asked(250_000, 250_000), None);
}

/// A long verdict, with notes of the same length.
fn verdict(length: usize) -> (Verdict, Notes) {
    let verdict = Verdict::new(Reason::AuthenticationFailed, "\u{1f600}".repeat(length));
    let note = Some(verdict.message.clone());
    (verdict, Notes { insecure: note.clone(), risky: note })
}

/// Refused logins of two versions of a Secret.
fn refused() -> Vec<RefusedLogin> {
    let login = RefusedLogin {
        secret_uid: name(36, 0),
        secret_resource_version: u64::MAX.to_string(),
        time: Time(Timestamp::UNIX_EPOCH),
        in_a_row: Some(u32::MAX),
    };
    vec![login; 2]
}

/// What a policy's rollout has on record with so many canaries to choose from.
fn decision(choice: Choice, members: usize, length: usize) -> Decision {
    let member = Member { standing: Standing::Waiting, late: false, checked: None, tries: 0 };
    let members = (0..members).map(|number| (name(length, number), member)).collect();
    let canary = Canary { choice, soak: Duration::ZERO, approval: Approval::Automatic };
    let rules = Rules { max_concurrent: 1, max_failures: 1, canary: Some(canary) };
    let scene = Scene {
        rules: &rules,
        target: Target::Exact(7200),
        members: &members,
        elsewhere: 0,
        drifts: 0,
        latest_attempt: None,
        window_open: true,
        resume: false,
        approved: None,
        now: Timestamp::UNIX_EPOCH,
    };
    let mut decision = Decision::default();
    decision.plan = plan(None, &scene);
    decision
}

proptest! {
    #[test]
    fn a_policys_status_stays_small(
        canaries in 1..600_usize, named: bool, length in 5..=253_usize, failures in 0..40_usize, message in 0..5_000_usize,
    ) {
        let names: BTreeSet<String> = (0..canaries).map(|number| name(length, number)).collect();
        let choice = if named { Choice::Named(names) } else { Choice::First(canaries.min(100)) };
        let (_, policy) = policy("a", json!({
            "metadata": {"generation": 1, "name": name(length, 0), "namespace": name(63, 0)},
            "status": {"lastHandledReconcileAt": "r".repeat(256)},
        }));
        let policy = policy.unwrap();
        let decision = decision(choice, canaries, length);
        let verdict = Verdict::new(Reason::AuthenticationFailed, "ä".repeat(message));
        let failed = |number| Part {
            name: name(length, number), state: State::Failed, verdict: Some(verdict.clone()),
        };
        let parts: Vec<Part> = (0..failures).map(failed).collect();
        let report = Report {
            policy: &policy, parts: &parts, decision: Some(&decision), hold: Hold::InPlace, now: Timestamp::UNIX_EPOCH,
        };
        let status = report.status(&verdict, None);
        let size = serde_json::to_vec(&status).unwrap().len();
        prop_assert!(size <= STATUS, "{size}");
        for condition in &status.conditions {
            prop_assert!(condition.message.len() <= MESSAGE);
        }
        let rollout = status.rollout.unwrap();
        prop_assert!(rollout.phase == Phase::Canary && !rollout.canaries.is_empty());
        if canaries * (length + 3) < 5_000 {
            prop_assert_eq!(rollout.canaries.len(), canaries.min(if named { 500 } else { 100 }));
        }
        prop_assert_eq!(status.failures.len(), failures.min(20));
        if failures == 1 && message < 500 {
            prop_assert_eq!(&status.failures[0].message, &verdict.message);
        }
    }

    #[test]
    fn a_gateways_status_stays_small(message in 0..5_000_usize, length in 1..=253_usize) {
        let now = Time(Timestamp::UNIX_EPOCH);
        let (verdict, notes) = verdict(message);
        let change = json!({
            "time": now, "from": 2_592_000, "to": 2_592_000, "policy": name(length, 0), "cause": "Restore",
            "changeRef": "c".repeat(64),
        });
        let change: Change = serde_json::from_value(change).unwrap();
        let status = X2GatewayStatus {
            conditions: conditions(&[], &verdict, &notes, 1, &now),
            effective_url: Some("u".repeat(512)),
            policy: Some(name(length, 0)),
            pending: serde_json::from_value(json!({
                "from": u32::MAX, "to": u32::MAX, "cause": "Restore", "since": now, "outcome": "Prepared",
                "changeRef": "c".repeat(64),
            })).unwrap(),
            refused_login: refused(),
            history: vec![change; 10],
            last_handled_reconcile_at: Some("r".repeat(256)),
            ..X2GatewayStatus::default()
        };
        let size = serde_json::to_vec(&status).unwrap().len();
        prop_assert!(size <= STATUS, "{size}");
    }

    #[test]
    fn a_customers_status_stays_small(
        message in 0..5_000_usize, title in 0..20_000_usize, original in prop_oneof![0..=256_usize, 0..20_000_usize],
    ) {
        let now = Time(Timestamp::UNIX_EPOCH);
        let (verdict, notes) = verdict(message);
        let ttl = TtlSeconds {
            access_token_ttl_seconds: Some(u32::MAX), refresh_token_ttl_seconds: Some(u32::MAX),
        };
        let mut status = CustomerTokenTtlStatus {
            conditions: conditions(&[], &verdict, &notes, i64::MAX, &now),
            observed_generation: Some(i64::MAX),
            effective_url: Some("u".repeat(512)),
            proven: Some(ttl),
            last_proven_time: Some(now.clone()),
            pending: serde_json::from_value(json!({
                "from": ttl, "to": ttl, "cause": "Restore", "since": now, "outcome": "Prepared",
                "changeRef": "c".repeat(64),
            })).unwrap(),
            refused_login: refused(),
            next_window: Some(now.clone()),
            last_handled_reconcile_at: Some("r".repeat(256)),
            ..CustomerTokenTtlStatus::default()
        };
        set_read(&mut status, &Reading { title: Some(printable(&"\u{1f600}".repeat(title))), ttl }, &now);
        let original = Original::from([ACCESS, REFRESH].map(|key| (key.to_owned(), "\"".repeat(original))));
        // What cannot be recorded is not overwritten: there is no change.
        if unrecordable(&original).is_none() {
            let change = TtlChange {
                time: now, from: ttl, to: ttl, cause: Cause::Restore, change_ref: Some("c".repeat(64)),
            };
            put_on_record(&mut status, std::iter::repeat_n(&Made { change, original }, 30));
        }
        let size = serde_json::to_vec(&status).unwrap().len();
        prop_assert!(size <= STATUS, "{size}");
    }

    #[test]
    fn a_servers_status_stays_small(message in 0..5_000_usize) {
        let now = Time(Timestamp::UNIX_EPOCH);
        let (verdict, notes) = verdict(message);
        let status = KonaServerStatus {
            conditions: conditions(&[], &verdict, &notes, i64::MAX, &now),
            observed_generation: Some(i64::MAX),
            effective_url: Some("u".repeat(512)),
            refused_login: refused(),
            last_checked_time: Some(now),
            last_handled_reconcile_at: Some("r".repeat(256)),
            customers: Some(CustomerCounts {
                managed: i64::MAX,
                in_sync: i64::MAX,
                pending: i64::MAX,
                drifted: i64::MAX,
                failed: i64::MAX,
                suspended: i64::MAX,
                summary: format!("{0}/{0}", i64::MAX),
            }),
        };
        let size = serde_json::to_vec(&status).unwrap().len();
        prop_assert!(size <= STATUS, "{size}");
    }
}
