//! Changes are made inside change windows only; looks go on always.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::fixture::*;

/// A window that opens about half a year from now, and when.
fn far_away() -> (Value, Timestamp) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let month = today.first_of_month().saturating_add(SignedDuration::from_hours(24 * 190)).first_of_month();
    let opens = month.to_zoned(TimeZone::UTC).unwrap().timestamp();
    (json!([{"schedule": format!("0 0 1 {} *", month.month()), "duration": "1m"}]), opens)
}

/// A window of one minute that opens at the next full minute but for those that are almost there, and when.
fn in_a_minute() -> (Value, Timestamp) {
    let soon = Timestamp::now() + SignedDuration::from_secs(80);
    let opens = Timestamp::from_second(soon.as_second() / 60 * 60).unwrap();
    let time = opens.to_zoned(TimeZone::UTC);
    let schedule = format!("{} {} * * *", time.minute(), time.hour());
    (json!([{"schedule": schedule, "duration": "1m"}]), opens)
}

fn time(text: &Value) -> Timestamp {
    text.as_str().unwrap().parse().unwrap()
}

/// Waits for a moment: nothing tells of it but the clock.
async fn until(moment: Timestamp) {
    let left = Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left).await;
}

async fn open_by_hand(f: &Fixture, policy: &str, until: Option<&str>) {
    let annotations = json!({"tenure.dev/override-window-until": until});
    f.patch("TokenPolicy", policy, json!({"metadata": {"annotations": annotations}})).await;
}

fn ahead(time: SignedDuration) -> String {
    (Timestamp::now() + time).to_string()
}

/// Whether a gateway waits for a window, and its message says this.
async fn waits(f: &Fixture, name: &str, saying: &str) -> kube::api::DynamicObject {
    f.wait("X2Gateway", name, |g| {
        is_current(g)
            && ready(g)["reason"] == "AwaitingWindow"
            && ready(g)["message"].as_str().unwrap().contains(saying)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_its_windows_a_policy_looks_and_changes_nothing() {
    let fleet = fleet(2);
    let mut f = Fixture::new("outside").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("old", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let (windows, opens) = far_away();
    f.patch("TokenPolicy", "short", json!({"spec": {"windows": windows}})).await;
    let calm = f.reason("TokenPolicy", "short", "InSync").await;
    assert!(status(&calm)["nextWindow"].is_null(), "nothing waits");

    // Neither drift nor a new gateway is a reason to change anything, nor is a request.
    fleet.appliance(0).factory_reset();
    f.apply(&gateway("new", &fleet.appliance(1))).await;
    f.look("TokenPolicy", "short", "now").await;
    for name in ["old", "new"] {
        let gateway = waits(&f, name, "the next change window of TokenPolicy short").await;
        assert_eq!(condition(&gateway, "Reconciling")["status"], "True");
        assert_eq!(status(&gateway)["timeoutSeconds"], 86400, "what was read is shown");
        assert_eq!(status(&gateway)["desiredTimeoutSeconds"], 28800);
    }
    let counted = |p: &kube::api::DynamicObject| {
        let gateways = &status(p)["gateways"];
        ready(p)["reason"] == "AwaitingWindow" && gateways["drifted"] == 1 && gateways["pending"] == 1
    };
    let waiting = f.wait("TokenPolicy", "short", counted).await;
    assert_eq!(time(&status(&waiting)["nextWindow"]), opens);
    let writes = [0, 1].map(|index| fleet.appliance(index).counts().write);
    assert_eq!(writes, [1, 0]);
    // Looks go on at the interval, and see what changes; nothing new to say is not said.
    let before = [version(&f.get("X2Gateway", "new").await), version(&waiting)];
    fleet.appliance(0).set_timeout(43200);
    let seen = f.ns.wait_for("X2Gateway", "old", 2 * SOON, |g| status(g)["timeoutSeconds"] == 43200);
    seen.await.unwrap();
    fleet.appliance(1).requests().wait_for(Kind::Get, fleet.appliance(1).counts().get + 1).await;
    let after = [version(&f.get("X2Gateway", "new").await), version(&f.get("TokenPolicy", "short").await)];
    assert_eq!(before, after);
    assert_eq!([0, 1].map(|index| fleet.appliance(index).counts().write), writes);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_opens_the_windows_at_once_and_for_a_day_at_most() {
    let fleet = fleet(1);
    let mut f = Fixture::new("byhand").await;
    f.credentials(&fleet).await;
    let (windows, _) = far_away();
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    let spec = json!({"timeoutSeconds": 28800, "interval": "24h", "windows": windows});
    f.apply(&policy("short", spec)).await;
    f.start().await;
    waits(&f, "x2-1", "TokenPolicy short").await;
    // What cannot be used is explained; a time that is over is none.
    open_by_hand(&f, "short", Some("tomorrow")).await;
    waits(&f, "x2-1", "must be an RFC 3339 timestamp").await;
    open_by_hand(&f, "short", Some(&ahead(SignedDuration::from_hours(25)))).await;
    waits(&f, "x2-1", "no more than 24 hours in the future").await;
    open_by_hand(&f, "short", Some(&ahead(SignedDuration::from_secs(-60)))).await;
    let plain = f.wait("X2Gateway", "x2-1", |g| {
        !ready(g)["message"].as_str().unwrap().contains("override-window-until")
    });
    assert_eq!(ready(&plain.await)["reason"], "AwaitingWindow");
    assert_eq!(fleet.appliance(0).counts().write, 0);

    open_by_hand(&f, "short", Some(&ahead(SignedDuration::from_hours(1)))).await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    let open = f.reason("TokenPolicy", "short", "InSync").await;
    assert!(status(&open)["nextWindow"].is_null());
    // It closes by itself.
    let over = Timestamp::from_second(Timestamp::now().as_second() + 5).unwrap();
    open_by_hand(&f, "short", Some(&over.to_string())).await;
    until(over).await;
    fleet.appliance(0).factory_reset();
    f.look("X2Gateway", "x2-1", "now").await;
    waits(&f, "x2-1", "TokenPolicy short").await;
    f.reason("TokenPolicy", "short", "AwaitingWindow").await;
    assert_eq!(fleet.appliance(0).counts().write, 1);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_closes_lets_running_changes_finish_and_starts_none() {
    let fleet = fleet(2);
    let mut f = Fixture::new("closing").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("a", &fleet.appliance(0))).await;
    let (windows, _) = far_away();
    let mut short = policy("short", json!({"timeoutSeconds": 28800, "interval": "24h", "windows": windows}));
    let until = ahead(SignedDuration::from_hours(1));
    merge(&mut short, json!({"metadata": {"annotations": {"tenure.dev/override-window-until": until}}}));
    f.apply(&short).await;
    let gate = Gate::new();
    fleet.appliance(0).fault(Fault::gate(&gate).on(Kind::Write).times(1));
    f.start().await;
    fleet.appliance(0).requests().wait_arrived(Kind::Write, 1).await;
    open_by_hand(&f, "short", None).await;
    f.apply(&gateway("b", &fleet.appliance(1))).await;
    waits(&f, "b", "TokenPolicy short").await;
    gate.open();
    let finished = f.reason("X2Gateway", "a", "InSync").await;
    assert_eq!(status(&finished)["provenTimeoutSeconds"], 28800);
    f.reason("TokenPolicy", "short", "AwaitingWindow").await;
    assert_eq!([0, 1].map(|index| fleet.appliance(index).counts().write), [1, 0]);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_used_from_the_moment_it_opens_until_it_closes() {
    let fleet = fleet(3);
    let mut f = Fixture::new("opening").await;
    f.credentials(&fleet).await;
    for (index, (name, site)) in [("plain", "berlin"), ("a", "paris"), ("b", "paris")].iter().enumerate() {
        let of_site = json!({"metadata": {"labels": {"site": site}}, "spec": {"requestTimeout": "5m"}});
        f.apply(&with(gateway(name, &fleet.appliance(index)), of_site)).await;
    }
    f.start().await;
    for name in ["plain", "a", "b"] {
        f.reason("X2Gateway", name, "Unmanaged").await;
    }
    let gate = Gate::new();
    for index in [1, 2] {
        fleet.appliance(index).fault(Fault::gate(&gate).on(Kind::Write));
    }
    let (windows, _) = far_away();
    let of_site = |site: &str| {
        let selector = json!({"matchLabels": {"site": site}});
        json!({"gatewaySelector": selector, "timeoutSeconds": 28800, "interval": "24h", "windows": windows})
    };
    f.apply(&policy("plain", of_site("berlin"))).await;
    f.apply(&policy("rolled", with(of_site("paris"), json!({"rollout": {"maxConcurrent": 1}})))).await;
    for name in ["plain", "a", "b"] {
        f.reason("X2Gateway", name, "AwaitingWindow").await;
    }
    // An earlier window than the one that everybody waits for is not missed.
    let (windows, opens) = in_a_minute();
    for name in ["plain", "rolled"] {
        f.patch("TokenPolicy", name, json!({"spec": {"windows": windows}})).await;
        f.wait("TokenPolicy", name, |p| {
            ready(p)["reason"] == "AwaitingWindow" && time(&status(p)["nextWindow"]) == opens
        })
        .await;
    }
    assert_eq!(fleet.counts().write, 0);
    let done = f.ns.wait_for("X2Gateway", "plain", 3 * SOON, |g| ready(g)["reason"] == "InSync").await;
    assert!(time(&status(&done.unwrap())["history"][0]["time"]) >= opens);
    f.reason("TokenPolicy", "plain", "InSync").await;

    // Of the two others one is under change when the window closes.
    let under_way = |requests: &tenure_kit::requests::Requests| requests.counts().write == 2;
    fleet.requests().wait_until(under_way).await;
    until(opens + SignedDuration::from_secs(60)).await;
    gate.open();
    let rolled = f.wait("TokenPolicy", "rolled", |p| {
        status(p)["gateways"]["inSync"] == 1 && status(p)["rollout"]["phase"] == "AwaitingWindow"
    });
    let next = time(&status(&rolled.await)["nextWindow"]);
    assert_eq!(next, opens + SignedDuration::from_hours(24));
    assert_eq!(fleet.counts().write, 2);
    assert_eq!(fleet.standing_at(28800), 2);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_never_comes_or_is_in_no_known_zone_is_refused() {
    let fleet = fleet(1);
    let mut f = Fixture::new("nowindow").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    let spec = |schedule: &str, zone: &str| {
        let window = json!({"schedule": schedule, "duration": "1h", "timeZone": zone});
        json!({"timeoutSeconds": 28800, "interval": "24h", "windows": [window]})
    };
    f.apply(&policy("short", spec("0 0 30 2 *", "Etc/UTC"))).await;
    f.start().await;
    let refused = async |saying: &str| {
        for (kind, name) in [("TokenPolicy", "short"), ("X2Gateway", "x2-1")] {
            let says = |object: &kube::api::DynamicObject| {
                is_current(object)
                    && ready(object)["reason"] == "InvalidSpec"
                    && ready(object)["message"].as_str().unwrap().contains(saying)
            };
            let object = f.wait(kind, name, says).await;
            assert_eq!(condition(&object, "Stalled")["status"], "True");
        }
    };
    refused("does not occur within four years").await;
    f.apply(&policy("short", spec("0 0 1 1 *", "Mars/Olympus"))).await;
    refused("\"Mars/Olympus\" is unknown").await;
    // A leap day does come, and so does every minute.
    f.apply(&policy("short", spec("0 0 29 2 *", "Etc/UTC"))).await;
    waits(&f, "x2-1", "TokenPolicy short").await;
    assert_eq!(fleet.appliance(0).counts().write, 0);
    f.apply(&policy("short", spec("* * * * *", "Europe/Berlin"))).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_and_waits_for_a_slot_is_not_written_once_the_policy_is_suspended() {
    const FLEET: usize = 8;
    let fleet = fleet(FLEET);
    let mut f = Fixture::new("emergency").await;
    f.credentials(&fleet).await;
    for index in 0..FLEET {
        // Not long enough for the slot to be lent.
        fleet.appliance(index).fault(Fault::latency(Duration::from_millis(700)).on(Kind::Get));
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start_with(&["--concurrency", "1"]).await;
    fleet.requests().wait_for(Kind::Get, 1).await;
    f.patch("TokenPolicy", "short", json!({"spec": {"suspend": true}})).await;
    f.wait("TokenPolicy", "short", |p| condition(p, "Suspended")["status"] == "True").await;
    let suspended = std::time::Instant::now();
    for index in 0..FLEET {
        f.look("X2Gateway", &format!("x2-{index}"), "now").await;
    }
    let entries = fleet.requests().entries();
    let late: Vec<_> = entries.iter().filter(|e| e.kind == Kind::Write && e.at > suspended).collect();
    assert!(late.is_empty(), "{} writes came later", late.len());
    f.finish().await;
}
