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
use tenure::crd::{Approval, NumberOrPercent, Phase};
use tenure::engine::lifetime::Target;
use tenure::engine::rollout::Standing::{Drifted, Proven, Restoring, UnderWay, Unread, Unreadable, Waiting};
use tenure::engine::rollout::{
    Bound, Canary, Choice, Member, Plan, Record, Rules, Scene, Standing, is_risky, is_short, plan,
    target_hash,
};

const TARGET: Target = Target::Exact(28_800);
const FAILED: Standing = Standing::Failed { asks: false };
const RETRY: Standing = Standing::Failed { asks: true };
const SOAK: u64 = 600;

/// So many seconds after the rollout began.
fn at(seconds: i64) -> Timestamp {
    Timestamp::constant(1_700_000_000, 0) + SignedDuration::from_secs(seconds)
}

fn canary(choice: Choice, approval: Approval) -> Canary {
    Canary { choice, soak: Duration::from_secs(SOAK), approval }
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
    approved: Option<String>,
    now: Timestamp,
}

impl Given {
    fn of(members: &[(&str, Standing)]) -> Self {
        let member = |standing| Member { standing, late: false, checked: None, tries: 0 };
        let canary = canary(Choice::First(1), Approval::Automatic);
        Self {
            rules: Rules { max_concurrent: 2, max_failures: 1, canary: Some(canary) },
            target: TARGET,
            members: members.iter().map(|(name, s)| ((*name).to_owned(), member(*s))).collect(),
            drifts: 0,
            latest_attempt: None,
            window_open: true,
            resume: false,
            approved: None,
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
        self.but(|given| given.rules.canary = Some(canary(choice, Approval::Automatic)))
    }

    fn without_canary(self) -> Self {
        self.but(|given| given.rules.canary = None)
    }

    /// The others wait for approval, which has been given for this target hash.
    fn approved(self, hash: Option<&str>) -> Self {
        self.but(|given| {
            given.rules.canary = Some(canary(Choice::First(1), Approval::Required));
            given.approved = hash.map(str::to_owned);
        })
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
                approved: self.approved.as_deref(),
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
        let bound = Bound::parse("rollout.maxConcurrent", &limit).unwrap();
        assert_eq!(
            (bound.at_least_one(matched), bound.at_most(matched)),
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
fn a_canary_that_waits_for_its_change_is_not_checked_again_and_again() {
    let soak = soaking(Phase::Canary, &["a"]);
    for standing in [Waiting, Drifted, UnderWay, RETRY] {
        let given = Given::of(&[("a", standing), ("b", Waiting)]).at(900);
        assert_eq!(given.plan(Some(&soak)).check, strings(&[]), "{standing:?}");
        assert_eq!(
            given.closed().plan(Some(&soak)).check,
            strings(&[]),
            "{standing:?}, and no window is open"
        );
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

#[test]
fn after_the_soak_the_others_wait_for_the_approval_of_this_target() {
    let (hash, other) = (target_hash(TARGET, false), target_hash(Target::Exact(3600), false));
    let members = [("a", Proven), ("b", Waiting), ("c", Waiting)];
    let given = |approved| {
        let given = Given::of(&members).at(700).approved(approved);
        given.with("a", |member| member.checked = Some(at(600)))
    };
    let (soak, waits) = (soaking(Phase::Canary, &["a"]), soaking(Phase::AwaitingApproval, &["a"]));
    for record in [&soak, &waits] {
        for approved in [None, Some(""), Some("yes"), Some(&*other)] {
            assert_eq!(given(approved).told(Some(record)), all(Phase::AwaitingApproval, &[]), "{approved:?}");
        }
        assert_eq!(given(Some(&hash)).told(Some(record)), all(Phase::Progressing, &["b", "c"]));
        let automatic =
            given(None).but(|given| given.rules.canary = Some(canary(Choice::First(1), Approval::Automatic)));
        assert_eq!(
            automatic.told(Some(record)),
            all(Phase::Progressing, &["b", "c"]),
            "no approval is required any more"
        );
        assert_eq!(given(None).without_canary().told(Some(record)), all(Phase::Progressing, &["b", "c"]));
    }
    // It does not shorten the soak, nor replace the check after it.
    assert_eq!(given(Some(&hash)).at(599).told(Some(&soak)), all(Phase::Canary, &[]));
    let unchecked = given(Some(&hash)).with("a", |member| member.checked = Some(at(599)));
    assert_eq!(unchecked.told(Some(&soak)), all(Phase::Canary, &[]));
    // After a restart it is not known when the canaries were checked: the phase says that they have passed.
    let restarted = |approved| given(approved).with("a", |member| member.checked = None);
    assert_eq!(restarted(None).told(Some(&waits)), all(Phase::AwaitingApproval, &[]));
    assert_eq!(restarted(Some(&hash)).told(Some(&waits)), all(Phase::Progressing, &["b", "c"]));
    // The reset of a whole site in the meantime is not what was approved.
    let reset =
        given(Some(&hash)).but(|given| given.drifts = 4).with("b", |member| member.standing = Drifted);
    assert_eq!(reset.told(Some(&waits)), all(Phase::AwaitingApproval, &[]));
    let reset = reset.but(|given| given.approved = Some(target_hash(TARGET, true)));
    assert_eq!(reset.told(Some(&waits)), all(Phase::Progressing, &["b", "c"]));
    // Another target begins with its own canary.
    let edited = given(Some(&hash)).but(|given| given.target = Target::Exact(3600));
    assert_eq!(edited.told(Some(&waits)), all(Phase::Canary, &["b"]));
}

#[test]
fn halts_windows_and_repairs_go_on_while_approval_is_awaited() {
    let hash = target_hash(TARGET, false);
    let waits = soaking(Phase::AwaitingApproval, &["a"]);
    let given = |a, b| Given::of(&[("a", a), ("b", b), ("c", Waiting)]).at(700).approved(None);
    assert_eq!(given(Proven, Drifted).told(Some(&waits)), all(Phase::AwaitingApproval, &["b"]));
    assert_eq!(given(Drifted, Proven).told(Some(&waits)), all(Phase::AwaitingApproval, &["a"]));
    assert_eq!(given(Proven, Restoring).told(Some(&waits)), all(Phase::AwaitingApproval, &["b"]));
    assert_eq!(given(Proven, Drifted).closed().told(Some(&waits)), all(Phase::AwaitingApproval, &[]));
    // A canary that was created again has yet to be changed.
    assert_eq!(given(Waiting, Waiting).told(Some(&waits)), all(Phase::AwaitingApproval, &["a"]));
    for (tries, phase) in [(2, Phase::AwaitingApproval), (3, Phase::Halted)] {
        let failing = given(Unreadable, Waiting).with("a", |m| (m.tries, m.checked) = (tries, Some(at(600))));
        assert_eq!(failing.told(Some(&waits)), all(phase, &[]), "{tries}");
    }
    let failed = given(FAILED, FAILED);
    assert_eq!(failed.told(Some(&waits)), all(Phase::Halted, &[]));
    // Nothing waits any more: the others have gone to another policy, say.
    let alone = Given::of(&[("a", Proven), ("b", Proven)]).approved(None);
    assert_eq!(alone.told(Some(&waits)), all(Phase::Complete, &[]));
    // Approved outside a window: the others wait for that, then.
    let closed =
        given(Proven, Waiting).approved(Some(&hash)).with("a", |m| m.checked = Some(at(600))).closed();
    assert_eq!(closed.told(Some(&waits)), all(Phase::AwaitingWindow, &[]));
    let held = soaking(Phase::AwaitingWindow, &["a"]);
    assert_eq!(closed.told(Some(&held)), all(Phase::AwaitingWindow, &[]));
    let unapproved = closed.approved(None);
    assert_eq!(unapproved.told(Some(&held)), all(Phase::AwaitingApproval, &[]), "it needs no window to wait");
    let open = unapproved.but(|given| (given.window_open, given.approved) = (true, Some(hash)));
    assert_eq!(open.told(Some(&held)), all(Phase::Progressing, &["b", "c"]));
}
