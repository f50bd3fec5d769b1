//! What all resources of one kind claim.

use std::slice::from_ref;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tenure::engine::key::Key;
use tenure::engine::ownership::{ClaimId, Claimed, Standing, Table, Trial};
use tenure::engine::system::{KeyId, Via};

fn claimed(host: u8, trial: Trial) -> Claimed {
    Claimed {
        object: format!("https://10.20.0.{host}"),
        suspended: false,
        trial,
        via: Via::Direct,
        peer: None,
    }
}

/// The same through a proxy.
fn through(proxy: &str, host: u8, trial: Trial) -> Claimed {
    Claimed { via: Via::Proxy(proxy.into()), ..claimed(host, trial) }
}

/// Two claimants of one appliance, the older of which owns it.
fn contested() -> (Table, [ClaimId; 2]) {
    let id = |name: &str, created| {
        let created = Timestamp::from_second(created).unwrap();
        ClaimId { created, key: Key::new("berlin", name), uid: format!("uid-{name}").into() }
    };
    let (mut claims, both) = (Table::default(), [id("old", 1), id("new", 2)]);
    for id in &both {
        claims.set(id, Some(claimed(11, Trial::GotIn)));
    }
    (claims, both)
}

fn standings(claims: &Table, both: &[ClaimId; 2]) -> [Standing; 2] {
    both.each_ref().map(|id| claims.standing(id))
}

#[test]
fn an_owner_with_another_url_leaves_the_object_to_the_next() {
    let (mut claims, both) = contested();
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
    let [old, new] = &both;
    assert_eq!(claims.set(old, Some(claimed(12, Trial::Untried))), from_ref(&new.key));
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Owner]);
    // Back again, it is tried like any other before anything is decided.
    assert_eq!(claims.set(old, Some(claimed(11, Trial::Untried))), from_ref(&new.key));
    assert_eq!(standings(&claims, &both), [Standing::TryNow, Standing::Undecided]);
}

#[test]
fn an_owner_that_does_not_answer_keeps_the_object_and_one_that_is_refused_does_not() {
    let (mut claims, both) = contested();
    let [old, new] = &both;
    assert!(claims.record(old, Trial::NoAnswer).is_empty());
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
    assert_eq!(claims.record(old, Trial::Refused), from_ref(&new.key));
    assert_eq!(standings(&claims, &both), [Standing::TryNow, Standing::Owner]);
}

/// A claimant is let in, whichever way it comes.
fn let_in(claims: &mut Table, id: &ClaimId, key: Option<KeyId>) -> Vec<Key> {
    let url = "https://10.20.0.11";
    [Via::Direct, Via::Proxy("http://proxy".into())]
        .into_iter()
        .flat_map(|via| claims.let_in(id, (url, &via), key))
        .collect()
}

/// An owner that reaches the appliance directly, and a claimant that reaches it through a proxy.
fn by_two_ways(owner: Trial, other: Trial) -> (Table, [ClaimId; 2]) {
    let (_, both) = contested();
    let mut claims = Table::default();
    claims.set(&both[0], Some(claimed(11, owner)));
    claims.set(&both[1], Some(through("http://proxy", 11, other)));
    (claims, both)
}

#[test]
fn one_that_was_never_let_in_waits_after_a_restart_until_the_owner_is_met_or_silent() {
    for is_silent in [false, true] {
        let (mut claims, both) = by_two_ways(Trial::GotIn, Trial::Untried);
        let [owner, other] = &both;
        assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Owner]);
        assert!(claims.is_awaited(owner) && !claims.is_awaited(other));
        assert_eq!(let_in(&mut claims, other, Some([1; 16])), from_ref(&owner.key));
        assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Undecided]);
        assert!(claims.is_awaited(owner) && !claims.is_awaited(other));
        let (concerned, expected) = if is_silent {
            (claims.record(owner, Trial::NoAnswer), [Standing::Owner, Standing::Owner])
        } else {
            (let_in(&mut claims, owner, Some([1; 16])), [Standing::Owner, Standing::Loser])
        };
        assert_eq!(concerned, from_ref(&other.key));
        assert_eq!(standings(&claims, &both), expected);
        assert!(!claims.is_awaited(owner));
    }
}

#[test]
fn a_renewed_certificate_counts_for_all_that_come_the_same_way() {
    let (mut claims, both) = contested();
    let [old, new] = &both;
    let_in(&mut claims, old, Some([1; 16]));
    let_in(&mut claims, new, Some([2; 16]));
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
    let (mut claims, both) = by_two_ways(Trial::Untried, Trial::Untried);
    let [old, new] = &both;
    for (id, key) in [(old, 1), (new, 1), (old, 2), (new, 2)] {
        let_in(&mut claims, id, Some([key; 16]));
    }
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Loser]);
    assert!(let_in(&mut claims, old, None).is_empty(), "nothing is new");
}

#[test]
fn one_that_comes_another_way_was_let_in_nowhere() {
    let (mut claims, both) = by_two_ways(Trial::Untried, Trial::Untried);
    let [direct, other] = &both;
    let_in(&mut claims, other, Some([1; 16]));
    let_in(&mut claims, direct, Some([2; 16]));
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::Owner]);
    claims.set(other, Some(claimed(11, Trial::GotIn)));
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::TryNow]);
    // What was under way when it was edited has ended elsewhere.
    let (proxy, there) = (Via::Proxy("http://proxy".into()), "https://10.20.0.11");
    assert!(claims.let_in(other, (there, &proxy), Some([1; 16])).is_empty());
    assert!(claims.let_in(other, ("https://10.20.0.12", &Via::Direct), Some([1; 16])).is_empty());
    assert_eq!(standings(&claims, &both), [Standing::Owner, Standing::TryNow]);
}

#[test]
fn the_limits_of_those_count_that_were_let_in_by_the_same_peer() {
    let (mut claims, both) = by_two_ways(Trial::Untried, Trial::Untried);
    let [one, other] = &both;
    assert_eq!(claims.there(one), (None, vec![one.key.clone()]), "none was let in yet");
    let_in(&mut claims, one, Some([1; 16]));
    assert_eq!(claims.there(one).1, from_ref(&one.key));
    let_in(&mut claims, other, Some([1; 16]));
    assert_eq!(claims.there(one).1, [one.key.clone(), other.key.clone()]);
    claims.record(other, Trial::Refused);
    assert_eq!(claims.there(one).1, from_ref(&one.key));
    let suspended = Claimed { suspended: true, ..claimed(11, Trial::GotIn) };
    claims.set(one, Some(suspended));
    assert_eq!(claims.there(one).1, []);
}

#[test]
fn many_claimants_of_one_namespace_concern_no_more_than_the_oldest_of_them() {
    let id = |namespace: &str, number: i64| {
        let created = Timestamp::from_second(number).unwrap();
        ClaimId {
            created,
            key: Key::new(namespace, format!("x2-{number}")),
            uid: format!("{namespace}-{number}").into(),
        }
    };
    let mut claims = Table::default();
    let many: Vec<ClaimId> = (0..3_000).map(|number| id("berlin", number)).collect();
    // The youngest come first.
    for id in many.iter().rev() {
        assert!(claims.set(id, Some(claimed(11, Trial::Untried))).len() <= 8);
    }
    let other = id("bonn", 3_000);
    assert_eq!(claims.set(&other, Some(claimed(11, Trial::Untried))).len(), 8);
    let standing = |claims: &Table, number: usize| claims.standing(&many[number]);
    assert_eq!([standing(&claims, 7), standing(&claims, 8)], [Standing::TryNow, Standing::Loser]);
    assert_eq!(claims.standing(&other), Standing::TryNow);
    assert_eq!(claims.record(&other, Trial::GotIn).len(), 8);
    // When one of them has left, the next is tried.
    assert!(claims.set(&many[0], None).contains(&many[8].key));
    assert_eq!([standing(&claims, 8), standing(&claims, 9)], [Standing::TryNow, Standing::Loser]);
    for id in &many[1..9] {
        claims.record(id, Trial::Refused);
    }
    assert_eq!(claims.standing(&other), Standing::Owner);
}

/// Something that happens to one of some resources in two namespaces.
#[derive(Clone, Debug)]
enum Event {
    /// Its spec is as follows.
    Declared { host: u8, suspended: bool, proxy: Option<u8>, trial: Trial },
    /// It is deleted.
    Gone,
    /// Another one has its name and spec. Its deletion was not seen.
    CreatedAgain,
    /// A try to log in has ended.
    Tried(Trial),
    /// It was let in.
    LetIn { key: Option<u8> },
}

fn events() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let trial = || {
        prop::sample::select(vec![Trial::Untried, Trial::GotIn, Trial::NoAnswer, Trial::Refused, Trial::Lost])
    };
    let host = prop::sample::select(vec![0, 0, 0, 0, 0, 1]);
    let declared = (host, prop::bool::weighted(0.2), prop::option::of(0..2_u8), trial())
        .prop_map(|(host, suspended, proxy, trial)| Event::Declared { host, suspended, proxy, trial });
    let event = prop_oneof![
        4 => declared,
        1 => Just(Event::Gone),
        1 => Just(Event::CreatedAgain),
        2 => trial().prop_map(Event::Tried),
        3 => prop::option::of(0..2_u8).prop_map(|key| Event::LetIn { key }),
    ];
    prop::collection::vec((0..RESOURCES, event), 1..150)
}

const RESOURCES: usize = 24;

/// The resources, and what each declares.
struct Resources {
    table: Table,
    ids: Vec<ClaimId>,
    declared: Vec<Option<Claimed>>,
}

impl Resources {
    /// All declare the same object.
    fn new() -> Self {
        let id = |number: usize| {
            let created = Timestamp::from_second((number / 2).try_into().unwrap()).unwrap();
            let (namespace, name) = (["berlin", "bonn"][number % 2], format!("x2-{number}"));
            ClaimId { created, key: Key::new(namespace, name), uid: "0".into() }
        };
        let ids: Vec<ClaimId> = (0..RESOURCES).map(id).collect();
        let (mut table, first) = (Table::default(), claimed(0, Trial::Untried));
        ids.iter().for_each(|id| drop(table.set(id, Some(first.clone()))));
        Self { table, ids, declared: vec![Some(first); RESOURCES] }
    }

    /// Returns those that are woken.
    fn happens(&mut self, who: usize, event: &Event) -> Vec<Key> {
        let id = &mut self.ids[who];
        match event {
            Event::Declared { host, suspended, proxy, trial } => {
                let via = proxy.map_or(Via::Direct, |proxy| Via::Proxy(proxy.to_string().into()));
                let claimed = Claimed { suspended: *suspended, via, ..claimed(*host, *trial) };
                self.declared[who] = Some(claimed.clone());
                self.table.set(id, Some(claimed))
            }
            Event::Gone => {
                self.declared[who] = None;
                self.table.set(id, None)
            }
            Event::CreatedAgain => {
                id.uid = format!("{}0", id.uid).into();
                id.created += SignedDuration::from_mins(1);
                self.table.set(id, self.declared[who].clone())
            }
            Event::Tried(trial) => self.table.record(id, *trial),
            Event::LetIn { key } => {
                let Some(Claimed { object, via, .. }) = &self.declared[who] else { return Vec::new() };
                self.table.let_in(id, (object, via), key.map(|key| [key; 16]))
            }
        }
    }

    /// The standing of each that declares something.
    fn standings(&self) -> Vec<Option<Standing>> {
        let all = self.ids.iter().zip(&self.declared);
        all.map(|(id, declared)| declared.as_ref().map(|_| self.table.standing(id))).collect()
    }

    /// How many of its namespace are older, among those that are not suspended and declare the same object.
    fn older(&self, who: usize) -> usize {
        let rival = |other: &usize| {
            let (mine, others) = (self.declared[who].as_ref(), self.declared[*other].as_ref());
            let same = mine.zip(others).is_some_and(|(a, b)| a.object == b.object && !b.suspended);
            same && self.ids[*other].key.namespace == self.ids[who].key.namespace
        };
        (0..RESOURCES).filter(rival).filter(|other| self.ids[*other] < self.ids[who]).count()
    }
}

proptest! {
    #[test]
    fn who_is_concerned_is_woken_and_no_more_than_eight_are_tried(events in events()) {
        let mut resources = Resources::new();
        for (who, event) in &events {
            let before = resources.standings();
            let woken = resources.happens(*who, event);
            let after = resources.standings();
            for other in (0..RESOURCES).filter(|other| other != who) {
                let is_woken = woken.contains(&resources.ids[other].key);
                prop_assert!(before[other] == after[other] || is_woken, "{other} after {who}: {event:?}");
            }
            prop_assert!(woken.len() <= 32, "eight of each namespace, for two objects");
        }
        for who in 0..RESOURCES {
            let Some(declared) = resources.declared[who].clone() else { continue };
            resources.happens(who, &Event::Tried(Trial::Refused));
            let standing = resources.table.standing(&resources.ids[who]);
            // One that is refused tries again, if it is not left out.
            match (declared.suspended, resources.older(who) < 8) {
                (true, _) => prop_assert_eq!(standing, Standing::Undecided),
                (false, is_tried) => prop_assert_eq!(standing != Standing::Loser, is_tried, "{}", who),
            }
        }
    }
}
