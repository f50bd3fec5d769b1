//! When changes may be made.

mod oracle;
mod properties;

use jiff::{SignedDuration, Timestamp};
use tenure::crd::Window;
use tenure::engine::window::{InvalidWindow, Override, State, Windows, override_until};

fn window(schedule: &str, duration: &str, time_zone: &str) -> Window {
    Window { schedule: schedule.to_owned(), duration: duration.to_owned(), time_zone: time_zone.to_owned() }
}

fn at(time: &str) -> Timestamp {
    let time = if time.contains('T') { time.to_owned() } else { format!("{time}T00:00") };
    format!("{time}Z").parse().unwrap()
}

fn parsed(windows: &[Window], now: Timestamp) -> Windows {
    Windows::parse(windows, now).unwrap_or_else(|error| panic!("{error}"))
}

/// The open times from one moment to another, to the minute, such as `11-21T22:00/11-22T02:00`.
fn open_times(windows: &Windows, from: Timestamp, to: Timestamp) -> Vec<String> {
    let text = |time: Timestamp| time.strftime("%m-%dT%H:%M").to_string();
    let (mut now, mut found) = (from, Vec::new());
    while now < to {
        now = match windows.state(now) {
            State::Closed { next } => next,
            State::Open => {
                let mut end = now;
                while windows.state(end) == State::Open {
                    end += SignedDuration::from_mins(1);
                }
                found.push(format!("{}/{}", text(now), text(end)));
                end
            }
        };
    }
    found
}

#[test]
fn windows_open_by_the_clocks_of_their_zone() {
    for (schedule, duration, zone, from, to, expected) in [
        ("0 22 * * 6", "4h", "Etc/UTC", "2026-11-20", "2026-11-28", "11-21T22:00/11-22T02:00"),
        // Summer time begins: the clocks go from 02:00 to 03:00.
        (
            "30 2 * * *",
            "1h",
            "Europe/Berlin",
            "2026-03-28",
            "2026-03-31",
            "03-28T01:30/03-28T02:30 03-29T01:00/03-29T02:00 03-30T00:30/03-30T01:30",
        ),
        // It ends: 02:30 comes twice.
        (
            "30 2 * * *",
            "1h",
            "Europe/Berlin",
            "2026-10-24",
            "2026-10-27",
            "10-24T00:30/10-24T01:30 10-25T00:30/10-25T01:30 10-26T01:30/10-26T02:30",
        ),
        (
            "*/15 2 * * *",
            "5m",
            "Europe/Berlin",
            "2026-10-25",
            "2026-10-25T12:00",
            "10-25T00:00/10-25T00:05 10-25T00:15/10-25T00:20 10-25T00:30/10-25T00:35 10-25T00:45/10-25T00:50",
        ),
        ("59 1 * * *", "2m", "Europe/Berlin", "2026-03-29", "2026-03-29T12:00", "03-29T00:59/03-29T01:01"),
        // Eight hours are eight hours, whatever the clocks do meanwhile.
        ("0 22 * * SAT", "8h", "Europe/Berlin", "2026-03-28", "2026-03-30", "03-28T21:00/03-29T05:00"),
        ("0 22 * * SAT", "8h", "Europe/Berlin", "2026-10-24", "2026-10-26", "10-24T20:00/10-25T04:00"),
        ("15 2 * * *", "30m", "America/New_York", "2026-03-08", "2026-03-09", "03-08T07:00/03-08T07:30"),
        ("30 1 * * *", "2h", "America/New_York", "2026-11-01", "2026-11-02", "11-01T05:30/11-01T07:30"),
        // Half an hour is skipped, and comes twice.
        ("15 2 4 10 *", "20m", "Australia/Lord_Howe", "2026-10-01", "2026-10-09", "10-03T15:30/10-03T15:50"),
        ("45 1 5 4 *", "20m", "Australia/Lord_Howe", "2026-04-01", "2026-04-09", "04-04T14:45/04-04T15:05"),
        // Midnight is skipped.
        ("0 0 4 11 *", "1h", "America/Sao_Paulo", "2018-11-01", "2018-11-09", "11-04T03:00/11-04T04:00"),
        ("*/20 0 29 3 *", "5m", "Asia/Beirut", "2026-03-25", "2026-04-02", "03-28T22:00/03-28T22:05"),
        ("0 0 * * FRI", "1h", "Africa/Cairo", "2026-04-20", "2026-04-27", "04-23T22:00/04-23T23:00"),
        // The hour before midnight comes twice.
        ("30 23 16 2 *", "1h", "America/Sao_Paulo", "2019-02-12", "2019-02-20", "02-17T01:30/02-17T02:30"),
        // A whole day is skipped.
        ("0 12 30 12 *", "1h", "Pacific/Apia", "2011-12-25", "2012-01-02", "12-30T10:00/12-30T11:00"),
        ("0 0 29 2 *", "168h", "Etc/UTC", "2026-11-22", "2029-01-01", "02-29T00:00/03-07T00:00"),
    ] {
        let windows = parsed(&[window(schedule, duration, zone)], at(from));
        let found = open_times(&windows, at(from), at(to)).join(" ");
        assert_eq!(found, expected, "{schedule} {duration} {zone}");
    }
}

/// The days of January 2026, a Thursday the first, on which a schedule comes at midnight.
fn days_of_january(schedule: &str) -> Vec<u32> {
    let windows = parsed(&[window(&format!("0 0 {schedule}"), "1m", "UTC")], at("2026-01-01"));
    let times = open_times(&windows, at("2026-01-01"), at("2026-02-01"));
    times
        .iter()
        .filter(|time| time.starts_with("01-"))
        .map(|time| time.get(3..5).unwrap().parse().unwrap())
        .collect()
}

#[test]
fn days_are_those_of_a_cron_job() {
    let sundays = [4, 11, 18, 25];
    let weekends = [2, 3, 4, 9, 10, 11, 16, 17, 18, 23, 24, 25, 30, 31];
    for (schedules, expected) in [
        (
            &["1-7 * *", "1-7 JAN *", "01-07 01 *", "1,2-5,6-7 * *", "1-7 */1 */1"][..],
            &[1, 2, 3, 4, 5, 6, 7][..],
        ),
        (&["* * 0", "* * 7", "* * SUN", "* * sun", "* * 7-7", "* * SUN-SUN"], &sundays),
        (&["* * FRI-SUN", "* * 5-7", "* * Fri-0", "* * SUN,5-6"], &weekends),
        // Where both are restricted, either will do.
        (&["13 * FRI", "13 * 5"], &[2, 9, 13, 16, 23, 30]),
        (&["*/10 * MON", "1/10 * MON"], &[1, 5, 11, 12, 19, 21, 26, 31]),
        (&["31 * */6"], &[3, 4, 10, 11, 17, 18, 24, 25, 31]),
        // A star among them restricts nothing.
        (&["* * MON", "*/1 * MON", "*,3 * MON", "3,*/1 * MON"], &[5, 12, 19, 26]),
        (&["13 * *", "13 * */1", "13 * 5,*"], &[13]),
        (&["* * */2"], &[1, 3, 4, 6, 8, 10, 11, 13, 15, 17, 18, 20, 22, 24, 25, 27, 29, 31]),
        // From there to the end, which is Saturday.
        (&["* * 1/3", "* * MON/3", "* * MON,THU"], &[1, 5, 8, 12, 15, 19, 22, 26, 29]),
        (&["10/7 * *", "10-31/7 * *"], &[10, 17, 24, 31]),
        (&["10-16/7 * *", "10/22 * *", "10-10 * *"], &[10]),
        (&["5 JAN-DEC/11 *", "5 JAN,MAR *", "5 */12 *"], &[5]),
    ] {
        for schedule in schedules {
            assert_eq!(days_of_january(schedule), expected, "{schedule}");
        }
    }
}

#[test]
fn minutes_hours_and_months_are_those_of_a_cron_job() {
    for (schedule, expected) in [
        ("5/25 0 1 1 *", "01-01T00:05 01-01T00:30 01-01T00:55"),
        ("0 */9 1 1 *", "01-01T00:00 01-01T09:00 01-01T18:00"),
        ("59 23 31 */5 *", "01-31T23:59"),
        ("0 0 1 FEB-APR,nov *", "02-01T00:00 03-01T00:00 04-01T00:00 11-01T00:00"),
        (
            "0 6-22/8,3 1 10/2 *",
            "10-01T03:00 10-01T06:00 10-01T14:00 10-01T22:00 12-01T03:00 12-01T06:00 12-01T14:00 12-01T22:00",
        ),
        ("0-0/300 0 31 4-6 *", "05-31T00:00"),
    ] {
        let windows = parsed(&[window(schedule, "1m", "UTC")], at("2026-01-01"));
        let times = open_times(&windows, at("2026-01-01"), at("2026-12-31T23:00"));
        let starts: Vec<_> = times.iter().map(|time| time.split_once('/').unwrap().0).collect();
        assert_eq!(starts.join(" "), expected, "{schedule}");
    }
}

#[test]
fn without_windows_it_is_always_open() {
    let windows = parsed(&[], at("2026-11-22"));
    for now in [Timestamp::MIN, at("2026-11-22"), Timestamp::MAX] {
        assert_eq!(windows.state(now), State::Open);
    }
}

#[test]
fn a_window_is_open_from_its_start_to_right_before_its_end() {
    let windows = parsed(&[window("0 22 * * *", "90s", "UTC")], at("2026-11-22"));
    let (start, end) = (at("2026-11-22T22:00"), at("2026-11-22T22:01:30"));
    let moment = SignedDuration::from_nanos(1);
    assert_eq!(windows.state(start - moment), State::Closed { next: start });
    assert_eq!(windows.state(start), State::Open);
    assert_eq!(windows.state(start + moment), State::Open);
    assert_eq!(windows.state(end - moment), State::Open);
    assert_eq!(windows.state(end), State::Closed { next: at("2026-11-23T22:00") });
}

#[test]
fn windows_that_overlap_or_touch_join() {
    let now = at("2026-11-22");
    let joined = |windows: &[(&str, &str, &str)]| {
        let windows: Vec<_> = windows.iter().map(|(s, d, z)| window(s, d, z)).collect();
        open_times(&parsed(&windows, now), now, at("2026-11-23")).join(" ")
    };
    let (nine, ten, noon) =
        (("0 9 * * *", "2h", "UTC"), ("0 10 * * *", "30m", "UTC"), ("0 12 * * *", "1h", "UTC"));
    assert_eq!(joined(&[nine, ten, noon]), "11-22T09:00/11-22T11:00 11-22T12:00/11-22T13:00");
    let until_noon = ("30 11 * * *", "90m", "Europe/Berlin");
    assert_eq!(joined(&[noon, until_noon, nine]), "11-22T09:00/11-22T13:00");
    assert_eq!(joined(&[("0 9,11 * * *", "2h", "UTC")]), "11-22T09:00/11-22T13:00");
    assert_eq!(joined(&[("*/30 9-10 * * *", "30m", "UTC")]), "11-22T09:00/11-22T11:00");
    assert_eq!(joined(&[("*/30 9-10 * * *", "40m", "UTC")]), "11-22T09:00/11-22T11:10");
}

#[test]
fn a_window_longer_than_its_period_is_always_open() {
    let now = at("2026-11-22T10:10");
    for (schedule, duration) in
        [("* * * * *", "1m"), ("0 */2 * * *", "2h"), ("0 0 * * *", "36h"), ("0 22 * * SAT", "168h")]
    {
        let windows = parsed(&[window(schedule, duration, "UTC")], now);
        for hours in 0..24 * 30 {
            let hour = at("2026-11-22T10:00") + SignedDuration::from_hours(hours);
            for moment in [hour - SignedDuration::from_nanos(1), hour] {
                assert_eq!(windows.state(moment), State::Open, "{schedule} at {moment}");
            }
        }
    }
    let windows = parsed(&[window("0 22 * * SAT", "167h59m", "UTC")], now);
    let expected = ["11-22T10:10/11-28T21:59", "11-28T22:00/12-05T21:59"];
    assert_eq!(open_times(&windows, now, at("2026-11-28T22:30")), expected);
}

fn refusal(window: Window) -> String {
    Windows::parse(&[window], at("2026-11-22")).unwrap_err().to_string()
}

#[test]
fn schedules_that_are_not_understood_are_refused_with_what_to_write() {
    for schedule in [
        "",
        "* * * *",
        "* * * * * *",
        " * * * * *",
        "*  * * * *",
        "@daily",
        "TZ=UTC * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * 8",
        "* 22-2 * * *",
        "* * * * SAT-MON",
        "*/0 * * * *",
        "*/ * * * *",
        "/5 * * * *",
        "1, * * * *",
        ", * * * *",
        "1-2-3 * * * *",
        "1/2/3 * * * *",
        "*-5 * * * *",
        "- * * * *",
        "+1 * * * *",
        "0x1 * * * *",
        "1.5 * * * *",
        "٣ * * * *",
        "* * L * *",
        "* * 15W * *",
        "* * * * 5#2",
        "* * * * 5L",
        "* * * * +5",
        "? * * * *",
        "* * ? * *",
        "* * * MON *",
        "* * * * JAN",
        "JAN * * * *",
        "* * * January *",
        "* * * * MONTUE",
        "* * * * 1MON",
        "* * * * \u{17f}UN",
        "* * * * 7/2",
        "\u{1f}* * * * *",
        "65537 * * * *",
    ] {
        let expected = format!(
            "the schedule \"{schedule}\" is invalid: use five cron fields such as 0 22 * * SAT, with ascending ranges"
        );
        assert_eq!(refusal(window(schedule, "1h", "UTC")), expected);
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_what_to_write() {
    for schedule in ["0 0 30 2 *", "0 0 31 FEB,APR,JUN,SEP,NOV *", "0 0 30-31 2 */1"] {
        let expected =
            format!("the schedule \"{schedule}\" does not occur within four years: choose a day that exists");
        assert_eq!(refusal(window(schedule, "1h", "Europe/Berlin")), expected);
    }
    for zone in ["Mars/Olympus", "", "Local", "Etc/Unknown", "+02:00", "../UTC", "Europe/Berlin\0"] {
        let expected = format!(
            "the timeZone \"{zone}\" is unknown: use a name from the IANA database, such as Europe/Berlin or UTC"
        );
        assert_eq!(refusal(window("0 0 * * *", "1h", zone)), expected);
    }
    for duration in ["", "0s", "59s", "168h1s", "99999h", "7d", "1.5h", "-1h", "1 h"] {
        let expected =
            format!("the duration \"{duration}\" is not between 1m and 168h: use one such as 4h or 1h30m");
        assert_eq!(refusal(window("0 0 * * *", duration, "UTC")), expected);
    }
}

#[test]
fn what_can_be_used_is_understood() {
    let now = at("2026-11-22");
    for (duration, zone) in [
        ("1m", "UTC"),
        ("60s", "utc"),
        ("168h", "Etc/UTC"),
        ("1h30m", "europe/berlin"),
        ("00m090s", "EST5EDT"),
    ] {
        parsed(&[window("0 0 * * *", duration, zone)], now);
    }
    // One that does not exist spoils the others.
    let windows = [window("0 0 * * *", "1h", "UTC"), window("0 0 30 2 *", "1h", "UTC")];
    assert_eq!(
        Windows::parse(&windows, now),
        Err(InvalidWindow::Never { schedule: "0 0 30 2 *".to_owned() })
    );
    // A leap day is never further than four years, whenever one asks; and restricted weekdays come beside it.
    for today in ["2024-02-28T23:59", "2024-02-29", "2024-02-29T00:01", "2026-11-22", "2028-03-01"] {
        parsed(
            &[window("0 0 29 2 *", "1h", "Pacific/Auckland"), window("0 0 30 2 MON", "1h", "UTC")],
            at(today),
        );
    }
    assert_eq!(parsed(&windows[..1], now), parsed(&windows[..1], at("2027-01-01")));
    assert_ne!(parsed(&windows[..1], now), parsed(&[window("0 1 * * *", "1h", "UTC")], now));
}

/// What is printed is all that is kept: of a thousand policies with 16 windows each, too.
#[test]
fn a_window_does_not_keep_every_year_for_itself() {
    let crowded = window("0,15,30,45 0-6,20-23 1-7,15-21 JAN-DEC/2 SAT,SUN", "4h", "Europe/Berlin");
    let printed = format!("{:?}", parsed(&[crowded], at("2026-11-22")));
    assert!(printed.len() < 3_000, "{} characters: {printed}", printed.len());
}

/// The rule in the schema lets every name of the database through: letters, digits, `_ + - /`, 64 at most.
#[test]
fn every_zone_of_the_database_has_a_name_that_the_schema_accepts() {
    let mut zones = 0;
    for name in jiff::tz::TimeZoneDatabase::bundled().available() {
        let name = name.as_str();
        zones += 1;
        assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 64, "{name}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_+-/".contains(c)), "{name}");
        parsed(&[window("30 2 * * *", "1h", name)], at("2026-11-22"));
    }
    assert!(zones > 400, "{zones}");
}

#[test]
fn windows_are_opened_manually_for_at_most_a_day() {
    let now = at("2026-11-22T10:00");
    let unreadable = Override::Unusable(
        "tenure.dev/override-window-until must be an RFC 3339 timestamp, such as 2026-11-22T22:00:00Z",
    );
    let too_far =
        Override::Unusable("tenure.dev/override-window-until must be no more than 24 hours in the future");
    for (annotation, expected) in [
        (None, Override::None),
        (Some("2026-11-22T12:00:00Z"), Override::Until(at("2026-11-22T12:00"))),
        (Some("2026-11-22T12:00:00+01:00"), Override::Until(at("2026-11-22T11:00"))),
        (Some("2026-11-22T10:00:01Z"), Override::Until(at("2026-11-22T10:00:01"))),
        (Some("2026-11-23T10:00:00Z"), Override::Until(at("2026-11-23T10:00"))),
        (Some("2026-11-23T10:00:01Z"), too_far),
        (Some("2027-11-22T10:00:00Z"), too_far),
        (Some("2026-11-22T10:00:00Z"), Override::None),
        (Some("1926-11-22T10:00:00Z"), Override::None),
        (Some("2026-11-22T12:00:00"), unreadable),
        (Some("2026-11-22"), unreadable),
        (Some("12:00"), unreadable),
        (Some("tomorrow"), unreadable),
        (Some("true"), unreadable),
        (Some(""), unreadable),
        (Some("1795341600"), unreadable),
        (Some("2026-13-22T10:00:00Z"), unreadable),
    ] {
        assert_eq!(override_until(annotation, now), expected, "{annotation:?}");
    }
    assert_eq!(override_until(Some("2026-11-22T12:00:00Z"), Timestamp::MAX), Override::None);
}
