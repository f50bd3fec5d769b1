//! The rollouts of all policies: one machine each. Gateways ask it for permits; the policy's own task gives them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt as _;

use crate::clock;
use crate::crd::{Kind, TokenPolicy, X2Gateway};
use crate::engine::lifetime::Target;
use crate::engine::rollout::{Decision, Machine, Outcome, Permit, Reply, Survey, Wish};
use crate::runtime::object::Key;
use crate::runtime::store::Store;
use crate::runtime::workers::{Trigger, Workers};

/// Which policy has which rollout.
#[derive(Debug, Default)]
pub struct Rollouts(Mutex<HashMap<Key, Arc<Rollout>>>);

/// The rollout of one policy.
#[derive(Debug)]
pub struct Rollout {
    policy: Key,
    uid: String,
    machine: Mutex<Machine>,
    workers: Workers,
}

/// The answer to a gateway that asks for a permit.
pub enum Answer {
    /// It may be changed as long as it holds this.
    Permitted(Held),
    /// Not now.
    Later {
        /// The rollout has halted.
        halted: bool,
    },
    /// The policy's task wakes it when there is an answer.
    Asked,
}

/// A permit that is returned when it is dropped.
pub struct Held {
    permit: Option<Permit>,
    rollout: Arc<Rollout>,
}

impl Rollouts {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, Arc<Rollout>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rollout of a policy. None if the policy is gone, or another has taken its name: what is made for a policy is
    /// forgotten with it.
    #[must_use]
    pub fn of(&self, policies: &Store<TokenPolicy>, policy: &TokenPolicy) -> Option<Arc<Rollout>> {
        let (key, uid) = (Key::of(&policy.metadata), policy.uid()?);
        let mut all = self.all();
        if policies.get(&key)?.meta().uid.as_ref() != Some(&uid) {
            return None;
        }
        let workers = &policies.cluster().workers;
        let new = || {
            let (policy, uid, machine) = (key.clone(), uid.clone(), Mutex::default());
            Arc::new(Rollout { policy, uid, machine, workers: workers.clone() })
        };
        let rollout = all.entry(key.clone()).or_insert_with(new);
        if rollout.uid != uid {
            *rollout = new();
        }
        Some(Arc::clone(rollout))
    }

    /// A policy is gone.
    pub fn forget(&self, policy: &Key) {
        self.all().remove(policy);
    }
}

impl Rollout {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now, for the policy's task.
    pub(super) fn survey(&self, target: Option<Target>, interval: Duration) -> Survey {
        self.machine().survey(target, interval, clock::elapsed())
    }

    /// Carries out what the policy's task has decided, and wakes the gateways that this concerns.
    pub(super) fn answer(&self, decision: &Decision) {
        let called = self.machine().answer(decision);
        for name in called {
            let gateway = Key::new(self.policy.namespace.clone(), name);
            self.workers.wake(Kind::Gateway, gateway, Trigger::Rollout);
        }
    }

    /// Whether a gateway is to be reconciled now for the policy's sake.
    #[must_use]
    pub fn calls(&self, gateway: &str) -> bool {
        self.machine().calls(gateway)
    }

    /// A reconcile of a gateway begins.
    pub fn begin(&self, gateway: &str) {
        self.machine().begin(gateway);
    }

    /// A reconcile of a gateway has ended, and its report is written.
    pub fn ended(&self, gateway: (&str, &str), target: Option<Target>, outcome: Outcome) {
        let news = self.machine().ended(gateway, target, outcome);
        if news {
            self.workers.wake(Kind::Policy, self.policy.clone(), Trigger::Rollout);
        }
    }

    /// Asks whether a gateway may be brought to a target, or to its original value if that is none.
    pub fn ask(self: &Arc<Self>, gateway: &X2Gateway, target: Option<Target>, wish: Wish) -> Answer {
        let (uid, name) = (gateway.uid().unwrap_or_default(), gateway.name_any());
        let (reply, news) = self.machine().ask((&uid, &name), target, wish, clock::elapsed());
        if news {
            self.workers.wake(Kind::Policy, self.policy.clone(), Trigger::Rollout);
        }
        match reply {
            Reply::Granted(permit) if permit.allows(&uid, target) => {
                Answer::Permitted(Held { permit: Some(permit), rollout: Arc::clone(self) })
            }
            Reply::Granted(permit) => {
                self.machine().give_back(permit.uid());
                Answer::Asked
            }
            Reply::Later { halted } => Answer::Later { halted },
            Reply::Asked => Answer::Asked,
        }
    }
}

impl Held {
    /// When the rollout began or was resumed: a change of it is dated no earlier.
    #[must_use]
    pub fn started(&self) -> Option<jiff::Timestamp> {
        self.permit.as_ref().and_then(Permit::started)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.rollout.machine().give_back(permit.uid());
            self.rollout.workers.wake(Kind::Policy, self.rollout.policy.clone(), Trigger::Rollout);
        }
    }
}
