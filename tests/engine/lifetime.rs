//! What a policy wants of a lifetime.

use proptest::prelude::*;
use tenure::engine::lifetime::{Bounds, InvalidTarget, Target, proves};

const DAY: u32 = 86_400;

#[test]
fn numbers_make_a_target_or_say_why_not() {
    let range = |least, most| Ok(Target::Range { least, most });
    for (exact, least, most, target) in [
        (Some(600), None, None, Ok(Target::Exact(600))),
        (Some(2_592_000), None, None, Ok(Target::Exact(2_592_000))),
        (Some(599), None, None, Err(InvalidTarget::OutOfRange)),
        (Some(2_592_001), None, None, Err(InvalidTarget::OutOfRange)),
        (None, None, None, Err(InvalidTarget::NotOneOf)),
        (Some(600), Some(600), None, Err(InvalidTarget::NotOneOf)),
        (Some(600), None, Some(600), Err(InvalidTarget::NotOneOf)),
        (Some(600), Some(600), Some(600), Err(InvalidTarget::NotOneOf)),
        (None, Some(900), None, range(900, 2_592_000)),
        (None, None, Some(900), range(600, 900)),
        (None, Some(900), Some(900), range(900, 900)),
        (None, Some(901), Some(900), Err(InvalidTarget::Crossed)),
        (None, Some(599), None, Err(InvalidTarget::OutOfRange)),
        (None, None, Some(2_592_001), Err(InvalidTarget::OutOfRange)),
        (None, None, Some(599), Err(InvalidTarget::Crossed)),
        (None, Some(0), Some(u32::MAX), Err(InvalidTarget::OutOfRange)),
    ] {
        assert_eq!(Target::new(exact, least, most), target, "{exact:?} {least:?} {most:?}");
    }
}

#[test]
fn an_operators_bounds_refuse_what_is_outside_and_narrow_open_ranges() {
    let bounds = Bounds { least: 3600, most: DAY };
    let range = |least, most| Target::Range { least, most };
    for (target, within) in [
        (Target::Exact(3600), Ok(Target::Exact(3600))),
        (Target::Exact(DAY), Ok(Target::Exact(DAY))),
        (Target::Exact(3599), Err(InvalidTarget::OutOfBounds)),
        (Target::Exact(DAY + 1), Err(InvalidTarget::OutOfBounds)),
        (range(3600, DAY), Ok(range(3600, DAY))),
        (range(7200, 7200), Ok(range(7200, 7200))),
        (range(3599, DAY), Err(InvalidTarget::OutOfBounds)),
        (range(3600, DAY + 1), Err(InvalidTarget::OutOfBounds)),
        // Left open by the policy, and so closed by the operator.
        (range(600, DAY), Ok(range(3600, DAY))),
        (range(7200, 2_592_000), Ok(range(7200, DAY))),
        (range(600, 2_592_000), Ok(range(3600, DAY))),
        // Open below, but wholly below what is allowed.
        (range(600, 3599), Err(InvalidTarget::OutOfBounds)),
        (range(DAY + 1, 2_592_000), Err(InvalidTarget::OutOfBounds)),
    ] {
        assert_eq!(target.within(bounds), within, "{target:?}");
        assert_eq!(target.within(Bounds::default()), Ok(target), "without flags nothing changes");
    }
}

#[test]
fn a_bound_that_a_policy_gives_is_not_moved_silently() {
    let bounds = Bounds { least: 3600, most: DAY };
    for (given, allowed) in [
        ([None, Some(600), None], false),
        ([None, None, Some(2_592_000)], false),
        ([None, Some(3600), Some(DAY)], true),
        ([Some(3599), None, None], false),
        ([None, None, Some(7200)], true),
    ] {
        assert_eq!(bounds.check(given).is_ok(), allowed, "{given:?}");
        assert_eq!(Bounds::default().check(given), Ok(()), "without flags everything is allowed");
    }
}

#[test]
fn targets_are_written_as_in_the_status() {
    assert_eq!(Target::Exact(28_800).to_string(), "28800");
    assert_eq!(Target::Range { least: 600, most: 43_200 }.to_string(), "600-43200");
}

#[test]
fn two_seconds_are_within_the_measuring_error() {
    for (token, setting, proven) in [
        (600, 600, true),
        (598, 600, true),
        (602, 600, true),
        (597, 600, false),
        (603, 600, false),
        (0, u32::MAX, false),
    ] {
        assert_eq!(proves(token, setting), proven, "{token} {setting}");
    }
}

/// Any target that a policy can have.
pub(crate) fn targets() -> impl Strategy<Value = Target> {
    let seconds = || prop_oneof![Just(600_u32), Just(2_592_000), 600..=2_592_000_u32];
    prop_oneof![
        seconds().prop_map(Target::Exact),
        (seconds(), seconds()).prop_map(|(a, b)| Target::Range { least: a.min(b), most: a.max(b) }),
    ]
}

proptest! {
    #[test]
    fn the_nearest_value_holds_and_is_nearest(target in targets(), observed in any::<u32>(), other in any::<u32>()) {
        let nearest = target.nearest(observed);
        prop_assert!(target.holds(nearest));
        prop_assert_eq!(target.holds(observed), nearest == observed, "what holds is left alone");
        if target.holds(other) {
            prop_assert!(nearest.abs_diff(observed) <= other.abs_diff(observed));
        }
    }

    #[test]
    fn any_numbers_are_judged(exact: Option<u32>, least: Option<u32>, most: Option<u32>) {
        if let Ok(target) = Target::new(exact, least, most) {
            prop_assert!(!target.holds(599) && !target.holds(2_592_001));
            prop_assert!(target.bounds().0 <= target.bounds().1);
        }
    }

    #[test]
    fn what_an_operator_lets_through_is_within_its_bounds(target in targets(), bounds in targets()) {
        let (low, high) = bounds.bounds();
        if let Ok(within) = target.within(Bounds { least: low, most: high }) {
            let (bottom, top) = within.bounds();
            prop_assert!(low <= bottom && bottom <= top && top <= high, "{:?} within {} and {}", within, low, high);
            prop_assert!(target.holds(bottom) && target.holds(top));
        }
    }
}
