//! A rollout that waits after its canaries until a person approves.

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tenure_kit::faults::Fault;
use tenure_kit::requests::Kind;

use super::*;

fn cautious() -> Value {
    json!({"rollout": {"canary": {"count": 1, "soak": "1s", "approval": "Required"}}, "interval": "30s"})
}

impl World {
    async fn approve(&self, hash: impl Into<Value>) {
        let hash: Value = hash.into();
        let annotation = json!({"metadata": {"annotations": {"tenure.dev/approve": hash}}});
        let params = PatchParams { field_manager: Some("board".to_owned()), ..PatchParams::default() };
        let api = self.f.ns.api("TokenPolicy").await.unwrap();
        api.patch("fleet", &params, &Patch::Merge(annotation)).await.unwrap();
    }

    /// Waits until every gateway was checked again, so that whatever may be begun has begun.
    async fn all_checked(&self, gateways: usize, request: &str) {
        for index in 0..gateways {
            self.f.look("X2Gateway", &self.name(index), request).await;
        }
    }
}

fn hash(policy: &DynamicObject) -> &str {
    rollout(policy)["targetHash"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_wait_for_the_approval_of_this_target_also_after_restarts() {
    let mut w = World::new("approval", 4, 4).await;
    w.policy(cautious()).await;
    w.f.start().await;
    let waiting = w.phase("AwaitingApproval").await;
    assert_eq!(ready(&waiting)["reason"], "AwaitingApproval");
    assert_eq!(condition(&waiting, "Reconciling")["status"], "True");
    assert!(condition(&waiting, "Stalled").is_null());
    // The message is the command that approves.
    let message = ready(&waiting)["message"].as_str().unwrap();
    let command = format!(
        "kubectl annotate tokenpolicy fleet --namespace {} --overwrite tenure.dev/approve={}",
        w.f.ns.name(),
        hash(&waiting)
    );
    assert!(message.ends_with(&command), "{message}");
    assert_eq!(w.trace().order(), w.names([0]));

    // What approves something else approves nothing, also after the leader has changed.
    for (restart, value) in ["", "yes", "0123456789abcdef"].into_iter().enumerate() {
        w.approve(value).await;
        w.f.kill().await;
        w.f.start().await;
        w.all_checked(4, &format!("restart {restart}")).await;
        let still = w.now().await;
        assert_eq!((rollout(&still), ready(&still)), (rollout(&waiting), ready(&waiting)));
    }
    assert_eq!(w.writes(), 1);

    // Approved while no operator runs.
    w.f.kill().await;
    w.approve(hash(&waiting)).await;
    w.f.start().await;
    let complete = w.complete().await;
    assert_eq!(rollout(&complete)["canaries"], json!(w.names([0])));
    assert_eq!((w.writes(), w.fleet.standing_at(28800)), (4, 4));

    // A new target needs a new approval.
    w.edit(json!({"timeoutSeconds": 14400})).await;
    let again = w.phase("AwaitingApproval").await;
    assert_ne!(hash(&again), hash(&waiting));
    w.all_checked(4, "another target").await;
    assert_eq!((w.writes(), w.fleet.standing_at(14400)), (5, 1));
    w.approve(hash(&again)).await;
    w.complete().await;
    assert_eq!(w.fleet.standing_at(14400), 4);
    // The audit log names who approved; a canary needs no approval.
    let is_write = |line: &Value| line["audit"] == true && line["operation"] == "set_timeout";
    let audit = logged(w.f.operator(), 7, is_write).await;
    let said: Vec<_> = audit.iter().map(|line| format!("{} {}", line["to"], line["approved_by"])).collect();
    let (first, canary, second) = (r#""28800" "board""#, r#""14400" null"#, r#""14400" "board""#);
    assert_eq!(said, [first, first, first, canary, second, second, second]);
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_corrected_and_failures_halt_while_approval_is_awaited() {
    let mut w = World::new("approval-meanwhile", 4, 4).await;
    w.policy(cautious()).await;
    w.f.start().await;
    w.phase("AwaitingApproval").await;
    let canary = w.fleet.appliance(0);
    canary.set_timeout(FACTORY);
    w.f.request("X2Gateway", &w.name(0), "drift").await;
    w.f.event(&w.name(0), "DriftCorrected").await;
    assert_eq!(canary.timeout(), 28800);
    assert_eq!(rollout(&w.now().await)["phase"], "AwaitingApproval");
    assert_eq!(w.writes(), 2);

    canary.fault(Fault::status(500, "{}").on(Kind::Get));
    w.f.request("X2Gateway", &w.name(0), "failure").await;
    let halted = w.phase("Halted").await;
    assert_eq!(ready(&halted)["reason"], "RolloutHalted");
    assert!(names_all(ready(&halted)["message"].as_str().unwrap(), &w.names([0])));
    // An approval is no repair.
    w.approve(hash(&halted)).await;
    w.all_checked(4, "approved").await;
    assert_eq!(rollout(&w.now().await)["phase"], "Halted");
    assert_eq!(w.writes(), 2);
    w.heal();
    w.f.request("TokenPolicy", "fleet", "go on").await;
    w.complete().await;
    w.f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_outside_a_window_waits_for_it() {
    let mut w = World::new("approval-window", 3, 3).await;
    let by_hand =
        |until: Value| json!({"metadata": {"annotations": {"tenure.dev/override-window-until": until}}});
    w.policy(with(cautious(), json!({"windows": [{"schedule": "0 0 29 2 *", "duration": "1h"}]}))).await;
    w.f.start().await;
    let held = w.phase("AwaitingWindow").await;
    let reported: k8s_openapi::jiff::Timestamp =
        ready(&held)["lastTransitionTime"].as_str().unwrap().parse().unwrap();
    let open = by_hand(json!((reported + std::time::Duration::from_secs(6 * 3600)).to_string()));
    w.f.patch("TokenPolicy", "fleet", open.clone()).await;
    let waiting = w.phase("AwaitingApproval").await;
    w.f.patch("TokenPolicy", "fleet", by_hand(Value::Null)).await;
    w.approve(hash(&waiting)).await;
    w.phase("AwaitingWindow").await;
    assert_eq!(w.writes(), 1);
    w.f.patch("TokenPolicy", "fleet", open).await;
    w.complete().await;
    assert_eq!((w.trace().order()[0].clone(), w.writes()), (w.name(0), 3));
    w.f.finish().await;
}
