//! How the gateways of a policy stand together.

use proptest::prelude::*;
use tenure::engine::tally::{Part, State, Tally, policy_verdict, state_of};
use tenure::engine::verdict::{Reason, Verdict};

fn part(name: &str, state: State, reason: Option<Reason>) -> Part {
    Part { name: name.to_owned(), state, verdict: reason.map(|reason| Verdict::new(reason, "Do this.")) }
}

#[test]
fn what_a_part_reports_makes_its_state() {
    for (reason, fits, state) in [
        (None, true, State::Pending),
        (None, false, State::Pending),
        (Some(Reason::InSync), true, State::InSync),
        (Some(Reason::Observed), true, State::InSync),
        (Some(Reason::Observed), false, State::Drifted),
        (Some(Reason::Unmanaged), false, State::Drifted),
        (Some(Reason::Drifted), false, State::Drifted),
        (Some(Reason::Progressing), false, State::Pending),
        (Some(Reason::InSync), false, State::Pending),
        (Some(Reason::TimedOut), true, State::Failed),
        (Some(Reason::Contested), false, State::Failed),
    ] {
        assert_eq!(state_of(reason, fits, true), state, "{reason:?} {fits}");
    }
    for reason in [Reason::AwaitingWindow, Reason::AwaitingRollout] {
        assert_eq!(state_of(Some(reason), false, false), State::Pending, "a change waits");
        assert_eq!(state_of(Some(reason), false, true), State::Drifted, "a repair waits");
    }
}

#[test]
fn those_who_wait_are_summed_up_by_what_they_wait_for() {
    let waits = |state, reason| part("a", state, Some(reason));
    for (first, second, reason) in [
        (
            waits(State::Pending, Reason::AwaitingWindow),
            waits(State::Drifted, Reason::AwaitingWindow),
            Reason::AwaitingWindow,
        ),
        (
            waits(State::Pending, Reason::AwaitingRollout),
            waits(State::Pending, Reason::Progressing),
            Reason::GatewaysNotReady,
        ),
        (
            waits(State::Pending, Reason::AwaitingWindow),
            waits(State::Pending, Reason::Progressing),
            Reason::GatewaysNotReady,
        ),
    ] {
        assert_eq!(policy_verdict(&[first, second], false).reason, reason);
    }
}

#[test]
fn a_policy_sums_up() {
    use State::{Drifted, Failed, InSync, Overridden, Pending, Suspended};
    let failed = |name: &str, reason| part(name, Failed, Some(reason));
    for (parts, observes, reason, words) in [
        (vec![], false, Reason::NoGatewaysMatch, "Label the gateways, or correct the selector"),
        (vec![part("a", InSync, Some(Reason::InSync))], false, Reason::InSync, "All governed gateways"),
        (
            vec![part("a", InSync, None), part("b", Overridden, None)],
            false,
            Reason::InSync,
            "All governed gateways",
        ),
        (
            vec![part("a", InSync, None), part("b", Suspended, None)],
            false,
            Reason::InSync,
            "All governed gateways",
        ),
        (
            vec![part("a", Overridden, None), part("b", Overridden, None)],
            false,
            Reason::Overridden,
            "another policy",
        ),
        (vec![part("a", Drifted, Some(Reason::Observed))], true, Reason::Observed, "Some gateways differ"),
        (vec![failed("a", Reason::TimedOut)], true, Reason::TimedOut, "Not in sync: a."),
        (
            vec![failed("a", Reason::TimedOut), failed("b", Reason::TimedOut)],
            false,
            Reason::TimedOut,
            "a, b.",
        ),
        (
            vec![failed("a", Reason::TimedOut), failed("b", Reason::Conflict)],
            false,
            Reason::GatewaysNotReady,
            "a, b.",
        ),
        (
            vec![part("a", InSync, None), failed("b", Reason::TlsFailed)],
            false,
            Reason::TlsFailed,
            "Not in sync: b",
        ),
        (vec![part("a", Pending, None)], false, Reason::Progressing, "Not in sync: a"),
        (vec![part("a", Drifted, Some(Reason::Unmanaged))], false, Reason::Drifted, "Not in sync: a"),
        (
            vec![part("a", Drifted, Some(Reason::Drifted))],
            false,
            Reason::Drifted,
            "See the conditions of each X2Gateway",
        ),
    ] {
        let verdict = policy_verdict(&parts, observes);
        assert_eq!(verdict.reason, reason, "{parts:?}");
        assert!(verdict.message.contains(words), "{}", verdict.message);
    }
    let many: Vec<_> = ["a", "b", "c", "d"].map(|name| failed(name, Reason::TimedOut)).into();
    assert!(policy_verdict(&many, false).message.starts_with("Not in sync: a, b, c, …."));
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let state = proptest::sample::select(State::ALL.to_vec());
    let reason = proptest::option::of(proptest::sample::select(Reason::ALL));
    proptest::collection::vec((state, reason).prop_map(|(state, reason)| part("a", state, reason)), 0..12)
}

proptest! {
    #[test]
    fn each_part_is_counted_once(parts in parts()) {
        let tally = Tally::of(&parts);
        let sum: i64 = State::ALL.into_iter().map(|state| tally.count(state)).sum();
        prop_assert_eq!((tally.total(), sum), (i64::try_from(parts.len()).unwrap(), i64::try_from(parts.len()).unwrap()));
        let count = |wanted| parts.iter().filter(|p| p.state == wanted).count();
        let summary = format!("{}/{}", count(State::InSync), parts.len() - count(State::Overridden));
        prop_assert_eq!(tally.summary(), summary);
    }

    #[test]
    fn a_policy_is_ready_when_in_sync_and_overridden_and_suspended_are_all(parts in parts(), observes: bool) {
        let is_open = |p: &Part| match p.state {
            State::InSync | State::Overridden | State::Suspended => false,
            State::Drifted => !observes,
            State::Pending | State::Failed => true,
        };
        let is_ready = policy_verdict(&parts, observes).reason.is_ready();
        prop_assert_eq!(is_ready, !parts.is_empty() && !parts.iter().any(is_open));
    }
}
