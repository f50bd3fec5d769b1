//! What is known of a write that was not reported: its original is, and nothing is made up.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_may_have_taken_effect_is_shown_as_sent() {
    let (mut f, kona) = world("sent").await;
    let acme = with_info(&kona, 1, BEFORE);
    acme.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    // Held, so that what came of the write is not found out before the report of the lost answer is seen.
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Get).skip(2).times(1));
    f.apply(&restoring("acme", 1)).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "Unreachable").await;
    assert_eq!(status(&object)["pending"]["outcome"], "Sent", "{}", status(&object));
    gate.open();
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(status(&object)["pending"], Value::Null);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_is_known_before_the_first_write_and_never_replaced() {
    let (mut f, kona) = world("original").await;
    let acme = with_info(&kona, 1, BEFORE);
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Write).times(1));
    f.apply(&restoring("acme", 1)).await;
    f.start().await;
    acme.requests().wait_arrived(Kind::Write, 1).await;
    let object = f.get(CTT, "acme").await;
    assert_eq!(finalizers(&object), [OURS]);
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "7.20e3"}));
    let to = json!({"accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400});
    let pending = &status(&object)["pending"];
    assert_eq!((&pending["to"], &pending["outcome"]), (&to, &json!("Prepared")));
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(BEFORE));
    gate.open();
    f.reason(CTT, "acme", "InSync").await;
    f.patch(CTT, "acme", json!({"spec": {"accessTokenTtlSeconds": 600}})).await;
    let object = f.wait(CTT, "acme", |o| status(o)["history"].as_array().is_some_and(|h| h.len() == 2)).await;
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "7.20e3"}));
    assert_eq!(status(&object)["pending"], Value::Null);
    delete(&f).await;
    gone(&f).await;
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(BEFORE));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_of_a_write_that_was_beaten_is_not_kept() {
    let (mut f, kona) = world("beaten").await;
    let acme = with_info(&kona, 1, r#"{"accessTokenTtlSeconds":7200}"#);
    acme.put_raw(&acme.json().unwrap().replacen('{', r#"{"version":1,"#, 1));
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Write).times(1));
    f.apply(&restoring("acme", 1)).await;
    f.start().await;
    acme.requests().wait_arrived(Kind::Write, 1).await;
    acme.set_field("additionalInfo", r#"{"accessTokenTtlSeconds":1800}"#);
    gate.open();
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "1800"}));
    // The restoration meets with somebody else's write, too.
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Write).times(1));
    delete(&f).await;
    acme.requests().wait_arrived(Kind::Write, 3).await;
    acme.set_field("phone", r#""+49 221 7""#);
    gate.open();
    gone(&f).await;
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(r#"{"accessTokenTtlSeconds":1800}"#));
    assert_eq!(acme.field("phone").as_deref(), Some(r#""+49 221 7""#));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_was_never_written() {
    let (mut f, kona) = world("refused").await;
    let acme = with_info(&kona, 1, r#"{"note":"<b>bold</b>"}"#);
    f.apply(&restoring("acme", 1)).await;
    f.start().await;
    let object = f.reason(CTT, "acme", "AdditionalInfoUnusable").await;
    assert_eq!((&status(&object)["original"], &status(&object)["pending"]), (&Value::Null, &Value::Null));
    let counts = acme.counts();
    delete(&f).await;
    gone(&f).await;
    assert_eq!((acme.counts() - counts).total(), 0);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_write_and_report_loses_nothing() {
    let (mut f, kona) = world("killed").await;
    let acme = with_info(&kona, 1, BEFORE);
    // The write is carried out and its answer is held.
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).after_effect().on(Kind::Write).times(1));
    f.apply(&restoring("acme", 1)).await;
    f.start().await;
    while acme.token_ttls() != (Some(3600), Some(86400)) {
        acme.requests().wait_arrived(Kind::Write, 1).await;
        tokio::task::yield_now().await;
    }
    f.kill().await;
    gate.open();
    // Deleted before anybody has recorded the change.
    delete(&f).await;
    assert_eq!(status(&f.get(CTT, "acme").await)["history"], Value::Null);
    f.start().await;
    gone(&f).await;
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(BEFORE));
    assert_eq!(acme.counts().write, 2);
    f.event("acme", "TtlChanged").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_after_the_write_is_recorded_by_the_next_operator() {
    let (mut f, kona) = world("killed-later").await;
    let acme = with_info(&kona, 1, BEFORE);
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).on(Kind::Get).skip(1).times(1));
    f.apply(&restoring("acme", 1)).await;
    f.start().await;
    acme.requests().wait_arrived(Kind::Get, 2).await;
    f.kill().await;
    gate.open();
    f.start().await;
    let object = f.reason(CTT, "acme", "InSync").await;
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "7.20e3"}));
    assert_eq!(status(&object)["history"].as_array().unwrap().len(), 1);
    assert_eq!(status(&object)["pending"], Value::Null);
    assert_eq!(acme.counts().write, 1);
    // And a death in the midst of the restoration.
    let gate = Gate::new();
    acme.fault(Fault::gate(&gate).after_effect().on(Kind::Write).times(1));
    delete(&f).await;
    while acme.field("additionalInfo").as_deref() != Some(BEFORE) {
        tokio::task::yield_now().await;
    }
    f.kill().await;
    gate.open();
    f.start().await;
    gone(&f).await;
    assert_eq!(acme.counts().write, 2);
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(BEFORE));
    assert!(f.events().await.iter().all(|(_, reason, _)| reason != "RestoreSkipped"));
    f.finish().await;
}
