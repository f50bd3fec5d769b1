//! Which password may be tried where.

mod again;
mod guesses;
mod property;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tenure::crd::{Kind, RefusedLogin, Time};
use tenure::engine::login::{
    Account, Answer, Decision, Holder, Identity, Ledger, LoginState, Moment, News, NotTried, Outcome, Pass,
    SecretVersion, record,
};

/// One Secret, the systems it is used for, and a ledger that observes all of it as in the operator.
struct World {
    ledger: Ledger,
    seconds: u64,
    version: u64,
    content: u64,
    statuses: BTreeMap<usize, Status>,
    waiting: BTreeMap<u64, usize>,
    trying: BTreeMap<u64, (usize, bool)>,
    seed: u64,
}

#[derive(Clone, Default)]
struct Status {
    let_in: bool,
    proven: Option<Timestamp>,
    refused: Vec<RefusedLogin>,
}

fn account() -> Account {
    let keys = ("username".to_owned(), "password".to_owned());
    Account { namespace: "a".to_owned(), secret: "login".to_owned(), keys }
}

fn system(index: usize) -> String {
    format!("https://x2-{index}")
}

fn holder(index: usize) -> Holder {
    Holder { kind: Kind::Gateway, namespace: "a".to_owned(), name: index.to_string() }
}

impl World {
    fn new(systems: usize) -> Self {
        Self {
            ledger: Ledger::default(),
            seconds: 1_000,
            version: 1,
            content: 1,
            statuses: (0..systems).map(|index| (index, Status::default())).collect(),
            waiting: BTreeMap::new(),
            trying: BTreeMap::new(),
            seed: 7,
        }
    }

    /// A world in which every system has let the user in before.
    fn in_sync(systems: usize) -> Self {
        let mut world = Self::new(systems);
        for index in 0..systems {
            world.status(index, |status| status.let_in = true);
        }
        world
    }

    fn status(&mut self, index: usize, change: impl FnOnce(&mut Status)) {
        change(self.statuses.entry(index).or_default());
        self.observe(index);
    }

    fn observe(&mut self, index: usize) {
        let Status { let_in, proven, refused } = self.statuses[&index].clone();
        let state = LoginState { account: account(), system: system(index), let_in, proven, refused };
        self.ledger.observe(&holder(index), Some(state));
    }

    fn restart(&mut self) {
        self.ledger = Ledger::default();
        (self.waiting, self.trying) = (BTreeMap::new(), BTreeMap::new());
        for index in 0..self.statuses.len() {
            self.observe(index);
        }
    }

    fn who(&self) -> Identity {
        let version = SecretVersion { uid: "u".to_owned(), resource_version: self.version.to_string() };
        Identity { account: account(), version }
    }

    fn now(&self) -> Moment {
        let wall = Timestamp::from_second(self.seconds.cast_signed()).unwrap();
        Moment { wall, uptime: Duration::from_secs(self.seconds) }
    }

    fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.seed >> 32).unwrap()) / f64::from(u32::MAX)
    }

    /// A system's object wants to log in; decided at once where that is possible.
    fn want(&mut self, index: usize) -> Option<Decision> {
        match self.ledger.want(&self.who(), self.content, &system(index), self.now()) {
            Answer::Now(decision) => {
                self.settle(index, decision);
                Some(decision)
            }
            Answer::Later(id) => {
                self.waiting.insert(id, index);
                None
            }
        }
    }

    fn settle(&mut self, index: usize, decision: Decision) {
        if let Ok(Pass { id, awaited }) = decision {
            self.trying.insert(id, (index, awaited));
        }
    }

    fn decide(&mut self) -> Vec<(usize, Decision)> {
        let (now, mut seed) = (self.now(), self.random());
        let settled = self.ledger.decide(&account(), now, &mut || {
            seed = (seed * 997.0).fract();
            seed
        });
        let settled: Vec<_> =
            settled.into_iter().map(|(id, decision)| (self.waiting.remove(&id).unwrap(), decision)).collect();
        settled.iter().for_each(|(index, decision)| self.settle(*index, *decision));
        settled
    }

    /// Wants, and decides: the outcome where there is one.
    fn ask(&mut self, index: usize) -> Option<Decision> {
        let asked = self.want(index);
        asked.or_else(|| {
            self.decide().into_iter().find(|(other, _)| *other == index).map(|(_, decision)| decision)
        })
    }

    fn end(&mut self, id: u64, outcome: Outcome) {
        let Some((index, _)) = self.trying.remove(&id) else { panic!("no such try") };
        let now = self.now();
        self.ledger.ended(&account(), id, outcome, now);
        match outcome {
            Outcome::Accepted => self.status(index, |status| {
                *status = Status { let_in: true, proven: Some(now.wall), refused: Vec::new() };
            }),
            Outcome::Refused => self.report(index),
            Outcome::Unknown | Outcome::Unsent => {}
        }
    }

    /// Reports a refused login, if there is one.
    fn report(&mut self, index: usize) {
        let who = self.who();
        let Some(refusal) = self.ledger.refusal(&who, &system(index)) else { return };
        let refused = RefusedLogin {
            secret_uid: who.version.uid,
            secret_resource_version: who.version.resource_version,
            time: Time(refusal.time),
            in_a_row: Some(refusal.in_a_row),
        };
        self.status(index, |status| {
            status.let_in = false;
            record(&mut status.refused, &News::Refused(refused));
        });
    }

    fn end_at(&mut self, index: usize, outcome: Outcome) {
        let id = *self.trying.iter().find(|(_, (other, _))| *other == index).unwrap().0;
        self.end(id, outcome);
    }

    /// Logs in at a system that answers at once.
    fn log_in(&mut self, index: usize, outcome: Outcome) -> Result<(), NotTried> {
        match self.ask(index) {
            Some(Ok(_)) => {
                self.end_at(index, outcome);
                Ok(())
            }
            Some(Err(why)) => Err(why),
            None => panic!("{index} has to wait"),
        }
    }

    fn request(&mut self, index: usize) {
        self.ledger.requested(&self.who(), self.content, &system(index), self.now());
    }
}

use Outcome::{Accepted, Refused, Unknown, Unsent};

#[test]
fn a_refused_password_is_not_tried_again_there_until_the_secret_changes() {
    let mut world = World::new(2);
    world.log_in(0, Refused).unwrap();
    for _ in 0..2 {
        assert_eq!(world.log_in(0, Refused), Err(NotTried::Here));
        world.restart();
    }
    // Somebody touches the Secret's metadata: it is still the same password.
    world.ask(0);
    world.version = 2;
    assert_eq!(world.log_in(0, Refused), Err(NotTried::Here));
    (world.version, world.content) = (3, 2);
    world.log_in(0, Accepted).unwrap();
}

#[test]
fn three_refusals_in_a_row_end_it_for_all_also_after_a_restart() {
    let mut world = World::new(5);
    for index in 0..3 {
        world.log_in(index, Refused).unwrap();
    }
    assert_eq!(world.statuses[&2].refused[0].in_a_row, Some(3));
    for _ in 0..2 {
        assert_eq!(world.log_in(3, Accepted), Err(NotTried::InARow));
        world.restart();
    }
    // A crash between a refusal and its record may cost one more.
    world.status(2, |status| status.refused.clear());
    world.restart();
    world.log_in(3, Refused).unwrap();
    assert_eq!(world.log_in(4, Accepted), Err(NotTried::InARow));
}

#[test]
fn an_acceptance_ends_a_row() {
    let mut world = World::new(8);
    for outcome in [Refused, Refused, Accepted, Refused, Accepted] {
        let index = world
            .statuses
            .iter()
            .position(|(_, status)| !status.let_in && status.refused.is_empty())
            .unwrap();
        world.log_in(index, outcome).unwrap();
    }
    world.seconds += 3_600;
    world.log_in(6, Refused).unwrap();
    assert_eq!(world.statuses[&6].refused[0].in_a_row, Some(1));
}

#[test]
fn a_rotation_at_the_directory_costs_three_refusals() {
    let mut world = World::in_sync(1_000);
    for index in 0..1_000 {
        world.log_in(index, Accepted).unwrap();
    }
    // A day later the tokens end, one after the other.
    world.seconds += 86_400;
    let tried = (0..1_000).filter(|index| world.log_in(*index, Refused).is_ok()).count();
    assert_eq!(tried, 3);
}

#[test]
fn the_third_try_of_a_row_is_left_to_a_system_that_let_the_user_in_before() {
    let mut world = World::in_sync(4);
    for index in 0..4 {
        world.log_in(index, Accepted).unwrap();
    }
    for index in 4..8 {
        world.status(index, |_| {});
    }
    world.seconds += 600;
    world.log_in(4, Refused).unwrap();
    world.log_in(5, Refused).unwrap();
    assert_eq!(world.log_in(6, Accepted), Err(NotTried::Reserved));
    let (who, now) = (world.who(), world.now());
    let probed = world.ledger.probe(&who, now, 0.9).unwrap();
    assert_eq!(probed, holder(3));
    assert_eq!(world.ledger.probe(&who, now, 0.9), None, "one at a time");
    world.log_in(3, Accepted).unwrap();
    world.log_in(6, Accepted).unwrap();
}

#[test]
fn a_system_whose_tokens_are_refused_is_no_witness() {
    let mut world = World::in_sync(8);
    for index in 0..8 {
        world.log_in(index, Accepted).unwrap();
    }
    world.seconds += 600;
    let (who, now) = (world.who(), world.now());
    for index in 0..3 {
        world.ledger.token_refused(&who, &system(index), now);
    }
    world.log_in(0, Refused).unwrap();
    world.log_in(1, Refused).unwrap();
    assert_eq!(world.log_in(2, Refused), Err(NotTried::Reserved));
    world.restart();
    world.log_in(5, Accepted).unwrap();
    // Where no system is left that may still let the user in, anybody may be the third.
    let mut world = World::new(3);
    world.log_in(0, Refused).unwrap();
    world.log_in(1, Refused).unwrap();
    world.log_in(2, Refused).unwrap();
}

#[test]
fn a_reservation_that_nobody_takes_up_lapses() {
    let mut world = World::in_sync(1);
    (1..4).for_each(|index| world.status(index, |_| {}));
    world.log_in(1, Refused).unwrap();
    world.log_in(2, Refused).unwrap();
    let who = world.who();
    for _ in 0..3 {
        assert_eq!(world.log_in(3, Accepted), Err(NotTried::Reserved));
        assert!(world.ledger.probe(&who, world.now(), 0.0).is_some());
        world.seconds += 60;
    }
    world.log_in(3, Accepted).unwrap();
}

#[test]
fn at_most_three_logins_are_under_way_and_past_successes_come_first() {
    let mut world = World::new(40);
    world.status(30, |status| status.let_in = true);
    for index in 0..40 {
        assert_eq!(world.want(index), None, "who comes first is not preferred");
    }
    let first = world.decide();
    assert_eq!(first.len(), 3);
    assert_eq!(first[0].0, 30);
    assert!(first[1..].iter().any(|(index, _)| *index > 2), "in no fixed order: {first:?}");
    assert!(world.trying.values().all(|(_, awaited)| *awaited));
    assert!(world.decide().is_empty());
    // One that does not answer is followed by another.
    world.end_at(30, Unknown);
    assert_eq!(world.decide().len(), 1);
    let (next, _) = world.trying.values().next().copied().unwrap();
    world.end_at(next, Accepted);
    assert_eq!(world.decide().len(), 36, "once it is accepted no other waits");
}
