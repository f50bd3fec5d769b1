//! The rule, held against one that looks at every minute.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tenure::crd::Window;
use tenure::engine::window::{InvalidWindow, State, Windows};

use super::{at, window};

/// One field of a schedule: its text, what it means, and whether it leaves the day unrestricted.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<i8>,
    star: bool,
}

/// A part of a field with values from `least` to `greatest`.
fn part(least: i8, greatest: i8) -> impl Strategy<Value = Field> {
    let values = move |from: i8, to: i8, step: usize| (from..=to).step_by(step).collect();
    let bounds = (least..=greatest, least..=greatest).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        2 => Just(Field { text: "*".to_owned(), values: values(least, greatest, 1), star: true }),
        3 => (least..=greatest).prop_map(|n| Field { text: n.to_string(), values: BTreeSet::from([n]), star: false }),
        1 => (1..9_usize).prop_map(move |step| {
            Field { text: format!("*/{step}"), values: values(least, greatest, step), star: step == 1 }
        }),
        1 => bounds.clone().prop_map(move |(from, to)| {
            Field { text: format!("{from}-{to}"), values: values(from, to, 1), star: false }
        }),
        1 => (bounds, 1..9_usize).prop_map(move |((from, to), step)| {
            Field { text: format!("{from}-{to}/{step}"), values: values(from, to, step), star: false }
        }),
        1 => (least..=greatest, 1..20_usize).prop_map(move |(from, step)| {
            Field { text: format!("{from}/{step}"), values: values(from, greatest, step), star: false }
        }),
    ]
}

fn field(least: i8, greatest: i8) -> impl Strategy<Value = Field> {
    let one = part(least, greatest);
    let two = (part(least, greatest), part(least, greatest)).prop_map(|(a, b)| Field {
        text: format!("{},{}", a.text, b.text),
        values: a.values.union(&b.values).copied().collect(),
        star: a.star || b.star,
    });
    prop_oneof![4 => one, 1 => two]
}

/// A field that leaves everything open most of the time, so that something happens within days.
fn open_field(least: i8, greatest: i8) -> impl Strategy<Value = Field> {
    let star = Field { text: "*".to_owned(), values: (least..=greatest).collect(), star: true };
    prop_oneof![3 => Just(star), 1 => field(least, greatest)]
}

#[derive(Clone, Debug)]
struct Plan {
    fields: [Field; 5],
    /// In seconds.
    duration: i64,
}

fn plans() -> impl Strategy<Value = Plan> {
    let duration = prop_oneof![Just(60), Just(90), 60..4_000_i64, Just(86_400)];
    let fields = (field(0, 59), field(0, 23), open_field(1, 31), open_field(1, 12), open_field(0, 6));
    (fields, duration).prop_map(|((a, b, c, d, e), duration)| Plan { fields: [a, b, c, d, e], duration })
}

impl Plan {
    fn comes_at(&self, wall: DateTime) -> bool {
        let [minute, hour, day, month, weekday] = &self.fields;
        let on_day = day.values.contains(&wall.day());
        let on_weekday = weekday.values.contains(&wall.weekday().to_sunday_zero_offset());
        let today = if day.star || weekday.star { on_day && on_weekday } else { on_day || on_weekday };
        minute.values.contains(&wall.minute())
            && hour.values.contains(&wall.hour())
            && month.values.contains(&wall.month())
            && today
    }

    /// Every start in order: minute by minute, what the wall shows the first time, and what it leaves out.
    fn starts(&self, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let minute = SignedDuration::from_mins(1);
        let (mut now, mut starts) = (from, Vec::new());
        let mut unseen = zone.to_datetime(from);
        while now < to {
            let shown = zone.to_datetime(now);
            let mut comes = false;
            while unseen <= shown {
                comes |= self.comes_at(unseen);
                unseen += minute;
            }
            if comes {
                starts.push(now);
            }
            now += minute;
        }
        starts
    }

    fn window(&self, zone: &str) -> Window {
        let fields: Vec<_> = self.fields.iter().map(|field| field.text.as_str()).collect();
        window(&fields.join(" "), &format!("{}m{}s", self.duration / 60, self.duration % 60), zone)
    }
}

/// Zones and days on which their clocks change, or do not.
const DAYS: [(&str, &str); 15] = [
    ("Etc/UTC", "2026-03-01"),
    ("Etc/UTC", "2028-02-29"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2019-02-17"),
    ("Africa/Cairo", "2026-04-24"),
    ("Africa/Cairo", "2026-10-29"),
    ("Asia/Beirut", "2040-03-25"),
    ("Antarctica/Troll", "2026-03-29"),
    ("Pacific/Apia", "2011-12-30"),
];

/// How far the oracle looks to either side: more than the longest window here.
const AROUND: SignedDuration = SignedDuration::from_hours(60);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_rule_agrees_with_one_that_looks_at_every_minute(
        plans in proptest::collection::vec(plans(), 1..4),
        (zone, day) in proptest::sample::select(&DAYS[..]),
        moments in proptest::collection::vec(-24 * 3600..36 * 3600_i64, 40),
    ) {
        let (from, to) = (at(day) - AROUND, at(day) + AROUND);
        let list: Vec<_> = plans.iter().map(|plan| plan.window(zone)).collect();
        let database = TimeZone::get(zone).unwrap();
        let mut open: Vec<(Timestamp, Timestamp)> = Vec::new();
        for plan in &plans {
            let starts = plan.starts(&database, from, to);
            let duration = SignedDuration::from_secs(plan.duration);
            open.extend(starts.into_iter().map(|start| (start, start + duration)));
        }
        open.sort();
        let windows = match Windows::parse(&list, from) {
            Ok(windows) => windows,
            Err(InvalidWindow::Never { schedule }) => return Err(TestCaseError::reject(schedule)),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        for moment in moments {
            let now = at(day) + SignedDuration::from_secs(moment);
            if open.iter().any(|(start, end)| *start <= now && now < *end) {
                // Those that begin before the others end join.
                let join = |reached: Timestamp, (start, end): &(Timestamp, Timestamp)| {
                    if *start <= reached { reached.max(*end) } else { reached }
                };
                let end = open.iter().fold(now, join);
                for open in [now, end - SignedDuration::from_nanos(1)] {
                    prop_assert_eq!(windows.state(open), State::Open, "{} is open until {}", open, end);
                }
                prop_assert!(end >= to || windows.state(end) != State::Open, "{} is open until {}", now, end);
            } else {
                let next = open.iter().map(|(start, _)| *start).find(|start| *start > now);
                let State::Closed { next: found } = windows.state(now) else {
                    return Err(TestCaseError::fail(format!("{now} is closed until {next:?}")));
                };
                let beyond = next.is_none() && found >= to;
                prop_assert!(next == Some(found) || beyond, "{} is closed until {:?}, not {}", now, next, found);
            }
        }
    }
}
