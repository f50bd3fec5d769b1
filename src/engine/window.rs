//! Change windows: when remote values may be changed.

mod calendar;

use std::sync::Arc;

use calendar::Calendar;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{annotation, schedule};
use crate::crd::{OVERRIDE_WINDOW_UNTIL, Window};

/// When to ask again if no window is found.
const AGAIN: SignedDuration = SignedDuration::from_hours(8 * 24);
/// How soon a schedule has to come: four years, so that a leap day does.
const SOON: SignedDuration = SignedDuration::from_hours((4 * 365 + 2) * 24);
/// Shortest time that a window may stay open.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
/// Longest time that a window may stay open.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far ahead windows can be opened manually.
const BY_HAND: SignedDuration = SignedDuration::from_hours(24);

/// The change windows of a resource; with none, changes may be made at any time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows(Arc<[Opening]>);

/// A window that comes round.
#[derive(Debug, PartialEq)]
struct Opening {
    calendar: Calendar,
    duration: SignedDuration,
}

/// Why a window cannot be used, with what the user wrote and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// Not a schedule, or one with a range that runs backwards.
    #[error(
        "the schedule \"{schedule}\" is invalid: use five cron fields such as 0 22 * * SAT, with ascending ranges"
    )]
    Schedule {
        /// As written.
        schedule: String,
    },
    /// No such day comes within four years.
    #[error("the schedule \"{schedule}\" does not occur within four years: choose a day that exists")]
    Never {
        /// As written.
        schedule: String,
    },
    /// Not in the time zone database.
    #[error(
        "the timeZone \"{zone}\" is unknown: use a name from the IANA database, such as Europe/Berlin or UTC"
    )]
    Zone {
        /// As written.
        zone: String,
    },
    /// Not a duration, or out of bounds.
    #[error("the duration \"{duration}\" is not between 1m and 168h: use one such as 4h or 1h30m")]
    Duration {
        /// As written.
        duration: String,
    },
}

/// Whether changes may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They may.
    Open,
    /// They may not.
    Closed {
        /// When a window opens next.
        next: Timestamp,
    },
}

impl Windows {
    /// Reads the windows of a resource. `now` is what the schedules have to come soon after.
    pub fn parse(windows: &[Window], now: Timestamp) -> Result<Self, InvalidWindow> {
        let openings = windows.iter().map(|window| Opening::new(window, now));
        openings.collect::<Result<Vec<_>, _>>().map(|openings| Self(openings.into()))
    }

    /// Whether changes may be made at `now`, and if not, from when.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        if self.0.is_empty() || self.0.iter().any(|opening| opening.is_open(now)) {
            return State::Open;
        }
        let next = self.0.iter().filter_map(|opening| opening.calendar.next(now)).min();
        // There is one, since every schedule comes soon; without one, to ask again is right.
        State::Closed { next: next.unwrap_or_else(|| after(now, AGAIN)) }
    }

    /// What keeps changes from being made now, if anything does. `by_hand` is the annotation that opens windows manually.
    #[must_use]
    pub fn closed(&self, by_hand: Option<&str>, now: Timestamp) -> Option<Closed> {
        let State::Closed { next } = self.state(now) else { return None };
        match override_until(by_hand, now) {
            Override::Until(_) => None,
            Override::None => Some(Closed { next, note: None }),
            Override::Unusable(note) => Some(Closed { next, note: Some(note) }),
        }
    }
}

/// No window is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When the next one opens.
    pub next: Timestamp,
    /// What is wrong with the override annotation.
    pub note: Option<&'static str>,
}

impl Closed {
    /// What to report of an object that waits. `whose` names the resource with the windows.
    #[must_use]
    pub fn message(self, whose: &str) -> String {
        let note = self.note.map_or_else(String::new, |note| format!(" {note}."));
        format!("A change is waiting for the next change window of {whose}.{note}")
    }
}

impl Opening {
    fn new(window: &Window, now: Timestamp) -> Result<Self, InvalidWindow> {
        let Window { schedule, duration, time_zone } = window;
        let zone =
            calendar::zone(time_zone).ok_or_else(|| InvalidWindow::Zone { zone: time_zone.clone() })?;
        let calendar = Calendar::new(schedule, zone)
            .ok_or_else(|| InvalidWindow::Schedule { schedule: schedule.clone() })?;
        if !calendar.comes() || calendar.next(now).is_none_or(|next| next > after(now, SOON)) {
            return Err(InvalidWindow::Never { schedule: schedule.clone() });
        }
        let duration = schedule::parse(duration)
            .and_then(|duration| SignedDuration::try_from(duration).ok())
            .filter(|duration| (SHORTEST..=LONGEST).contains(duration))
            .ok_or_else(|| InvalidWindow::Duration { duration: duration.clone() })?;
        Ok(Self { calendar, duration })
    }

    fn is_open(&self, now: Timestamp) -> bool {
        self.calendar.last(now).is_some_and(|start| after(start, self.duration) > now)
    }
}

fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// The annotation that opens windows manually.
#[must_use]
pub fn override_annotation(meta: &ObjectMeta) -> Option<&str> {
    annotation::value(meta, OVERRIDE_WINDOW_UNTIL)
}

/// What the annotation `tenure.dev/override-window-until` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Override {
    /// It is not set, or has expired.
    None,
    /// Changes may be made until then, whatever the windows are.
    Until(Timestamp),
    /// It cannot be used. The text explains what to write instead.
    Unusable(&'static str),
}

/// Reads the annotation that opens the windows manually, for at most a day, so that they are not left open by mistake.
#[must_use]
pub fn override_until(annotation: Option<&str>, now: Timestamp) -> Override {
    let Some(text) = annotation else { return Override::None };
    match text.parse::<Timestamp>() {
        Err(_) => Override::Unusable(
            "tenure.dev/override-window-until must be an RFC 3339 timestamp, such as 2026-11-22T22:00:00Z",
        ),
        Ok(until) if until <= now => Override::None,
        Ok(until) if until > after(now, BY_HAND) => {
            Override::Unusable("tenure.dev/override-window-until must be no more than 24 hours in the future")
        }
        Ok(until) => Override::Until(until),
    }
}
