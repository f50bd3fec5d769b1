//! The step of the tour in which a rollout halts.

use std::time::Duration;

use anyhow::Result;
use kube::api::DynamicObject;
use serde_json::json;
use tenure_kit::faults::Fault;
use tenure_kit::requests::Kind as Request;

use super::{Tour, check};
use crate::board::{Kind, is_ready, reason, status};

const POLICY: &str = "hamburg-sessions";
/// In the order of their names: the first is the canary.
const GATEWAYS: [&str; 3] = ["hamburg-core", "hamburg-edge", "hamburg-harbour"];
const FACTORY: u64 = 86_400;
const WANTED: u64 = 28_800;
/// Three tries, each later than the one before.
const HALT_TIMEOUT: Duration = Duration::from_mins(1);

impl Tour<'_> {
    pub(super) async fn roll_out(&mut self) -> Result<()> {
        let [canary, ..] = GATEWAYS;
        self.stage.world.gateway(canary)?.fault(Fault::status(500, "{}").on(Request::Write));
        self.screen.item("fault", &format!("The appliance of {canary} answers every PUT with 500."));
        self.stage.apply(&self.stage.rollout, None, self.screen).await?;
        self.screen.item("canary", "Its soak time is 5s here, not 10m.");
        self.screen.blank();
        self.board.head();
        let halted = |policy: &DynamicObject| reason(policy) == "RolloutHalted";
        self.board
            .until(&format!("{POLICY} to halt"), HALT_TIMEOUT, |board| {
                board.has(Kind::Policy, POLICY, halted)
            })
            .await?;
        self.board
            .until("the event RolloutHalted", super::SOON, |board| {
                board.event(POLICY, "RolloutHalted").is_some()
            })
            .await?;
        let note = self.board.event(POLICY, "RolloutHalted").map(|event| event.note.clone());
        self.screen.item("event", &format!("RolloutHalted: {}", note.unwrap_or_default()));
        self.standing([FACTORY; 3])?;
        for name in GATEWAYS.into_iter().skip(1) {
            let writes = self.stage.world.gateway(name)?.counts().write;
            check(&format!("writes to {name}"), &0, &writes)?;
        }
        self.screen.blank();
        self.screen.ok("halted after three tries at one gateway; the other two were read and not changed");
        self.screen.blank();

        self.stage.world.gateway(canary)?.clear_faults();
        self.screen.item("repair", &format!("The appliance of {canary} works again. To resume:"));
        self.command(&format!(
            "annotate tp {POLICY} tenure.dev/reconcile-requested-at=\"$(date)\" --overwrite"
        ));
        self.screen.blank();
        self.board.head();
        self.stage.request(Kind::Policy.name(), POLICY, "tour-repaired").await?;
        let complete = |policy: &DynamicObject| {
            is_ready(policy) && status(policy).pointer("/rollout/phase") == Some(&json!("Complete"))
        };
        self.board
            .until(&format!("{POLICY} to complete"), HALT_TIMEOUT, |board| {
                board.has(Kind::Policy, POLICY, complete)
            })
            .await?;
        self.screen.blank();
        self.standing([WANTED; 3])?;
        self.screen.ok("the canary first, then the others, one at a time: all at 28800s");
        Ok(())
    }

    fn standing(&self, expected: [u64; 3]) -> Result<()> {
        for (name, seconds) in GATEWAYS.into_iter().zip(expected) {
            let appliance = self.stage.world.gateway(name)?;
            check(&format!("what the appliance of {name} has"), &seconds, &appliance.timeout())?;
        }
        Ok(())
    }
}
