//! An appliance that does not answer keeps nobody for more than ten minutes.

use std::time::{Duration, Instant};

use serde_json::json;

use super::fixture::*;

const FINALIZER: &str = "tenure.dev/restore";
const PATIENCE: Duration = Duration::from_mins(10);
/// Beyond it everything must be over.
const LATEST: Duration = Duration::from_mins(11);

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_ten_minutes_for_an_appliance_that_does_not_answer() {
    let fleet = fleet(2);
    let mut f = Fixture::new("patience").await;
    f.credentials(&fleet).await;
    for index in 0..2 {
        f.apply(&gateway(&format!("x2-{index}"), &fleet.appliance(index))).await;
    }
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "deletionPolicy": "Restore"}))).await;
    f.start().await;
    f.reason("TokenPolicy", "short", "InSync").await;
    fleet.stop_listening().await;

    let begun = Instant::now();
    f.ns.delete_object("X2Gateway", "x2-0").await.unwrap();
    f.ns.delete_object("TokenPolicy", "short").await.unwrap();
    let gone = async |kind: &'static str, name: &'static str| {
        f.ns.wait_until_gone(kind, name, LATEST).await.unwrap();
        let waited = begun.elapsed();
        println!("{kind} {name} was gone after {:.1} s", waited.as_secs_f64());
        // The deletion is dated in whole seconds.
        assert!(waited + Duration::from_secs(1) >= PATIENCE && waited <= LATEST, "{waited:?}");
    };
    tokio::join!(gone("X2Gateway", "x2-0"), gone("TokenPolicy", "short"));

    for name in ["x2-0", "short"] {
        let told = f.event(name, "RestoreSkipped").await;
        println!("{name}: {told}");
        assert!(told.contains("ten minutes"), "{told}");
    }
    assert!(f.event("short", "RestoreSkipped").await.contains("x2-1"));
    // The gateway that stays is nobody's any more, and is not held.
    let stays =
        f.wait("X2Gateway", "x2-1", |g| !g.metadata.finalizers.iter().flatten().any(|x| x == FINALIZER));
    assert!(stays.await.metadata.deletion_timestamp.is_none());
    assert_eq!((fleet.standing_at(28800), fleet.counts().write), (2, 2));
    f.finish().await;
}
