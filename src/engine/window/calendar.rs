//! When a cron schedule comes round in its time zone.
//!
//! A schedule is about what the clocks on the wall show. It comes at the first moment at which they show its time or a
//! later one: at the end of the gap where summer time skips it, and the first time only where an hour comes twice.

use std::sync::LazyLock;

use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, CronComponent};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

/// A year that has every day.
const LEAP_YEAR: i16 = 2024;
/// Every year until 5000: croner has a byte for each. It is kept once for all schedules, which have no field for it.
static YEARS: LazyLock<CronComponent> =
    LazyLock::new(|| read("* * * * *").map(|cron| cron.pattern.years).unwrap_or_default());

/// A cron schedule in a time zone.
#[derive(Debug, PartialEq)]
pub(super) struct Calendar {
    /// Without its years.
    cron: Cron,
    zone: TimeZone,
}

/// A time zone of the database that is part of the program.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown())
}

impl Calendar {
    pub(super) fn new(schedule: &str, zone: TimeZone) -> Option<Self> {
        let mut cron = read(schedule)?;
        cron.pattern.years = CronComponent::default();
        Some(Self { cron, zone })
    }

    fn cron(&self) -> Cron {
        let mut cron = self.cron.clone();
        cron.pattern.years.clone_from(&YEARS);
        cron
    }

    /// Whether the schedule comes at all: where only the day of month counts, a month of it has to have such a day.
    /// croner would look for the 30th of February until the year 5000.
    pub(super) fn comes(&self) -> bool {
        let pattern = &self.cron.pattern;
        let (months, days) = (pattern.months.values(), pattern.days.values());
        let exists = |month: u16, day: u16| {
            let (month, day) = (i8::try_from(month).ok(), i8::try_from(day).ok());
            month.zip(day).is_some_and(|(month, day)| Date::new(LEAP_YEAR, month, day).is_ok())
        };
        !pattern.is_dow_wildcard() || months.iter().any(|month| days.iter().any(|day| exists(*month, *day)))
    }

    /// The last time that the schedule came, at `now` or before.
    pub(super) fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let start = self.cron().find_previous_occurrence(&self.latest_shown(now), true).ok()?;
        self.first_shown(start)
    }

    /// The next time that the schedule comes, after `now`.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let start = self.cron().find_next_occurrence(&self.latest_shown(now), false).ok()?;
        self.first_shown(start)
    }

    /// The latest time that the wall has shown by `now`: in an hour that comes the second time, its end.
    fn latest_shown(&self, now: Timestamp) -> DateTime {
        let offset = self.zone.to_offset(now);
        let shown = offset.to_datetime(now);
        match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Fold { before, after } if after == offset => {
                let by_now = now.checked_add(SignedDuration::from_nanos(1)).unwrap_or(now);
                let turned = self.zone.preceding(by_now).next();
                let end = turned.map(|turned| before.to_datetime(turned.timestamp()));
                // The end itself has not been shown.
                end.and_then(|end| end.checked_sub(SignedDuration::from_secs(1)).ok()).unwrap_or(shown)
            }
            _ => shown,
        }
    }

    /// The first moment at which the wall shows `time` or later.
    fn first_shown(&self, time: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(time).ok()
            }
            AmbiguousOffset::Gap { after, .. } => {
                let before_gap = after.to_timestamp(time).ok()?;
                self.zone.following(before_gap).next().map(|turned| turned.timestamp())
            }
        }
    }
}

/// What one field of a schedule may hold.
struct Field {
    greatest: u16,
    /// The names of the values, beginning at `named_from`.
    names: &'static [&'static str],
    named_from: u16,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const SUNDAY_AT_THE_END: u16 = 7;
/// Minute, hour, day of month, month, day of week.
const FIELDS: [Field; 5] = [
    Field { greatest: 59, names: &[], named_from: 0 },
    Field { greatest: 23, names: &[], named_from: 0 },
    Field { greatest: 31, names: &[], named_from: 0 },
    Field { greatest: 12, names: &MONTHS, named_from: 1 },
    Field { greatest: 6, names: &WEEKDAYS, named_from: 0 },
];

/// Reads a schedule as the `CronJob` controller does (robfig/cron v3), which is stricter than croner about what belongs
/// into a field, and understands `5/15`. Beyond it, Sunday may be 7, and end a range.
fn read(schedule: &str) -> Option<Cron> {
    let fields: Vec<&str> = schedule.split(' ').collect();
    if fields.len() != FIELDS.len() {
        return None;
    }
    let plain = FIELDS.iter().zip(fields).map(|(field, text)| field.spell_out(text));
    let plain = plain.collect::<Option<Vec<_>>>()?.join(" ");
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(&plain).ok()
}

impl Field {
    /// The field in the words that croner and the `CronJob` controller read alike.
    fn spell_out(&self, text: &str) -> Option<String> {
        let parts = text.split(',').map(|part| self.spell_out_part(part)).collect::<Option<Vec<_>>>()?;
        // One star among the parts leaves the day unrestricted, as there; croner knows only a star alone.
        Some(if parts.iter().any(|part| part == "*") { "*".to_owned() } else { parts.join(",") })
    }

    fn spell_out_part(&self, part: &str) -> Option<String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        let range = match (range.split_once('-'), step) {
            _ if range == "*" => "*".to_owned(),
            (Some((first, last)), _) => self.spell_out_range(first, last)?,
            (None, Some(_)) => format!("{}-{}", self.value(range)?, self.greatest),
            (None, None) => self.value(range)?.to_string(),
        };
        Some(match step {
            None | Some(1) => range,
            Some(step) => format!("{range}/{step}"),
        })
    }

    fn spell_out_range(&self, first: &str, last: &str) -> Option<String> {
        let (first, last) = (self.value(first)?, self.value(last)?);
        let ends_on_sunday = self.names == WEEKDAYS && last == 0 && first > 0;
        Some(format!("{first}-{}", if ends_on_sunday { SUNDAY_AT_THE_END } else { last }))
    }

    fn value(&self, text: &str) -> Option<u16> {
        let named = (self.named_from..).zip(self.names).find(|(_, name)| name.eq_ignore_ascii_case(text));
        named.map(|(value, _)| value).or_else(|| number(text))
    }
}

/// At most three digits, without a sign.
fn number(text: &str) -> Option<u16> {
    let digits = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
