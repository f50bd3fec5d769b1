//! Specs, parsed once: nothing downstream parses a number, a duration or a window again.

use std::time::Duration;

use jiff::Timestamp;

use super::lifetime::{Bounds, InvalidTarget, Target};
use super::precedence::Claim;
use super::rollout::Bound;
use super::schedule;
use super::verdict::{Reason, Verdict};
use super::window::Windows;
use crate::crd::{self, Approval, CustomerTokenTtlSpec, GatewaySelector, Kind, TokenPolicySpec};

/// What to report of an object that the API server accepted under another schema.
#[must_use]
pub fn undecodable(kind: Kind) -> Verdict {
    let message = format!(
        "The spec does not match this version of {}. Compare it with kubectl explain, and correct or delete the resource.",
        kind.as_str()
    );
    Verdict::new(Reason::InvalidSpec, message)
}

/// What a `TokenPolicy` asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What it requires, and how it ranks among the policies that select a gateway. An error in any field is here.
    pub claim: Claim,
    /// Time between two checks of a gateway.
    pub interval: Duration,
    /// When changes may be made.
    pub windows: Windows,
    /// How they spread over the gateways.
    pub rollout: Option<Rollout>,
}

/// What bounds a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Maximum number of gateways under change at once.
    pub max_concurrent: Bound,
    /// Failed changes that are tolerated.
    pub max_failures: Bound,
    /// Which gateways go first.
    pub canary: Option<Canary>,
}

/// The gateways that are changed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Selects them by label.
    pub selector: Option<GatewaySelector>,
    /// How many there are without a selector.
    pub count: usize,
    /// Time from their change until the others follow.
    pub soak: Duration,
    /// Whether the others wait for a person's approval after that.
    pub approval: Approval,
}

impl Policy {
    /// Parses the spec of the policy with this name, within the operator's bounds. Windows have to open soon after `now`.
    #[must_use]
    pub fn parse(name: &str, spec: &TokenPolicySpec, bounds: Bounds, now: Timestamp) -> Self {
        let target = target(spec, bounds);
        let interval = duration("interval", &spec.interval);
        let windows =
            Windows::parse(&spec.windows, now).map_err(|why| InvalidTarget::Window(why.to_string()));
        let rollout = spec.rollout.as_ref().map(Rollout::parse).transpose();
        let error = [windows.as_ref().err(), interval.as_ref().err(), rollout.as_ref().err()];
        let error = error.into_iter().flatten().next().cloned();
        let claim = Claim {
            policy: name.to_owned(),
            priority: spec.priority,
            mode: spec.mode,
            suspended: spec.suspend,
            target: target.and_then(|target| error.map_or(Ok(target), Err)),
        };
        // What cannot be parsed is reported of the claim, and nothing is changed meanwhile.
        Self {
            claim,
            interval: interval.unwrap_or(schedule::CAP),
            windows: windows.unwrap_or_default(),
            rollout: rollout.unwrap_or_default(),
        }
    }

    /// What it requires, unless that is invalid.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        self.claim.target.clone().ok()
    }
}

/// What a `CustomerTokenTtl` asks for beside its lifetimes.
#[derive(Clone, Debug, PartialEq)]
pub struct Customer {
    /// Time between two checks.
    pub interval: Duration,
    /// When changes may be made.
    pub windows: Windows,
}

impl Customer {
    /// Parses a spec. Windows have to open soon after `now`. An error is what to report.
    pub fn parse(spec: &CustomerTokenTtlSpec, now: Timestamp) -> Result<Self, Verdict> {
        let invalid = |message| Verdict::new(Reason::InvalidSpec, message);
        let interval = duration("interval", &spec.interval).map_err(|why| invalid(format!("spec.{why}.")))?;
        let windows =
            Windows::parse(&spec.windows, now).map_err(|why| invalid(format!("In spec.windows, {why}.")))?;
        Ok(Self { interval, windows })
    }
}

impl Rollout {
    fn parse(rollout: &crd::Rollout) -> Result<Self, InvalidTarget> {
        Ok(Self {
            max_concurrent: Bound::parse("rollout.maxConcurrent", &rollout.max_concurrent)?,
            max_failures: Bound::parse("rollout.maxFailures", &rollout.max_failures)?,
            canary: rollout.canary.as_ref().map(Canary::parse).transpose()?,
        })
    }
}

impl Canary {
    fn parse(canary: &crd::Canary) -> Result<Self, InvalidTarget> {
        let soak = canary.soak.as_deref().map(|text| duration("rollout.canary.soak", text)).transpose()?;
        Ok(Self {
            selector: canary.selector.clone(),
            count: canary.count.unwrap_or(1).try_into().unwrap_or(usize::MAX),
            soak: soak.unwrap_or_default(),
            approval: canary.approval,
        })
    }
}

fn target(spec: &TokenPolicySpec, bounds: Bounds) -> Result<Target, InvalidTarget> {
    let given = [spec.timeout_seconds, spec.min_timeout_seconds, spec.max_timeout_seconds];
    let [exact, least, most] = given;
    let target = Target::new(exact, least, most)?.within(bounds)?;
    bounds.check(given)?;
    Ok(target)
}

fn duration(field: &'static str, text: &str) -> Result<Duration, InvalidTarget> {
    schedule::parse(text).ok_or_else(|| InvalidTarget::Duration { field, text: text.to_owned() })
}
