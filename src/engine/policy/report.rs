//! What a policy's status shows: the states of its gateways, and how far its rollout has got.

use jiff::Timestamp;

use super::events::cause;
use crate::crd::{
    APPROVE, Failure, GatewayCounts, Kind, Mode, Phase, RolloutStatus, Time, TokenPolicy, TokenPolicyStatus,
};
use crate::engine::backoff::Inconclusive;
use crate::engine::governance::Policy;
use crate::engine::restoration::forbidden;
use crate::engine::rollout::{Decision, size};
use crate::engine::tally::{Part, State, Tally, policy_verdict};
use crate::engine::text::shortened;
use crate::engine::verdict::{Notes, Reason, Verdict, conditions, suspended};

/// What a policy reports while its `spec.suspend` is true.
const SUSPENDED: &str =
    "spec.suspend is true: no gateway is changed. The policy still takes precedence for its gateways.";
const RISKY: &str = "The change reduces the token lifetime of more than half of the gateways to less than an hour, so one gateway is changed and verified a minute before the others. Set spec.rollout to control the order, or spec.suspend to stop it.";
/// Failures that a status lists.
const FAILURES: usize = 20;
/// Names that a message lists.
const NAMES: usize = 3;
/// What canaries and failures may take of a status, in bytes: it has at most 16 KiB.
const LISTS: usize = 11_500;

/// Whether a policy's deletion waits for its gateways as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Our finalizer is there, or not needed.
    InPlace,
    /// Our finalizer cannot be added, so nothing may be changed.
    Forbidden,
    /// The API server does not accept that our finalizer is added or removed, so nothing is changed.
    NotAccepted,
}

/// What a policy's status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The gateways that it selects.
    pub parts: &'a [Part],
    /// What is next in its rollout, if its changes need permits.
    pub decision: Option<&'a Decision>,
    /// Whether its finalizer is in place.
    pub hold: Hold,
    /// The time.
    pub now: Timestamp,
}

impl Report<'_> {
    /// What the policy reports in a word and a sentence.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let invalid = |message: String| Verdict::new(Reason::InvalidSpec, message);
        if self.policy.object.metadata.deletion_timestamp.is_some() {
            let message = "The policy is being deleted; the original token lifetimes of its gateways are being restored.";
            return Verdict::new(Reason::Progressing, message);
        }
        if let Err(why) = &self.policy.spec.claim.target {
            return invalid(format!("The policy is invalid: {why}. Correct its spec."));
        }
        match self.hold {
            Hold::InPlace => {}
            Hold::Forbidden => return forbidden(Kind::Policy),
            Hold::NotAccepted => return Inconclusive::NotAccepted.verdict(),
        }
        match self.decision {
            Some(decision) if decision.plan.lacks_canaries => invalid(
                "spec.rollout.canary.selector matches none of the policy's gateways, so nothing is changed. Correct it, or label a gateway."
                    .to_owned(),
            ),
            Some(decision) if decision.phase() == Some(Phase::Halted) => Verdict::new(
                Reason::RolloutHalted,
                format!(
                    "The rollout is halted: {}. Fix the cause, then edit the spec or set the annotation tenure.dev/reconcile-requested-at to a new value.",
                    cause(decision, NAMES)
                ),
            ),
            Some(decision) if decision.phase() == Some(Phase::AwaitingApproval) => self.awaiting_approval(decision),
            _ => policy_verdict(self.parts, self.policy.spec.claim.mode == Mode::Observe),
        }
    }

    fn awaiting_approval(&self, decision: &Decision) -> Verdict {
        let namespace = self.policy.object.metadata.namespace.as_deref().unwrap_or_default();
        let record = decision.plan.record.as_ref();
        let hash = record.map(|record| &*record.target_hash).unwrap_or_default();
        Verdict::new(
            Reason::AwaitingApproval,
            format!(
                "The canaries are verified, and the other gateways wait for approval. To approve the rollout: kubectl annotate tokenpolicy {} --namespace {namespace} --overwrite {APPROVE}={hash}",
                self.policy.name()
            ),
        )
    }

    /// What is informational beside it.
    #[must_use]
    pub fn notes(&self) -> Notes {
        let risky = self.decision.is_some_and(|decision| decision.guarded);
        Notes { risky: risky.then(|| RISKY.to_owned()), ..Notes::default() }
    }

    /// The status that shows all of it, and the request that was carried out now, if one was.
    #[must_use]
    pub fn status(&self, verdict: &Verdict, request: Option<&str>) -> TokenPolicyStatus {
        let TokenPolicy { metadata, spec, status } = &*self.policy.object;
        let (generation, now) = (metadata.generation.unwrap_or_default(), Time(self.now));
        let mut status = status.clone().unwrap_or_default();
        self.update(&mut status);
        status.conditions = if spec.suspend {
            suspended(&status.conditions, SUSPENDED, generation, &now)
        } else {
            conditions(&status.conditions, &verdict.noting_ignored(metadata), &self.notes(), generation, &now)
        };
        status.observed_generation = Some(generation);
        status.last_handled_reconcile_at = request.map(str::to_owned).or(status.last_handled_reconcile_at);
        status
    }

    /// Enters into a status what is found, but for its conditions. The rollout of a suspended policy goes on from where it is
    /// once the policy is resumed.
    pub fn update(&self, status: &mut TokenPolicyStatus) {
        status.target = self.policy.spec.target().map(|target| target.to_string());
        status.gateways = Some(counts(&Tally::of(self.parts)));
        status.next_window = None;
        if !self.policy.spec.claim.suspended {
            self.update_rollout(status);
        }
        let canaries = status.rollout.as_ref().map(|rollout| &*rollout.canaries).unwrap_or_default();
        status.failures = failures(self.parts, LISTS.saturating_sub(size(canaries)));
    }

    fn update_rollout(&self, status: &mut TokenPolicyStatus) {
        status.rollout = self.decision.and_then(Decision::status);
        let closed = self.awaits_window().then(|| self.policy.closed_window(self.now)).flatten();
        status.next_window = closed.map(|closed| Time(closed.next));
    }

    /// Gateways that are suspended or governed by another policy may show that they wait, but not for this one.
    fn awaits_window(&self) -> bool {
        let awaits = |part: &Part| {
            matches!(part.state, State::Pending | State::Drifted)
                && part.verdict.as_ref().is_some_and(|v| v.reason == Reason::AwaitingWindow)
        };
        let phase = self.decision.and_then(Decision::phase);
        phase == Some(Phase::AwaitingWindow) || self.parts.iter().any(awaits)
    }
}

/// The failures that a status lists. If there are many, or names are long, their messages are cut off: each gateway has its own.
fn failures(parts: &[Part], room: usize) -> Vec<Failure> {
    let mut failures: Vec<_> = parts.iter().filter_map(failure).take(FAILURES).collect();
    let keys = r#"{"gateway":"","reason":"","message":""},"#.len();
    let names: usize = failures.iter().map(|f| keys + f.gateway.len() + f.reason.len()).sum();
    let each = room.saturating_sub(names) / failures.len().max(1);
    failures.iter_mut().for_each(|failure| failure.message = shortened(&failure.message, each));
    failures
}

fn failure(part: &Part) -> Option<Failure> {
    let verdict = part.verdict.as_ref().filter(|_| part.state == State::Failed)?;
    let (reason, message) = (verdict.reason.as_str().to_owned(), verdict.message.clone());
    Some(Failure { gateway: part.name.clone(), reason, message })
}

fn counts(tally: &Tally) -> GatewayCounts {
    GatewayCounts {
        matched: tally.total(),
        in_sync: tally.count(State::InSync),
        pending: tally.count(State::Pending),
        drifted: tally.count(State::Drifted),
        failed: tally.count(State::Failed),
        overridden: tally.count(State::Overridden),
        suspended: tally.count(State::Suspended),
        summary: tally.summary(),
    }
}

/// Whether a status holds something of a rollout that must be written before anything else is done.
#[must_use]
pub fn must_be_durable(old: Option<&TokenPolicyStatus>, new: &TokenPolicyStatus) -> bool {
    let kept = |status: &TokenPolicyStatus| {
        status.rollout.clone().map(|rollout| RolloutStatus { changed: 0, failed: 0, ..rollout })
    };
    old.and_then(kept) != kept(new)
}
