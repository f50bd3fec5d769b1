//! What to report of a remote system that does not do what it was asked for.

use super::verdict::{Reason, Verdict};

/// A customer that the server refuses to store. `field` is the one that it names, if any.
#[must_use]
pub fn rejected_customer(field: Option<&str>) -> Verdict {
    match field {
        Some("additionalInfo") => Verdict::new(
            Reason::AdditionalInfoUnusable,
            "The server rejected the customer because of its additionalInfo, which probably contains markup or is too long. \
             Clean up the customer's additionalInfo.",
        ),
        Some(field) => Verdict::new(
            Reason::UnexpectedAnswer,
            format!(
                "The server rejected the customer because of its field {field}. Correct that field on the server."
            ),
        ),
        None => Verdict::new(
            Reason::UnexpectedAnswer,
            "The server rejected the customer with status 400, probably because of one of its other fields. Save the customer \
             on the server to see which one, and correct it.",
        ),
    }
}
