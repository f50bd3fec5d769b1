//! What can be ordered to go wrong, and that it does.

use std::time::Duration;

use serde_json::json;
use tenure_kit::{
    canary::Canary,
    faults::{Fault, Gate},
    requests::{Counts, Kind},
    x2::FleetOptions,
};

use crate::{
    answer, json,
    x2::{ADMIN, Asker, fleet},
};

#[tokio::test]
async fn a_status_takes_the_place_of_the_request() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (_, token) = asker.token(ADMIN).await;
    asker.appliance.fault(Fault::status(503, r#"{"busy":true}"#).retry_after("7").on(Kind::Write).times(1));
    let put = || asker.put(&token, &json!({"timeout_seconds": 600}));
    let response = put().send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"] == "7"), (503, true));
    assert_eq!(response.text().await.unwrap(), r#"{"busy":true}"#);
    assert_eq!(asker.appliance.timeout(), 86_400);
    assert_eq!(json(put()).await.0, 200, "once only");
    assert_eq!(asker.appliance.timeout(), 600);
}

#[tokio::test]
async fn faults_skip_add_up_and_are_cleared() {
    let (fleet, asker) = fleet(FleetOptions { appliances: 2, ..FleetOptions::default() });
    let (_, token) = asker.token(ADMIN).await;
    asker.appliance.fault(Fault::latency(Duration::from_millis(1)));
    asker.appliance.fault(Fault::status(500, "{}").on(Kind::Get).skip(1).times(1));
    asker.appliance.fault(Fault::status(502, "{}").on(Kind::Get).skip(1));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(json(asker.get(&token)).await.0);
    }
    assert_eq!(statuses, [200, 500, 502, 502]);
    asker.appliance.clear_faults();
    fleet.fault(Fault::status(504, "{}").times(2));
    let other = Asker::new(fleet.appliance(1));
    assert_eq!([json(asker.get(&token)).await.0, json(other.login(ADMIN)).await.0], [504, 504]);
    assert_eq!(json(asker.get(&token)).await.0, 200);
}

#[tokio::test]
async fn a_reset_comes_before_or_after_the_effect() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (_, token) = asker.token(ADMIN).await;
    asker.appliance.fault(Fault::reset().on(Kind::Write).times(1));
    assert_eq!(answer(asker.put(&token, &json!({"timeout_seconds": 600}))).await, None);
    assert_eq!(asker.appliance.timeout(), 86_400);
    asker.appliance.fault(Fault::reset().after_effect().on(Kind::Write).times(1));
    assert_eq!(answer(asker.put(&token, &json!({"timeout_seconds": 600}))).await, None);
    assert_eq!(asker.appliance.timeout(), 600, "applied, and the answer was lost");
    let entries = asker.appliance.requests().entries();
    assert_eq!(entries.iter().map(|entry| entry.status).collect::<Vec<_>>(), [Some(200), None, None]);
    assert_eq!(asker.appliance.requests().in_flight(), 0);
}

#[tokio::test]
async fn answers_are_spoiled_after_the_effect() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (_, token) = asker.token(ADMIN).await;
    asker.appliance.fault(Fault::truncate().times(1));
    let broken = asker.get(&token).send().await.expect("the head arrives");
    assert_eq!(broken.content_length(), Some(25));
    assert!(broken.bytes().await.is_err());
    asker.appliance.fault(Fault::body(r#"{"timeout_seconds":"#).times(1));
    assert_eq!(answer(asker.get(&token)).await, Some((200, r#"{"timeout_seconds":"#.to_owned())));
    asker.appliance.fault(Fault::html().times(1));
    assert!(answer(asker.get(&token)).await.unwrap().1.starts_with("<!DOCTYPE html>"));
    for fault in [Fault::oversize(2 << 20), Fault::oversize_chunked(2 << 20)] {
        asker.appliance.fault(fault.times(1));
        let (_, text) = answer(asker.get(&token)).await.unwrap();
        assert_eq!((text.len(), text.trim_end()), (2 << 20, r#"{"timeout_seconds":86400}"#));
    }
    asker.appliance.fault(Fault::drip(Duration::from_millis(1)).times(1));
    assert_eq!(json(asker.get(&token)).await, (200, json!({"timeout_seconds": 86400})));
    asker.appliance.fault(Fault::status(502, "{}").after_effect().on(Kind::Write));
    assert_eq!(json(asker.put(&token, &json!({"timeout_seconds": 600}))).await.0, 502);
    assert_eq!(asker.appliance.timeout(), 600);
}

#[tokio::test]
async fn a_hung_request_counts_as_under_way_until_the_client_gives_up() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    asker.appliance.fault(Fault::hang());
    let hung = tokio::spawn(answer(asker.login(ADMIN)));
    let requests = asker.appliance.requests();
    requests.wait_arrived(Kind::Login, 1).await;
    assert_eq!((requests.in_flight(), requests.served().login), (1, 0));
    hung.abort();
    requests.wait_until(|requests| requests.in_flight() == 0).await;
    assert_eq!(requests.counts(), Counts { login: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_gate_holds_requests_until_it_opens() {
    let (fleet, asker) = fleet(FleetOptions::default());
    let gate = Gate::new();
    asker.appliance.fault(Fault::gate(&gate));
    let logins: Vec<_> = (0..3).map(|_| tokio::spawn(answer(asker.login(ADMIN)))).collect();
    let requests = fleet.requests();
    requests.wait_arrived(Kind::Login, 3).await;
    assert_eq!(requests.served(), Counts::default());
    gate.open();
    requests.wait_for(Kind::Login, 3).await;
    for login in logins {
        assert_eq!(login.await.unwrap().unwrap().0, 200);
    }
    assert_eq!((requests.peak_in_flight(), asker.appliance.requests().peak_in_flight()), (3, 3));
}

#[tokio::test]
async fn an_effect_is_seen_while_the_answer_is_held_back() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (_, token) = asker.token(ADMIN).await;
    let gate = Gate::new();
    asker.appliance.fault(Fault::latency(Duration::from_millis(50)).on(Kind::Write));
    asker.appliance.fault(Fault::gate(&gate).after_effect().on(Kind::Write));
    let writing = tokio::spawn(answer(asker.put(&token, &json!({"timeout_seconds": 600}))));
    let requests = asker.appliance.requests();
    requests.wait_until(|_| asker.appliance.timeout() == 600).await;
    assert_eq!((requests.in_flight(), requests.served().write), (1, 0));
    gate.open();
    assert_eq!(writing.await.unwrap().map(|(status, _)| status), Some(200));
}

#[tokio::test]
async fn a_redirect_leads_to_a_canary() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let canary = Canary::start().unwrap();
    for status in [301, 302, 307, 308] {
        asker.appliance.fault(Fault::redirect(status, &format!("{}/x", canary.url())).times(1));
        let response = asker.login(ADMIN).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()["location"].to_str().unwrap(), format!("{}/x", canary.url()));
    }
    assert_eq!((canary.counts().total(), canary.requests().connections()), (0, 0), "not followed");
    let followed = answer(asker.http.post(format!("{}/x", canary.url()))).await;
    assert_eq!((followed, canary.counts().other), (Some((200, "{}".to_owned())), 1));
}
