//! What to report of a customer that is not in sync, each with a sentence that says what to do.

use super::{Original, Ttl, Unusable, words};
use crate::crd::{CustomerTokenTtlSpec, KonaServer, TtlSeconds};
use crate::engine::access::AccessError;
use crate::engine::conditions::SUSPENDED;
use crate::engine::ownership::Conflict;
use crate::engine::reason::Reason;
use crate::engine::remote::{RemoteError, Shown};
use crate::engine::verdict::Verdict;

/// Longest original value of one of the two keys, in bytes: the status remembers it.
const LONGEST_ORIGINAL: usize = 256;

/// What to report of a failed exchange. Faults of the login are the server's, whose own task reports them.
#[must_use]
pub fn failed(error: &AccessError, id: &str, server: &str) -> Verdict {
    let general = error.verdict(&format!("KonaServer {server}"), "");
    let AccessError::Remote(remote) = error else { return server_not_ready(server, general.reason) };
    let is_vendors = remote.shown() == Some(Shown::Vendor);
    answered(remote.status(), is_vendors, id, server).unwrap_or(general)
}

/// What an answer of the server says of the customer itself, if anything. A 404 counts only in the server's own form: a
/// proxy, or a server below another path, answers in another one.
#[must_use]
pub fn answered(status: Option<u16>, is_vendors: bool, id: &str, server: &str) -> Option<Verdict> {
    match status {
        Some(404) if is_vendors => Some(Verdict::new(
            Reason::CustomerNotFound,
            format!(
                "Customer {id} does not exist on the server, or the user of KonaServer {server} is not permitted to see it. Grant this user the permission, or create the customer. If spec.customerId is wrong, delete this resource and create it again, because the field is immutable."
            ),
        )),
        Some(403) => Some(Verdict::new(
            Reason::Forbidden,
            format!(
                "The user of KonaServer {server} is not permitted to read or change customer {id}. Grant it the permission."
            ),
        )),
        _ => None,
    }
}

/// The server refuses to store the customer, and may name the field that it does not like.
#[must_use]
pub fn rejected(error: &RemoteError) -> Option<Verdict> {
    error.status().filter(|status| *status == 400)?;
    Some(match error.shown() {
        Some(Shown::Field("additionalInfo")) => Verdict::new(
            Reason::AdditionalInfoUnusable,
            "The server rejected the customer because of its additionalInfo, which probably contains markup or is too long. \
             Clean up the customer's additionalInfo.",
        ),
        Some(Shown::Field(field)) => Verdict::new(
            Reason::UnexpectedAnswer,
            format!(
                "The server rejected the customer because of its field {field}. Correct that field on the server."
            ),
        ),
        _ => Verdict::new(
            Reason::UnexpectedAnswer,
            "The server rejected the customer with status 400, probably because of one of its other fields. Save the customer \
             on the server to see which one, and correct it.",
        ),
    })
}

/// The customer's server cannot be used, for a reason that its own conditions explain.
#[must_use]
pub fn server_not_ready(server: &str, reason: Reason) -> Verdict {
    let message = format!("KonaServer {server} is not ready ({}). See its conditions.", reason.as_str());
    Verdict::new(Reason::ServerNotReady, message)
}

/// The resource names a server that does not exist.
#[must_use]
pub fn server_not_found(server: &str) -> Verdict {
    let message = format!(
        "KonaServer {server} does not exist in this namespace: create it. If spec.serverRef is wrong, delete this resource and create it again, because the field is immutable."
    );
    Verdict::new(Reason::ServerNotFound, message)
}

/// A change waits for a window. `closed` is a sentence about that.
#[must_use]
pub fn awaiting_window(seen: TtlSeconds, Ttl { access, refresh }: Ttl, closed: &str) -> Verdict {
    let message =
        format!("The server has {}, but {access}s and {refresh}s are desired. {closed}", words(seen));
    Verdict::new(Reason::AwaitingWindow, message)
}

/// What keeps original values from being recorded, and thereby from being overwritten, if anything does.
#[must_use]
pub fn unrecordable(original: &Original) -> Option<Verdict> {
    let message = "The customer's current token lifetimes are not numbers and are too long to record, so they are not overwritten. Correct the customer's additionalInfo.";
    let is_long = original.values().any(|text| text.len() > LONGEST_ORIGINAL);
    is_long.then(|| Verdict::new(Reason::AdditionalInfoUnusable, message))
}

/// The customer's `additionalInfo` cannot hold lifetimes.
#[must_use]
pub fn unusable(why: Unusable) -> Verdict {
    let message =
        format!("The customer cannot be managed: {why}. Clear the field, or make it a JSON object.");
    Verdict::new(Reason::AdditionalInfoUnusable, message)
}

/// Each write met with another one that came first.
#[must_use]
pub fn raced() -> Verdict {
    let message =
        "The customer is being modified concurrently. Its token lifetimes will be set when that stops.";
    Verdict::new(Reason::Drifted, message)
}

/// What the status holds is of another server.
pub const SERVER_MOVED: &str = "The server's URL has changed; the customer is read again.";

/// What to report if the customer is another resource's, or if it is not yet known whose it is.
pub const CONFLICT: Conflict = Conflict {
    lost: "Another CustomerTokenTtl already manages this customer of this server, so this one is ignored. Delete one of the two.",
    undecided: "Another CustomerTokenTtl declares the same customer; nothing is changed until it is known which of the two can log in.",
};

/// Why nothing is done for a customer for now, if so.
#[must_use]
pub fn paused(spec: &CustomerTokenTtlSpec, server: Option<&KonaServer>) -> Option<String> {
    if spec.suspend {
        return Some(SUSPENDED.to_owned());
    }
    server.filter(|server| server.spec.connection.suspend)?;
    Some(format!("KonaServer {} is suspended: nothing is read or changed.", spec.server_ref.name))
}
