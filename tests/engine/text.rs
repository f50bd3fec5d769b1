//! What of other systems' words is repeated.

use std::ops::RangeInclusive;

use tenure::engine::text::printable;

/// The general category Cf, controls, separators of lines, and what is ignored by default, as the Unicode character database lists
/// them.
const INVISIBLE: [RangeInclusive<u32>; 27] = [
    0x00..=0x1F,
    0x7F..=0x9F,
    0xAD..=0xAD,
    0x34F..=0x34F,
    0x600..=0x605,
    0x61C..=0x61C,
    0x6DD..=0x6DD,
    0x70F..=0x70F,
    0x890..=0x891,
    0x8E2..=0x8E2,
    0x115F..=0x1160,
    0x17B4..=0x17B5,
    0x180B..=0x180F,
    0x200B..=0x200F,
    0x2028..=0x202E,
    0x2060..=0x206F,
    0x3164..=0x3164,
    0xFE00..=0xFE0F,
    0xFEFF..=0xFEFF,
    0xFFA0..=0xFFA0,
    0xFFF0..=0xFFFB,
    0x110BD..=0x110BD,
    0x110CD..=0x110CD,
    0x13430..=0x1343F,
    0x1BCA0..=0x1BCA3,
    0x1D173..=0x1D17A,
    0xE0000..=0xE0FFF,
];

#[test]
fn nothing_invisible_is_repeated() {
    for c in INVISIBLE.into_iter().flatten().filter_map(char::from_u32) {
        assert_eq!(printable(&format!("Ber{c}lin")), "Berlin", "U+{:04X}", u32::from(c));
    }
}

#[test]
fn what_can_be_read_is_repeated() {
    let names =
        "Stadtwerke Zürich – Ελλάδα, Россия, 東京, القاهرة, दिल्ली, กรุงเทพ, 서울 <b>&\"'$(x)` 1/2 №5 😀";
    assert_eq!(printable(names), names);
    assert_eq!(printable(&"x".repeat(500)), "x".repeat(128));
    assert_eq!(printable("two\nlines\u{1b}[31m"), "twolines[31m");
}
