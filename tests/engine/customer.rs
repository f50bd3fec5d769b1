//! What is done with a customer: the decision is asked and carried out on a model of a server until it reports.

use std::time::Duration;

use proptest::prelude::*;
use tenure::crd::{Cause, Mode, TtlSeconds};
use tenure::engine::contest::Contest;
use tenure::engine::customer::{Prior, Seen, Step, Ttl, Wish, cause, decide, has_drifted};
use tenure::engine::gateway::PROOFS;
use tenure::engine::verdict::{Reason, Verdict};

const NOW: Duration = Duration::from_hours(100);

/// A server with one customer.
#[derive(Clone, Debug)]
struct Server {
    ttl: TtlSeconds,
    /// Whether an accepted POST is stored.
    stores: bool,
    /// Whether the user's tokens have the customer's lifetime, or always two hours.
    obeys: bool,
}

impl Server {
    fn post(&mut self, ttl: Ttl) {
        if self.stores {
            self.ttl = ttl.into();
        }
    }

    fn log_in(&self) -> u32 {
        self.ttl.access_token_ttl_seconds.filter(|_| self.obeys).unwrap_or(7200)
    }
}

#[derive(Debug)]
struct Look {
    verdict: Verdict,
    writes: Vec<Cause>,
    proofs: u8,
    prior: Prior,
}

/// Carries decisions out until there is a report, as the controller does. More steps than make sense are a failure.
fn look(wish: Wish, prior: &Prior, contest: Contest, server: &mut Server) -> Look {
    let mut seen = Seen { ttl: server.ttl, read_back: false, token: None, proofs: 0 };
    let (mut writes, mut proofs) = (Vec::new(), 0);
    for _ in 0..=1 + PROOFS {
        match decide(wish, prior, seen, contest, NOW) {
            Step::Write { cause } => {
                server.post(wish.ttl);
                writes.push(cause);
                seen = Seen { ttl: server.ttl, read_back: true, token: None, proofs: 0 };
            }
            Step::Prove => {
                proofs += 1;
                seen = Seen { token: Some(server.log_in()), proofs: seen.proofs + 1, ..seen };
            }
            Step::Report(verdict) => {
                let proven = if verdict.reason == Reason::InSync { Some(seen.ttl) } else { prior.proven };
                let unverified = verdict.reason == Reason::VerificationFailed;
                let prior = Prior { read: Some(seen.ttl), proven, unverified };
                return Look { verdict, writes, proofs, prior };
            }
        }
    }
    panic!("no report after {writes:?} and {proofs} proofs of {server:?}");
}

fn seconds() -> impl Strategy<Value = u32> {
    prop_oneof![Just(60_u32), Just(3600), Just(7200), Just(86_400), any::<u32>()]
}

fn ttls() -> impl Strategy<Value = TtlSeconds> {
    let one = || proptest::option::of(seconds());
    (one(), one()).prop_map(|(access, refresh)| TtlSeconds {
        access_token_ttl_seconds: access,
        refresh_token_ttl_seconds: refresh,
    })
}

fn wishes() -> impl Strategy<Value = Wish> {
    let mode = prop_oneof![4 => Just(Mode::Enforce), 1 => Just(Mode::Observe)];
    (seconds(), seconds(), mode, any::<bool>()).prop_map(|(access, refresh, mode, by_login)| Wish {
        ttl: Ttl { access, refresh },
        mode,
        by_login,
    })
}

fn priors() -> impl Strategy<Value = Prior> {
    let one = || proptest::option::of(ttls());
    (one(), one(), any::<bool>()).prop_map(|(read, proven, unverified)| Prior { read, proven, unverified })
}

proptest! {
    #[test]
    fn every_look_ends_in_a_report(
        wish in wishes(), prior in priors(), ttl in ttls(), stores: bool, obeys: bool, contested: bool,
    ) {
        let contest = if contested { Contest::resumed(NOW, Duration::ZERO) } else { Contest::default() };
        let mut server = Server { ttl, stores, obeys };
        let seen = look(wish, &prior, contest, &mut server);
        prop_assert!(seen.writes.len() <= 1 && seen.proofs <= PROOFS);
        prop_assert!(seen.writes.is_empty() || wish.mode == Mode::Enforce && !contested);
        prop_assert!(wish.by_login || seen.proofs == 0, "without a user nobody logs in");
        prop_assert!(wish.mode == Mode::Enforce || seen.proofs == 0);
        if seen.verdict.reason == Reason::InSync {
            prop_assert_eq!(server.ttl, wish.ttl.into());
        }
        prop_assert!(seen.verdict.message.ends_with('.'));
    }

    #[test]
    fn an_honest_server_is_in_sync_after_one_look_and_left_alone_after(wish in wishes(), prior in priors(), ttl in ttls()) {
        prop_assume!(wish.mode == Mode::Enforce);
        let mut server = Server { ttl, stores: true, obeys: true };
        let first = look(wish, &prior, Contest::default(), &mut server);
        prop_assert_eq!(first.verdict.reason, Reason::InSync);
        prop_assert_eq!(server.ttl, wish.ttl.into());
        prop_assert_eq!(first.writes.is_empty(), ttl == wish.ttl.into(), "compared first");
        prop_assert!(!wish.by_login || first.writes.is_empty() || first.proofs == 1, "a change is proven by a fresh login");
        let second = look(wish, &first.prior, Contest::default(), &mut server);
        prop_assert_eq!((second.writes.len(), second.proofs), (0, 0), "nothing left to do");
        prop_assert_eq!(second.verdict, first.verdict, "the message is stable");
    }

    #[test]
    fn a_server_that_does_not_keep_it_is_found_out(wish in wishes(), ttl in ttls()) {
        prop_assume!(wish.mode == Mode::Enforce && ttl != wish.ttl.into());
        let mut server = Server { ttl, stores: false, obeys: true };
        let seen = look(wish, &Prior::default(), Contest::default(), &mut server);
        prop_assert_eq!((seen.verdict.reason, seen.writes.len()), (Reason::VerificationFailed, 1));
    }

    #[test]
    fn a_user_of_another_customer_is_found_out(wish in wishes(), ttl in ttls()) {
        let wish = Wish { mode: Mode::Enforce, by_login: true, ..wish };
        prop_assume!(wish.ttl.access.abs_diff(7200) > 2);
        let mut server = Server { ttl, stores: true, obeys: false };
        let first = look(wish, &Prior::default(), Contest::default(), &mut server);
        prop_assert_eq!((first.verdict.reason, first.proofs), (Reason::VerificationFailed, 3));
        let second = look(wish, &first.prior, Contest::default(), &mut server);
        prop_assert_eq!((second.verdict.reason, second.proofs), (Reason::VerificationFailed, 1));
        prop_assert!(second.writes.is_empty(), "written again only if a GET differs");
    }
}

#[test]
fn drift_is_a_change_of_what_was_once_proven() {
    let ttl = Ttl { access: 3600, refresh: 86_400 };
    let other = Ttl { access: 3600, refresh: 7200 };
    let wish = Wish { ttl, mode: Mode::Enforce, by_login: false };
    let proven = |ttl: Ttl| Prior { proven: Some(ttl.into()), ..Prior::default() };
    assert_eq!(cause(ttl, &Prior::default()), Cause::Policy);
    assert_eq!(cause(ttl, &proven(other)), Cause::Policy);
    assert_eq!(cause(ttl, &proven(ttl)), Cause::Drift);
    for (prior, seen, mode, drifted) in [
        (proven(ttl), TtlSeconds::default(), Mode::Enforce, true),
        (proven(ttl), other.into(), Mode::Enforce, true),
        (proven(ttl), ttl.into(), Mode::Enforce, false),
        (proven(other), other.into(), Mode::Enforce, false),
        (proven(ttl), other.into(), Mode::Observe, false),
    ] {
        assert_eq!(has_drifted(Wish { mode, ..wish }, &prior, seen), drifted, "{prior:?} {seen:?} {mode:?}");
    }
}

#[test]
fn observing_reports_the_difference() {
    let wish = Wish { ttl: Ttl { access: 3600, refresh: 86_400 }, mode: Mode::Observe, by_login: true };
    let reported = |ttl| match decide(
        wish,
        &Prior::default(),
        Seen { ttl, read_back: false, token: None, proofs: 0 },
        Contest::default(),
        NOW,
    ) {
        Step::Report(verdict) => (verdict.reason, verdict.message),
        step => panic!("{step:?}"),
    };
    let (reason, message) = reported(TtlSeconds::default());
    assert_eq!(reason, Reason::Observed);
    assert_eq!(
        message,
        "The server has none (access) and none (refresh), but 3600s and 86400s are desired. Observe mode: nothing is changed."
    );
    assert_eq!(reported(wish.ttl.into()).0, Reason::Observed);
}

#[test]
fn a_fight_ends_the_writing() {
    let wish = Wish { ttl: Ttl { access: 60, refresh: 60 }, mode: Mode::Enforce, by_login: false };
    let seen = Seen { ttl: TtlSeconds::default(), read_back: false, token: None, proofs: 0 };
    let decided =
        |ago| decide(wish, &Prior::default(), seen, Contest::resumed(NOW, Duration::from_mins(ago)), NOW);
    assert!(matches!(decided(59), Step::Report(Verdict { reason: Reason::Contested, .. })));
    assert_eq!(decided(60), Step::Write { cause: Cause::Policy });
}
