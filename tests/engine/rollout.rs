//! How changes spread over a given.

mod course;
mod exhaustive;
mod fleet;
mod gateway;
mod machine;
mod property;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tenure::crd::{NumberOrPercent, Phase};
use tenure::engine::lifetime::Target;
use tenure::engine::rollout::Standing::{Drifted, Proven, Restoring, UnderWay, Unread, Unreadable, Waiting};
use tenure::engine::rollout::{
    Canary, Choice, Member, Plan, Record, Rules, Scene, Standing, at_least_one, at_most, is_risky, is_short,
    plan, target_hash,
};

const TARGET: Target = Target::Exact(28_800);
const FAILED: Standing = Standing::Failed { asks: false };
const RETRY: Standing = Standing::Failed { asks: true };
const SOAK: u64 = 600;

/// So many seconds after the rollout began.
fn at(seconds: i64) -> Timestamp {
    Timestamp::constant(1_700_000_000, 0) + SignedDuration::from_secs(seconds)
}

/// A fleet, as one plan sees it: two are changed at once, one failure is borne, and one is the canary.
struct Given {
    rules: Rules,
    target: Target,
    members: BTreeMap<String, Member>,
    drifts: usize,
    latest_attempt: Option<Timestamp>,
    window_open: bool,
    resume: bool,
    now: Timestamp,
}

impl Given {
    fn of(members: &[(&str, Standing)]) -> Self {
        let member = |standing| Member { standing, late: false, checked: None, tries: 0 };
        let canary = Canary { choice: Choice::First(1), soak: Duration::from_secs(SOAK) };
        Self {
            rules: Rules { max_concurrent: 2, max_failures: 1, canary: Some(canary) },
            target: TARGET,
            members: members.iter().map(|(name, s)| ((*name).to_owned(), member(*s))).collect(),
            drifts: 0,
            latest_attempt: None,
            window_open: true,
            resume: false,
            now: at(0),
        }
    }

    fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn with(self, name: &str, change: impl FnOnce(&mut Member)) -> Self {
        self.but(|given| change(given.members.get_mut(name).unwrap()))
    }

    fn chosen(self, choice: Choice) -> Self {
        self.but(|given| given.rules.canary = Some(Canary { choice, soak: Duration::from_secs(SOAK) }))
    }

    fn without_canary(self) -> Self {
        self.but(|given| given.rules.canary = None)
    }

    fn closed(self) -> Self {
        self.but(|given| given.window_open = false)
    }

    fn at(self, seconds: i64) -> Self {
        self.but(|given| given.now = at(seconds))
    }

    fn plan(&self, record: Option<&Record>) -> Plan {
        plan(
            record,
            &Scene {
                rules: &self.rules,
                target: self.target,
                members: &self.members,
                elsewhere: 0,
                drifts: self.drifts,
                latest_attempt: self.latest_attempt,
                window_open: self.window_open,
                resume: self.resume,
                now: self.now,
            },
        )
    }

    /// The plan's phase, and whom it begins.
    fn told(&self, record: Option<&Record>) -> (Option<Phase>, Vec<String>) {
        let plan = self.plan(record);
        (plan.record.map(|record| record.phase), plan.begin)
    }
}

fn record(phase: Phase, canaries: &[&str]) -> Record {
    Record {
        phase,
        target_hash: target_hash(TARGET, false),
        canaries: strings(canaries),
        soak_until: None,
        started: at(0),
    }
}

fn soaking(phase: Phase, canaries: &[&str]) -> Record {
    Record { soak_until: Some(at(600)), ..record(phase, canaries) }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn named(names: &[&str]) -> Choice {
    Choice::Named(strings(names).into_iter().collect::<BTreeSet<_>>())
}

fn all(phase: Phase, begin: &[&str]) -> (Option<Phase>, Vec<String>) {
    (Some(phase), strings(begin))
}

#[test]
fn shares_are_rounded_for_the_fleets_good() {
    let percent = |text: &str| NumberOrPercent::Percent(text.to_owned());
    for (limit, matched, least, most) in [
        (NumberOrPercent::Number(3), 100, 3, 3),
        (NumberOrPercent::Number(0), 100, 1, 0),
        (NumberOrPercent::Number(u32::MAX), 0, 4_294_967_295, 4_294_967_295),
        (percent("10%"), 40, 4, 4),
        (percent("10%"), 41, 5, 4),
        (percent("10%"), 9, 1, 0),
        (percent("5%"), 39, 2, 1),
        (percent("100%"), 7, 7, 7),
        (percent("1%"), 0, 1, 0),
        (percent("0%"), 50, 1, 0),
        (percent("50%"), usize::MAX, usize::MAX.div_ceil(100), usize::MAX / 100),
    ] {
        assert_eq!(
            (at_least_one(&limit, matched), at_most(&limit, matched)),
            (least, most),
            "{limit:?} {matched}"
        );
    }
}

#[test]
fn it_is_risky_to_log_out_most_of_a_fleet_often() {
    let range = |least, most| Target::Range { least, most };
    for (target, fleet, tightened, risky) in [
        (Target::Exact(3599), 4, 3, true),
        (Target::Exact(3600), 4, 4, false),
        (Target::Exact(600), 4, 2, false),
        (Target::Exact(600), 5, 3, true),
        (Target::Exact(600), 3, 3, false),
        (Target::Exact(600), 0, 0, false),
        (Target::Exact(600), 1000, 500, false),
        (Target::Exact(600), 1000, 501, true),
        (range(600, 3599), 10, 6, true),
        (range(600, 3600), 10, 10, false),
    ] {
        assert_eq!(is_risky(target, fleet, tightened), risky, "{target} {fleet} {tightened}");
    }
    assert!(is_short(Target::Exact(3599)) && !is_short(Target::Exact(3600)));
    assert_eq!(Rules::guard().bearable_drifts(), usize::MAX);
}

#[test]
fn targets_have_names_of_their_own() {
    let targets = [
        Target::Exact(600),
        Target::Exact(28_800),
        Target::Range { least: 600, most: 28_800 },
        Target::Range { least: 600, most: 2_592_000 },
    ];
    let names: BTreeSet<String> =
        targets.iter().flat_map(|target| [target_hash(*target, false), target_hash(*target, true)]).collect();
    assert_eq!(names.len(), 8);
    assert!(
        names.iter().all(|name| name.len() == 16 && name.chars().all(|c| c.is_ascii_hexdigit())),
        "{names:?}"
    );
    // FNV-1a of "28800", by another implementation: a new version must not take running rollouts for others.
    assert_eq!(target_hash(Target::Exact(28_800), false), "d78dbc4d9b137e45");
}

#[test]
fn canaries_are_pinned_when_all_are_known() {
    let first = |count| Choice::First(count);
    let none: Option<&[&str]> = None;
    for (choice, members, canaries) in [
        (first(1), vec![("b", Waiting), ("a", Waiting)], Some(&["a"][..])),
        (first(2), vec![("a", Unreadable), ("b", Waiting), ("c", Proven), ("d", Waiting)], Some(&["b", "d"])),
        (first(5), vec![("a", Waiting), ("b", Waiting)], Some(&["a", "b"])),
        (first(1), vec![("a", Drifted), ("b", Waiting)], Some(&["b"])),
        (first(1), vec![("a", Restoring), ("b", UnderWay), ("c", Waiting)], Some(&["c"])),
        (first(1), vec![("a", Unreadable), ("b", Unreadable)], none),
        (first(1), vec![("a", Waiting), ("b", Unread)], none),
        (first(1), vec![("a", Proven), ("b", Drifted), ("c", Unread)], none),
        (named(&["b", "z"]), vec![("a", Waiting), ("b", Waiting)], Some(&["b"])),
        (named(&["b"]), vec![("a", Waiting), ("b", Proven)], Some(&["b"])),
        (named(&["a", "b"]), vec![("a", Unreadable), ("b", Waiting), ("c", Waiting)], Some(&["b"])),
        (named(&["a"]), vec![("a", Unreadable), ("b", Waiting)], none),
        (named(&["z"]), vec![("a", Waiting)], none),
        (named(&[]), vec![("a", Waiting)], none),
    ] {
        let given = Given::of(&members).chosen(choice.clone());
        let plan = given.plan(None);
        let pinned = plan.record.as_ref().map(|record| record.canaries.clone());
        assert_eq!(pinned, canaries.map(strings), "{choice:?} {members:?}");
        let matches_none = choice == named(&["z"]) || choice == named(&[]);
        assert_eq!(plan.lacks_canaries, matches_none, "{choice:?}");
        let unread = members.iter().any(|(_, s)| *s == Unread) && members.iter().any(|(_, s)| *s == Waiting);
        assert_eq!(plan.undecided, unread, "{members:?}");
        if let Some(record) = &plan.record {
            assert_eq!((record.phase, record.soak_until, record.started), (Phase::Canary, None, at(0)));
            assert!(plan.begin.iter().all(|name| {
                record.canaries.contains(name) || matches!(given.members[name].standing, Drifted | Restoring)
            }));
        }
    }
}

#[test]
fn who_has_nothing_to_change_has_no_rollout() {
    for members in [vec![], vec![("a", Proven)], vec![("a", Unread)], vec![("a", Unreadable), ("b", Proven)]]
    {
        let plan = Given::of(&members).plan(None);
        assert_eq!((plan.record, plan.begin, plan.undecided), (None, vec![], false), "{members:?}");
    }
}

#[test]
fn the_others_follow_canaries_that_have_soaked_and_were_checked() {
    let given = |now| Given::of(&[("a", Proven), ("b", Waiting), ("c", Waiting), ("d", Waiting)]).at(now);
    let checked = |given: Given, time| given.with("a", |member| member.checked = Some(at(time)));
    let canary = record(Phase::Canary, &["a"]);
    for standing in [Waiting, UnderWay, FAILED, Unreadable, Unread, Drifted] {
        let plan = given(5).with("a", |member| member.standing = standing).plan(Some(&canary));
        assert_eq!(plan.record.as_ref(), Some(&canary), "no soak before {standing:?} is proven");
        assert!(plan.begin.iter().all(|name| name == "a"), "{standing:?}");
    }
    let begun = checked(given(5), 5)
        .but(|given| given.now = at(5) + SignedDuration::from_millis(1))
        .plan(Some(&canary));
    let soak = begun.record.unwrap();
    assert_eq!(soak.soak_until, Some(at(606)), "statuses hold whole seconds: never shorter");
    for (now, time, phase, check, begin) in [
        (605, 5, Phase::Canary, &[][..], &[][..]),
        (606, 605, Phase::Canary, &["a"], &[]),
        (900, 605, Phase::Canary, &["a"], &[]),
        (606, 606, Phase::Progressing, &[], &["b", "c"]),
    ] {
        let plan = checked(given(now), time).plan(Some(&soak));
        let told = (plan.record.unwrap().phase, plan.check, plan.begin);
        assert_eq!(told, (phase, strings(check), strings(begin)), "{now} {time}");
    }
}

#[test]
fn every_canary_has_to_pass() {
    let one = Given::of(&[("a", Proven), ("b", UnderWay)]).plan(Some(&record(Phase::Canary, &["a", "b"])));
    assert_eq!(one.record, Some(record(Phase::Canary, &["a", "b"])), "the soak begins with the last");
    let soak = soaking(Phase::Canary, &["a", "b"]);
    let given = |a, b| {
        let given = Given::of(&[("a", Proven), ("b", Proven), ("c", Waiting)]).at(700);
        given.with("a", |m| m.checked = Some(at(a))).with("b", |m| m.checked = Some(at(b)))
    };
    let plan = given(600, 599).plan(Some(&soak));
    assert_eq!((plan.check, plan.begin), (strings(&["b"]), vec![]));
    assert_eq!(given(600, 600).told(Some(&soak)), all(Phase::Progressing, &["c"]));
}

#[test]
fn a_canary_that_fails_three_times_halts() {
    for (record, window_open, tries, checked, phase) in [
        (soaking(Phase::Canary, &["a"]), true, 2, 0, Phase::Canary),
        (soaking(Phase::Canary, &["a"]), true, 3, 0, Phase::Halted),
        (soaking(Phase::Canary, &["a"]), true, u8::MAX, 599, Phase::Halted),
        (soaking(Phase::Canary, &["a"]), false, 3, 0, Phase::Halted),
        // What has passed its check may go.
        (soaking(Phase::Canary, &["a"]), true, 3, 600, Phase::Progressing),
        (soaking(Phase::AwaitingWindow, &["a"]), false, 3, 600, Phase::AwaitingWindow),
        (soaking(Phase::Progressing, &["a"]), true, 3, 0, Phase::Progressing),
        // After a restart nobody knows who has: that is judged when a window opens.
        (soaking(Phase::AwaitingWindow, &["a"]), false, 3, 0, Phase::AwaitingWindow),
        (soaking(Phase::AwaitingWindow, &["a"]), true, 3, 0, Phase::Halted),
        // Before their change, canaries that cannot be read are only in the way while they could be changed.
        (record(Phase::Canary, &["a"]), true, 3, 0, Phase::Halted),
        (record(Phase::AwaitingWindow, &["a"]), false, 3, 0, Phase::AwaitingWindow),
    ] {
        let given = Given::of(&[("a", Unreadable), ("b", Waiting)])
            .at(700)
            .but(|given| given.window_open = window_open);
        let given = given.with("a", |m| (m.tries, m.checked) = (tries, Some(at(checked))));
        let plan = given.plan(Some(&record));
        assert_eq!(plan.record.unwrap().phase, phase, "{record:?} {tries} {checked}");
    }
}
