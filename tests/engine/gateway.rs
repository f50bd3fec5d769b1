//! What is done with a gateway: the decision is asked and carried out on a model of an appliance until it reports.

use std::time::Duration;

use proptest::prelude::*;
use tenure::crd::Cause;
use tenure::engine::contest::Contest;
use tenure::engine::gateway::{PROOFS, Prior, Regime, Seen, Step, cause, decide, has_drifted};
use tenure::engine::lifetime::{InvalidTarget, Target};
use tenure::engine::verdict::{Reason, Verdict};

use super::lifetime::targets;

const NOW: Duration = Duration::from_hours(100);

/// What an accepted PUT does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Put {
    Applied,
    /// Shown by a GET, but new tokens keep the old lifetime.
    ShownOnly,
    /// Nothing.
    Dropped,
    /// The first logins still get the old lifetime.
    Late(u8),
}

#[derive(Clone, Debug)]
struct Appliance {
    shown: u32,
    lifetime: u32,
    late: u8,
    put: Put,
}

impl Appliance {
    fn new(timeout: u32, put: Put) -> Self {
        Self { shown: timeout, lifetime: timeout, late: 0, put }
    }

    fn put(&mut self, to: u32) {
        match self.put {
            Put::Applied => (self.shown, self.lifetime) = (to, to),
            Put::ShownOnly => self.shown = to,
            Put::Dropped => {}
            Put::Late(logins) => (self.shown, self.late) = (to, logins),
        }
    }

    fn log_in(&mut self) -> u32 {
        match self.late {
            0 if matches!(self.put, Put::Late(_)) => self.lifetime = self.shown,
            0 => {}
            _ => self.late -= 1,
        }
        self.lifetime
    }
}

/// What a look came to.
#[derive(Debug)]
struct Look {
    verdict: Verdict,
    writes: Vec<(u32, Cause)>,
    proofs: u8,
    prior: Prior,
}

/// Carries decisions out until there is a report, as the controller does. More steps than make sense are a failure.
fn look(regime: &Regime, prior: &Prior, contest: Contest, appliance: &mut Appliance, fresh: bool) -> Look {
    let token = fresh.then(|| appliance.log_in());
    let mut seen = Seen { timeout: appliance.shown, written: false, read_back: false, token, proofs: 0 };
    let (mut writes, mut proofs) = (Vec::new(), 0);
    for _ in 0..=2 + 2 * PROOFS {
        match decide(regime, prior, seen, contest, NOW) {
            Step::Write { to, cause } => {
                appliance.put(to);
                writes.push((to, cause));
                seen = Seen { timeout: to, written: true, read_back: false, token: None, proofs: 0 };
            }
            Step::Prove => {
                proofs += 1;
                seen = Seen { token: Some(appliance.log_in()), proofs: seen.proofs + 1, ..seen };
            }
            Step::Read => seen = Seen { timeout: appliance.shown, read_back: true, ..seen },
            Step::Report(verdict) => {
                let prior = Prior {
                    timeout: Some(seen.timeout),
                    proven: seen.token.or(prior.proven),
                    policy: regime.policy().map(str::to_owned),
                    unverified: verdict.reason == Reason::VerificationFailed,
                    ..prior.clone()
                };
                return Look { verdict, writes, proofs, prior };
            }
        }
    }
    panic!("no report after {writes:?} and {proofs} proofs of {appliance:?}");
}

fn enforced(target: Result<Target, InvalidTarget>, suspended: bool) -> Regime {
    Regime::Enforced { policy: "short".to_owned(), target, suspended }
}

fn priors() -> impl Strategy<Value = Prior> {
    let seconds =
        || proptest::option::of(prop_oneof![Just(600_u32), Just(28_800), Just(86_400), any::<u32>()]);
    let policy = proptest::option::of(prop_oneof![Just("short".to_owned()), Just("other".to_owned())]);
    let causes = prop_oneof![Just(Cause::Policy), Just(Cause::Drift), Just(Cause::Restore)];
    let wrote = proptest::option::of((prop_oneof![Just(600_u32), Just(28_800)], causes));
    (seconds(), seconds(), policy, any::<bool>(), seconds(), wrote, seconds()).prop_map(
        |(timeout, proven, policy, unverified, original, wrote, pending)| Prior {
            timeout,
            proven,
            policy,
            unverified,
            original,
            wrote,
            pending,
        },
    )
}

fn regimes() -> impl Strategy<Value = Regime> {
    let wants = proptest::collection::vec(("[a-c]", targets()), 0..3);
    prop_oneof![
        Just(Regime::Unmanaged),
        wants.prop_map(Regime::Observed),
        (targets(), any::<bool>()).prop_map(|(target, suspended)| enforced(Ok(target), suspended)),
        Just(enforced(Err(InvalidTarget::Crossed), false)),
        Just(Regime::Left { policy: "short".to_owned() }),
    ]
}

fn puts() -> impl Strategy<Value = Put> {
    prop_oneof![Just(Put::Applied), Just(Put::ShownOnly), Just(Put::Dropped), (0..9_u8).prop_map(Put::Late)]
}

fn timeouts() -> impl Strategy<Value = u32> {
    prop_oneof![Just(600_u32), Just(28_800), Just(86_400), Just(0), any::<u32>()]
}

proptest! {
    #[test]
    fn every_look_ends_in_a_report(
        regime in regimes(), prior in priors(), put in puts(), timeout in timeouts(), fresh: bool, contested: bool,
    ) {
        let contest = if contested { Contest::resumed(NOW, Duration::ZERO) } else { Contest::default() };
        let mut appliance = Appliance::new(timeout, put);
        let seen = look(&regime, &prior, contest, &mut appliance, fresh);
        prop_assert!(seen.writes.len() <= 1 && seen.proofs <= PROOFS);
        let left = matches!(&regime, Regime::Left { .. });
        let enforced = matches!(&regime, Regime::Enforced { target: Ok(_), suspended: false, .. });
        let ours = prior.pending == Some(timeout)
            || matches!(prior.wrote, Some((to, Cause::Policy | Cause::Drift)) if to == timeout);
        let may_write = enforced && !contested || left && ours;
        prop_assert!(may_write || seen.writes.is_empty(), "{:?}", seen);
        let target = regime.target();
        let wanted = |to: u32| if left { prior.original == Some(to) } else { target.unwrap().holds(to) };
        prop_assert!(seen.writes.iter().all(|(to, _)| wanted(*to)));
        if seen.verdict.reason == Reason::InSync {
            prop_assert!(target.unwrap().holds(seen.prior.timeout.unwrap()));
        }
        prop_assert!(!seen.verdict.message.is_empty() && seen.verdict.message.ends_with('.'));
    }

    #[test]
    fn an_honest_appliance_is_in_sync_after_one_look_and_left_alone_after(
        target in targets(), prior in priors(), timeout in timeouts(), fresh: bool,
    ) {
        let regime = enforced(Ok(target), false);
        let mut appliance = Appliance::new(timeout, Put::Applied);
        let first = look(&regime, &prior, Contest::default(), &mut appliance, fresh);
        prop_assert_eq!(first.verdict.reason, Reason::InSync);
        let expected = if target.holds(timeout) { timeout } else { target.nearest(timeout) };
        prop_assert_eq!(appliance.lifetime, expected);
        prop_assert_eq!(first.writes.is_empty(), target.holds(timeout), "what holds is left alone");
        prop_assert!(first.writes.is_empty() || first.proofs == 1, "a change is proven by a fresh login");
        let second = look(&regime, &first.prior, Contest::default(), &mut appliance, false);
        prop_assert_eq!((second.writes.len(), second.proofs), (0, 0), "nothing left to do");
        prop_assert_eq!(second.verdict, first.verdict, "the message is stable");
    }

    #[test]
    fn a_change_counts_only_when_a_fresh_token_shows_it(target in targets(), timeout in timeouts(), late in 0..9_u8) {
        prop_assume!(target.nearest(timeout).abs_diff(timeout) > 2);
        let regime = enforced(Ok(target), false);
        let mut silent = Appliance::new(timeout, Put::ShownOnly);
        let first = look(&regime, &Prior::default(), Contest::default(), &mut silent, true);
        prop_assert_eq!((first.verdict.reason, first.proofs), (Reason::VerificationFailed, 3));
        let got = format!("but newly issued tokens have one of {}s.", silent.lifetime);
        prop_assert!(first.verdict.message.contains(&got), "{}", first.verdict.message);
        let second = look(&regime, &first.prior, Contest::default(), &mut silent, false);
        prop_assert_eq!(second.verdict.reason, Reason::VerificationFailed);
        prop_assert!(second.writes.is_empty(), "written again only if a GET differs");
        prop_assert_eq!(second.proofs, 1);

        let mut dropping = Appliance::new(timeout, Put::Dropped);
        let first = look(&regime, &Prior::default(), Contest::default(), &mut dropping, true);
        prop_assert_eq!(first.verdict.reason, Reason::VerificationFailed);
        prop_assert_eq!(first.prior.timeout, Some(timeout), "what is reported was read, not only sent");
        let reported = format!("but reports {timeout}s");
        prop_assert!(first.verdict.message.contains(&reported), "{}", first.verdict.message);
        let second = look(&regime, &first.prior, Contest::default(), &mut dropping, false);
        prop_assert_eq!(second.writes.len(), 1, "a GET shows that nothing was changed");

        let mut late_one = Appliance::new(timeout, Put::Late(late));
        let mut seen = look(&regime, &Prior::default(), Contest::default(), &mut late_one, false);
        for _ in 0..10 {
            seen = look(&regime, &seen.prior, Contest::default(), &mut late_one, false);
        }
        prop_assert_eq!(seen.verdict.reason, Reason::InSync, "sooner or later it is proven");
    }

    #[test]
    fn drift_is_put_back_and_called_so(target in targets(), drifted in timeouts()) {
        prop_assume!(!target.holds(drifted));
        let regime = enforced(Ok(target), false);
        let mut appliance = Appliance::new(target.bounds().0, Put::Applied);
        let first = look(&regime, &Prior::default(), Contest::default(), &mut appliance, true);
        appliance = Appliance::new(drifted, Put::Applied);
        prop_assert!(has_drifted(&regime, &first.prior, drifted));
        let second = look(&regime, &first.prior, Contest::default(), &mut appliance, false);
        prop_assert_eq!(&second.writes, &[(target.nearest(drifted), Cause::Drift)]);
        prop_assert_eq!((second.verdict.reason, second.proofs), (Reason::InSync, 1), "proven as any change");
    }
}

#[test]
fn a_cause_is_drift_only_where_the_same_target_once_held() {
    let prior = |policy: &str, proven| Prior {
        policy: Some(policy.to_owned()),
        proven: Some(proven),
        ..Prior::default()
    };
    let target = Target::Range { least: 600, most: 900 };
    for (before, expected) in [
        (Prior::default(), Cause::Policy),
        (prior("short", 700), Cause::Drift),
        // A token's times are whole seconds: two of them more or less prove the same.
        (prior("short", 902), Cause::Drift),
        (prior("short", 598), Cause::Drift),
        (prior("short", 903), Cause::Policy),
        (prior("other", 700), Cause::Policy),
    ] {
        assert_eq!(cause("short", target, &before), expected, "{before:?}");
    }
}

#[test]
fn who_governs_decides_what_is_reported() {
    let seen = Seen { timeout: 86_400, written: false, read_back: false, token: Some(86_400), proofs: 0 };
    let decided = |regime: &Regime, contest| match decide(regime, &Prior::default(), seen, contest, NOW) {
        Step::Report(verdict) => (verdict.reason, verdict.message),
        step => panic!("{step:?}"),
    };
    let calm = Contest::default();
    let (reason, message) = decided(&Regime::Unmanaged, calm);
    assert_eq!(
        (reason, message.as_str()),
        (Reason::Unmanaged, "No TokenPolicy is in force for this gateway. Its token lifetime is 86400s.")
    );
    let watchers = vec![
        ("a".to_owned(), Target::Exact(600)),
        ("b".to_owned(), Target::Range { least: 600, most: 86_400 }),
    ];
    let (reason, message) = decided(&Regime::Observed(watchers), calm);
    assert_eq!(reason, Reason::Observed);
    assert!(
        message.contains("TokenPolicy a would set 600s") && !message.contains("TokenPolicy b"),
        "{message}"
    );
    let (reason, message) = decided(&enforced(Err(InvalidTarget::Crossed), false), calm);
    assert_eq!(reason, Reason::InvalidSpec);
    assert!(
        message.contains("TokenPolicy short") && message.contains("minTimeoutSeconds is greater"),
        "{message}"
    );
    let (reason, message) = decided(&enforced(Ok(Target::Exact(600)), true), calm);
    assert_eq!(reason, Reason::Drifted);
    assert!(message.contains("suspended"), "{message}");
    let (reason, _) =
        decided(&enforced(Ok(Target::Exact(600)), false), Contest::resumed(NOW, Duration::from_mins(59)));
    assert_eq!(reason, Reason::Contested);
    assert_eq!(decided(&enforced(Ok(Target::Exact(86_400)), true), calm).0, Reason::InSync);
}

#[test]
fn the_status_shows_what_is_wanted() {
    let range = enforced(Ok(Target::Range { least: 600, most: 900 }), false);
    assert_eq!(range.desired(Some(700)), None, "absent when the value is within its range");
    assert_eq!((range.desired(Some(1000)), range.desired(Some(5))), (Some(900), Some(600)));
    assert_eq!(range.desired(None), None);
    let exact = enforced(Ok(Target::Exact(600)), true);
    assert_eq!((exact.desired(Some(600)), exact.desired(None)), (Some(600), Some(600)));
    assert_eq!(Regime::Unmanaged.desired(Some(600)), None, "absent when no policy wants any");
    assert_eq!(enforced(Err(InvalidTarget::Crossed), false).desired(Some(600)), None);
}
