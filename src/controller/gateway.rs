//! The controller of `X2Gateway`.

mod change;
mod claim;
mod examine;
mod leaving;
mod settle;
mod telling;
mod turns;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use self::change::window_has_moved;
use self::claim::{claim, claim_id, has_got_in};
use self::turns::Turns;
use super::context::{Context, Request};
use super::governance::{Governance, PolicySet};
use super::reconcile::{Findings, Given, Managed, Memory, Report, current_reason, reconcile};
use super::windows::Closed;
use super::{connection, logins, policy, request};
use crate::crd::{Change, Kind, X2Gateway, X2GatewayStatus};
use crate::engine::backoff::Nothing;
use crate::engine::gateway::{OpenChange, Regime};
use crate::engine::lifetime::Target;
use crate::engine::login;
use crate::engine::verdict::{Reason, Verdict};
use crate::runtime::finalizers;
use crate::runtime::object::{Entry, Key, Reported as _};
use crate::runtime::reconcile::{Reconcile, Reconciled};
use crate::runtime::store::Store;

/// What is kept in memory of a gateway beyond what all kinds keep.
#[derive(Debug, Default)]
pub struct Extra {
    contested: Option<(String, Target)>,
    /// Whether what the status has on record of an open change was taken over.
    has_recalled: bool,
    /// What was last reported of a closed change window.
    window: Option<Closed>,
}

/// Who governs a gateway, and its part in the rollout.
pub struct Parents {
    governance: Governance,
    turns: Turns,
}

/// What, when it changes, is a reason to reconcile at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    generation: Option<i64>,
    regime: Regime,
    interval: Duration,
}

/// What a reconcile has found on an appliance, and done.
#[derive(Debug, Default)]
pub struct Found {
    /// Value of the setting, in seconds, if the reconcile ended with a trustworthy one.
    timeout: Option<u32>,
    /// Lifetime of a token issued during the reconcile, in seconds.
    token: Option<u32>,
    /// Whether tokens issued before the change were invalidated.
    revoked: bool,
    /// What the value was before something else changed it, if that is found and not corrected, in seconds.
    drifted_from: Option<u32>,
    /// Why the original value is not restored.
    skipped: Option<&'static str>,
}

impl Reconciled for X2Gateway {
    type Context = Context;
    type Memory = Memory<Self>;

    fn store(context: &Context) -> &Arc<Store<Self>> {
        &context.gateways
    }

    async fn reconcile(context: &Arc<Context>, gateway: &Arc<Self>, memory: &mut Memory<Self>) -> Reconcile {
        reconcile(context, gateway, memory).await
    }

    fn changed(context: &Arc<Context>, before: Option<&Entry<Self>>, after: Option<&Entry<Self>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        let key = Key::of(meta);
        logins::observe_gateway(
            &context.remotes.admission,
            meta,
            after.and_then(Entry::valid).map(Arc::as_ref),
        );
        let rivals = match (before.and_then(Entry::valid), after.and_then(Entry::valid)) {
            (_, Some(gateway)) => {
                let claimed = claim(gateway);
                let got_in = claimed.is_some() && has_got_in(gateway, claimed.as_deref());
                let suspended = gateway.spec.connection.suspend;
                context.gateway_claims.set(&claim_id(gateway), claimed, suspended, got_in)
            }
            (Some(gone), None) => context.gateway_claims.set(&claim_id(gone), None, false, false),
            (None, None) => Vec::new(),
        };
        rivals.into_iter().for_each(|rival| context.cluster.wake(Kind::Gateway, rival));
        if after.is_none() || !only_times_differ(before, after) {
            policy::wake_all(context, &key.namespace);
        }
        context.cluster.wake(Kind::Gateway, key);
    }

    fn gone(context: &Context, key: &Key) {
        context.handled.set(Kind::Gateway, key.clone(), HashSet::new());
    }
}

impl Managed for X2Gateway {
    type Parents = Parents;
    type Inputs = Inputs;
    type Change = OpenChange;
    type Record = Change;
    type Found = Found;
    type Extra = Extra;

    fn gather(context: &Arc<Context>, gateway: &Self) -> Given<Self> {
        let governance = PolicySet::of(context, &gateway.namespace().unwrap_or_default()).governance(gateway);
        let Governance { regime, interval, .. } = governance.clone();
        let suspended = gateway.spec.connection.suspend;
        Given {
            standing: context.gateway_claims.standing(&claim_id(gateway)),
            requests: requests(gateway, &governance),
            paused: suspended.then(|| "spec.suspend is true: nothing is read or changed.".to_owned()),
            interval,
            time_left: leaving::time_left(gateway, &governance),
            holds: finalizers::is_held(gateway.meta()) || governance.restores(),
            contested: contested(gateway, &regime),
            inputs: Inputs { generation: gateway.meta().generation, regime, interval },
            parents: Parents { turns: Turns::of(context, gateway, &governance), governance },
        }
    }

    async fn finalize(
        context: &Arc<Context>,
        gateway: &Arc<Self>,
        given: &Given<Self>,
        memory: &mut Memory<Self>,
    ) -> Option<Reconcile> {
        let next = leaving::keep_hold(context, gateway, &given.parents.governance, memory).await;
        next.map(Reconcile::NotDue)
    }

    fn is_called(
        context: &Arc<Context>,
        gateway: &Self,
        given: &Given<Self>,
        memory: &mut Memory<Self>,
    ) -> bool {
        let Parents { governance, turns } = &given.parents;
        let moved = match current_reason(gateway) {
            Some(Reason::AwaitingWindow) => window_has_moved(context, governance, memory),
            Some(Reason::AwaitingRollout) => !turns.are_given(),
            _ => false,
        };
        let holder = logins::holder(login::Kind::Gateway, gateway.meta());
        moved || turns.calls() || context.remotes.admission.calls(&holder)
    }

    async fn examine(
        context: &Arc<Context>,
        gateway: &mut Arc<Self>,
        given: &Given<Self>,
        memory: &mut Memory<Self>,
        asked: bool,
    ) -> Result<Findings<Self>, Nothing> {
        let governance = &given.parents.governance;
        let mut findings = examine::examine(context, gateway, memory, governance, asked).await?;
        let waits = findings.verdict.reason == Reason::AwaitingWindow;
        memory.extra.window = governance.closed_window(context).filter(|_| waits);
        findings.opens = memory.extra.window.map(|closed| closed.next);
        Ok(findings)
    }

    fn new_status(report: &Report<'_, Self>, memory: &mut Memory<Self>) -> X2GatewayStatus {
        let status = telling::new_status(report, memory);
        if status.pending.is_none() {
            memory.change = None;
        }
        status
    }

    fn announce(context: &Context, report: &Report<'_, Self>, memory: &Memory<Self>) {
        telling::announce(context, report, &memory.owed);
    }

    fn carried_out(context: &Arc<Context>, gateway: &Self) {
        policy::wake_all(context, &gateway.namespace().unwrap_or_default());
    }

    fn progress(given: &Given<Self>, ended: Option<Reason>) {
        let turns = &given.parents.turns;
        ended.map_or_else(|| turns.begun(), |reason| turns.ended(reason));
    }
}

/// The last correction, if the status shows that what is still required is contested.
fn contested(gateway: &X2Gateway, regime: &Regime) -> Option<Timestamp> {
    let last = gateway.status.as_ref()?.history.first()?;
    let required = regime.target().is_some_and(|target| target.holds(last.to));
    (required && current_reason(gateway) == Some(Reason::Contested)).then_some(last.time.0)
}

fn requests(gateway: &X2Gateway, governance: &Governance) -> HashSet<Request> {
    let handled = gateway.status.as_ref().and_then(|s| s.last_handled_reconcile_at.as_deref());
    let own = request::open(gateway, handled).map(|asked| (Key::of(gateway.meta()), asked.to_owned()));
    own.into_iter().chain(governance.requests.iter().cloned()).collect()
}

fn only_times_differ(before: Option<&Entry<X2Gateway>>, after: Option<&Entry<X2Gateway>>) -> bool {
    let (Some(before), Some(after)) = (before.and_then(Entry::valid), after.and_then(Entry::valid)) else {
        return false;
    };
    let timeless = |gateway: &X2Gateway| {
        let mut status = gateway.status.clone().unwrap_or_default();
        X2Gateway::times(&mut status).into_iter().flatten().for_each(|time| *time = None);
        status
    };
    before.spec == after.spec
        && before.metadata.labels == after.metadata.labels
        && timeless(before) == timeless(after)
}

/// The connection's faults that keep a gateway from being claimed are found when it is examined.
fn judged(context: &Context, gateway: &X2Gateway) -> Result<connection::Judged, Verdict> {
    connection::judge(&gateway.spec.connection, context.settings.restrictions)
}
