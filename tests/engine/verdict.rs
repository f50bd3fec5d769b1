//! The conditions that reports are made of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use proptest::prelude::*;
use tenure::engine::conditions::since_ready;
use tenure::engine::reason::EventReason;
use tenure::engine::verdict::{
    Notes, Reason, Verdict, conditions, ready, ready_reason, suspended, transition,
};

fn time(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).unwrap())
}

fn find<'a>(list: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    list.iter().find(|c| c.type_ == kind)
}

fn kinds(list: &[Condition]) -> Vec<(&str, &str)> {
    list.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect()
}

#[test]
fn each_standing_has_its_conditions() {
    let made = |reason| conditions(&[], &Verdict::new(reason, "Do this."), &Notes::default(), 7, &time(1));
    assert_eq!(kinds(&made(Reason::InSync)), [("Ready", "True")]);
    assert_eq!(kinds(&made(Reason::TimedOut)), [("Ready", "False"), ("Reconciling", "True")]);
    assert_eq!(kinds(&made(Reason::Conflict)), [("Ready", "False"), ("Stalled", "True")]);
    for condition in made(Reason::Conflict) {
        assert_eq!((condition.reason.as_str(), condition.message.as_str()), ("Conflict", "Do this."));
        assert_eq!((condition.observed_generation, condition.last_transition_time), (Some(7), time(1)));
    }
    let notes = Notes { insecure: Some("in clear".to_owned()), risky: Some("often".to_owned()) };
    let list = conditions(&[], &Verdict::new(Reason::InSync, "Well."), &notes, 1, &time(1));
    assert_eq!(kinds(&list), [("Ready", "True"), ("Insecure", "True"), ("Risky", "True")]);
    assert_eq!(find(&list, "Insecure").unwrap().message, "in clear");
}

#[test]
fn notes_are_read_back_as_far_as_they_speak_of_the_spec() {
    let notes = Notes { insecure: Some("in clear".to_owned()), risky: None };
    let list = conditions(&[], &Verdict::new(Reason::InSync, "Well."), &notes, 2, &time(1));
    assert_eq!(Notes::reported(&list, Some(2)), notes);
    assert_eq!(Notes::reported(&list, Some(3)), Notes::default());
}

#[test]
fn an_event_is_published_for_another_fault_and_for_the_recovery_from_one() {
    use Reason::{AwaitingWindow, Conflict, InSync, Unreachable};
    for (before, now, expected) in [
        (None, Unreachable, Some(EventReason::NotReady(Unreachable))),
        (Some(InSync), Unreachable, Some(EventReason::NotReady(Unreachable))),
        (Some(Conflict), Unreachable, Some(EventReason::NotReady(Unreachable))),
        (Some(Unreachable), Unreachable, None),
        (Some(Unreachable), InSync, Some(EventReason::Recovered)),
        (Some(Unreachable), AwaitingWindow, None),
        (Some(AwaitingWindow), InSync, None),
        (None, InSync, None),
    ] {
        let event = transition(before, None, &Verdict::new(now, "Well."));
        assert_eq!(event.map(|(reason, _)| reason), expected, "{before:?} {now:?}");
    }
    let (_, note) = transition(Some(Unreachable), None, &Verdict::new(InSync, "Well.")).unwrap();
    assert_eq!(note, "Ready again after Unreachable. Well.");
}

#[test]
fn what_waits_or_is_under_way_after_a_warning_is_no_recovery_yet() {
    use Reason::{AwaitingWindow, InSync, Progressing, TimedOut, Unreachable};
    let mut warned = None;
    let mut events = Vec::new();
    let reasons = [
        InSync,
        Unreachable,
        Progressing,
        AwaitingWindow,
        InSync,
        Progressing,
        InSync,
        TimedOut,
        Progressing,
        InSync,
    ];
    for (before, now) in reasons.iter().zip(&reasons[1..]) {
        warned = since_ready(Some(*before), warned);
        events.extend(
            transition(Some(*before), warned, &Verdict::new(*now, "Well.")).map(|(reason, _)| reason),
        );
        warned = since_ready(Some(*now), warned);
    }
    let recovered = EventReason::Recovered;
    assert_eq!(
        events,
        [EventReason::NotReady(Unreachable), recovered, EventReason::NotReady(TimedOut), recovered]
    );
}

#[test]
fn suspension_leaves_ready_and_ends_the_work() {
    let notes = Notes { insecure: Some("in clear".to_owned()), ..Notes::default() };
    for (reason, status) in
        [(Reason::InSync, "True"), (Reason::TimedOut, "False"), (Reason::Conflict, "False")]
    {
        let before = conditions(&[], &Verdict::new(reason, "Do this."), &notes, 1, &time(1));
        let list = suspended(&before, "spec.suspend is true", 2, &time(5));
        assert_eq!(kinds(&list), [("Ready", status), ("Insecure", "True"), ("Suspended", "True")]);
        assert!(list.iter().all(|c| c.observed_generation == Some(2)), "generations follow");
        let (old, new) = (ready(&before).unwrap(), ready(&list).unwrap());
        assert_eq!(
            (&new.reason, &new.message, &new.last_transition_time),
            (&old.reason, &old.message, &time(1))
        );
        assert_eq!(suspended(&list, "spec.suspend is true", 2, &time(9)), list, "once");
        let resumed =
            conditions(&list, &Verdict::new(Reason::InSync, "Well."), &Notes::default(), 3, &time(9));
        assert_eq!(kinds(&resumed), [("Ready", "True")], "removed, not set to False");
    }
    assert_eq!(kinds(&suspended(&[], "paused", 1, &time(1))), [("Suspended", "True")]);
}

#[test]
fn a_message_is_capped_at_a_kibibyte() {
    let made = |message: &str| {
        let verdict = Verdict::new(Reason::RolloutHalted, message);
        ready(&conditions(&[], &verdict, &Notes::default(), 1, &time(1))).unwrap().message.clone()
    };
    assert_eq!(made(&"x".repeat(1024)), "x".repeat(1024));
    assert_eq!(made(&"x".repeat(1025)), format!("{}…", "x".repeat(1021)));
    let wide = made(&"ß".repeat(2000));
    assert!(wide.len() <= 1024 && wide.len() > 1020 && wide.ends_with("ß…"), "{}", wide.len());
    let notes = Notes { insecure: Some("y".repeat(5000)), ..Notes::default() };
    let list = conditions(&[], &Verdict::new(Reason::InSync, "Well."), &notes, 1, &time(1));
    assert_eq!(find(&list, "Insecure").unwrap().message.len(), 1024);
    assert_eq!(suspended(&[], &"z".repeat(5000), 1, &time(1))[0].message.len(), 1024);
}

#[test]
fn the_reason_is_read_back() {
    let list =
        conditions(&[], &Verdict::new(Reason::Contested, "Find out who."), &Notes::default(), 1, &time(1));
    assert_eq!(ready_reason(&list), Some(Reason::Contested));
    assert_eq!(ready_reason(&[]), None);
    let foreign = Condition { reason: "Whim".to_owned(), ..list[0].clone() };
    assert_eq!(ready_reason(&[foreign]), None);
}

#[derive(Clone, Debug)]
enum Report {
    Verdict(Reason, bool, bool),
    Suspended,
}

fn reports() -> impl Strategy<Value = Vec<(Report, u8)>> {
    let verdict = (proptest::sample::select(Reason::ALL), any::<bool>(), any::<bool>());
    let one = prop_oneof![
        4 => verdict.prop_map(|(reason, insecure, risky)| Report::Verdict(reason, insecure, risky)),
        1 => Just(Report::Suspended),
    ];
    proptest::collection::vec((one, any::<u8>()), 1..20)
}

proptest! {
    #[test]
    fn whatever_is_reported_in_whatever_order(reports in reports()) {
        let mut list: Vec<Condition> = Vec::new();
        for (now, (report, generation)) in (1..).zip(reports) {
            let generation = i64::from(generation);
            let before = list.clone();
            list = match report {
                Report::Suspended => suspended(&before, "paused", generation, &time(now)),
                Report::Verdict(reason, insecure, risky) => {
                    let note = |is: bool| is.then(|| "note".to_owned());
                    let notes = Notes { insecure: note(insecure), risky: note(risky) };
                    conditions(&before, &Verdict::new(reason, "Do this."), &notes, generation, &time(now))
                }
            };
            prop_assert!(find(&list, "Reconciling").is_none() || find(&list, "Stalled").is_none());
            for condition in &list {
                prop_assert_eq!(condition.observed_generation, Some(generation));
                prop_assert!(condition.type_ == "Ready" || condition.status == "True", "removed, not set to False");
                let old = find(&before, &condition.type_).filter(|old| old.status == condition.status);
                let since = old.map_or(time(now), |old| old.last_transition_time.clone());
                prop_assert_eq!(&condition.last_transition_time, &since, "{}", condition.type_);
                prop_assert_eq!(list.iter().filter(|c| c.type_ == condition.type_).count(), 1);
            }
        }
    }
}
