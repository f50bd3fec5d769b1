//! Change windows: outside of them a customer is read and nothing else; what somebody opens by hand is open.

use jiff::{SignedDuration, Timestamp};
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::requests::Kind;

use super::*;

const ELSE: &str = r#"{"accessTokenTtlSeconds":9999,"theirs":1.10}"#;
const WANTED: &str = r#"{"accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":86400}"#;
const BY_HAND: &str = "tenure.dev/override-window-until";

fn hence(minutes: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_mins(minutes)
}

/// A window that opens at the minute of `at`, every day.
fn window(at: Timestamp, duration: &str) -> Value {
    json!({"schedule": at.strftime("%-M %-H * * *").to_string(), "duration": duration})
}

/// Such a window, closed for hours, and when it opens.
fn closed() -> (Value, String) {
    let at = hence(6 * 60);
    (window(at, "1h"), at.strftime("%Y-%m-%dT%H:%M:00Z").to_string())
}

fn windowed(name: &str, n: usize, windows: &Value) -> Value {
    with(customer(name, &id(n), 3600, 86400), json!({"spec": {"windows": windows, "interval": "24h"}}))
}

async fn open_by_hand(f: &Fixture, until: Value) {
    f.patch(CTT, "acme", json!({"metadata": {"annotations": {BY_HAND: until}}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_a_window_a_change_waits_and_checks_go_on() {
    let (mut f, kona) = world("closed").await;
    let acme = kona.add_customer(&id(1), "Acme");
    let (window, opens) = closed();
    let restore = json!({"spec": {"deletionPolicy": "Restore"}});
    f.apply(&with(windowed("acme", 1, &json!([window])), restore)).await;
    f.start().await;
    let waiting = f.reason(CTT, "acme", "AwaitingWindow").await;
    assert_eq!(status(&waiting)["nextWindow"], opens);
    assert_eq!(condition(&waiting, "Reconciling")["status"], "True");
    assert_eq!(status(&waiting)["original"], Value::Null);
    assert_eq!(waiting.metadata.finalizers, None);
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["pending"] == 1).await;
    // Who asks for a look gets one, and no change; and the same words.
    let again = f.look(CTT, "acme", "now").await;
    assert_eq!(lasting(&again), lasting(&waiting));
    assert_eq!(exchanges(acme.counts()), (0, 0, 2, 0));

    open_by_hand(&f, json!(hence(60).to_string())).await;
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(status(&object)["nextWindow"], Value::Null);
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(WANTED));
    open_by_hand(&f, Value::Null).await;

    // Drift is seen and told, and not put back.
    acme.set_field("additionalInfo", ELSE);
    let counts = acme.counts();
    let object = f.look(CTT, "acme", "drift").await;
    assert_eq!(ready(&object)["reason"], "AwaitingWindow");
    assert!(message(&object).contains("9999s"), "{}", message(&object));
    assert_eq!(status(&object)["accessTokenTtlSeconds"], 9999);
    assert_eq!(status(&object)["nextWindow"], opens);
    assert_eq!(exchanges(acme.counts() - counts), (0, 0, 1, 0));
    f.wait("KonaServer", "kona", |server| status(server)["customers"]["drifted"] == 1).await;
    // What is right waits for nothing.
    acme.set_field("additionalInfo", WANTED);
    let object = f.look(CTT, "acme", "right").await;
    assert_eq!((&ready(&object)["reason"], &status(&object)["nextWindow"]), (&json!("InSync"), &Value::Null));
    // A restoration does not wait, either.
    f.ns.delete_object(CTT, "acme").await.unwrap();
    f.ns.wait_until_gone(CTT, "acme", SOON).await.unwrap();
    assert_eq!(acme.token_ttls(), (None, None));
    assert!(f.events().await.iter().all(|(_, reason, _)| reason != "AwaitingWindow"));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_opening_of_a_window_is_not_missed() {
    let (mut f, kona) = world("opening").await;
    let acme = kona.add_customer(&id(1), "Acme");
    f.start().await;
    // The next minute that is not too near.
    let opens = Timestamp::now() + SignedDuration::from_secs(85);
    let closed_too = window(hence(6 * 60), "1h");
    f.apply(&windowed("acme", 1, &json!([closed_too, window(opens, "1h")]))).await;
    let object = f.reason(CTT, "acme", "AwaitingWindow").await;
    assert_eq!(status(&object)["nextWindow"], opens.strftime("%Y-%m-%dT%H:%M:00Z").to_string());
    assert_eq!(acme.counts().write, 0);
    // Its interval is a day.
    f.ns.wait_for(CTT, "acme", 2 * SOON, |object| ready(object)["reason"] == "InSync").await.unwrap();
    let minute = |time: Timestamp| time.as_second() / 60;
    assert!(minute(Timestamp::now()) >= minute(opens));
    assert_eq!(exchanges(acme.counts()), (0, 0, 3, 1));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_windows_and_none_at_all_let_changes_through() {
    let (mut f, kona) = world("open").await;
    let zoned = json!({"schedule": "* * * * *", "duration": "1m", "timeZone": "Europe/Berlin"});
    let cases = [json!([]), json!([zoned]), json!([closed().0, window(hence(-10), "1h")])];
    for (n, windows) in cases.iter().enumerate() {
        kona.add_customer(&id(n), "Customer");
        f.apply(&windowed(&format!("c{n}"), n, windows)).await;
    }
    kona.add_customer(&id(9), "Observed");
    let observed = json!({"spec": {"mode": "Observe"}});
    f.apply(&with(windowed("observed", 9, &json!([closed().0])), observed)).await;
    f.start().await;
    for n in 0..cases.len() {
        f.reason(CTT, &format!("c{n}"), "InSync").await;
    }
    let object = f.reason(CTT, "observed", "Observed").await;
    assert_eq!(status(&object)["nextWindow"], Value::Null);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_that_opens_nothing_says_why() {
    let (mut f, kona) = world("by-hand").await;
    let acme = kona.add_customer(&id(1), "Acme");
    f.apply(&windowed("acme", 1, &json!([closed().0]))).await;
    f.start().await;
    f.reason(CTT, "acme", "AwaitingWindow").await;
    for (until, words) in [("tomorrow", "an RFC 3339 timestamp"), (&hence(25 * 60).to_string(), "24 hours")] {
        open_by_hand(&f, json!(until)).await;
        let object = f.wait(CTT, "acme", |object| message(object).contains(words)).await;
        assert_eq!(ready(&object)["reason"], "AwaitingWindow");
    }
    // One that is over says nothing.
    open_by_hand(&f, json!(hence(-1).to_string())).await;
    f.wait(CTT, "acme", |object| !message(object).contains(BY_HAND)).await;
    assert_eq!(acme.counts().write, 0);
    open_by_hand(&f, json!(hence(23 * 60).to_string())).await;
    f.reason(CTT, "acme", "InSync").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_begun_inside_a_window_is_finished_and_none_begins_after_it() {
    let (mut f, kona) = world("closing").await;
    let acme = kona.add_customer(&id(1), "Acme");
    let until = json!({"metadata": {"annotations": {BY_HAND: hence(60).to_string()}}});
    f.apply(&with(windowed("acme", 1, &json!([closed().0])), until)).await;
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Write).times(1));
    f.start().await;
    acme.requests().wait_arrived(Kind::Write, 1).await;
    open_by_hand(&f, Value::Null).await;
    gate.open();
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(status(&object)["history"].as_array().unwrap().len(), 1);

    open_by_hand(&f, json!(hence(60).to_string())).await;
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Get).times(1));
    let gets = acme.counts().get;
    f.patch(CTT, "acme", json!({"spec": {"accessTokenTtlSeconds": 600}})).await;
    acme.requests().wait_arrived(Kind::Get, gets + 1).await;
    open_by_hand(&f, Value::Null).await;
    // The operator has heard of it once it has heard of what came later.
    f.apply(&customer("later", &id(2), 600, 7200)).await;
    f.reason(CTT, "later", "CustomerNotFound").await;
    gate.open();
    f.reason(CTT, "acme", "AwaitingWindow").await;
    assert_eq!((acme.counts().write, acme.token_ttls()), (1, (Some(3600), Some(86400))));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_make_no_sense_are_named_before_anybody_is_asked() {
    let (mut f, kona) = world("senseless").await;
    let cases = [
        (
            "zone",
            json!({"schedule": "0 22 * * 6", "duration": "4h", "timeZone": "Europe/Atlantis"}),
            "Europe/Atlantis",
        ),
        ("never", json!({"schedule": "0 0 30 2 *", "duration": "4h"}), "0 0 30 2 *"),
    ];
    for (n, (name, window, _)) in cases.iter().enumerate() {
        kona.add_customer(&id(n), "Customer");
        f.apply(&windowed(name, n, &json!([window]))).await;
    }
    f.start().await;
    for (n, (name, _, word)) in cases.iter().enumerate() {
        let object = f.reason(CTT, name, "InvalidSpec").await;
        assert_eq!(condition(&object, "Stalled")["status"], "True");
        assert!(message(&object).contains(word), "{}", message(&object));
        assert_eq!(kona.customer(&id(n)).counts().total(), 0);
        f.event(name, "InvalidSpec").await;
    }
    f.patch(CTT, "zone", json!({"spec": {"windows": []}})).await;
    f.reason(CTT, "zone", "InSync").await;
    // It loses nobody the customer, and keeps nobody from getting it who has not.
    f.apply(&customer("zone-rival", &id(0), 600, 7200)).await;
    f.reason(CTT, "zone-rival", "Conflict").await;
    f.patch(CTT, "zone", json!({"spec": {"windows": [cases[0].1]}})).await;
    f.reason(CTT, "zone", "InvalidSpec").await;
    assert_eq!(ready(&f.look(CTT, "zone-rival", "now").await)["reason"], "Conflict");
    f.apply(&customer("never-rival", &id(1), 600, 7200)).await;
    f.reason(CTT, "never-rival", "InSync").await;
    assert_eq!(kona.counts().write, 2);
    f.finish().await;
}
