//! What a policy reports of its gateways and of its rollout.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenure::crd::{Phase, RolloutStatus, Time, TokenPolicyStatus, X2Gateway};
use tenure::engine::governance::{Policies, Policy};
use tenure::engine::policy::{
    Finalizer, Fleet, Hold, Report, events, finalizer, is_alike, must_be_durable, next_moment, not_restored,
};
use tenure::engine::reason::Reason;
use tenure::engine::restoration::SkipReason;
use tenure::engine::rollout::{Decision, Machine, Member, Record, Standing};
use tenure::engine::tally::{Part, State, covered};
use tenure::engine::verdict::Verdict;

use crate::governance::{changed_by, deleted, gateway, merged, policy};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn of(name: &str, patch: Value) -> Policy {
    policy(name, patch).1.unwrap()
}

/// The fleet of the first of these policies.
fn fleet<'a>(all: &'a [Policy], gateways: &[X2Gateway]) -> Fleet<'a> {
    let policies: Policies = all.iter().map(|one| (one.name().to_owned(), Some(one.clone()))).collect();
    let gateways: Vec<Arc<X2Gateway>> = gateways.iter().cloned().map(Arc::new).collect();
    let regime = |gateway: &Arc<X2Gateway>| Arc::new(policies.governance(gateway).regime);
    Fleet::of(&all[0], gateways.iter().map(|gateway| (&gateway.metadata, Some(gateway))), regime)
}

/// A gateway that reports this of its current spec, with this value and the token that proves it.
fn reporting(reason: &str, timeout: impl Into<Value>, token: impl Into<Value>) -> X2Gateway {
    let (timeout, token): (Value, Value) = (timeout.into(), token.into());
    let condition = json!({
        "type": "Ready", "status": if reason == "InSync" { "True" } else { "False" }, "reason": reason,
        "message": "Do this.", "observedGeneration": 1, "lastTransitionTime": "2026-11-22T22:00:00Z",
    });
    gateway(json!({
        "metadata": {"generation": 1},
        "status": {
            "observedGeneration": 1, "conditions": [condition], "policy": "a",
            "timeoutSeconds": timeout, "provenTimeoutSeconds": token,
        },
    }))
}

fn but(gateway: &X2Gateway, patch: Value) -> X2Gateway {
    serde_json::from_value(merged(serde_json::to_value(gateway).unwrap(), patch)).unwrap()
}

#[test]
fn a_gateway_is_in_one_state_with_regard_to_its_policy() {
    let in_sync = || reporting("InSync", 7200, 7200);
    let enforce = || vec![of("a", json!({}))];
    let observe = || vec![of("a", json!({"spec": {"mode": "Observe"}}))];
    for (policies, gateway, state) in vec![
        (enforce(), in_sync(), State::InSync),
        (enforce(), reporting("InSync", 7200, 7199), State::InSync),
        (enforce(), reporting("InSync", 43200, 43200), State::Pending),
        (enforce(), reporting("InSync", 7200, 43200), State::Pending),
        (enforce(), reporting("Progressing", 43200, Value::Null), State::Pending),
        (enforce(), reporting("AwaitingWindow", 43200, 43200), State::Pending),
        (enforce(), reporting("AwaitingWindow", 43200, 7201), State::Drifted),
        (enforce(), reporting("Drifted", 43200, 7200), State::Drifted),
        (enforce(), reporting("TimedOut", 7200, 7200), State::Failed),
        // It has not reported of this spec, or not of this policy.
        (enforce(), gateway(json!({"metadata": {"generation": 1}})), State::Pending),
        (enforce(), but(&in_sync(), json!({"metadata": {"generation": 2}})), State::Pending),
        (enforce(), but(&in_sync(), json!({"status": {"policy": "b"}})), State::Pending),
        (
            enforce(),
            but(&reporting("TimedOut", 7200, 7200), json!({"status": {"policy": "b"}})),
            State::Failed,
        ),
        (enforce(), but(&in_sync(), json!({"spec": {"suspend": true}})), State::Suspended),
        (vec![of("a", json!({})), of("b", json!({"spec": {"priority": 1}}))], in_sync(), State::Overridden),
        // An observing policy compares with what it would set.
        (observe(), in_sync(), State::InSync),
        (observe(), reporting("InSync", 43200, 43200), State::Drifted),
        (observe(), reporting("Drifted", 43200, 43200), State::Drifted),
        (observe(), reporting("InSync", Value::Null, Value::Null), State::Pending),
        (observe(), reporting("Progressing", 7200, 7200), State::Pending),
        (observe(), reporting("TimedOut", 7200, 7200), State::Failed),
        (observe(), but(&in_sync(), json!({"spec": {"suspend": true}})), State::Suspended),
    ] {
        let parts = fleet(&policies, std::slice::from_ref(&gateway)).parts();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].state, state, "{:?} {:?}", policies[0].object.spec.mode, gateway.status);
    }
}

#[test]
fn what_does_not_match_the_schema_is_a_failed_part_and_what_is_released_or_of_others_is_none() {
    let all = [of("a", json!({}))];
    let unknown = gateway(json!({})).metadata;
    let regime = |_: &Arc<X2Gateway>| unreachable!("nothing is known of its spec");
    let parts = Fleet::of(&all[0], [(&unknown, None)], regime).parts();
    assert_eq!((parts.len(), parts[0].state), (1, State::Failed));
    assert_eq!(parts[0].verdict.as_ref().unwrap().reason, Reason::InvalidSpec);
    let others = json!({"metadata": {"labels": {"site": "bonn"}}});
    assert!(fleet(&all, &[gateway(others.clone()), gateway(deleted())]).parts().is_empty());
    // What the policy has changed concerns it, although it does not count it.
    assert!(fleet(&all, &[changed_by("a", others.clone())]).parts().is_empty());
    assert_eq!(fleet(&all, &[changed_by("a", others)]).awaiting_restoration(), ["x2"]);
}

#[test]
fn a_request_covers_what_the_policy_may_change() {
    let part = |name: &str, state| Part { name: name.to_owned(), state, verdict: None };
    let parts = [
        part("a", State::Failed),
        part("b", State::Overridden),
        part("c", State::Suspended),
        part("d", State::InSync),
    ];
    assert_eq!(covered(&parts).collect::<Vec<_>>(), ["a", "d"]);
}

#[test]
fn a_deletion_waits_for_gateways_whose_original_values_are_still_to_be_restored() {
    let finalizer = |policy: Value, gateways: &[X2Gateway]| {
        let all = [of("a", policy)];
        finalizer(&all[0], || fleet(&all, gateways).awaiting_restoration())
    };
    let with_deletion = |patch: Value| merged(deleted(), patch);
    let changed = || changed_by("a", json!({}));
    let wait = || Finalizer::Wait(vec!["x2".to_owned()]);
    assert_eq!(finalizer(json!({}), &[]), Finalizer::Add);
    assert_eq!(finalizer(json!({"spec": {"deletionPolicy": "Retain"}}), &[changed()]), Finalizer::Remove);
    assert_eq!(finalizer(deleted(), &[changed()]), wait());
    assert_eq!(
        finalizer(with_deletion(json!({"metadata": {"finalizers": []}})), &[changed()]),
        Finalizer::Gone
    );
    for (policy, gateway) in [
        (deleted(), gateway(json!({"status": {"policy": "a"}}))),
        (deleted(), changed_by("b", json!({}))),
        (deleted(), but(&changed(), json!({"spec": {"suspend": true}}))),
        (with_deletion(json!({"spec": {"suspend": true}})), changed()),
        (with_deletion(json!({"spec": {"mode": "Observe"}})), changed()),
        (with_deletion(json!({"spec": {"deletionPolicy": "Retain"}})), changed()),
    ] {
        assert_eq!(finalizer(policy.clone(), std::slice::from_ref(&gateway)), Finalizer::Release, "{policy}");
    }
    let skipped = not_restored(SkipReason::Asked, &["x2".to_owned()]);
    assert_eq!(
        skipped,
        "the annotation tenure.dev/skip-restore is set; these gateways keep their values: x2"
    );
}

fn record(phase: Phase, canaries: &[&str]) -> Record {
    Record {
        phase,
        target_hash: "0123456789abcdef".to_owned(),
        canaries: canaries.iter().map(|name| (*name).to_owned()).collect(),
        soak_until: None,
        started: NOW,
    }
}

fn decision(record: Option<Record>) -> Decision {
    let mut decision = Decision::default();
    decision.plan.record = record;
    decision
}

/// Gateways of which so many checks in a row have failed.
fn tried(gateways: &[(&str, u8)]) -> BTreeMap<String, Member> {
    let member = |tries| Member { standing: Standing::Proven, late: false, checked: None, tries };
    gateways.iter().map(|(name, tries)| ((*name).to_owned(), member(*tries))).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn report<'a>(policy: &'a Policy, parts: &'a [Part], decision: Option<&'a Decision>) -> Report<'a> {
    Report { policy, parts, decision, hold: Hold::InPlace, now: NOW }
}

#[test]
fn what_keeps_a_policy_from_its_target_comes_before_the_states_of_its_gateways() {
    let plain = of("a", json!({"metadata": {"namespace": "berlin"}}));
    let parts = [Part { name: "x2".to_owned(), state: State::InSync, verdict: None }];
    let mut lacking = decision(None);
    lacking.plan.lacks_canaries = true;
    let mut halted = decision(Some(record(Phase::Halted, &["b"])));
    let healthy = report(&plain, &parts, Some(&halted)).verdict();
    assert!(
        healthy.message.contains("halted: a canary failed three checks in a row. Fix"),
        "{}",
        healthy.message
    );
    halted.members = tried(&[("b", 3)]);
    let lost = report(&plain, &parts, Some(&halted)).verdict();
    assert!(
        lost.message.contains("halted: canaries failed three checks in a row: b. Fix"),
        "{}",
        lost.message
    );
    halted.failed = names(&["b", "c", "d", "e"]);
    let waiting = decision(Some(record(Phase::AwaitingApproval, &[])));
    let broken = of("a", json!({"spec": {"interval": "soon"}}));
    let (gone, [forbidden, refused]) = (
        of("a", deleted()),
        [Hold::Forbidden, Hold::NotAccepted]
            .map(|hold| Report { hold, ..report(&plain, &parts, Some(&halted)) }),
    );
    for (report, reason, text) in [
        (report(&plain, &parts, None), Reason::InSync, "All governed gateways"),
        (report(&plain, &[], None), Reason::NoGatewaysMatch, "matches gatewaySelector"),
        (report(&gone, &parts, Some(&halted)), Reason::Progressing, "being deleted"),
        (
            report(&broken, &parts, Some(&halted)),
            Reason::InvalidSpec,
            "The policy is invalid: interval \"soon\" is not a duration",
        ),
        (forbidden, Reason::Forbidden, "add its finalizer to this TokenPolicy"),
        (refused, Reason::Forbidden, "Check the admission webhooks"),
        (report(&plain, &parts, Some(&lacking)), Reason::InvalidSpec, "canary.selector matches none"),
        (
            report(&plain, &parts, Some(&halted)),
            Reason::RolloutHalted,
            "halted: changing b, c, d, … failed. Fix",
        ),
        (
            report(&plain, &parts, Some(&waiting)),
            Reason::AwaitingApproval,
            "kubectl annotate tokenpolicy a --namespace berlin --overwrite tenure.dev/approve=0123456789abcdef",
        ),
    ] {
        let verdict = report.verdict();
        assert_eq!(verdict.reason, reason);
        assert!(verdict.message.contains(text), "{}", verdict.message);
    }
}

#[test]
fn a_status_shows_counts_failures_and_the_next_window() {
    let windows = json!({"spec": {"windows": [{"schedule": "0 22 * * *", "duration": "1h"}]}});
    let policy_with_windows = of("a", windows.clone());
    let part = |name: &str, state, reason| Part {
        name: name.to_owned(),
        state,
        verdict: Some(Verdict::new(reason, "Do this.")),
    };
    let parts =
        [part("x", State::Pending, Reason::AwaitingWindow), part("y", State::Failed, Reason::TimedOut)];
    let waiting = decision(Some(record(Phase::AwaitingWindow, &["x"])));
    let mut status = TokenPolicyStatus::default();
    report(&policy_with_windows, &parts, Some(&waiting)).update(&mut status);
    let counts = status.gateways.clone().unwrap();
    assert_eq!((counts.matched, counts.pending, counts.failed, &*counts.summary), (2, 1, 1, "0/2"));
    assert_eq!(
        status.failures.iter().map(|one| (&*one.gateway, &*one.reason)).collect::<Vec<_>>(),
        [("y", "TimedOut")]
    );
    assert_eq!(status.target.as_deref(), Some("7200"));
    assert_eq!(status.rollout.as_ref().map(|rollout| rollout.phase), Some(Phase::AwaitingWindow));
    assert_eq!(
        status.next_window.as_ref().map(|time| time.0.to_string()).as_deref(),
        Some("1970-01-01T22:00:00Z")
    );
    // The rollout of a suspended policy goes on from where it is.
    let suspended = of("a", merged(windows, json!({"spec": {"suspend": true, "timeoutSeconds": 3600}})));
    report(&suspended, &parts[1..], None).update(&mut status);
    assert!(status.rollout.is_some() && status.next_window.is_none());
    assert_eq!((status.target.as_deref(), status.gateways.clone().unwrap().matched), (Some("3600"), 1));
    report(&policy_with_windows, &[], None).update(&mut status);
    assert!(status.rollout.is_none() && status.next_window.is_none() && status.failures.is_empty());
    let mut guarded = decision(None);
    guarded.guarded = true;
    assert!(report(&suspended, &parts, Some(&guarded)).notes().risky.is_some());
    assert!(report(&suspended, &parts, Some(&waiting)).notes().risky.is_none());
}

/// A suspended gateway still shows what it waited for, and another policy's waits for a window of that one.
#[test]
fn a_next_window_is_shown_only_while_a_change_of_this_policy_waits_for_it() {
    let policy = of("a", json!({"spec": {"windows": [{"schedule": "0 22 * * *", "duration": "1h"}]}}));
    for state in State::ALL {
        let verdict = Some(Verdict::new(Reason::AwaitingWindow, "Do this."));
        let mut status = TokenPolicyStatus::default();
        report(&policy, &[Part { name: "x".to_owned(), state, verdict }], None).update(&mut status);
        let waits = matches!(state, State::Pending | State::Drifted);
        assert_eq!(status.next_window.is_some(), waits, "{}", state.as_str());
    }
}

#[test]
fn ready_stays_as_it_was_while_a_policy_is_suspended() {
    let patch = |suspend: bool| json!({"metadata": {"generation": 3}, "spec": {"suspend": suspend}});
    let verdict = Verdict::new(Reason::GatewaysNotReady, "Do this.");
    let conditions = |suspend| {
        let status = report(&of("a", patch(suspend)), &[], None).status(&verdict, Some("now"));
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("now"));
        status.conditions.into_iter().map(|condition| condition.type_).collect::<Vec<_>>()
    };
    assert_eq!(conditions(false), ["Ready", "Reconciling"]);
    assert_eq!(conditions(true), ["Suspended"]);
}

fn shown(status: RolloutStatus) -> TokenPolicyStatus {
    TokenPolicyStatus { rollout: Some(status), ..TokenPolicyStatus::default() }
}

#[test]
fn a_start_and_an_end_are_published_once() {
    let published = |old: Option<&Decision>, new: &Decision, patch: Value| -> Vec<(&'static str, String)> {
        let mut object = (*of("a", patch).object).clone();
        object.status = old.and_then(Decision::status).map(shown);
        let status = new.status().map(shown).unwrap_or_default();
        events(&object, &status, new).into_iter().map(|event| (event.reason.as_str(), event.note)).collect()
    };
    let plain = || json!({});
    let at = |phase, canaries: &[&str]| decision(Some(record(phase, canaries)));
    let (canary, mut halted) = (at(Phase::Canary, &["b", "c"]), at(Phase::Halted, &["b", "c"]));
    halted.members = tried(&[("b", 0), ("c", 3), ("d", 3)]);
    assert_eq!(
        published(None, &canary, plain()),
        [("RolloutStarted", "The rollout has started. Canaries: b, c.".to_owned())]
    );
    assert_eq!(
        published(None, &at(Phase::Progressing, &[]), plain()),
        [("RolloutStarted", "The rollout has started, without canaries.".to_owned())]
    );
    // Nothing was updated, and nothing is left: both are "none".
    let none =
        "The rollout is halted: canaries failed three checks in a row: c. Updated: none. Not updated: none.";
    assert_eq!(published(Some(&canary), &halted, plain()), [("RolloutHalted", none.to_owned())]);
    let mut failed = at(Phase::Halted, &[]);
    (failed.failed, failed.changed, failed.unchanged) = (names(&["d"]), names(&["b"]), names(&["c", "e"]));
    let some = "The rollout is halted: changing d failed. Updated: b. Not updated: c, e.";
    let referring = json!({"metadata": {"annotations": {"tenure.dev/change-ref": "CHG-7"}}});
    assert_eq!(
        published(Some(&at(Phase::Progressing, &[])), &failed, referring),
        [("RolloutHalted", format!("{some} Change reference: CHG-7."))]
    );
    for (old, new) in [
        (&canary, &canary),
        (&halted, &halted),
        (&failed, &failed),
        (&canary, &at(Phase::Progressing, &["b", "c"])),
        (&canary, &at(Phase::AwaitingApproval, &["b", "c"])),
        (&canary, &at(Phase::AwaitingWindow, &["b", "c"])),
        // No gateway is proven to have the target.
        (&canary, &at(Phase::Complete, &["b", "c"])),
        (&canary, &decision(None)),
    ] {
        assert_eq!(published(Some(old), new, plain()), []);
    }
    let mut complete = at(Phase::Complete, &[]);
    complete.changed = names(&["b"]);
    let end = published(Some(&canary), &complete, plain());
    assert_eq!((end.len(), end[0].0), (1, "RolloutComplete"));
    assert_eq!(published(Some(&canary), &complete, deleted()), [], "its gateways get their original values");
}

#[test]
fn a_halted_rollout_is_resumed_by_an_edit_or_once_by_a_request() {
    let halted = record(Phase::Halted, &[]);
    let mut with_hash = decision(Some(halted));
    let hash = tenure::engine::rollout::target_hash(tenure::engine::lifetime::Target::Exact(7200), false);
    with_hash.plan.record.as_mut().unwrap().target_hash = hash;
    let rollout = serde_json::to_value(with_hash.status().unwrap()).unwrap();
    let asked = json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": "now"}}});
    let status = |generation: i64| {
        json!({
            "metadata": {"generation": 2}, "spec": {"rollout": {}},
            "status": {"observedGeneration": generation, "rollout": rollout.clone()},
        })
    };
    let resumed = |patch: Value, resumed_for: Option<&str>| {
        let all = [of("a", patch)];
        let survey = Machine::default().survey(all[0].spec.target(), Duration::from_mins(10), Duration::ZERO);
        let decision = fleet(&all, &[reporting("TimedOut", 7200, 7200)]).decide(&survey, resumed_for, NOW);
        let object = &all[0].object;
        let status = decision.status().map(shown).unwrap_or_default();
        let events: Vec<String> =
            events(object, &status, &decision).into_iter().map(|event| event.note).collect();
        assert_eq!(
            decision.resumed(),
            events == ["The rollout has resumed, without canaries."],
            "{events:?}"
        );
        decision.resumed()
    };
    assert!(!resumed(status(2), None), "nothing asks for it");
    assert!(resumed(status(1), None), "the spec was edited");
    assert!(resumed(merged(status(2), asked.clone()), None));
    assert!(resumed(merged(status(2), asked.clone()), Some("before")));
    assert!(!resumed(merged(status(2), asked), Some("now")), "once");
}

#[test]
fn what_must_survive_is_written_at_once_and_counts_are_not() {
    let status = |change: fn(&mut RolloutStatus)| {
        let mut rollout = decision(Some(record(Phase::Canary, &["b"]))).status().unwrap();
        change(&mut rollout);
        shown(rollout)
    };
    let old = status(|_| {});
    assert!(!must_be_durable(Some(&old), &old));
    assert!(!must_be_durable(Some(&old), &status(|rollout| (rollout.changed, rollout.failed) = (7, 1))));
    assert!(must_be_durable(Some(&old), &status(|rollout| rollout.phase = Phase::Progressing)));
    assert!(must_be_durable(Some(&old), &status(|rollout| rollout.soak_until = Some(Time(NOW)))));
    assert!(must_be_durable(Some(&old), &TokenPolicyStatus::default()) && must_be_durable(None, &old));
    assert!(!must_be_durable(None, &TokenPolicyStatus::default()));
}

#[test]
fn time_changes_a_plan_at_the_end_of_a_soak_and_when_a_window_opens() {
    let windows = of("a", json!({"spec": {"windows": [{"schedule": "0 22 * * *", "duration": "1h"}]}}));
    let moment = |phase, soak: Option<i64>| {
        let soak_until = soak.map(|second| Timestamp::from_second(second).unwrap());
        let decision = decision(Some(Record { soak_until, ..record(phase, &["b"]) }));
        next_moment(&windows, &decision, NOW).map(Timestamp::as_second)
    };
    assert_eq!(moment(Phase::Canary, None), None);
    assert_eq!(moment(Phase::Canary, Some(60)), Some(60));
    assert_eq!(moment(Phase::Canary, Some(0)), None, "it is over");
    assert_eq!(moment(Phase::AwaitingWindow, None), Some(22 * 3600));
    assert_eq!(moment(Phase::AwaitingWindow, Some(60)), Some(60));
    assert_eq!(next_moment(&windows, &decision(None), NOW), None);
}

#[test]
fn gateways_depend_on_the_spec_the_requests_and_the_deletion() {
    let base = || json!({"metadata": {"resourceVersion": "1"}});
    let alike = |patch: Value| is_alike(&of("a", base()).object, &of("a", merged(base(), patch)).object);
    let annotated = |key: &str| json!({"metadata": {"annotations": {key: "now"}}});
    assert!(alike(json!({})));
    assert!(alike(json!({"metadata": {"resourceVersion": "2", "labels": {"x": "y"}}})));
    assert!(alike(annotated("example.net/note")) && alike(json!({"status": {"target": "7200"}})));
    for patch in [
        json!({"metadata": {"uid": "other"}}),
        json!({"spec": {"priority": 1}}),
        annotated("tenure.dev/reconcile-requested-at"),
        annotated("tenure.dev/override-window-until"),
        deleted(),
    ] {
        assert!(!alike(patch.clone()), "{patch}");
    }
}
