//! A gateway of the models: the appliance, its resource, and how far a change of it has got.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use tenure::crd::{Cause, Change, Time, X2Gateway, X2GatewaySpec, X2GatewayStatus};
use tenure::engine::lifetime::Target;
use tenure::engine::rollout::{self, Machine, Outcome, Relation, Reply, Wish};
use tenure::engine::verdict::{Notes, Reason, Verdict, conditions};

pub(super) const POLICY: &str = "fleet";

/// How far a change that was permitted has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Permitted,
    Noted,
    Written,
}

/// A change under way: it ends with the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Task {
    pub(super) stage: Stage,
    pub(super) to: u32,
    pub(super) target: Target,
    pub(super) wish: Wish,
    /// Whom the permit was given to.
    pub(super) uid: String,
    pub(super) started: Option<Timestamp>,
    pub(super) begun: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(super) struct Gateway {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) value: u32,
    pub(super) reachable: bool,
    pub(super) takes_writes: bool,
    pub(super) labelled: bool,
    pub(super) leaving: bool,
    pub(super) ready: Option<Reason>,
    /// A change that was begun: when, and to which lifetime.
    pub(super) pending: Option<(Timestamp, u32)>,
    pub(super) timeout: Option<u32>,
    pub(super) proven: Option<u32>,
    pub(super) corrected: Option<Timestamp>,
    pub(super) task: Option<Task>,
    /// When it was last seen in order, at which target: never forgotten.
    pub(super) seen_in_order: Option<(Target, Timestamp)>,
    pub(super) created: Timestamp,
}

/// What a reconcile goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) target: Target,
    pub(super) now: Timestamp,
    pub(super) elapsed: Duration,
    pub(super) window_open: bool,
}

/// What a reconcile came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    Unreachable,
    InOrder,
    /// It waits, and reports that.
    Waits,
    /// It has asked.
    Asked,
    /// It has a permit.
    Begun,
}

impl Gateway {
    pub(super) fn new(name: String, uid: String, value: u32, labelled: bool) -> Self {
        Self {
            name,
            uid,
            value,
            reachable: true,
            takes_writes: true,
            labelled,
            leaving: false,
            ready: None,
            pending: None,
            timeout: None,
            proven: None,
            corrected: None,
            task: None,
            seen_in_order: None,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    /// The resource as the API server holds it.
    pub(super) fn resource(&self) -> rollout::Gateway {
        let time = |at: Timestamp| Time(at);
        let mut object = X2Gateway::new(&self.name, spec());
        object.metadata.uid = Some(self.uid.clone());
        object.metadata.generation = Some(1);
        object.metadata.creation_timestamp = Some(time(self.created));
        let drift = |at| Change {
            change_ref: None,
            time: time(at),
            from: None,
            to: self.value,
            policy: POLICY.to_owned(),
            cause: Cause::Drift,
        };
        object.status = self.ready.map(|reason| X2GatewayStatus {
            observed_generation: Some(1),
            conditions: conditions(
                &[],
                &Verdict::new(reason, ""),
                &Notes::default(),
                1,
                &time(Timestamp::UNIX_EPOCH),
            ),
            policy: Some(POLICY.to_owned()),
            pending: self.pending.map(|(since, to)| serde_json::from_value(pending(since, to)).unwrap()),
            timeout_seconds: self.timeout,
            proven_timeout_seconds: self.proven,
            history: self.corrected.into_iter().map(drift).collect(),
            ..X2GatewayStatus::default()
        });
        let relation = if self.leaving { Relation::Left } else { Relation::Governed };
        rollout::Gateway { object: Arc::new(object), relation }
    }

    /// What of its status counts.
    pub(super) fn status(&self) -> impl PartialEq + use<> {
        (self.ready, self.pending, self.timeout, self.proven)
    }

    /// One GET, a login if its value is the target's but not proven, and a question if it differs.
    pub(super) fn reconcile(&mut self, machine: &mut Machine, at: &Moment) -> Found {
        machine.begin(&self.uid);
        if !self.reachable {
            self.ready = Some(Reason::Unreachable);
            self.ended(machine, at.target, Outcome::Failed);
            return Found::Unreachable;
        }
        self.timeout = Some(self.value);
        if !self.leaving && at.target.holds(self.value) {
            self.found_in_order(at.target, at.now);
            self.ended(machine, at.target, Outcome::Healthy(at.now));
            return Found::InOrder;
        }
        let (wish, target) = self.wish(at.target);
        match machine.ask((&self.uid, &self.name), target, wish, at.elapsed).0 {
            Reply::Granted(permit) if at.window_open || self.leaving => {
                assert!(permit.allows(&self.uid, target), "another's permit: {permit:?}");
                let to = at.target.nearest(self.value);
                let (uid, started) = (self.uid.clone(), permit.started());
                let task = Task {
                    stage: Stage::Permitted,
                    to,
                    target: at.target,
                    wish,
                    uid,
                    started,
                    begun: at.now,
                };
                self.task = Some(task);
                Found::Begun
            }
            Reply::Asked if at.window_open || self.leaving => {
                self.ended(machine, at.target, Outcome::Nothing);
                Found::Asked
            }
            Reply::Granted(permit) => {
                machine.give_back(permit.uid());
                self.waits(machine, at.target)
            }
            Reply::Asked | Reply::Later { .. } => self.waits(machine, at.target),
        }
    }

    fn wish(&self, target: Target) -> (Wish, Option<Target>) {
        if self.leaving {
            (Wish::Restore, None)
        } else if self.proven.is_some_and(|proven| target.holds(proven)) {
            (Wish::Repair, Some(target))
        } else {
            (Wish::Change { tightens: target.nearest(self.value) < self.value }, Some(target))
        }
    }

    fn waits(&mut self, machine: &mut Machine, target: Target) -> Found {
        let failed = self.ready != Some(Reason::Progressing);
        self.pending =
            self.pending.filter(|(_, to)| self.timeout == Some(*to) || failed && target.holds(*to));
        self.ready = Some(Reason::AwaitingRollout);
        self.ended(machine, target, Outcome::Waits);
        Found::Waits
    }

    pub(super) fn ended(&self, machine: &mut Machine, target: Target, outcome: Outcome) {
        machine.ended((&self.uid, &self.name), Some(target).filter(|_| !self.leaving), outcome);
    }

    /// The status before the write.
    pub(super) fn note(&mut self, now: Timestamp) {
        let task = self.task.as_mut().unwrap();
        task.stage = Stage::Noted;
        self.pending = Some((task.started.map_or(now, |started| started.max(now)), task.to));
        self.ready = Some(Reason::Progressing);
        if matches!(task.wish, Wish::Change { .. }) {
            self.proven = None;
        }
    }

    /// The permit is given back and the report written.
    pub(super) fn conclude(&mut self, machine: &mut Machine, found: Result<Timestamp, Reason>) {
        let task = self.task.take().unwrap();
        machine.give_back(&task.uid);
        let outcome = match found {
            Ok(now) => {
                if task.wish == Wish::Repair {
                    self.corrected = Some(now);
                }
                self.found_in_order(task.target, now);
                Outcome::Healthy(task.begun.min(now))
            }
            Err(reason) => {
                self.ready = Some(reason);
                Outcome::Failed
            }
        };
        self.ended(machine, task.target, outcome);
    }

    pub(super) fn found_in_order(&mut self, target: Target, now: Timestamp) {
        (self.pending, self.ready) = (None, Some(Reason::InSync));
        (self.timeout, self.proven) = (Some(self.value), Some(self.value));
        let seen = self.seen_in_order.filter(|(at, time)| *at == target && *time > now);
        self.seen_in_order = seen.or(Some((target, now))).filter(|_| target.holds(self.value));
    }

    /// Whether its last attempt was made in this target's rollout that began then.
    pub(super) fn is_part_of(&self, target: Target, started: Option<Timestamp>) -> bool {
        let attempt = self.pending.filter(|(_, to)| target.holds(*to)).zip(started);
        attempt.is_some_and(|((since, _), started)| since >= started)
    }

    /// Whether its change was begun and is not known to have ended.
    pub(super) fn is_begun(&self) -> bool {
        self.pending.is_some() && self.ready == Some(Reason::Progressing)
    }
}

fn spec() -> X2GatewaySpec {
    static SPEC: LazyLock<X2GatewaySpec> = LazyLock::new(|| {
        let spec = serde_json::json!({"url": "https://192.0.2.1", "credentialsSecretRef": {"name": "x2"}});
        serde_json::from_value(spec).unwrap()
    });
    SPEC.clone()
}

fn pending(since: Timestamp, to: u32) -> serde_json::Value {
    serde_json::json!({"to": to, "since": Time(since)})
}
