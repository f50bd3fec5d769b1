//! TokenPolicy: how changes spread, what becomes of them, and whom they log out.

use serde_json::json;

use super::super::fixture::*;
use super::{accepts, field, judge, long, refuses};

const AT_LEAST_ONE: &str =
    "must be a number of gateways (at least 1), such as 10, or a percentage (at least 1%), such as 10%";
const NUMBER_OR_PERCENT: &str = "must be a number of gateways, such as 3, or a percentage, such as 5%";
const ONE_CANARY: &str = "specify either count (the first gateways by name) or selector (gateways by label)";
const SOAK: &str =
    "must be a duration between 0s and 168h in hours, minutes and seconds, such as 10m or 1h30m";

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_has_bounds_that_make_sense() {
    let f = Fixture::new("rollout-rules").await;
    let base = policy("bounds", json!({"timeoutSeconds": 28800}));
    let numbers = [json!(1), json!(100_000), json!("1%"), json!("100%")];
    let neither = [
        json!(-1),
        json!(100_001),
        json!("101%"),
        json!("5"),
        json!("%"),
        json!("05%"),
        json!("5.5%"),
        json!(""),
    ];
    let mut cases = field("rollout.maxConcurrent", &numbers, AT_LEAST_ONE, &[json!(0), json!("0%")]);
    cases.extend(field("rollout.maxConcurrent", &[], AT_LEAST_ONE, &neither));
    cases.extend(field("rollout.maxFailures", &[json!(0), json!("0%")], NUMBER_OR_PERCENT, &neither));
    cases.extend(field("rollout.maxFailures", &numbers, NUMBER_OR_PERCENT, &[]));
    let canary = |canary| json!({"rollout": {"canary": canary}});
    let counted = |count: i64| canary(json!({"count": count}));
    let soaked = |soak: &str| canary(json!({"count": 1, "soak": soak}));
    cases.extend([
        accepts(counted(1)),
        accepts(counted(100)),
        refuses("rollout.canary.count", "should be greater than or equal to 1", counted(0)),
        refuses("rollout.canary.count", "should be less than or equal to 100", counted(101)),
        accepts(canary(json!({"selector": {"matchLabels": {"canary": "true"}}}))),
        refuses("rollout.canary", ONE_CANARY, canary(json!({}))),
        refuses("rollout.canary", ONE_CANARY, canary(json!({"soak": "1h"}))),
        refuses("rollout.canary", ONE_CANARY, canary(json!({"count": 1, "selector": {}}))),
        accepts(soaked("0s")),
        accepts(soaked("168h")),
        accepts(soaked("1h30m5s")),
        refuses("rollout.canary.soak", SOAK, soaked("168h1s")),
        refuses("rollout.canary.soak", SOAK, soaked("")),
        refuses("rollout.canary.soak", SOAK, soaked("10")),
        refuses("rollout.canary.soak", SOAK, soaked("-1s")),
        refuses("rollout.canary.soak", "Too long", soaked(&long(17))),
    ]);
    judge(&f, &base, cases).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_and_restoring_are_words_of_a_list() {
    let f = Fixture::new("words").await;
    let words = |words: &[&str]| words.iter().map(|word| json!(word)).collect::<Vec<_>>();
    let restored = words(&["Retain", "Restore"]);
    let others = words(&["", "restore", "Delete"]);
    let supported = "supported values";
    let mut cases = field("deletionPolicy", &restored, supported, &others);
    let revoked = words(&["Never", "OnTightening", "OnChange"]);
    cases.extend(field("revokeTokens", &revoked, supported, &words(&["", "Always"])));
    let approvals =
        words(&["Automatic", "Required"]).into_iter().map(|word| json!({"count": 1, "approval": word}));
    cases.extend(approvals.map(|canary| accepts(json!({"rollout": {"canary": canary}}))));
    let refused = json!({"rollout": {"canary": {"count": 1, "approval": "Never"}}});
    cases.push(refuses("rollout.canary.approval", supported, refused));
    judge(&f, &policy("words", json!({"timeoutSeconds": 28800})), cases).await;
    let customer = customer("words", "1d2b7a10-0f2c-11ee-be56-0242ac120002", 3600, 86400);
    judge(&f, &customer, field("deletionPolicy", &restored, supported, &others)).await;
    f.finish().await;
}
