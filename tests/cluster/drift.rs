//! What somebody changes behind the operator's back is put back.

use serde_json::json;
use tenure_kit::faults::Fault;
use tenure_kit::requests::{Counts, Kind};

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_put_back_at_the_next_check() {
    let fleet = fleet(1);
    let mut f = Fixture::new("drift").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let before = fleet.appliance(0).counts();
    fleet.appliance(0).factory_reset();
    // Nobody asks: the interval does.
    let gateway =
        f.ns.wait_for("X2Gateway", "x2-1", 2 * SOON, |g| status(g)["history"][0]["cause"] == "Drift");
    let gateway = gateway.await.unwrap();
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    assert_eq!(ready(&gateway)["reason"], "InSync");
    assert_eq!(
        (&status(&gateway)["history"][0]["from"], &status(&gateway)["history"][0]["to"]),
        (&json!(86400), &json!(28800))
    );
    assert_eq!(
        fleet.appliance(0).counts() - before,
        Counts { login: 1, get: 1, write: 1, ..Counts::default() }
    );
    assert!(f.event("x2-1", "DriftCorrected").await.contains("corrected"));
    assert!(
        f.operator()
            .metrics()
            .await
            .unwrap()
            .contains(r#"tenure_drift_corrections_total{kind="X2Gateway"} 1"#)
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_also_forgets_tokens_leads_to_one_fresh_login() {
    let fleet = fleet(1);
    let mut f = Fixture::new("reset").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let before = fleet.appliance(0).counts();
    fleet.appliance(0).factory_reset();
    fleet.appliance(0).forget_tokens();
    f.look("X2Gateway", "x2-1", "now").await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    // GET refused, login, GET, PUT, proving login.
    assert_eq!(
        fleet.appliance(0).counts() - before,
        Counts { login: 2, get: 2, write: 1, ..Counts::default() }
    );
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_in_sync_keeps_its_ready_until_three_tries_have_failed() {
    let fleet = fleet(1);
    let mut f = Fixture::new("grace").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let gets = fleet.appliance(0).counts().get;
    fleet.appliance(0).fault(Fault::status(500, "{}"));
    fleet.appliance(0).requests().wait_for(Kind::Get, gets + 2).await;
    assert_eq!(ready(&f.get("X2Gateway", "x2-1").await)["reason"], "InSync");
    let failed = f.reason("X2Gateway", "x2-1", "UnexpectedAnswer").await;
    assert_eq!(fleet.appliance(0).counts().get, gets + 3);
    assert_eq!(condition(&failed, "Reconciling")["status"], "True");
    assert!(ready(&failed)["message"].as_str().unwrap().contains("500"));
    // What was known stays known.
    assert_eq!(status(&failed)["timeoutSeconds"], 28800);
    let summed = f.reason("TokenPolicy", "short", "UnexpectedAnswer").await;
    assert_eq!(status(&summed)["failures"][0]["gateway"], "x2-1");
    fleet.appliance(0).clear_faults();
    f.look("X2Gateway", "x2-1", "now").await;
    f.reason("TokenPolicy", "short", "InSync").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fight_over_a_value_ends_in_contested() {
    let fleet = fleet(1);
    let mut f = Fixture::new("contested").await;
    f.credentials(&fleet).await;
    let appliance = fleet.appliance(0);
    f.apply(&gateway("x2-1", &appliance)).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    // Somebody changes it back after every correction.
    let opponent = {
        let appliance = appliance.clone();
        tokio::spawn(async move {
            let mut writes = appliance.counts().write;
            loop {
                appliance.set_timeout(86400);
                writes += 1;
                let proven = appliance.counts().login + 1;
                appliance.requests().wait_for(Kind::Write, writes).await;
                appliance.requests().wait_for(Kind::Login, proven).await;
            }
        })
    };
    let limit = std::time::Duration::from_mins(5);
    let contested =
        f.ns.wait_for("X2Gateway", "x2-1", limit, |g| ready(g)["reason"] == "Contested").await.unwrap();
    assert_eq!(condition(&contested, "Stalled")["status"], "True");
    assert_eq!(status(&contested)["timeoutSeconds"], 86400);
    let writes = appliance.counts().write;
    assert_eq!(writes, 6, "one for the policy, five corrections");
    // The next checks only look.
    let gets = appliance.counts().get;
    appliance.requests().wait_for(Kind::Get, gets + 1).await;
    assert_eq!(appliance.counts().write, writes);
    opponent.abort();

    // Not even a restart makes it begin again.
    f.kill().await;
    let gets = appliance.counts().get;
    f.start().await;
    f.patch("X2Gateway", "x2-1", json!({"spec": {"requestTimeout": "11s"}})).await;
    appliance.requests().wait_for(Kind::Get, gets + 1).await;
    assert_eq!(appliance.counts().write, writes);
    // Somebody who asks for it ends the truce.
    f.look("X2Gateway", "x2-1", "now").await;
    f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!((appliance.timeout(), appliance.counts().write), (28800, writes + 1));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_whose_answer_or_proof_is_lost_is_proven_and_recorded_later() {
    let fleet = fleet(2);
    let mut f = Fixture::new("unsure").await;
    f.credentials(&fleet).await;
    for index in 0..2 {
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    let before = fleet.counts();
    fleet.appliance(0).fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    fleet.appliance(1).fault(Fault::reset().on(Kind::Login).times(1));
    for index in 0..2 {
        fleet.appliance(index).factory_reset();
        f.request("X2Gateway", &format!("x2-{index}"), "now").await;
    }
    for index in 0..2 {
        let name = format!("x2-{index}");
        let gateway = f.wait("X2Gateway", &name, |g| status(g)["history"][0]["cause"] == "Drift").await;
        assert_eq!(ready(&gateway)["reason"], "InSync");
        assert_eq!(status(&gateway)["history"].as_array().unwrap().len(), 2);
        assert_eq!(status(&gateway)["history"][0]["from"], 86400);
        assert_eq!(fleet.appliance(index).timeout(), 28800);
    }
    // One login of each proves it; the other was cut off.
    let spent = fleet.counts() - before;
    assert_eq!((spent.write, spent.login), (2, 3));
    f.finish().await;
}
