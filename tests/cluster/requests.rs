//! What a user asks for counts at once.

use serde_json::json;

use super::fixture::*;

/// The operator has read the Secret a moment ago when the user corrects it and asks for a look.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_reads_the_secret_as_it_is_now() {
    let fleet = fleet(1);
    let mut f = Fixture::new("asked").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800}))).await;
    f.start().await;
    f.reason("X2Gateway", "x2-1", "InSync").await;

    for round in 0..3 {
        f.ns.secret("x2-admin", &[("username", "admin"), ("password", "planted-wrong-password")])
            .await
            .unwrap();
        let refused = f.look("X2Gateway", "x2-1", &format!("wrong-{round}")).await;
        assert_eq!(ready(&refused)["reason"], "AuthenticationFailed");
        let before = fleet.counts();
        f.ns.secret("x2-admin", &[("username", "admin"), ("password", "x2-admin-password")]).await.unwrap();
        let accepted = f.look("X2Gateway", "x2-1", &format!("right-{round}")).await;
        assert_eq!(ready(&accepted)["reason"], "InSync");
        assert_eq!((fleet.counts() - before).login, 1, "the wrong password is not tried again");
    }
    f.finish().await;
}
