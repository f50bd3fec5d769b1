//! The course of a rollout: who is next, what halts it, and what happens meanwhile.

use tenure::crd::Phase;
use tenure::engine::lifetime::Target;
use tenure::engine::rollout::Standing::{Drifted, Proven, Restoring, UnderWay, Unread, Unreadable, Waiting};
use tenure::engine::rollout::{Member, Record, target_hash};

use super::{FAILED, Given, RETRY, TARGET, all, at, named, record, soaking, strings};

#[test]
fn the_first_are_those_to_be_restored_then_drifts_then_names_then_late_ones_then_failures() {
    let members = [
        ("a", RETRY),
        ("b", Waiting),
        ("c", Waiting),
        ("d", Drifted),
        ("e", Restoring),
        ("f", Waiting),
        ("g", FAILED),
    ];
    let given = |most| {
        let given = Given::of(&members).without_canary().with("b", |member| member.late = true);
        given.but(|given| (given.rules.max_concurrent, given.rules.max_failures) = (most, 2))
    };
    let order = strings(&["e", "d", "c", "f", "b", "a"]);
    for most in 0..8 {
        let begin = given(most).plan(Some(&record(Phase::Progressing, &[]))).begin;
        assert_eq!(begin, order[..most.min(6)], "{most}");
    }
    let busy = given(3).but(|given| {
        let member = Member { standing: UnderWay, late: false, checked: None, tries: 0 };
        given.members.extend([("x".to_owned(), member), ("y".to_owned(), member)]);
    });
    assert_eq!(busy.plan(Some(&record(Phase::Progressing, &[]))).begin, ["e"]);
}

#[test]
fn one_failure_more_than_is_borne_halts() {
    let progressing = record(Phase::Progressing, &["a"]);
    for (members, phase, begin) in [
        ([("a", Proven), ("b", FAILED), ("c", Waiting), ("d", Waiting)], Phase::Progressing, &["c", "d"][..]),
        ([("a", Proven), ("b", FAILED), ("c", RETRY), ("d", Waiting)], Phase::Halted, &[]),
        ([("a", FAILED), ("b", FAILED), ("c", Restoring), ("d", Drifted)], Phase::Halted, &["c"]),
        // A gateway counts while its last try has failed.
        ([("a", UnderWay), ("b", FAILED), ("c", Waiting), ("d", Proven)], Phase::Progressing, &["c"]),
    ] {
        assert_eq!(Given::of(&members).told(Some(&progressing)), all(phase, begin), "{members:?}");
    }
    for phase in [Phase::Canary, Phase::AwaitingWindow] {
        let given = Given::of(&[("a", RETRY), ("b", RETRY), ("c", Waiting)]);
        assert_eq!(given.told(Some(&record(phase, &["a", "b"]))), all(Phase::Halted, &[]), "{phase:?}");
    }
}

#[test]
fn a_halted_rollout_goes_on_when_it_is_asked_to() {
    let given = |asked| {
        let given = Given::of(&[("a", Proven), ("b", RETRY), ("c", RETRY), ("d", Waiting)]).at(900);
        let given = given.with("a", |member| member.checked = Some(at(650)));
        given.but(|given| (given.resume, given.latest_attempt) = (asked, Some(at(899))))
    };
    let halted = soaking(Phase::Halted, &["a"]);
    assert_eq!(given(false).plan(Some(&halted)).record, Some(halted.clone()));
    let resumed = given(true).plan(Some(&halted)).record.unwrap();
    assert_eq!(resumed, Record { phase: Phase::Canary, started: at(900), ..halted.clone() });
    // What failed before counts no more, and neither canaries nor soak are repeated.
    let after = given(false).with("b", |m| m.standing = Waiting).with("c", |m| m.standing = Waiting);
    assert_eq!(after.told(Some(&resumed)), all(Phase::Progressing, &["b", "c"]));
    for (now, latest_attempt, started, expected) in [
        (900, None, 0, 900),
        (900, Some(950), 0, 951),
        (900, Some(900), 0, 901),
        (0, None, 0, 1),
        (0, None, 70, 71),
    ] {
        let given = given(true).at(now).but(|given| given.latest_attempt = latest_attempt.map(at));
        let resumed = given.plan(Some(&Record { started: at(started), ..halted.clone() }));
        assert_eq!(resumed.record.unwrap().started, at(expected), "{now} {latest_attempt:?} {started}");
    }
    // Who asks in the moment in which it halts has not seen it.
    let now = given(true).told(Some(&record(Phase::Progressing, &["a"])));
    assert_eq!(now, all(Phase::Halted, &[]));
    assert_eq!(given(true).closed().told(Some(&halted)), all(Phase::Canary, &[]));
    assert_eq!(after.closed().told(Some(&resumed)), all(Phase::AwaitingWindow, &[]));
}

#[test]
fn another_target_is_another_rollout() {
    let other = Target::Exact(3600);
    for phase in [Phase::Canary, Phase::Progressing, Phase::Complete, Phase::Halted, Phase::AwaitingWindow] {
        let old = soaking(phase, &["a"]);
        let given = Given::of(&[("a", UnderWay), ("b", RETRY), ("c", Waiting), ("d", FAILED)]).at(30);
        let given = given.but(|given| (given.target, given.latest_attempt) = (other, Some(at(29))));
        let plan = given.plan(Some(&old));
        let new = Record {
            phase: Phase::Canary,
            target_hash: target_hash(other, false),
            canaries: strings(&["b"]),
            soak_until: None,
            started: at(30),
        };
        assert_eq!((plan.record, plan.begin), (Some(new), strings(&["b"])), "{phase:?}");
        let unread =
            Given::of(&[("a", Unread), ("c", Waiting)]).but(|given| given.target = other).plan(Some(&old));
        assert_eq!((unread.record, unread.undecided, unread.begin), (None, true, vec![]));
    }
}

#[test]
fn who_comes_later_joins_the_end() {
    let canary = record(Phase::Canary, &["b"]);
    let come = |standing| {
        Given::of(&[("a", standing), ("b", UnderWay), ("c", Waiting)]).with("a", |m| m.late = true)
    };
    for standing in [Unread, Unreadable, Waiting] {
        assert_eq!(come(standing).told(Some(&canary)), all(Phase::Canary, &[]), "{standing:?}");
    }
    let progressing = record(Phase::Progressing, &["b"]);
    assert_eq!(come(Waiting).told(Some(&progressing)), all(Phase::Progressing, &["c"]));
    let free = come(Waiting).with("b", |member| member.standing = Proven);
    assert_eq!(free.told(Some(&progressing)), all(Phase::Progressing, &["c", "a"]));
}

#[test]
fn it_is_complete_when_nobody_is_left_who_could_be_read() {
    let progressing = soaking(Phase::Progressing, &["a"]);
    for standing in [Proven, Unreadable, Restoring] {
        let given = Given::of(&[("a", Proven), ("b", standing)]);
        assert_eq!(given.told(Some(&progressing)).0, Some(Phase::Complete), "{standing:?}");
    }
    for standing in [Unread, Waiting, Drifted, UnderWay, FAILED, RETRY] {
        let given = Given::of(&[("a", Proven), ("b", standing)]);
        assert_eq!(given.told(Some(&progressing)).0, Some(Phase::Progressing), "{standing:?}");
    }
    // Also where there is nobody but canaries: when they have passed.
    let canaries = |now| Given::of(&[("a", Proven)]).at(now).with("a", |m| m.checked = Some(at(now)));
    assert_eq!(canaries(599).told(Some(&soaking(Phase::Canary, &["a"]))), all(Phase::Canary, &[]));
    assert_eq!(canaries(600).told(Some(&soaking(Phase::Canary, &["a"]))), all(Phase::Complete, &[]));
}

#[test]
fn whoever_is_labelled_in_after_completion_is_rolled_out_too() {
    let complete = soaking(Phase::Complete, &["a"]);
    let given = Given::of(&[("a", Proven), ("b", Waiting), ("c", Waiting)]).at(5000);
    let plan = given.plan(Some(&complete));
    assert_eq!(plan.record, Some(Record { started: at(5000), ..record(Phase::Canary, &["b"]) }));
    assert_eq!(plan.begin, ["b"]);
    let same_second = Given::of(&[("a", Proven), ("b", Waiting)]).plan(Some(&complete)).record.unwrap();
    assert_eq!(same_second.started, at(1), "one can be told from the other");
    let unread = Given::of(&[("a", Unread), ("b", Waiting)]).plan(Some(&complete));
    assert_eq!((unread.record, unread.undecided, unread.begin), (Some(complete), true, vec![]));
}

#[test]
fn nothing_begins_outside_a_window_and_the_soak_runs_on() {
    let waiting = Given::of(&[("a", Waiting), ("b", Waiting), ("r", Restoring)]).closed();
    assert_eq!(waiting.told(None), all(Phase::AwaitingWindow, &["r"]));
    assert_eq!(waiting.told(Some(&record(Phase::Canary, &["a"]))), all(Phase::AwaitingWindow, &["r"]));
    assert_eq!(waiting.told(Some(&record(Phase::Progressing, &[]))), all(Phase::AwaitingWindow, &["r"]));
    let open = waiting.but(|given| given.window_open = true);
    assert_eq!(open.told(Some(&record(Phase::AwaitingWindow, &["a"]))), all(Phase::Canary, &["r", "a"]));
    // What was begun is seen to its end, and the canary soaks.
    let given = |a, now| Given::of(&[("a", a), ("b", Waiting)]).closed().at(now);
    assert_eq!(given(UnderWay, 5).told(Some(&record(Phase::Canary, &["a"]))), all(Phase::Canary, &[]));
    let soak = given(Proven, 5).plan(Some(&record(Phase::Canary, &["a"]))).record.unwrap();
    assert_eq!((soak.phase, soak.soak_until), (Phase::Canary, Some(at(605))));
    let checks = given(Proven, 605).plan(Some(&soak));
    assert_eq!((checks.check, checks.begin), (strings(&["a"]), vec![]));
    let checked = given(Proven, 605).with("a", |m| m.checked = Some(at(605)));
    let waits = checked.plan(Some(&soak));
    assert_eq!((waits.record.clone().unwrap().phase, waits.check), (Phase::AwaitingWindow, vec![]));
    // Whoever has passed does so once: the others follow as soon as a window opens, though it cannot be read just then.
    let open =
        checked.but(|given| given.window_open = true).with("a", |m| m.standing = Unreadable).at(90_000);
    assert_eq!(open.told(waits.record.as_ref()), all(Phase::Progressing, &["b"]));
    // After a restart nobody knows that it has: it is looked at once more.
    let forgotten = given(Unread, 9000).plan(waits.record.as_ref());
    assert_eq!((forgotten.record.as_ref(), forgotten.check), (waits.record.as_ref(), strings(&["a"])));
}

#[test]
fn a_drift_is_put_back_in_every_phase() {
    for phase in [Phase::Canary, Phase::Progressing, Phase::Complete, Phase::Halted, Phase::AwaitingWindow] {
        let given =
            || Given::of(&[("a", UnderWay), ("c", Drifted), ("d", Drifted)]).but(|given| given.drifts = 2);
        let begin = if phase == Phase::Halted { strings(&[]) } else { strings(&["c"]) };
        assert_eq!(
            given().plan(Some(&record(phase, &["a"]))).begin,
            begin,
            "{phase:?}: as far as there is room"
        );
        let closed = given().closed().plan(Some(&record(phase, &["a"])));
        assert_eq!(closed.begin, strings(&[]), "{phase:?}");
    }
    let plan = Given::of(&[("a", Unread), ("b", Drifted)]).but(|given| given.drifts = 1).plan(None);
    assert_eq!((plan.record, plan.begin), (None, strings(&["b"])), "without a rollout, and at once");
    // Nor does a rollout that changes others wait for it.
    let canary = Given::of(&[("a", Drifted), ("b", Waiting)]).plan(None);
    assert_eq!((canary.record.unwrap().canaries, canary.begin), (strings(&["b"]), strings(&["a", "b"])));
}

#[test]
fn the_reset_of_a_whole_site_is_a_rollout() {
    let given = |drifts| {
        let given =
            Given::of(&[("a", Proven), ("b", Drifted), ("c", Drifted), ("d", Drifted), ("e", Drifted)]);
        given.but(|given| given.drifts = drifts)
    };
    let again = |record: Record| Record { target_hash: target_hash(TARGET, true), ..record };
    for old in [None, Some(record(Phase::Complete, &["a"]))] {
        assert_eq!(
            given(3).plan(old.as_ref()).begin,
            ["b", "c"],
            "as many as failures and changes that are borne"
        );
        let plan = given(4).plan(old.as_ref());
        let started = if old.is_some() { at(1) } else { at(0) };
        assert_eq!(plan.record, Some(again(Record { started, ..record(Phase::Canary, &["b"]) })));
        assert_eq!(plan.begin, ["b"]);
    }
    let unread = given(4).with("a", |member| member.standing = Unread).plan(None);
    assert_eq!((unread.undecided, unread.begin), (true, vec![]), "not even the first few");
    // It stays one, though the interval is over.
    let later =
        given(0).with("b", |m| m.standing = Proven).at(30).plan(Some(&again(record(Phase::Canary, &["b"]))));
    assert_eq!((later.record.unwrap().soak_until, later.begin), (Some(at(630)), vec![]));
    assert_eq!(given(0).plan(Some(&again(record(Phase::Progressing, &["b"])))).begin, ["b", "c"]);
    // A rollout that goes on takes it in, without another canary, and does not forget it either.
    for phase in [Phase::Canary, Phase::Halted] {
        let reset = given(4).with("a", |m| m.standing = UnderWay).plan(Some(&record(phase, &["a"])));
        assert_eq!(reset.record, Some(again(record(phase, &["a"]))));
        assert_eq!(reset.begin, strings(&[]));
        let later = given(0).with("a", |m| m.standing = UnderWay).plan(reset.record.as_ref());
        assert_eq!((later.record, later.begin), (reset.record, vec![]));
    }
}

#[test]
fn nobody_follows_canaries_that_are_gone() {
    let soak = || soaking(Phase::Canary, &["a"]);
    // Others are pinned in their place, once everybody is known.
    let gone = Given::of(&[("b", Waiting), ("c", Waiting)]).at(700).plan(Some(&soak()));
    assert_eq!(gone.record, Some(Record { started: at(700), ..record(Phase::Canary, &["b"]) }));
    assert_eq!(gone.begin, ["b"]);
    for members in
        [[("b", Waiting), ("c", Unread)], [("b", UnderWay), ("c", Proven)], [("b", FAILED), ("c", Proven)]]
    {
        for phase in [Phase::Canary, Phase::AwaitingWindow] {
            let old = soaking(phase, &["a"]);
            let plan = Given::of(&members).at(700).plan(Some(&old));
            assert_eq!((plan.record, plan.begin), (Some(old), vec![]), "{members:?}");
        }
    }
    let leaving = Given::of(&[("a", Restoring), ("b", Waiting)]).plan(Some(&soak()));
    assert_eq!(leaving.record.unwrap().canaries, ["b"]);
    let nobody = Given::of(&[("b", Proven)]).plan(Some(&soak()));
    assert_eq!(nobody.record.unwrap().phase, Phase::Complete);
    // What was reset stays with its rollout, though the interval is over and few are left.
    let again = Record { target_hash: target_hash(TARGET, true), ..soak() };
    let reset = Given::of(&[("b", Drifted), ("c", Proven)]).at(700).plan(Some(&again));
    let begun = Record { target_hash: again.target_hash, started: at(700), ..record(Phase::Canary, &["b"]) };
    assert_eq!((reset.record, reset.begin), (Some(begun), strings(&["b"])));
    // One of two is enough.
    let one = Given::of(&[("a", Proven), ("c", Waiting)]).at(700).with("a", |m| m.checked = Some(at(700)));
    assert_eq!(one.told(Some(&soaking(Phase::Canary, &["a", "b"]))), all(Phase::Progressing, &["c"]));
    // Those that have passed may go.
    let passed = Given::of(&[("b", Waiting), ("c", Waiting)]);
    assert_eq!(passed.told(Some(&soaking(Phase::Progressing, &["a"]))), all(Phase::Progressing, &["b", "c"]));
    // Where the selector selects nobody any more, somebody has to correct it.
    let lost = Given::of(&[("b", Waiting)]).chosen(named(&["a"])).plan(Some(&soak()));
    assert_eq!((lost.record, lost.begin, lost.lacks_canaries), (Some(soak()), vec![], true));
}
