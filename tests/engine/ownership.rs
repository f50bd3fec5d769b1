//! Who owns a remote object that several resources declare.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tenure::crd::Kind;
use tenure::engine::access::AccessError;
use tenure::engine::login::NotTried;
use tenure::engine::ownership::{Claimant, Claimed, Standing, Trial, standing};
use tenure::engine::reason::Reason;
use tenure::engine::system::{Peer, Via};
use tenure::engine::url::BaseUrl;

fn claimant(id: u8, suspended: bool, trial: Trial) -> Claimant<u8> {
    Claimant { id, suspended, trial, via: Via::Direct, peer: None, silent: false, waits: false }
}

#[test]
fn the_oldest_that_got_in_owns_it() {
    use Standing::{Loser, Owner, TryNow, Undecided};
    use Trial::{GotIn, Lost, NoAnswer, Refused, Untried};
    for (trials, expected) in [
        (vec![Untried], vec![Owner]),
        (vec![Refused], vec![Owner]),
        (vec![Untried, Untried], vec![TryNow, TryNow]),
        (vec![GotIn, Untried], vec![Owner, TryNow]),
        (vec![Untried, GotIn], vec![TryNow, Undecided]),
        (vec![GotIn, GotIn], vec![Owner, Loser]),
        // Who was refused reports that, and may try with another credential.
        (vec![Refused, GotIn], vec![TryNow, Owner]),
        (vec![GotIn, Refused], vec![Owner, TryNow]),
        (vec![NoAnswer, GotIn], vec![Loser, Owner]),
        (vec![Refused, Untried, GotIn], vec![TryNow, TryNow, Undecided]),
        (vec![Refused, NoAnswer], vec![TryNow, Owner]),
        // One that has lost holds nothing up, and is tried again only when no other is in.
        (vec![GotIn, Lost], vec![Owner, Loser]),
        (vec![Lost, GotIn], vec![Loser, Owner]),
        (vec![Lost, Lost], vec![TryNow, TryNow]),
        (vec![NoAnswer, Lost], vec![Undecided, TryNow]),
        (vec![Lost, NoAnswer], vec![TryNow, Undecided]),
        (vec![Refused, Lost], vec![TryNow, TryNow]),
    ] {
        let claimants: Vec<_> = (0..).zip(&trials).map(|(id, trial)| claimant(id, false, *trial)).collect();
        let found: Vec<_> = claimants.iter().map(|c| standing(&claimants, &c.id)).collect();
        assert_eq!(found, expected, "{trials:?}");
    }
}

#[test]
fn a_status_shows_how_the_attempt_went() {
    use Trial::{GotIn, Lost, NoAnswer, Refused, Untried};
    let both = [Kind::Gateway, Kind::Customer];
    for (reason, got_in, expected) in [
        (None, false, [Untried; 2]),
        (Some(Reason::Progressing), false, [Untried; 2]),
        (Some(Reason::InSync), true, [GotIn; 2]),
        (Some(Reason::Unreachable), true, [GotIn; 2]),
        (Some(Reason::Unreachable), false, [NoAnswer; 2]),
        (Some(Reason::Conflict), true, [Lost; 2]),
        (Some(Reason::Conflict), false, [Lost; 2]),
        // A credential that is refused or missing loses the object, also if it was good before.
        (Some(Reason::AdminRoleRequired), true, [Refused; 2]),
        (Some(Reason::SecretNotFound), true, [Refused; 2]),
        (Some(Reason::ServerNotReady), true, [Refused; 2]),
        (Some(Reason::ServerNotFound), true, [GotIn; 2]),
        // A customer's own user only proves lifetimes, and its windows are no credential.
        (Some(Reason::AuthenticationFailed), true, [Refused, GotIn]),
        // A spec that makes no sense loses nothing, and holds nothing up.
        (Some(Reason::InvalidSpec), true, [GotIn; 2]),
        (Some(Reason::InvalidSpec), false, [NoAnswer; 2]),
        (Some(Reason::AddressRefused), false, [NoAnswer; 2]),
    ] {
        let found = both.map(|kind| Trial::remembered(kind, reason, got_in));
        assert_eq!(found, expected, "{reason:?} {got_in}");
    }
}

#[test]
fn a_fault_that_may_pass_takes_nothing_from_an_owner_before_it_is_reported() {
    use Trial::{NoAnswer, Refused};
    for (trial, shown, expected) in [
        (Refused, false, NoAnswer),
        (Refused, true, Refused),
        (NoAnswer, false, NoAnswer),
        (NoAnswer, true, NoAnswer),
    ] {
        assert_eq!(trial.counting(shown), expected, "{trial:?} {shown}");
    }
    assert_eq!(Trial::ruled_out(Reason::InvalidSpec), NoAnswer);
    for (error, expected) in [
        (AccessError::Refused, Refused),
        // As after a restart: the status shows the reason of a refused password.
        (AccessError::Half, Refused),
        (AccessError::NotAdmin, Refused),
        (AccessError::TokenRefused, Refused),
        (AccessError::NotTried(NotTried::Here), Refused),
        (AccessError::NotTried(NotTried::Unanswered), NoAnswer),
        (AccessError::NotSent, NoAnswer),
    ] {
        assert_eq!(Trial::of_failed(&error), expected, "{error:?}");
    }
    assert_eq!(Trial::ruled_out(Reason::PlaintextRefused), Refused);
}

/// The outcome that the statuses show of a customer that was read, and of whose server one shows this.
fn behind(server: Reason) -> Trial {
    let status = |reason: Reason| {
        let ready = json!({
            "type": "Ready", "status": "False", "reason": reason.as_str(), "message": "",
            "lastTransitionTime": "2026-11-01T00:00:00Z",
        });
        json!({
            "observedGeneration": 1, "conditions": [ready], "effectiveUrl": "https://10.0.1.1",
            "lastCheckedTime": "2026-11-01T00:00:00Z",
        })
    };
    let object = |kind: &str, spec: Value, reason| {
        let meta = json!({"namespace": "berlin", "name": "one", "generation": 1});
        json!({
            "apiVersion": "tenure.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": spec,
            "status": status(reason),
        })
    };
    let connection = json!({"url": "https://10.0.1.1", "credentialsSecretRef": {"name": "admin"}});
    let lifetimes = json!({
        "serverRef": {"name": "one"}, "customerId": "1d2b7a10-0000-4000-8000-000000000000",
        "accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400,
    });
    let server = serde_json::from_value(object("KonaServer", connection, server)).unwrap();
    let customer = object("CustomerTokenTtl", lifetimes, Reason::ServerNotReady);
    let customer = serde_json::from_value(customer).unwrap();
    Claimed::by_customer(&customer, Some(&server)).unwrap().trial
}

#[test]
fn a_customer_loses_nothing_because_its_server_is_silent() {
    for reason in [Reason::TimedOut, Reason::Unreachable, Reason::RateLimited, Reason::UnexpectedAnswer] {
        assert_eq!(behind(reason), Trial::GotIn, "{reason:?}");
    }
    for reason in [Reason::AuthenticationFailed, Reason::AdminRoleRequired, Reason::SecretNotFound] {
        assert_eq!(behind(reason), Trial::Refused, "{reason:?}");
    }
}

#[test]
fn who_is_paused_owns_nothing_and_stands_in_nobodys_way() {
    let paused = claimant(0, true, Trial::GotIn);
    let other = claimant(1, false, Trial::GotIn);
    let both = [paused.clone(), other];
    assert_eq!(standing(&both, &1), Standing::Owner);
    assert_eq!(standing(&both, &0), Standing::Undecided);
    assert_eq!(standing(&[paused], &0), Standing::Undecided);
}

fn claimants() -> impl Strategy<Value = Vec<Claimant<u8>>> {
    let trial = prop_oneof![
        Just(Trial::Untried),
        Just(Trial::GotIn),
        Just(Trial::Lost),
        Just(Trial::NoAnswer),
        Just(Trial::Refused)
    ];
    let one = (any::<bool>(), trial);
    proptest::collection::btree_map(any::<u8>(), one, 1..6)
        .prop_map(|map| {
            map.into_iter().map(|(id, (suspended, trial))| claimant(id, suspended, trial)).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn owners(claimants: &[Claimant<u8>]) -> Vec<u8> {
    claimants.iter().map(|c| c.id).filter(|id| standing(claimants, id) == Standing::Owner).collect()
}

proptest! {
    #[test]
    fn there_are_never_two_owners_once_someone_got_in(claimants in claimants()) {
        let active: Vec<_> = claimants.iter().filter(|c| !c.suspended).collect();
        let got_in = active.iter().filter(|c| c.trial == Trial::GotIn).map(|c| c.id).min();
        let owners = owners(&claimants);
        if let Some(first) = got_in {
            prop_assert!(owners.is_empty() || owners == [first], "{:?}", owners);
            if active.iter().all(|c| c.trial != Trial::Untried) {
                prop_assert_eq!(owners, [first]);
            }
        } else if active.len() > 1 && active.iter().any(|c| matches!(c.trial, Trial::Untried | Trial::Lost)) {
            prop_assert!(owners.is_empty(), "while undecided nobody writes: {:?}", owners);
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(claimants in claimants()) {
        let mut sorted = claimants.clone();
        sorted.sort_by_key(|c| c.id);
        for c in &claimants {
            prop_assert_eq!(standing(&claimants, &c.id), standing(&sorted, &c.id));
        }
    }

    #[test]
    fn suspended_claimants_change_nothing_for_others(claimants in claimants()) {
        let active: Vec<_> = claimants.iter().filter(|c| !c.suspended).cloned().collect();
        for c in &active {
            prop_assert_eq!(standing(&claimants, &c.id), standing(&active, &c.id));
        }
        for c in claimants.iter().filter(|c| c.suspended) {
            prop_assert_eq!(standing(&claimants, &c.id), Standing::Undecided);
        }
    }

    #[test]
    fn whoever_was_not_tried_or_was_refused_may_try(claimants in claimants()) {
        let active: Vec<_> = claimants.iter().filter(|c| !c.suspended).collect();
        for c in &active {
            let tries = standing(&claimants, &c.id) == Standing::TryNow;
            let may_try = match c.trial {
                Trial::Untried | Trial::Refused => true,
                Trial::Lost => active.iter().all(|c| c.trial != Trial::GotIn),
                Trial::GotIn | Trial::NoAnswer => false,
            };
            prop_assert_eq!(tries, active.len() > 1 && may_try);
        }
    }
}

/// Claimants of one URL, oldest first: each with its way there, and the peer that was met by it.
fn by_ways(claimants: &[(Trial, Via, Option<u8>)]) -> Vec<Standing> {
    let claimant = |(id, (trial, via, peer)): (u8, &(Trial, Via, Option<u8>))| Claimant {
        via: via.clone(),
        peer: peer.map(|key| Peer::Key([key; 16])),
        ..claimant(id, false, *trial)
    };
    let claimants: Vec<_> = (0..).zip(claimants).map(claimant).collect();
    claimants.iter().map(|c| standing(&claimants, &c.id)).collect()
}

#[test]
fn those_at_other_systems_are_no_rivals() {
    use Standing::{Loser, Owner, TryNow};
    use Trial::{GotIn, Lost, Untried};
    let (direct, own) = (|| Via::Direct, || Via::Proxy("http://own".into()));
    for (claimants, expected) in [
        (vec![(GotIn, own(), Some(1)), (GotIn, direct(), Some(2))], vec![Owner, Owner]),
        (vec![(GotIn, own(), Some(1)), (GotIn, direct(), Some(1))], vec![Owner, Loser]),
        // Not met since a restart: each stays what its status shows.
        (vec![(GotIn, own(), None), (GotIn, direct(), None)], vec![Owner, Owner]),
        (vec![(GotIn, own(), None), (GotIn, direct(), Some(1))], vec![Owner, Owner]),
        (vec![(Lost, own(), None), (GotIn, direct(), None)], vec![Loser, Owner]),
        // One that has lost is met again once it is known where the others are.
        (vec![(Lost, own(), None), (GotIn, direct(), Some(1))], vec![Owner, Owner]),
        (vec![(Untried, own(), None), (GotIn, direct(), Some(1))], vec![Owner, Owner]),
        (vec![(Untried, direct(), Some(1)), (GotIn, direct(), Some(1))], vec![TryNow, Standing::Undecided]),
    ] {
        assert_eq!(by_ways(&claimants), expected, "{claimants:?}");
    }
}

#[test]
fn a_way_is_what_is_dialled() {
    let via = |url: &str, proxy: Option<&str>, name: Option<&str>| {
        let parse = |text: &str| BaseUrl::parse(text).unwrap();
        Via::of(&parse(url), proxy.map(parse).as_ref(), name)
    };
    let named = |name: &str| Via::Name(name.into());
    for (found, expected) in [
        (via("https://x2.example.net", None, None), Via::Direct),
        (via("https://x2.example.net", None, Some("X2.example.net")), Via::Direct),
        (via("https://10.20.0.11", None, Some("X2.example.net")), named("x2.example.net")),
        // Nothing of it is sent.
        (via("http://10.20.0.11", None, Some("x2.example.net")), Via::Direct),
        (
            via("https://10.20.0.11", Some("http://PROXY.example:3128/"), Some("x2")),
            Via::Proxy("http://proxy.example:3128".into()),
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn one_that_is_refused_and_not_the_owner_tries_once_an_hour() {
    let (interval, hour) = (Duration::from_secs(30), Duration::from_hours(1));
    assert_eq!(Standing::TryNow.pace(Trial::Refused, interval), hour);
    assert_eq!(Standing::TryNow.pace(Trial::Refused, 2 * hour), 2 * hour);
    assert_eq!(Standing::TryNow.pace(Trial::GotIn, interval), interval);
    assert_eq!(Standing::Owner.pace(Trial::Refused, interval), interval);
}
