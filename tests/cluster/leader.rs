//! Several replicas, one of which works: however its end comes about, the next goes on, and never do two of them write.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use tenure_kit::access::{lease_rules, operator_rules};
use tenure_kit::control_plane::say;
use tenure_kit::faults::{Fault, Gate};
use tenure_kit::operator::Operator;
use tenure_kit::relay::Relay;
use tenure_kit::requests::{Counts, Kind};
use tenure_kit::x2::X2Fleet;

use super::fixture::*;

const WORKS: &str = "\"at work\"";
const STANDS_BY: &str = "\"standing by\"";

/// Checks of what is in order would hide requests that should not be made.
fn lifetime(seconds: u64) -> Value {
    policy("short", json!({"timeoutSeconds": seconds, "interval": "1h"}))
}

/// A namespace whose gateways are those of the fleet, under a policy of eight hours.
async fn world(name: &str, fleet: &X2Fleet) -> Fixture {
    let rules = [operator_rules(), lease_rules("tenure")].concat();
    let f = Fixture::with_rights(name, &rules).await;
    f.credentials(fleet).await;
    for (index, appliance) in fleet.appliances().enumerate() {
        f.apply(&gateway(&format!("x2-{index}"), &appliance)).await;
    }
    f.apply(&lifetime(28800)).await;
    f
}

async fn working(f: &Fixture, kubeconfig: &Path) -> Operator {
    let operator = f.replica(kubeconfig);
    operator.wait_for_log(WORKS, SOON).await.unwrap();
    operator
}

async fn standing_by(f: &Fixture) -> Operator {
    let operator = f.replica(f.kubeconfig());
    operator.wait_for_log(STANDS_BY, SOON).await.unwrap();
    operator
}

async fn all_in_sync(f: &Fixture, fleet: &X2Fleet, seconds: u64) {
    for index in 0..fleet.len() {
        let name = format!("x2-{index}");
        f.wait("X2Gateway", &name, |g| {
            is_current(g)
                && ready(g)["reason"] == "InSync"
                && status(g)["provenTimeoutSeconds"] == json!(seconds)
        })
        .await;
    }
}

async fn lease(f: &Fixture) -> Value {
    f.get("Lease", "tenure").await.data["spec"].clone()
}

/// Requests to remote systems that an operator has counted.
async fn requests(operator: &Operator) -> u64 {
    let text = operator.metrics().await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with("tenure_remote_requests_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn leads(operator: &Operator) -> bool {
    operator.metrics().await.unwrap().lines().any(|line| line == "tenure_leader 1")
}

/// What its own words say of an operator that was superseded.
async fn ends_superseded(operator: &mut Operator) {
    let status = operator.end(SOON).await.unwrap();
    assert_eq!(status.code(), Some(1), "{}", operator.log());
    assert!(operator.log().contains("another replica has taken the lease"), "{}", operator.log());
}

async fn tell_to_end(leader: &Operator) {
    let id = leader.id().unwrap().to_string();
    tokio::process::Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
    leader.wait_for_log("writes in flight are completed", SOON).await.unwrap();
}

/// Ends the replicas of a test properly.
async fn finish(mut f: Fixture, replicas: Vec<Operator>) {
    for mut replica in replicas {
        assert!(replica.terminate(SOON).await.unwrap().success(), "{}", replica.log());
        f.retire(&replica);
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_live_and_ready_and_asks_nobody() {
    let fleet = fleet(1);
    let f = world("standby", &fleet).await;
    let leader = working(&f, f.kubeconfig()).await;
    let standby = standing_by(&f).await;
    all_in_sync(&f, &fleet, 28800).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(standby.get(path).await.unwrap().0, 200, "{path}");
    }
    assert!(leads(&leader).await && !leads(&standby).await);
    assert_eq!(requests(&standby).await, 0);
    assert_eq!(fleet.counts(), Counts { login: 2, get: 1, write: 1, ..Counts::default() });
    finish(f, vec![standby, leader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_finishes_its_write_and_hands_over() {
    let fleet = fleet(2);
    let mut f = world("handover", &fleet).await;
    let (writing, reading) = (Gate::new(), Gate::new());
    fleet.appliance(0).fault(Fault::gate(&writing).on(Kind::Write));
    fleet.appliance(1).fault(Fault::gate(&reading).on(Kind::Get).times(1));
    let mut leader = working(&f, f.kubeconfig()).await;
    let standby = standing_by(&f).await;
    fleet.appliance(0).requests().wait_arrived(Kind::Write, 1).await;
    fleet.appliance(1).requests().wait_arrived(Kind::Get, 1).await;
    tell_to_end(&leader).await;
    // As long as a write is under way nobody else works.
    assert_eq!(lease(&f).await["leaseTransitions"], 0);
    assert_eq!(requests(&standby).await, 0);
    writing.open();
    let begun = Instant::now();
    assert!(leader.end(SOON).await.unwrap().success(), "{}", leader.log());
    // The unanswered question, which nobody waits for, has held nobody up.
    assert!(leader.log().contains("the lease is handed over"), "{}", leader.log());
    standby.wait_for_log(WORKS, SOON).await.unwrap();
    say(&format!("handed over {:?} after the appliance could answer the last write", begun.elapsed()));
    all_in_sync(&f, &fleet, 28800).await;
    assert_eq!(lease(&f).await["leaseTransitions"], 1);
    // The first change was proven and recorded by the leader, the second made by the standby: none twice.
    assert_eq!(fleet.counts_by_appliance().map_writes(), [1, 1]);
    f.retire(&leader);
    reading.open();
    finish(f, vec![standby]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_renewal_was_not_answered_hands_over() {
    let fleet = fleet(1);
    let mut f = world("unanswered", &fleet).await;
    let (relay, kubeconfig) = Relay::before(f.kubeconfig()).await.unwrap();
    let mut leader = working(&f, &kubeconfig).await;
    all_in_sync(&f, &fleet, 28800).await;
    // A renewal arrives and its answer does not.
    relay.mute();
    leader.wait_for_log("the lease cannot be taken or renewed", SOON).await.unwrap();
    tell_to_end(&leader).await;
    relay.mend();
    assert!(leader.end(SOON).await.unwrap().success(), "{}", leader.log());
    assert!(leader.log().contains("the lease is handed over"), "{}", leader.log());
    assert_eq!(lease(&f).await["holderIdentity"], "");
    f.retire(&leader);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_leaders_death_the_standby_takes_over() {
    let fleet = fleet(1);
    let mut f = world("death", &fleet).await;
    let mut leader = working(&f, f.kubeconfig()).await;
    let standby = standing_by(&f).await;
    all_in_sync(&f, &fleet, 28800).await;
    let begun = Instant::now();
    leader.kill().await.unwrap();
    f.retire(&leader);
    f.apply(&lifetime(7200)).await;
    standby.wait_for_log(WORKS, SOON).await.unwrap();
    say(&format!("taken over {:?} after the leader was killed", begun.elapsed()));
    all_in_sync(&f, &fleet, 7200).await;
    assert_eq!(fleet.appliance(0).counts().write, 2);
    finish(f, vec![standby]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_had_begun_when_it_died_is_seen_to_its_end() {
    let fleet = fleet(1);
    let mut f = world("mid-write", &fleet).await;
    let gate = Gate::new();
    fleet.appliance(0).fault(Fault::gate(&gate).on(Kind::Write).times(1));
    let mut leader = working(&f, f.kubeconfig()).await;
    let standby = standing_by(&f).await;
    fleet.appliance(0).requests().wait_arrived(Kind::Write, 1).await;
    leader.kill().await.unwrap();
    gate.open();
    f.retire(&leader);
    all_in_sync(&f, &fleet, 28800).await;
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    // Whether the appliance has taken what it was sent is its affair; it is sent once more at the most, and recorded once.
    assert!(fleet.appliance(0).counts().write <= 2, "{:?}", fleet.counts());
    let history = status(&f.get("X2Gateway", "x2-0").await)["history"].clone();
    assert_eq!(history.as_array().unwrap().len(), 1, "{history}");
    assert_eq!((&history[0]["from"], &history[0]["to"]), (&json!(86400), &json!(28800)));
    finish(f, vec![standby]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_watches_have_died_unnoticed_knows_what_there_is_when_it_takes_over() {
    let fleet = fleet(4);
    let mut f = world("dead-watches", &fleet).await;
    f.ns.delete_object("X2Gateway", "x2-3").await.unwrap();
    let mut leader = working(&f, f.kubeconfig()).await;
    let (relay, kubeconfig) = Relay::before(f.kubeconfig()).await.unwrap();
    let standby = f.replica(&kubeconfig);
    standby.wait_for_log(STANDS_BY, SOON).await.unwrap();
    for index in 0..3 {
        f.wait("X2Gateway", &format!("x2-{index}"), |g| ready(g)["reason"] == "InSync").await;
    }
    relay.forget();
    leader.kill().await.unwrap();
    f.retire(&leader);
    let before = fleet.counts_by_appliance();
    f.apply(&lifetime(7200)).await;
    for index in [0, 1] {
        f.ns.delete_object("X2Gateway", &format!("x2-{index}")).await.unwrap();
    }
    f.apply(&gateway("x2-3", &fleet.appliance(3))).await;
    standby.wait_for_log(WORKS, SOON).await.unwrap();
    assert!(standby.log().contains("\"gateways\":2"), "{}", standby.log());
    for index in [2, 3] {
        f.wait("X2Gateway", &format!("x2-{index}"), |g| status(g)["provenTimeoutSeconds"] == 7200).await;
    }
    for index in [0, 1] {
        assert_eq!(fleet.appliance(index).counts(), before[index], "x2-{index} is gone");
    }
    finish(f, vec![standby]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_past_its_lease_writes_nothing_when_it_goes_on() {
    let fleet = fleet(20);
    let mut f = world("stopped", &fleet).await;
    let gate = Gate::new();
    // Every answer that the leader waits for would lead it to write the policy's old lifetime.
    fleet.fault(Fault::gate(&gate).on(Kind::Get));
    let mut leader = working(&f, f.kubeconfig()).await;
    let standby = standing_by(&f).await;
    fleet.requests().wait_arrived(Kind::Get, 20).await;
    leader.pause().await.unwrap();
    let begun = Instant::now();
    gate.open();
    f.apply(&lifetime(7200)).await;
    standby.wait_for_log(WORKS, SOON).await.unwrap();
    say(&format!("taken over {:?} after the leader was stopped", begun.elapsed()));
    all_in_sync(&f, &fleet, 7200).await;
    let before = fleet.counts();
    assert_eq!(before.write, 20);
    leader.resume().await.unwrap();
    ends_superseded(&mut leader).await;
    f.retire(&leader);
    assert_eq!(fleet.counts() - before, Counts::default(), "a request of the former leader's");
    assert_eq!(fleet.standing_at(7200), 20);
    // Nor has it written a status.
    all_in_sync(&f, &fleet, 7200).await;
    finish(f, vec![standby]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_the_api_server_stops_before_another_begins() {
    let fleet = fleet(3);
    let mut f = world("cut-off", &fleet).await;
    let (relay, kubeconfig) = Relay::before(f.kubeconfig()).await.unwrap();
    let mut leader = working(&f, &kubeconfig).await;
    let standby = standing_by(&f).await;
    all_in_sync(&f, &fleet, 28800).await;
    let gate = Gate::new();
    fleet.fault(Fault::gate(&gate).on(Kind::Get));
    let (before, asked) = (fleet.counts(), fleet.counts().get + 3);
    for (index, appliance) in fleet.appliances().enumerate() {
        // It is about to find a value that it would put back.
        appliance.factory_reset();
        f.request("X2Gateway", &format!("x2-{index}"), "now").await;
    }
    fleet.requests().wait_arrived(Kind::Get, asked).await;
    let begun = Instant::now();
    relay.cut();
    f.apply(&lifetime(7200)).await;
    standby.wait_for_log(WORKS, SOON).await.unwrap();
    say(&format!("taken over {:?} after the leader was cut off", begun.elapsed()));
    assert!(!leads(&leader).await);
    let then = requests(&leader).await;
    gate.open();
    all_in_sync(&f, &fleet, 7200).await;
    assert_eq!(requests(&leader).await, then, "a request of the former leader's");
    assert_eq!((fleet.counts() - before).write, 3);
    relay.mend();
    ends_superseded(&mut leader).await;
    f.retire(&leader);
    assert_eq!(fleet.standing_at(7200), 3);
    finish(f, vec![standby]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whom_nobody_has_replaced_goes_on() {
    let fleet = fleet(1);
    let f = world("goes-on", &fleet).await;
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "interval": "30s"}))).await;
    let (relay, kubeconfig) = Relay::before(f.kubeconfig()).await.unwrap();
    let leader = working(&f, &kubeconfig).await;
    all_in_sync(&f, &fleet, 28800).await;
    relay.cut();
    leader.wait_for_log("the lease cannot be taken or renewed", SOON).await.unwrap();
    fleet.appliance(0).factory_reset();
    relay.mend();
    leader.wait_for_log("the lease is renewed again", SOON).await.unwrap();
    let put_back = |g: &kube::api::DynamicObject| status(g)["history"][0]["cause"] == "Drift";
    let gateway = f.wait("X2Gateway", "x2-0", put_back).await;
    assert_eq!(status(&gateway)["history"].as_array().unwrap().len(), 2);
    assert_eq!(fleet.appliance(0).timeout(), 28800);
    assert_eq!(lease(&f).await["leaseTransitions"], 0);
    finish(f, vec![leader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_lease_is_made_anew_by_its_holder() {
    let fleet = fleet(1);
    let f = world("deleted", &fleet).await;
    let leader = working(&f, f.kubeconfig()).await;
    let standby = standing_by(&f).await;
    let holder = lease(&f).await["holderIdentity"].clone();
    let old = f.get("Lease", "tenure").await.metadata.uid;
    f.ns.delete_object("Lease", "tenure").await.unwrap();
    f.ns.wait_for("Lease", "tenure", SOON, |lease| lease.metadata.uid != old).await.unwrap();
    assert_eq!(lease(&f).await["holderIdentity"], holder);
    assert!(leads(&leader).await && !leads(&standby).await);
    finish(f, vec![standby, leader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_its_lease_a_replica_says_so_and_waits() {
    let fleet = fleet(1);
    let f = Fixture::new("no-lease").await;
    f.credentials(&fleet).await;
    f.apply(&gateway("x2-0", &fleet.appliance(0))).await;
    let replica = f.replica(f.kubeconfig());
    replica.wait_for_log("check its RBAC rules", SOON).await.unwrap();
    assert_eq!(replica.get("/readyz").await.unwrap().0, 200);
    assert_eq!(fleet.counts(), Counts::default());
    finish(f, vec![replica]).await;
}

/// Writes each appliance has got.
trait Writes {
    fn map_writes(&self) -> Vec<u64>;
}

impl Writes for Vec<Counts> {
    fn map_writes(&self) -> Vec<u64> {
        self.iter().map(|counts| counts.write).collect()
    }
}
