//! What a policy's status says: how its gateways stand, and how far its rollout has got.

use kube::{Resource as _, ResourceExt as _};

use super::Subject;
use super::rolling::Rolling;
use crate::clock;
use crate::controller::context::Context;
use crate::crd::{
    APPROVE, Failure, GatewayCounts, Kind, Mode, Phase, Time, TokenPolicy, TokenPolicyStatus, X2Gateway,
};
use crate::engine::gateway::Regime;
use crate::engine::governance::Policy;
use crate::engine::lifetime::{Target, proves};
use crate::engine::tally::{Part, State, Tally, policy_verdict, state_of};
use crate::engine::verdict::{self, Notes, Reason, Verdict};
use crate::runtime::object::Key;
use crate::runtime::{finalizers, status};

/// Failures that a status lists.
const FAILURES: usize = 20;
/// Names that a sentence lists.
const NAMES: usize = 3;

/// What a policy's status is made of.
pub(super) struct Summary<'a> {
    pub(super) context: &'a Context,
    pub(super) policy: &'a Policy,
    pub(super) parts: &'a [Part],
    pub(super) rolling: Option<&'a Rolling>,
    /// Our finalizer cannot be put on.
    pub(super) barred: bool,
}

impl Summary<'_> {
    /// The status, and what it says in a word.
    pub(super) fn status(&self) -> (TokenPolicyStatus, Verdict) {
        let Self { policy, parts, .. } = *self;
        let object = &*policy.object;
        let mut status = object.status.clone().unwrap_or_default();
        let verdict = self.verdict();
        if let Some(asked) = policy.open_request()
            && self.has_been_handled(asked)
        {
            status.last_handled_reconcile_at = Some(asked.to_owned());
        }
        let risky = self.rolling.is_some_and(|rolling| rolling.decision.guarded).then(|| {
            "This would cut the token lifetime of more than half of the gateways to less than an hour, so one gateway is changed and verified a minute before the others. Set spec.rollout to control the order, or spec.suspend to stop it."
                .to_owned()
        });
        status.target = policy.spec.target().map(|target| target.to_string());
        status.gateways = Some(counts(&Tally::of(parts)));
        let failures = parts.iter().filter(|part| part.state == State::Failed).filter_map(|part| {
            let verdict = part.verdict.as_ref()?;
            let (reason, message) = (verdict.reason.as_str().to_owned(), verdict.message.clone());
            Some(Failure { gateway: part.name.clone(), reason, message })
        });
        status.failures = failures.take(FAILURES).collect();
        // Its rollout goes on from where it is once the policy is resumed.
        if object.spec.suspend {
            let message = "spec.suspend is true: no gateway is changed. The policy still takes precedence for its gateways.";
            status::set_suspended(&mut status, object, message);
            status.next_window = None;
            return (status, verdict);
        }
        status::set_verdict(&mut status, object, &verdict, &Notes { risky, ..Notes::default() });
        status.rollout = self.rolling.and_then(|rolling| rolling.status.clone());
        let closed = self.awaits_window().then(|| policy.closed_window(clock::now().0)).flatten();
        status.next_window = closed.map(|closed| Time(closed.next));
        (status, verdict)
    }

    fn verdict(&self) -> Verdict {
        if self.policy.object.meta().deletion_timestamp.is_some() {
            let message = "The policy is being deleted; the original token lifetimes of its gateways are being restored.";
            return Verdict::new(Reason::Progressing, message);
        }
        if let Err(why) = &self.policy.spec.claim.target {
            return Verdict::new(
                Reason::InvalidSpec,
                format!("The policy is invalid: {why}. Correct its spec."),
            );
        }
        match self.rolling {
            _ if self.barred => finalizers::forbidden::<TokenPolicy>(),
            Some(rolling) if rolling.decision.plan.lacks_canaries => Verdict::new(
                Reason::InvalidSpec,
                "spec.rollout.canary.selector matches none of the policy's gateways, so nothing is changed. Correct it, or label a gateway.",
            ),
            Some(rolling) if rolling.phase() == Some(Phase::Halted) => Verdict::new(
                Reason::RolloutHalted,
                format!(
                    "The rollout is halted: {}. Fix the cause, then edit the spec or set the annotation tenure.dev/reconcile-requested-at to a new value.",
                    rolling.cause(NAMES)
                ),
            ),
            Some(rolling) if rolling.phase() == Some(Phase::AwaitingApproval) => {
                self.awaits_approval(rolling)
            }
            _ => policy_verdict(self.parts, self.policy.object.spec.mode == Mode::Observe),
        }
    }

    fn awaits_approval(&self, rolling: &Rolling) -> Verdict {
        let (name, namespace) = (self.policy.name(), self.policy.object.namespace().unwrap_or_default());
        let hash = rolling.status.as_ref().map(|status| &*status.target_hash).unwrap_or_default();
        Verdict::new(
            Reason::AwaitingApproval,
            format!(
                "The canaries are verified, and the other gateways wait for approval. To approve the rollout: kubectl annotate tokenpolicy {name} --namespace {namespace} --overwrite {APPROVE}={hash}"
            ),
        )
    }

    fn awaits_window(&self) -> bool {
        let awaits = |part: &Part| part.verdict.as_ref().is_some_and(|v| v.reason == Reason::AwaitingWindow);
        self.rolling.is_some_and(|rolling| rolling.phase() == Some(Phase::AwaitingWindow))
            || self.parts.iter().any(awaits)
    }

    /// Whether every gateway that a request covers has ended its look for it.
    fn has_been_handled(&self, asked: &str) -> bool {
        let request = (Key::of(self.policy.object.meta()), asked.to_owned());
        let namespace = self.policy.object.namespace().unwrap_or_default();
        let covered =
            self.parts.iter().filter(|part| !matches!(part.state, State::Overridden | State::Suspended));
        covered
            .map(|part| Key::new(namespace.clone(), part.name.clone()))
            .filter(|key| self.context.gateways.valid(key).is_some())
            .all(|key| self.context.handled.has(Kind::Gateway, &key, &request))
    }
}

/// Names, as many as a sentence takes.
pub(super) fn listed(names: &[String], most: usize) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let more = if names.len() > most { ", …" } else { "" };
    format!("{}{more}", names.iter().take(most).cloned().collect::<Vec<_>>().join(", "))
}

/// How each gateway that the policy selects stands.
pub(super) fn parts(policy: &Policy, subjects: &[Subject]) -> Vec<Part> {
    let wanted = policy.spec.target();
    let part = |subject: &Subject| match (subject.entry.valid(), &subject.regime) {
        (Some(gateway), Some(regime)) => part(&policy.object, wanted, regime, gateway),
        _ => undecodable_part(subject.entry.meta().name.clone().unwrap_or_default()),
    };
    subjects.iter().filter(|subject| subject.selected).map(part).collect()
}

fn undecodable_part(name: String) -> Part {
    let message = "The spec does not match this version of X2Gateway.";
    Part { name, state: State::Failed, verdict: Some(Verdict::new(Reason::InvalidSpec, message)) }
}

fn part(policy: &TokenPolicy, wanted: Option<Target>, governor: &Regime, gateway: &X2Gateway) -> Part {
    let name = gateway.name_any();
    let status = gateway.status.clone().unwrap_or_default();
    let current = status.observed_generation == gateway.meta().generation;
    let verdict = verdict::ready(&status.conditions)
        .filter(|_| current)
        .and_then(|c| Some(Verdict::new(Reason::parse(&c.reason)?, c.message.clone())));
    let reason = verdict.as_ref().map(|v| v.reason);
    let observes = policy.spec.mode == Mode::Observe;
    let holds =
        |seconds: Option<u32>| wanted.zip(seconds).is_some_and(|(target, seconds)| target.holds(seconds));
    let state = if gateway.spec.connection.suspend {
        State::Suspended
    } else if observes {
        match (status.timeout_seconds.filter(|_| current), reason) {
            (_, Some(Reason::Progressing)) => State::Pending,
            (_, Some(reason)) if !reason.is_ready() && reason != Reason::Drifted => State::Failed,
            (None, _) => State::Pending,
            (seconds, _) if holds(seconds) => State::InSync,
            _ => State::Drifted,
        }
    } else if governor.policy() != Some(&policy.name_any()) {
        State::Overridden
    } else {
        let proven = status
            .timeout_seconds
            .zip(status.proven_timeout_seconds)
            .is_some_and(|(set, token)| proves(token, set));
        let governed = status.policy.as_deref() == governor.policy();
        if current && !governed && reason.is_none_or(Reason::is_ready) {
            State::Pending
        } else {
            // Within the same tolerance as a proof: a token may be a second or two off.
            let token = wanted.zip(status.proven_timeout_seconds);
            let fitted =
                governed && token.is_some_and(|(target, token)| proves(token, target.nearest(token)));
            state_of(reason, governed && proven && holds(status.timeout_seconds), fitted)
        }
    };
    Part { name, state, verdict }
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
