//! Whatever happens to the fleet and to the operator: what a rollout promises holds, and it ends.

use std::time::Duration;

use proptest::prelude::*;
use tenure::crd::{Approval, Phase};
use tenure::engine::rollout::{Canary, Choice, Decision, Plan, Record, Rules, Standing, target_hash};

use super::fleet::{End, Event, Fleet, TARGETS, View};

fn rules() -> impl Strategy<Value = (Rules, bool)> {
    let choice = prop_oneof![3 => (1..4_usize).prop_map(Some), 1 => Just(None)];
    let approval = prop_oneof![Just(Approval::Automatic), Just(Approval::Required)];
    let canary = (choice, prop_oneof![Just(0), 1..120_u64], approval).prop_map(|(count, soak, approval)| {
        let choice = Choice::First(count.unwrap_or(0));
        let canary = Canary { choice, soak: Duration::from_secs(soak), approval };
        (Some(canary), count.is_none())
    });
    let canary = prop_oneof![3 => canary, 1 => Just((None, false))];
    let bounded =
        (1..7_usize, 0..4_usize, canary).prop_map(|(max_concurrent, max_failures, (canary, by_label))| {
            (Rules { max_concurrent, max_failures, canary }, by_label)
        });
    prop_oneof![7 => bounded, 1 => Just((Rules::guard(), false))]
}

fn values() -> impl Strategy<Value = Vec<(u32, bool)>> {
    let value = prop_oneof![4 => Just(86_400), 1 => Just(1800), 1 => Just(28_800)];
    let value = (value, prop::bool::weighted(0.2));
    prop_oneof![
        3 => prop::collection::vec(value.clone(), 1..10),
        1 => prop::collection::vec(value, 10..61),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any::<usize>().prop_map(Event::Look),
        6 => Just(Event::LookAtAll),
        8 => any::<usize>().prop_map(Event::Work),
        8 => Just(Event::WorkAtAll),
        6 => prop_oneof![0..3000_u64, 0..200_000_u64].prop_map(Event::Wait),
        1 => (0..5000_u64).prop_map(Event::ClockSetBack),
        3 => prop::bool::weighted(0.6).prop_map(Event::Window),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(n, reachable)| Event::Reachable(n, reachable)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(n, takes)| Event::TakesWrites(n, takes)),
        2 => (any::<usize>(), prop_oneof![4 => 1..3_usize, 1 => 3..20_usize]).prop_map(|(n, c)| Event::Drift(n, c)),
        1 => prop::bool::weighted(0.2).prop_map(Event::Appear),
        1 => any::<usize>().prop_map(Event::Delete),
        1 => any::<usize>().prop_map(Event::Leave),
        1 => any::<usize>().prop_map(Event::Target),
        1 => Just(Event::Resume),
        2 => Just(Event::Approve),
        2 => Just(Event::Kill),
    ]
}

fn outcomes() -> impl Strategy<Value = End> {
    prop_oneof![
        20 => Just(End::Carried),
        1 => Just(End::KilledBeforeRecord),
        1 => Just(End::KilledAfterRecord),
    ]
}

/// Fleets that are to be changed, and such as have the target already.
fn fleets() -> impl Strategy<Value = Fleet> {
    (rules(), 0..TARGETS.len(), values(), prop::bool::weighted(0.4)).prop_map(
        |((rules, by_label), target, mut values, in_order)| {
            if in_order {
                values.iter_mut().for_each(|(value, _)| *value = TARGETS[target].nearest(*value));
            }
            let mut fleet = Fleet::new(rules, by_label, target, &values);
            fleet.happen(&if in_order { Event::LookAtAll } else { Event::Wait(0) });
            fleet
        },
    )
}

fn histories(most: usize) -> impl Strategy<Value = Vec<(Vec<Event>, End)>> {
    prop::collection::vec((prop::collection::vec(events(), 1..4), outcomes()), 0..most)
}

fn is_active(record: &Record) -> bool {
    record.phase != Phase::Complete
}

/// Whether a change belongs to the rollout, and is not a restoration or the repair of a single drift.
fn is_rolled_out(fleet: &Fleet, plan: &Plan, view: &View, name: &str) -> bool {
    let again = plan
        .record
        .as_ref()
        .is_some_and(|r| is_active(r) && r.target_hash == target_hash(fleet.target, true));
    match view.standing(name) {
        Some(Standing::Restoring) => false,
        Some(Standing::Drifted) => again || view.drifts > view.rules.bearable_drifts(),
        _ => true,
    }
}

/// What may be begun, and when.
fn begins_rightly(fleet: &Fleet, plan: &Plan, view: &View) -> Result<(), TestCaseError> {
    let busy = view.count(|s| s == Standing::UnderWay) + plan.begin.len();
    prop_assert!(plan.begin.is_empty() || busy <= view.rules.max_concurrent, "too many at once");
    let halted = plan.record.as_ref().is_some_and(|r| r.phase == Phase::Halted);
    for name in &plan.begin {
        if view.standing(name) == Some(Standing::Restoring) {
            continue;
        }
        prop_assert!(view.window_open, "{name} is begun outside a window");
        prop_assert!(!halted, "{name} is begun while halted");
        if !is_rolled_out(fleet, plan, view, name) {
            continue;
        }
        let record = plan.record.as_ref();
        prop_assert!(record.is_some_and(is_active), "{name} is begun without a rollout");
        let record = record.unwrap();
        if record.canaries.contains(name) || record.canaries.is_empty() {
            continue;
        }
        prop_assert_eq!(record.phase, Phase::Progressing);
        prop_assert!(fleet.is_approved(), "{} is begun without approval", name);
        prop_assert!(
            record.soak_until.is_some_and(|until| until <= view.latest),
            "{} is begun during the soak",
            name
        );
        for canary in &record.canaries {
            prop_assert!(fleet.has_passed(canary, record.soak_until.unwrap()), "{canary} was not checked");
        }
    }
    Ok(())
}

/// Drifts that are not a reset are put back as soon as there is room.
fn repairs_at_once(fleet: &Fleet, plan: &Plan, view: &View) -> Result<(), TestCaseError> {
    let halted = plan.record.as_ref().is_some_and(|r| r.phase == Phase::Halted);
    let busy = view.count(|s| s == Standing::UnderWay) + plan.begin.len();
    if halted || !view.window_open || busy >= view.rules.max_concurrent {
        return Ok(());
    }
    for (name, member) in &view.members {
        let drifted = member.standing == Standing::Drifted && !is_rolled_out(fleet, plan, view, name);
        prop_assert!(!drifted || plan.begin.contains(name), "{name} is not put back");
    }
    Ok(())
}

/// A rollout is not begun for the sake of what drifts by itself.
fn begins_for_a_reason(fleet: &Fleet, plan: &Plan, view: &View) -> Result<(), TestCaseError> {
    let is_reset = view.drifts > view.rules.bearable_drifts();
    let waits = view.count(|s| matches!(s, Standing::Waiting | Standing::Failed { .. })) > 0;
    let was_active = fleet.record.as_ref().is_some_and(is_active);
    let is_active = plan.record.as_ref().is_some_and(is_active);
    prop_assert!(was_active || !is_active || waits || is_reset, "nothing asks for a rollout");
    Ok(())
}

/// What is pinned stays pinned, whatever was forgotten.
fn continues_rightly(fleet: &Fleet, plan: &Plan, view: &View) -> Result<(), TestCaseError> {
    let hashes = [false, true].map(|again| target_hash(fleet.target, again));
    let Some(old) = fleet.record.as_ref().filter(|r| is_active(r) && hashes.contains(&r.target_hash)) else {
        return Ok(());
    };
    prop_assert!(plan.record.is_some(), "the rollout is forgotten");
    let new = plan.record.as_ref().unwrap();
    let staying = |name: &String| !matches!(view.standing(name), None | Some(Standing::Restoring));
    let passed = old.phase == Phase::Halted || old.phase == Phase::Progressing && view.window_open;
    if !passed && !old.canaries.is_empty() && !old.canaries.iter().any(staying) {
        return Ok(());
    }
    prop_assert!(new.target_hash == old.target_hash || new.target_hash == hashes[1], "another rollout");
    prop_assert_eq!(&new.canaries, &old.canaries, "other canaries");
    prop_assert!(old.soak_until.is_none() || new.soak_until == old.soak_until, "another soak");
    prop_assert!(old.phase == Phase::Halted && fleet.resume || new.started == old.started, "begun again");
    if old.phase == Phase::Halted {
        prop_assert_eq!(new.phase != Phase::Halted, fleet.resume);
        prop_assert!(!fleet.resume || new.started > old.started, "nobody sees that it was resumed");
    } else {
        let failed = view.count(|s| matches!(s, Standing::Failed { .. }));
        prop_assert!(failed <= view.rules.max_failures || new.phase == Phase::Halted, "too many failures");
    }
    Ok(())
}

/// Where nothing happens, the same plan is made again.
fn settles(fleet: &Fleet, plan: &Plan) -> Result<(), TestCaseError> {
    let run = |record: &Option<Record>| record.clone().map(|r| (r.target_hash, r.started));
    if run(&plan.record) == run(&fleet.record) {
        let (again, _) = fleet.planned(plan.record.as_ref(), false);
        prop_assert_eq!(&again.plan, plan);
        return Ok(());
    }
    // Begun, the canaries' soak, and perhaps canaries in the place of those that are gone: three, and no more.
    let mut begun = fleet.clone();
    for _ in 0..3 {
        let (next, _) = begun.planned(begun.record.as_ref(), begun.resume);
        begun.carry_out(&without_permits(next), End::Carried);
    }
    let (last, _) = begun.planned(begun.record.as_ref(), false);
    prop_assert_eq!(&last.plan.record, &begun.record);
    Ok(())
}

fn without_permits(mut decision: Decision) -> Decision {
    decision.withhold();
    decision
}

fn advance(fleet: &mut Fleet, outcome: End) -> Result<Plan, TestCaseError> {
    let (decision, view) = fleet.planned(fleet.record.as_ref(), fleet.resume);
    let plan = decision.plan.clone();
    begins_rightly(fleet, &plan, &view)?;
    repairs_at_once(fleet, &plan, &view)?;
    begins_for_a_reason(fleet, &plan, &view)?;
    continues_rightly(fleet, &plan, &view)?;
    settles(fleet, &plan)?;
    let halted = plan.record.as_ref().is_some_and(|r| r.phase == Phase::Halted);
    prop_assert!(!halted || fleet.is_troubled(), "halted without a failure");
    fleet.carry_out(&decision, outcome);
    prop_assert!(fleet.under_way() <= view.rules.max_concurrent);
    let bound = view.rules.max_failures.saturating_add(view.rules.max_concurrent);
    prop_assert!(fleet.failed() <= bound, "{} failed", fleet.failed());
    Ok(plan)
}

/// Once nothing fails, every gateway is proven in time.
fn finishes(fleet: &mut Fleet) -> Result<(), TestCaseError> {
    fleet.mend();
    fleet.happen(&Event::LookAtAll);
    let (mut resumed, mut check) = (0, Vec::new());
    for _ in 0..60 + 3 * fleet.names().len() {
        fleet.look_where_needed(&check);
        for event in [Event::WorkAtAll, Event::WorkAtAll, Event::WorkAtAll, Event::Wait(10_000)] {
            fleet.happen(&event);
        }
        let plan = advance(fleet, End::Carried)?;
        let phase = plan.record.as_ref().map(|record| record.phase);
        if plan.lacks_canaries || fleet.is_proven() && phase.is_none_or(|phase| phase == Phase::Complete) {
            return Ok(());
        }
        if phase == Some(Phase::AwaitingApproval) {
            fleet.happen(&Event::Approve);
        }
        if phase == Some(Phase::Halted) {
            resumed += 1;
            fleet.resume = true;
        }
        prop_assert!(resumed <= 1, "resumed {} times", resumed);
        check = plan.check;
    }
    Err(TestCaseError::fail(format!("not finished: {:?}", fleet.record)))
}

proptest! {
    #[test]
    fn a_rollout_keeps_its_promises_and_ends(mut fleet in fleets(), history in histories(50)) {
        for (events, outcome) in &history {
            events.iter().for_each(|event| fleet.happen(event));
            advance(&mut fleet, *outcome)?;
        }
        finishes(&mut fleet)?;
    }

    #[test]
    fn the_order_in_which_news_came_is_of_no_account(
        mut fleet in fleets(),
        history in histories(20),
        looks in any::<u64>(),
        order in any::<u64>(),
    ) {
        for (events, outcome) in &history {
            events.iter().for_each(|event| fleet.happen(event));
            let (plan, _) = fleet.planned(fleet.record.as_ref(), fleet.resume);
            fleet.carry_out(&plan, *outcome);
        }
        let tell = |fleet: &mut Fleet, name: &String, number: usize| {
            if looks >> (number % 64) & 1 == 0 { fleet.look(name) } else { fleet.work(name) }
        };
        let mut other = fleet.clone();
        let mut news: Vec<(usize, String)> = fleet.names().into_iter().enumerate().collect();
        news.iter().for_each(|(number, name)| tell(&mut fleet, name, *number));
        news.sort_by_key(|(number, _)| (*number as u64 + 1).wrapping_mul(order | 1).rotate_left(17));
        news.iter().for_each(|(number, name)| tell(&mut other, name, *number));
        let plans = [&fleet, &other].map(|fleet| fleet.planned(fleet.record.as_ref(), fleet.resume).0.plan);
        prop_assert_eq!(&plans[0], &plans[1]);
    }
}
