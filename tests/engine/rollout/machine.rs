//! What gateways are answered, and when a permit is worth something.

use std::time::Duration;

use jiff::Timestamp;
use tenure::crd::Phase;
use tenure::engine::lifetime::Target;
use tenure::engine::reason::Reason;
use tenure::engine::rollout::{
    Circumstances, Decision, Machine, Outcome, Record, Reply, Rules, Survey, Wish, decide,
};

use super::gateway::{Gateway, POLICY};
use super::{at, record};

const OLD: Target = Target::Exact(28_800);
const NEW: Target = Target::Exact(14_400);
const CHANGE: Wish = Wish::Change { tightens: true };
const ELAPSED: Duration = Duration::from_hours(24);
const ASKED: (Reply, bool) = (Reply::Asked, true);

fn gateway(number: u8) -> Gateway {
    Gateway::new(format!("x2-{number}"), format!("uid-{number}"), 86_400, false)
}

fn survey(machine: &mut Machine, target: Target) -> Survey {
    machine.survey(Some(target), Duration::from_mins(1), ELAPSED)
}

/// Two at once and no canary.
fn decision(survey: &Survey, gateways: &[Gateway], record: Option<&Record>) -> Decision {
    let gateways: Vec<_> = gateways.iter().map(Gateway::resource).collect();
    let rules = Some(Rules { max_concurrent: 2, max_failures: 0, canary: None });
    let at = Circumstances {
        policy: POLICY,
        gateways: &gateways,
        rules,
        record,
        window_open: true,
        resume: false,
        approved: None,
        now: at(0),
    };
    decide(survey, &at)
}

fn ask(machine: &mut Machine, gateway: &Gateway, target: Target) -> (Reply, bool) {
    machine.ask((&gateway.uid, &gateway.name), Some(target), CHANGE, ELAPSED)
}

fn ended(machine: &mut Machine, gateway: &Gateway, target: Target, outcome: Outcome) -> bool {
    machine.ended((&gateway.uid, &gateway.name), Some(target), outcome)
}

fn started(reply: (Reply, bool)) -> Option<Timestamp> {
    match reply.0 {
        Reply::Granted(permit) => permit.started(),
        other => panic!("{other:?}"),
    }
}

/// A machine in which these have asked, and what was decided for them.
fn asked(gateways: &[Gateway]) -> (Machine, Decision) {
    let mut machine = Machine::default();
    let _ = survey(&mut machine, OLD);
    for gateway in gateways {
        assert_eq!(ask(&mut machine, gateway, OLD), ASKED);
        ended(&mut machine, gateway, OLD, Outcome::Nothing);
    }
    let seen = survey(&mut machine, OLD);
    let decision = decision(&seen, gateways, None);
    (machine, decision)
}

#[test]
fn a_permit_is_offered_taken_once_and_given_back() {
    let gateways = [gateway(0), gateway(1), gateway(2)];
    let (mut machine, decision) = asked(&gateways);
    assert_eq!(decision.plan.begin, ["x2-0", "x2-1"]);
    assert_eq!(machine.answer(&decision), ["x2-0", "x2-1", "x2-2"], "the third learns that it waits");
    assert!(gateways.iter().all(|gateway| machine.calls(&gateway.uid)));
    assert_eq!(started(ask(&mut machine, &gateways[0], OLD)), Some(at(0)));
    assert_eq!(ask(&mut machine, &gateways[2], OLD), (Reply::Later { halted: false }, false));
    ended(&mut machine, &gateways[2], OLD, Outcome::Waits);
    assert!(!machine.calls(&gateways[2].uid), "it knows");
    assert_eq!(machine.permits(), 2);
    machine.give_back(&gateways[0].uid);
    assert_eq!(machine.permits(), 1);
    let seen = survey(&mut machine, OLD);
    let next = self::decision(&seen, &gateways, decision.plan.record.as_ref());
    assert_eq!(machine.answer(&next), ["x2-2"], "the first has to ask again");
}

#[test]
fn what_was_decided_for_one_target_permits_nothing_for_another() {
    let gateways = [gateway(0), gateway(1)];
    let (mut machine, decision) = asked(&gateways);
    // While the policy's status is written the policy is edited: one gateway asks for the new target at once.
    assert_eq!(ask(&mut machine, &gateways[0], NEW), ASKED);
    machine.answer(&decision);
    assert_eq!(ask(&mut machine, &gateways[0], NEW).0, Reply::Asked);
    // The other has a permit for the old one by then.
    assert_eq!(ask(&mut machine, &gateways[1], NEW).0, Reply::Asked);
    assert_eq!(machine.permits(), 0);
    // And once the machine is about the new target, nothing of the old one counts.
    let _ = survey(&mut machine, NEW);
    assert_eq!(machine.answer(&decision), Vec::<String>::new());
    assert_eq!(ask(&mut machine, &gateways[0], NEW).0, Reply::Asked);
}

#[test]
fn a_change_under_way_for_the_old_target_keeps_its_place() {
    let gateways = [gateway(0), gateway(1), gateway(2)];
    let (mut machine, decision) = asked(&gateways);
    machine.answer(&decision);
    assert!(matches!(ask(&mut machine, &gateways[0], OLD).0, Reply::Granted(_)));
    let _ = survey(&mut machine, NEW);
    assert_eq!(machine.permits(), 1, "what was only offered is taken back");
    for gateway in &gateways[1..] {
        assert_eq!(ask(&mut machine, gateway, NEW), ASKED);
        ended(&mut machine, gateway, NEW, Outcome::Nothing);
    }
    let seen = survey(&mut machine, NEW);
    assert_eq!(self::decision(&seen, &gateways, None).plan.begin, ["x2-1"]);
    // Also if the gateway does not take part any more.
    let seen = survey(&mut machine, NEW);
    assert_eq!(self::decision(&seen, &gateways[1..], None).plan.begin, ["x2-1"]);
}

#[test]
fn a_gateway_that_is_created_again_is_another() {
    let old = gateway(0);
    let new = Gateway { uid: "uid-9".to_owned(), ..gateway(0) };
    let (mut machine, decision) = asked(std::slice::from_ref(&old));
    machine.answer(&decision);
    let (reply, news) = ask(&mut machine, &new, OLD);
    assert_eq!((reply, news), ASKED, "the permit was the other's");
    ended(&mut machine, &old, OLD, Outcome::Healthy(at(5)));
    let seen = survey(&mut machine, OLD);
    let next = self::decision(&seen, std::slice::from_ref(&new), decision.plan.record.as_ref());
    assert_eq!(next.members["x2-0"].checked, None, "nothing has checked this one");
    machine.answer(&next);
    assert_eq!(machine.known().collect::<Vec<_>>(), ["uid-9"]);
}

#[test]
fn a_reconcile_for_an_earlier_target_is_no_check_and_no_failure() {
    let gateway = gateway(0);
    let mut machine = Machine::default();
    let _ = survey(&mut machine, NEW);
    ended(&mut machine, &gateway, OLD, Outcome::Failed);
    ended(&mut machine, &gateway, OLD, Outcome::Healthy(at(5)));
    let seen = survey(&mut machine, NEW);
    let member = decision(&seen, std::slice::from_ref(&gateway), None).members["x2-0"];
    assert_eq!((member.checked, member.tries), (None, 0));
    assert!(ended(&mut machine, &gateway, NEW, Outcome::Healthy(at(5))), "the first is news");
    assert!(!ended(&mut machine, &gateway, NEW, Outcome::Healthy(at(6))), "the next is not");
}

#[test]
fn a_gateway_that_was_read_and_waits_has_not_failed_in_a_row() {
    let gateways = [gateway(1)];
    let (mut machine, _) = asked(&gateways);
    let tries = |machine: &mut Machine| {
        let survey = survey(machine, NEW);
        decision(&survey, &gateways, None).members["x2-1"].tries
    };
    survey(&mut machine, NEW);
    for _ in 0..3 {
        ended(&mut machine, &gateways[0], NEW, Outcome::Failed);
    }
    assert_eq!(tries(&mut machine), 3);
    assert!(ended(&mut machine, &gateways[0], NEW, Outcome::Waits), "it is news");
    assert_eq!(tries(&mut machine), 0);
}

#[test]
fn a_permit_that_a_reconcile_does_not_use_is_anothers() {
    let gateways = [gateway(0)];
    for (outcome, asks_again) in [
        (Outcome::Nothing, true),
        (Outcome::Waits, false),
        (Outcome::Failed, true),
        (Outcome::Healthy(at(1)), true),
    ] {
        let (mut machine, decision) = asked(&gateways);
        machine.answer(&decision);
        machine.begin("uid-0");
        assert!(ended(&mut machine, &gateways[0], OLD, outcome), "{outcome:?}");
        assert_eq!(machine.permits(), 0, "{outcome:?}");
        let reply = ask(&mut machine, &gateways[0], OLD).0;
        assert_eq!(reply == Reply::Asked, asks_again || reply == Reply::Asked, "{outcome:?}");
    }
    // One that came while the reconcile was under way is there for the next.
    let (mut machine, decision) = asked(&gateways);
    machine.begin("uid-0");
    machine.answer(&decision);
    ended(&mut machine, &gateways[0], OLD, Outcome::Nothing);
    assert!(machine.calls("uid-0"));
    assert!(matches!(ask(&mut machine, &gateways[0], OLD).0, Reply::Granted(_)));
}

#[test]
fn a_halt_takes_back_what_was_only_offered() {
    let gateways = [gateway(0), gateway(1)];
    let (mut machine, decision) = asked(&gateways);
    machine.answer(&decision);
    assert!(matches!(ask(&mut machine, &gateways[0], OLD).0, Reply::Granted(_)));
    let halted = record(Phase::Halted, &[]);
    let seen = survey(&mut machine, OLD);
    let decision = self::decision(&seen, &gateways, Some(&halted));
    machine.answer(&decision);
    assert_eq!(machine.permits(), 1, "what is under way is finished");
    assert_eq!(ask(&mut machine, &gateways[1], OLD).0, Reply::Asked);
}

/// A gateway that appears, is reconciled and asks while its policy's task has gathered the fleet without it.
#[test]
fn a_question_put_while_the_fleet_is_surveyed_waits_for_the_next_survey() {
    let (first, gone, new) = (gateway(0), gateway(1), gateway(2));
    let mut machine = Machine::default();
    let _ = survey(&mut machine, OLD);
    ask(&mut machine, &gone, OLD);
    let seen = survey(&mut machine, OLD);
    assert_eq!(ask(&mut machine, &new, OLD), ASKED);
    machine.answer(&decision(&seen, std::slice::from_ref(&first), None));
    assert_eq!(machine.known().collect::<Vec<_>>(), ["uid-2"], "one is gone, the other has come");
    assert_eq!(ask(&mut machine, &new, OLD).0, Reply::Asked, "the survey was made without it");
    let seen = survey(&mut machine, OLD);
    let both = [first, new];
    let mut decision = decision(&seen, &both, None);
    decision.withhold();
    machine.answer(&decision);
    // The first was never read: who goes first is not known yet.
    assert_eq!(ask(&mut machine, &both[1], OLD).0, Reply::Asked);
    let later = machine.ask(("uid-2", "x2-2"), Some(OLD), CHANGE, ELAPSED + Duration::from_secs(10));
    assert_eq!(later.0, Reply::Later { halted: false }, "it reports that it waits");
}

/// Others keep creating gateways that do not answer.
#[test]
fn what_appears_after_the_target_is_not_waited_for() {
    let mut gateways = [gateway(0), gateway(1)];
    let (mut machine, _) = asked(&gateways[..1]);
    let mut undecided = |created: i64, since: Duration| {
        gateways[1].created = at(created);
        let seen = machine.survey(Some(OLD), Duration::from_mins(1), ELAPSED + since);
        decision(&seen, &gateways, None).plan.undecided
    };
    assert!(undecided(-60, Duration::ZERO), "it was there before");
    assert!(undecided(60, Duration::ZERO), "it was created together with the policy");
    assert!(!undecided(61, Duration::ZERO));
    // The policy has its target for ten minutes.
    assert!(undecided(-540, Duration::from_mins(10)));
    assert!(!undecided(-539, Duration::from_mins(10)));
}

#[test]
fn a_reconcile_came_to_what_it_reports() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let of = |reason| Outcome::of(reason, at(60), at(90));
    assert_eq!(of(Reason::AwaitingRollout), Outcome::Waits);
    assert_eq!(of(Reason::AwaitingWindow), Outcome::Waits);
    assert_eq!(of(Reason::InSync), Outcome::Healthy(at(60)));
    assert_eq!(of(Reason::VerificationFailed), Outcome::Failed);
    assert_eq!(
        Outcome::of(Reason::InSync, at(60), at(30)),
        Outcome::Healthy(at(30)),
        "the clock was set back"
    );
}
