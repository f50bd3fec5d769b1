//! Change windows of policies and customers: their forms, their defaults, and what is read back.

use serde_json::{Value, json};

use super::super::fixture::*;
use super::{Case, accepts, judge, long, refuses};

const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";
const SCHEDULE: &str = "must be the five fields of a cron schedule – minute, hour, day of month, month, day of week – with \
    single spaces between them, such as 0 22 * * SAT or";
const DURATION: &str =
    "must be a duration between 1m and 168h in hours, minutes and seconds, such as 4h or 1h30m";
const TIME_ZONE: &str = "must be a time zone name from the IANA database, such as Europe/Berlin or UTC";

fn window() -> Value {
    json!({"schedule": "0 22 * * 6", "duration": "4h"})
}

/// A window of which one field is another.
fn with_field(field: &str, value: &str) -> Value {
    json!({"windows": [with(window(), json!({ field: value }))]})
}

fn field(field: &str, path: &'static str, good: &[&str], words: &'static str, bad: &[&str]) -> Vec<Case> {
    let good = good.iter().map(|value| accepts(with_field(field, value)));
    good.chain(bad.iter().map(|value| refuses(path, words, with_field(field, value)))).collect()
}

fn schedules() -> Vec<Case> {
    let good = [
        "* * * * *",
        "0 22 * * 6",
        "00 05 07 09 *",
        "59 23 31 12 7",
        "*/30 1-5 * JAN-MAR 1,3",
        "0,15,30-45/5 8-18/2 1,*/7 jan,Oct-DEC MON-fri",
        "5/15 0 29 2 SAT-SUN",
        "0 0 30 2 *",
        "0 22-2 * * *",
    ];
    let bad = [
        "",
        "* * * *",
        "* * * * * *",
        "*  * * * *",
        " * * * * *",
        "* * * * * ",
        "*\t* * * *",
        "* * * * *\n",
        "@daily",
        "TZ=UTC 0 22 * * 6",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * 8",
        "-1 * * * *",
        "*/0 * * * *",
        "*/ * * * *",
        "/5 * * * *",
        "1, * * * *",
        "1-2-3 * * * *",
        "*-5 * * * *",
        "1.5 * * * *",
        "* * L * *",
        "* * 15W * *",
        "* * * * 5#2",
        "* * ? * *",
        "* * * MON *",
        "* * * * JAN",
        "* * * January *",
        "every Saturday",
    ];
    let mut cases = field("schedule", "windows[0].schedule", &good, SCHEDULE, &bad);
    let list = vec!["0"; 60].join(",");
    cases.push(accepts(with_field("schedule", &format!("{list} * * * *"))));
    let longer = with_field("schedule", &format!("{list},0 * * * *"));
    cases.push(refuses("windows[0].schedule", "may not be more than 128", longer));
    cases
}

fn durations_and_zones() -> Vec<Case> {
    let good = ["1m", "60s", "4h", "1h30m", "168h", "167h59m60s"];
    let bad = ["", "59s", "0s", "168h1s", "169h", "7d", "1.5h", "-4h", "4", "4 h", "1m1h"];
    let mut cases = field("duration", "windows[0].duration", &good, DURATION, &bad);
    let longer = with_field("duration", "00001h00001m00001s");
    cases.push(refuses("windows[0].duration", "may not be more than 16", longer));
    let good = [
        "UTC",
        "Etc/UTC",
        "Europe/Berlin",
        "America/Argentina/ComodRivadavia",
        "America/Port-au-Prince",
        "Etc/GMT+5",
        "EST5EDT",
        &long(64),
    ];
    let bad =
        ["", "Europe/", "/Berlin", "Europe//Berlin", "../etc", "Europe Berlin", "+02:00", "Europe/Zürich"];
    cases.extend(field("timeZone", "windows[0].timeZone", &good, TIME_ZONE, &bad));
    let longer = with_field("timeZone", &long(65));
    cases.push(refuses("windows[0].timeZone", "may not be more than 64", longer));
    cases
}

fn lists() -> Vec<Case> {
    let windows = |count: usize| json!({"windows": vec![window(); count]});
    let without = |field: &str| {
        let mut window = window();
        window.as_object_mut().unwrap().remove(field);
        json!({"windows": [window]})
    };
    vec![
        accepts(windows(0)),
        accepts(windows(16)),
        refuses("windows", "must have at most 16 items", windows(17)),
        refuses("windows[0].schedule", "Required value", without("schedule")),
        refuses("windows[0].duration", "Required value", without("duration")),
        refuses("windows", "expected list", json!({"windows": window()})),
        refuses("", "field not declared in schema", with_field("timezone", "UTC")),
        // Which of them is wrong is said.
        refuses(
            "windows[1].schedule",
            SCHEDULE,
            json!({"windows": [window(), with(window(), json!({"schedule": "@daily"}))]}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_have_a_schedule_a_duration_and_a_zone() {
    let f = Fixture::new("windows").await;
    let policy = policy("bounds", json!({"timeoutSeconds": 28_800}));
    for base in [policy, customer("bounds", ID, 3600, 86_400)] {
        let cases = [schedules(), durations_and_zones(), lists()].into_iter().flatten();
        judge(&f, &base, cases).await;
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zone_is_written_out_and_the_rest_reads_back_the_same() {
    let f = Fixture::new("windowdefaults").await;
    let written = json!([
        {"schedule": "0 22 * * 6", "duration": "4h"},
        {"schedule": "*/30 01-05 * jan-MAR 1,3", "duration": "00m090s", "timeZone": "Europe/Berlin"},
    ]);
    let mut expected = written.clone();
    expected[0]["timeZone"] = json!("Etc/UTC");
    for (base, kind) in [
        (policy("windows", json!({"timeoutSeconds": 28_800})), "TokenPolicy"),
        (customer("windows", ID, 3600, 86_400), "CustomerTokenTtl"),
    ] {
        f.apply(&base).await;
        let spec = f.get(kind, "windows").await.data["spec"].clone();
        assert!(spec.get("windows").is_none(), "absent stays absent: {spec}");
        f.apply(&with(base, json!({"spec": {"windows": written}}))).await;
        let spec = f.get(kind, "windows").await.data["spec"].clone();
        assert_eq!(spec["windows"], expected, "{kind}");
        assert_eq!(typed(kind, &spec), spec, "{kind}");
    }
    f.finish().await;
}

/// A spec by way of its Rust type.
fn typed(kind: &str, spec: &Value) -> Value {
    let spec = spec.clone();
    if kind == "TokenPolicy" {
        let typed: tenure::crd::TokenPolicySpec = serde_json::from_value(spec).unwrap();
        serde_json::to_value(typed).unwrap()
    } else {
        let typed: tenure::crd::CustomerTokenTtlSpec = serde_json::from_value(spec).unwrap();
        serde_json::to_value(typed).unwrap()
    }
}
