//! Many gateways at once, and what they cost when nothing changes.

use std::time::Duration;

use serde_json::json;
use tenure_kit::requests::{Counts, Kind};

use super::fixture::*;

const GATEWAYS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_converges_with_four_requests_each_and_is_then_left_in_peace() {
    let fleet = fleet(GATEWAYS);
    let mut f = Fixture::new("fleet").await;
    f.credentials(&fleet).await;
    for index in 0..GATEWAYS {
        let site = ["berlin", "paris", "rome"][index % 3];
        let labels = json!({"metadata": {"labels": {"site": site}}});
        f.apply(&with(gateway(&format!("x2-{index:03}"), &fleet.appliance(index)), labels)).await;
    }
    for (site, seconds) in [("berlin", 28800), ("paris", 3600), ("rome", 43200)] {
        let spec = json!({"gatewaySelector": {"matchLabels": {"site": site}}, "timeoutSeconds": seconds, "interval": "30s"});
        f.apply(&policy(site, spec)).await;
    }
    let begun = std::time::Instant::now();
    f.start().await;
    for (site, summary) in [("berlin", "67/67"), ("paris", "67/67"), ("rome", "66/66")] {
        let policy = f.reason("TokenPolicy", site, "InSync").await;
        assert_eq!(status(&policy)["gateways"]["summary"], summary);
    }
    println!("{GATEWAYS} gateways converged in {:.1} s", begun.elapsed().as_secs_f64());
    let change = Counts { login: 2, get: 1, write: 1, ..Counts::default() };
    for (index, counts) in fleet.counts_by_appliance().into_iter().enumerate() {
        assert_eq!(counts, change, "gateway {index}");
    }

    let versions = async || {
        let mut versions = Vec::new();
        for kind in ["X2Gateway", "TokenPolicy"] {
            let objects =
                f.ns.api(kind).await.unwrap().list(&kube::api::ListParams::default()).await.unwrap();
            versions.extend(objects.items.iter().map(version));
        }
        versions
    };
    // Events are written fifty a second; by the first check after the change all have been.
    for index in 0..GATEWAYS {
        fleet.appliance(index).requests().wait_for(Kind::Get, 2).await;
    }
    let (before, events) = (versions().await, f.events().await.len());
    assert!((50..=GATEWAYS).contains(&events), "{events} events");
    // Ten checks of each: the interval is thirty seconds.
    let limit = Duration::from_mins(7);
    let looked = async {
        for round in 3..=11 {
            for index in 0..GATEWAYS {
                fleet.appliance(index).requests().wait_for(Kind::Get, round).await;
            }
        }
    };
    tokio::time::timeout(limit, looked).await.unwrap();
    for (index, counts) in fleet.counts_by_appliance().into_iter().enumerate() {
        assert_eq!(
            (counts.login, counts.write, counts.delete, counts.other),
            (2, 1, 0, 0),
            "gateway {index}"
        );
        assert!((11..=13).contains(&counts.get), "gateway {index}: {counts:?}");
    }
    assert_eq!(versions().await, before);
    assert_eq!(f.events().await.len(), events);
    f.finish().await;
}
