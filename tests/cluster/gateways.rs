//! Gateways are brought to the lifetime that policies declare, and kept there.

use serde_json::json;
use tenure_kit::requests::Kind;

use super::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn brings_a_gateway_to_its_lifetime_and_proves_it() {
    let fleet = fleet(1);
    let mut f = Fixture::new("converge").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;

    let gateway = f.reason("X2Gateway", "x2-1", "InSync").await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    let status = status(&gateway);
    assert_eq!(status["timeoutSeconds"], 28800);
    assert_eq!(status["desiredTimeoutSeconds"], 28800);
    assert_eq!(status["provenTimeoutSeconds"], 28800);
    assert_eq!(status["originalTimeoutSeconds"], 86400);
    assert_eq!(status["policy"], "short");
    assert_eq!(status["effectiveUrl"], fleet.appliance(0).url());
    assert_eq!(status["history"][0]["from"], 86400);
    assert_eq!(status["history"][0]["to"], 28800);
    assert_eq!(status["history"][0]["cause"], "Policy");
    assert_eq!(ready(&gateway)["status"], "True");
    let counts = fleet.appliance(0).counts();
    assert_eq!((counts.login, counts.get, counts.write, counts.delete, counts.total()), (2, 1, 1, 0, 4));

    let policy = f.reason("TokenPolicy", "short", "InSync").await;
    assert_eq!(policy.data["status"]["gateways"]["summary"], "1/1");
    assert_eq!(policy.data["status"]["target"], "28800");
    assert!(f.event("x2-1", "TimeoutChanged").await.contains("28800"));
    let _ = Kind::Get;
    f.finish().await;
}
