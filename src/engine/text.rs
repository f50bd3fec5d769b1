//! Text that comes from other systems, or that is made of many names.

use icu_properties::props::{
    BinaryProperty as _, DefaultIgnorableCodePoint, EnumeratedProperty as _, GeneralCategory,
};

/// Cuts what another system calls something down to one short line of printable text.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !is_invisible(*c)).take(128).collect()
}

/// A text of at most `longest` bytes: cut off, and marked as such, if it has more.
#[must_use]
pub fn shortened(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest.saturating_sub('…'.len_utf8()));
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Characters that nothing shows, or that change how the text around them looks: control and format characters, separators of
/// lines, and what fonts leave out, such as marks of direction, variation selectors, tags and fillers.
fn is_invisible(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    let category = GeneralCategory::for_char(c);
    matches!(category, Control | Format | LineSeparator | ParagraphSeparator)
        || DefaultIgnorableCodePoint::for_char(c)
}
