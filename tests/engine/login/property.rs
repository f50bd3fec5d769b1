//! Whatever happens to a fleet in whatever order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What may happen to a fleet.
#[derive(Clone, Debug)]
enum Happening {
    Wants(usize),
    Decides,
    /// One of the tries under way ends.
    Ends(usize),
    Requests(usize),
    Restarts,
    Passes(u64),
    /// Somebody edits the Secret's metadata.
    Touches,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        8 => (0..12_usize).prop_map(Happening::Wants),
        4 => Just(Happening::Decides),
        8 => any::<usize>().prop_map(Happening::Ends),
        1 => (0..12_usize).prop_map(Happening::Requests),
        1 => Just(Happening::Restarts),
        2 => (0..900_u64).prop_map(Happening::Passes),
        1 => Just(Happening::Touches),
    ];
    proptest::collection::vec(one, 1..250)
}

proptest! {
    /// Three refusals in a row at most, and as many again for each request; a crash may lose what was under way.
    #[test]
    fn refusals_in_a_row_are_bounded(happenings in happenings(), known in any::<u16>(), silent in any::<u16>()) {
        let mut world = World::new(12);
        for index in (0..12).filter(|index| known >> index & 1 == 1) {
            world.status(index, |status| status.let_in = true);
        }
        let (mut refusals, mut allowed) = (0, 3);
        let mut refused_here = BTreeSet::new();
        for happening in happenings {
            match happening {
                Happening::Wants(index) => {
                    world.want(index);
                }
                Happening::Decides => {
                    world.decide();
                }
                Happening::Ends(which) => {
                    let Some(id) = world.trying.keys().nth(which % world.trying.len().max(1)).copied() else { continue };
                    let index = world.trying[&id].0;
                    let outcome = if silent >> index & 1 == 1 { Unknown } else { Refused };
                    if outcome == Refused {
                        refusals += 1;
                        prop_assert!(refused_here.insert(index) , "{index} was asked twice");
                    }
                    world.end(id, outcome);
                }
                Happening::Requests(index) => {
                    allowed += 3;
                    refused_here.remove(&index);
                    world.request(index);
                }
                Happening::Restarts => {
                    allowed += world.trying.len();
                    world.restart();
                }
                Happening::Passes(seconds) => world.seconds += seconds,
                Happening::Touches => {
                    // The operator reads both versions, and its reports name the newer.
                    world.want(0);
                    world.version += 1;
                    world.want(0);
                    (0..12).for_each(|index| world.report(index));
                }
            }
            prop_assert!(refusals <= allowed, "{refusals} refusals, {allowed} allowed");
            prop_assert!(world.trying.len() <= 3, "{:?}", world.trying);
        }
    }

    /// However many systems refuse the user: those that let it in do so again, before and after restarts.
    #[test]
    fn systems_that_refuse_a_user_do_not_stop_those_that_let_it_in(
        refusing in proptest::collection::btree_set(0..12_usize, 0..9),
        seed in any::<u64>(),
        pauses in proptest::collection::vec(0..100_u64, 3),
    ) {
        let mut world = World::in_sync(12);
        world.seed = seed;
        // Those that refuse are known by now: their statuses do not show that the user was let in.
        refusing.iter().for_each(|index| world.status(*index, |status| status.let_in = false));
        let mut refusals = 0;
        for pause in pauses {
            let mut inside = BTreeSet::new();
            for _ in 0..20 {
                let mut reserved = false;
                for index in (0..12).filter(|index| !inside.contains(index)) {
                    if !world.waiting.values().any(|other| *other == index) {
                        reserved |= world.want(index) == Some(Err(NotTried::Reserved));
                    }
                }
                world.decide();
                while let Some(id) = world.trying.keys().next().copied() {
                    let index = world.trying[&id].0;
                    let refused = refusing.contains(&index);
                    refusals += usize::from(refused);
                    world.end(id, if refused { Refused } else { Accepted });
                    if !refused {
                        inside.insert(index);
                    }
                    world.decide();
                }
                let (who, now) = (world.who(), world.now());
                if reserved && let Some(probed) = world.ledger.probe(&who, now, 0.5) {
                    inside.remove(&probed.name.parse::<usize>().unwrap());
                }
                world.seconds += 60;
            }
            prop_assert_eq!(inside.len(), 12 - refusing.len(), "{:?} of {:?}", inside, refusing);
            world.seconds += pause;
            world.restart();
        }
        prop_assert_eq!(refusals, refusing.len(), "each refuses once");
    }
}
