//! A policy's rollout: what its gateways' statuses and questions show, and what follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;

use super::Subject;
use super::summary::listed;
use crate::clock;
use crate::crd::{APPROVE, GatewaySelector, Phase, RolloutStatus, Time};
use crate::engine::gateway::Regime;
use crate::engine::governance::Policy;
use crate::engine::rollout::{
    Canary, Choice, Circumstances, Decision, Gateway, Record, Relation, Rules, Survey, decide,
};

/// What a policy's task does next about its rollout.
pub(super) struct Rolling {
    /// To be written before the decision is carried out.
    pub(super) status: Option<RolloutStatus>,
    pub(super) decision: Decision,
}

impl Rolling {
    fn of(decision: Decision) -> Self {
        let count = |names: &[String]| i64::try_from(names.len()).unwrap_or(i64::MAX);
        let status = decision.plan.record.clone().map(|record| RolloutStatus {
            phase: record.phase,
            target_hash: record.target_hash,
            canaries: record.canaries,
            soak_until: record.soak_until.map(Time),
            started_time: Time(record.started),
            changed: count(&decision.changed),
            failed: count(&decision.failed),
        });
        Self { status, decision }
    }

    /// Why it has halted, as a clause: changes have failed, or else canaries could not be found in order.
    pub(super) fn cause(&self, names: usize) -> String {
        let Decision { failed, .. } = &self.decision;
        if !failed.is_empty() {
            return format!("changing {} failed", listed(failed, names));
        }
        let canaries = self.status.as_ref().map(|status| &*status.canaries).unwrap_or_default();
        format!("canaries failed three checks in a row: {}", listed(canaries, names))
    }

    /// What is reported of its start.
    pub(super) fn beginning(&self, names: usize) -> String {
        let canaries = self.status.as_ref().map(|status| &*status.canaries).unwrap_or_default();
        let resumed = if self.decision.resumed() { "resumed" } else { "started" };
        match canaries {
            [] => format!("The rollout has {resumed}, without canaries."),
            canaries => format!("The rollout has {resumed}. Canaries: {}.", listed(canaries, names)),
        }
    }

    /// How far the rollout has got.
    pub(super) fn phase(&self) -> Option<Phase> {
        self.decision.phase()
    }
}

/// Decides what is next. `resume` tells that a halted rollout is to go on.
pub(super) fn roll(policy: &Policy, subjects: &[Subject], survey: &Survey, resume: bool) -> Rolling {
    let (name, object) = (policy.name(), &policy.object);
    let record = object.status.as_ref().and_then(|status| status.rollout.as_ref()).map(Record::from);
    let gateways: Vec<Gateway> = subjects.iter().filter_map(|subject| gateway(subject, name)).collect();
    let at = Circumstances {
        policy: name,
        gateways: &gateways,
        rules: rules(policy, subjects),
        record: record.as_ref(),
        window_open: policy.closed_window(clock::now().0).is_none(),
        resume,
        approved: object.annotations().get(APPROVE).map(String::as_str),
        now: clock::precisely(),
    };
    Rolling::of(decide(survey, &at))
}

fn gateway(subject: &Subject, policy: &str) -> Option<Gateway> {
    let object = Arc::clone(subject.entry.valid()?);
    let left = matches!(&subject.regime, Some(Regime::Left { policy: left }) if left == policy);
    let relation = if subject.is_governed_by(policy) {
        Relation::Governed
    } else if left {
        Relation::Left
    } else {
        Relation::Unrelated
    };
    Some(Gateway { object, relation })
}

/// The bounds that the policy asks for, in gateways.
fn rules(policy: &Policy, subjects: &[Subject]) -> Option<Rules> {
    let rollout = policy.spec.rollout.as_ref()?;
    let matched = subjects.iter().filter(|subject| subject.selected).count();
    let canary = rollout.canary.as_ref().map(|canary| Canary {
        choice: match &canary.selector {
            Some(selector) => Choice::Named(named(subjects, selector)),
            None => Choice::First(canary.count),
        },
        soak: canary.soak,
        approval: canary.approval,
    });
    Some(Rules {
        max_concurrent: rollout.max_concurrent.at_least_one(matched),
        max_failures: rollout.max_failures.at_most(matched),
        canary,
    })
}

fn named(subjects: &[Subject], selector: &GatewaySelector) -> BTreeSet<String> {
    let gateways = subjects.iter().filter_map(|subject| subject.entry.valid());
    gateways
        .filter(|gateway| selector.matches(gateway.metadata.labels.as_ref()))
        .map(|gateway| gateway.name_any())
        .collect()
}
