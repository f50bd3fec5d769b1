//! Which policy governs a gateway.

use proptest::prelude::*;
use tenure::crd::Mode;
use tenure::engine::lifetime::{InvalidTarget, Target};
use tenure::engine::precedence::{Claim, winner};

fn claim(policy: &str, priority: i32, mode: Mode) -> Claim {
    Claim { policy: policy.to_owned(), priority, mode, suspended: false, target: Ok(Target::Exact(600)) }
}

#[test]
fn highest_priority_then_first_name_and_never_an_observer() {
    use Mode::{Enforce, Observe};
    for (claims, expected) in [
        (vec![], None),
        (vec![claim("a", 1000, Observe)], None),
        (vec![claim("b", 0, Enforce), claim("a", 0, Enforce)], Some("a")),
        (vec![claim("a", 0, Enforce), claim("b", 1, Enforce)], Some("b")),
        (vec![claim("a", -1, Enforce), claim("b", -2, Enforce)], Some("a")),
        (vec![claim("a", 5, Observe), claim("b", 0, Enforce)], Some("b")),
        (vec![claim("a-10", 0, Enforce), claim("a-9", 0, Enforce)], Some("a-10")),
    ] {
        assert_eq!(winner(&claims).map(|c| c.policy.as_str()), expected, "{claims:?}");
    }
}

#[test]
fn suspended_and_invalid_policies_keep_their_claim() {
    let suspended = Claim { suspended: true, ..claim("a", 1, Mode::Enforce) };
    let invalid = Claim { target: Err(InvalidTarget::Crossed), ..claim("b", 2, Mode::Enforce) };
    let other = claim("c", 0, Mode::Enforce);
    assert_eq!(winner([&suspended, &other]).unwrap().policy, "a");
    assert_eq!(winner([&suspended, &invalid, &other]).unwrap().policy, "b");
}

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let mode = prop_oneof![Just(Mode::Enforce), Just(Mode::Observe)];
    let one = (-2..3_i32, mode, any::<bool>());
    proptest::collection::btree_map("[a-e]{1,2}", one, 0..6).prop_map(|map| {
        let claims = map.into_iter();
        claims
            .map(|(name, (priority, mode, suspended))| Claim { suspended, ..claim(&name, priority, mode) })
            .collect()
    })
}

proptest! {
    #[test]
    fn the_winner_beats_every_other_in_any_order(claims in claims(), shuffled in claims().prop_shuffle()) {
        for claims in [claims, shuffled] {
            let mut reversed = claims.clone();
            reversed.reverse();
            prop_assert_eq!(winner(&claims), winner(&reversed));
            let enforcing = || claims.iter().filter(|c| c.mode == Mode::Enforce);
            match winner(&claims) {
                None => prop_assert_eq!(enforcing().count(), 0),
                Some(won) => {
                    prop_assert_eq!(won.mode, Mode::Enforce);
                    for other in enforcing().filter(|c| c.policy != won.policy) {
                        let beaten = won.priority > other.priority
                            || won.priority == other.priority && won.policy < other.policy;
                        prop_assert!(beaten, "{:?} against {:?}", won, other);
                    }
                }
            }
        }
    }
}
