//! Events about a customer.

use super::{Wish, lifetimes, words};
use crate::crd::{Cause, CustomerTokenTtlStatus, TtlChange, TtlSeconds};
use crate::engine::change::event;
use crate::engine::reason::{EventReason, Reason};
use crate::engine::verdict::Verdict;

/// The event about a change that took effect.
#[must_use]
pub fn changed(TtlChange { to, cause, change_ref, .. }: &TtlChange) -> (EventReason, String) {
    let seconds = |value: Option<u32>| value.unwrap_or_default();
    let (access, refresh) = (seconds(to.access_token_ttl_seconds), seconds(to.refresh_token_ttl_seconds));
    let note = match cause {
        Cause::Policy => format!("Token lifetimes changed to {access}s (access) and {refresh}s (refresh)."),
        Cause::Drift => format!("Token lifetimes corrected to {access}s (access) and {refresh}s (refresh)."),
        Cause::Restore => format!("Original token lifetimes restored: the server has {}.", words(*to)),
    };
    event(*cause, EventReason::TtlChanged, note, change_ref.as_deref())
}

/// The note of an event that something else has changed lifetimes which were as desired, if that is not corrected for now.
#[must_use]
pub fn drifted(
    before: Option<&CustomerTokenTtlStatus>,
    wish: Wish,
    seen: Option<TtlSeconds>,
    verdict: &Verdict,
) -> Option<String> {
    let desired = wish.ttl.into();
    let was_as_desired = before.is_some_and(|before| lifetimes(before) == desired);
    let waits = matches!(verdict.reason, Reason::Observed | Reason::AwaitingWindow);
    let seen = seen.filter(|seen| *seen != desired && was_as_desired && waits)?;
    Some(format!("Something changed the token lifetimes to {}. {}", words(seen), verdict.message))
}
