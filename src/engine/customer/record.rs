//! What the status of a customer keeps of changes, and what it shows after a reconcile.

use super::{ACCESS, Original, Prior, REFRESH, Wish, cause, prior};
use crate::crd::{
    Cause, CustomerTokenTtlSpec, CustomerTokenTtlStatus, DeletionPolicy, Mode, Time, TtlChange, TtlPending,
    TtlSeconds,
};
use crate::engine::change::{self, Beside, Ending, Recorded, add_to_history, recorded_as, stays_open};
use crate::engine::login::{self, News};
use crate::engine::summary::Summary;

/// A change of a customer's lifetimes that was begun and is not completed.
pub type OpenChange = change::Change<TtlSeconds, Original>;

/// A change that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The change as the history has it.
    pub change: TtlChange,
    /// What the keys held originally, should the status not know it.
    pub original: Original,
}

/// A customer as it was read, as far as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its title.
    pub title: Option<String>,
    /// The lifetimes of its users' tokens.
    pub ttl: TtlSeconds,
}

/// What a reconcile found and did, as far as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it came to. The login is that of the customer's own user.
    pub summary: Summary,
    /// What was read last.
    pub read: Option<Reading>,
    /// Lifetimes proven during the reconcile.
    pub proven: Option<TtlSeconds>,
}

/// The changes of one object that its status does not show as they are, yet.
pub type Changes<'a> = change::Changes<'a, OpenChange, Made>;

/// The change that a status has on record as open. What was refused is not kept there, so it may have been sent.
#[must_use]
pub fn remembered(status: &CustomerTokenTtlStatus, wish: Wish) -> Option<OpenChange> {
    let pending = status.pending.as_ref()?;
    let before = prior(status);
    let read = before.read.filter(|read| *read != pending.to);
    let from = pending.from.or(read).unwrap_or_default();
    let (first, original) = (status.history.is_empty(), status.original.clone());
    let beside = Beside {
        from,
        found: original.clone().filter(|_| first).unwrap_or_else(|| texts(from)),
        cause: cause(wish.ttl, &before),
        policy: None,
        under_way: true,
        original_before: original.filter(|_| !first),
        is_recorded: false,
    };
    Some(OpenChange::remembered(pending.into(), beside))
}

/// An open change as the history has it, once it took effect.
#[must_use]
pub fn made(open: &OpenChange, time: Time) -> Made {
    let OpenChange { from, to, cause, .. } = *open;
    let change_ref = open.reference.clone();
    Made { change: TtlChange { time, from, to, cause, change_ref }, original: open.original() }
}

/// A change that took effect without any record of it: the operator stopped before it could report it. Under Restore it would
/// be on record: the lifetimes were set by something else.
#[must_use]
pub fn unrecorded(
    spec: &CustomerTokenTtlSpec,
    prior: &Prior,
    seen: TtlSeconds,
    (time, change_ref): (Time, Option<String>),
) -> Option<Made> {
    let wish = Wish::of(spec);
    let may_be_ours = wish.mode == Mode::Enforce
        && spec.deletion_policy == DeletionPolicy::Retain
        && seen == wish.ttl.into();
    let from = prior.read.filter(|before| *before != seen && may_be_ours)?;
    let change = TtlChange { time, from, to: seen, cause: cause(wish.ttl, prior), change_ref };
    Some(Made { original: texts(from), change })
}

/// Puts changes on record that took effect.
pub fn put_on_record<'a>(status: &mut CustomerTokenTtlStatus, changes: impl IntoIterator<Item = &'a Made>) {
    let mut changes = changes.into_iter().peekable();
    // Known since the first change, or never: what the keys hold later may be ours.
    if let Some(first) = changes.peek().filter(|_| status.history.is_empty()) {
        status.original.get_or_insert_with(|| first.original.clone());
    }
    add_to_history(&mut status.history, changes.map(|made| &made.change));
}

/// Puts on record that a change is about to be sent. An `earlier` one to the same lifetimes that was sent stays in sight: it
/// may still take effect.
pub fn prepare(status: &mut CustomerTokenTtlStatus, change: &OpenChange, earlier: Option<&OpenChange>) {
    let sent = earlier.filter(|earlier| earlier.may_hold() && earlier.to == change.to);
    status.pending = Some(sent.unwrap_or(change).recorded().into());
    bring_original(status, change);
}

/// Takes over what was read.
pub fn set_read(status: &mut CustomerTokenTtlStatus, Reading { title, ttl }: &Reading, now: &Time) {
    status.customer_title.clone_from(title);
    status.access_token_ttl_seconds = ttl.access_token_ttl_seconds;
    status.refresh_token_ttl_seconds = ttl.refresh_token_ttl_seconds;
    status.last_checked_time = Some(now.clone());
}

/// Brings a status up to date, but for its conditions.
pub fn update(
    status: &mut CustomerTokenTtlStatus,
    found: &Found,
    wish: Wish,
    Changes { open, owed }: Changes<'_>,
    now: &Time,
) {
    if let Some(url) = &found.summary.effective_url {
        status.effective_url = Some(url.clone());
    }
    if let Some(read) = &found.read {
        set_read(status, read, now);
    }
    if let Some(proven) = found.proven {
        status.proven = Some(proven);
        status.last_proven_time = Some(now.clone());
        login::record(&mut status.refused_login, &News::LetIn);
    } else if !owed.is_empty() {
        // What was proven before a change says nothing of it: the next reconcile proves it.
        status.proven = None;
    }
    if !wish.proves_by_login() {
        login::record(&mut status.refused_login, &News::Elsewhere);
    } else if let Some(news) = &found.summary.news {
        login::record(&mut status.refused_login, news);
    }
    if let Some(open) = open.filter(|open| !open.may_hold()) {
        status.original.clone_from(&open.original_before);
    }
    put_on_record(status, owed);
    let open = open.filter(|open| keeps(open, status, found, wish));
    status.pending = open.map(|open| open.recorded().into());
    if let Some(open) = open {
        bring_original(status, open);
    }
}

/// Lifetimes that the operator may have set last.
#[must_use]
pub fn written(
    status: Option<&CustomerTokenTtlStatus>,
    open: Option<&OpenChange>,
    owed: &[Made],
) -> Vec<TtlSeconds> {
    let owed = owed.last().map(|made| made.change.to);
    let sent = open.filter(|open| open.may_hold() && open.cause != Cause::Restore).map(|open| open.to);
    let recorded = status.and_then(|status| status.history.first()).map(|change| change.to);
    [owed, sent, recorded].into_iter().flatten().collect()
}

/// What the keys held originally, as far as that is known. With a history it is known since the first change, or never.
#[must_use]
pub fn known_original(status: &CustomerTokenTtlStatus, owed: &[Made]) -> Option<Original> {
    let first = owed.first().filter(|_| status.history.is_empty());
    status.original.clone().or_else(|| first.map(|made| made.original.clone()))
}

/// What the first change replaces is the original. It stays as it is once there is a history.
fn bring_original(status: &mut CustomerTokenTtlStatus, change: &OpenChange) {
    if status.history.is_empty() {
        status.original = Some(change.original());
    }
}

/// Whether a change is still shown as open: only while it may take effect, or may have done so.
fn keeps(open: &OpenChange, status: &CustomerTokenTtlStatus, found: &Found, wish: Wish) -> bool {
    let ending = Ending {
        required: wish.requires(open.to),
        is_set: prior(status).read == Some(open.to),
        ..found.summary.ending()
    };
    open.may_hold() && stays_open(open, ending)
}

/// The text of each key that holds a whole number.
fn texts(ttl: TtlSeconds) -> Original {
    let keys = [(ACCESS, ttl.access_token_ttl_seconds), (REFRESH, ttl.refresh_token_ttl_seconds)];
    keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_string()))).collect()
}

recorded_as!(TtlPending, TtlSeconds);
