//! The reconciler of every kind with a remote system.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Resource as _;
use kube::core::ObjectMeta;

use super::{Begun, Controller, Memory};
use crate::controller::logins;
use crate::engine::ownership::Trial;
use crate::metrics::Whole;
use crate::runtime::object::{Entry, Key, Reported as _};
use crate::runtime::reconcile::{Reconcile, Reconciler};
use crate::runtime::store::Store;
use crate::runtime::workers::Trigger;
use crate::runtime::{finalizers, restore};

impl<C: Controller> Reconciler for C {
    type Object = C::Object;
    type Memory = Memory<C::Object>;
    const URGENT: bool = C::URGENT;
    const WHOLE: Option<Whole> = C::WHOLE;

    fn store(&self) -> &Arc<Store<C::Object>> {
        Controller::store(self)
    }

    async fn reconcile(&self, object: &Arc<C::Object>, memory: &mut Memory<C::Object>) -> Reconcile {
        let given = self.gather(object, memory);
        let begun = Begun { controller: self, object, given: &given };
        let outcome = match begun.finalize(memory).await {
            Ok(None) => begun.check(memory).await,
            Ok(Some(outcome)) => {
                if matches!(outcome, Reconcile::Done { .. }) {
                    begun.carried_out(memory);
                }
                return outcome;
            }
            Err(outcome) => outcome,
        };
        if let Reconcile::Done { outcome, .. } = &outcome {
            let metrics = &Controller::store(self).cluster().metrics;
            memory.in_backoff = outcome.is_failure().then(|| metrics.in_backoff(C::Object::KIND));
        }
        in_time(object.meta(), outcome)
    }

    fn changed(&self, before: Option<&Entry<C::Object>>, after: Option<&Entry<C::Object>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        logins::observe(&self.connections().remotes.admission, meta, after);
        let now = after.and_then(Entry::valid);
        self.claims().set(meta, now.and_then(|object| self.claimed(object)));
        Controller::changed(self, before, after);
        Controller::store(self).cluster().wake(C::Object::KIND, Key::of(meta), Trigger::Change);
    }

    fn skipped(&self, object: &C::Object) {
        if !C::SHARES {
            self.claims().record(object.meta(), Trial::NoAnswer);
        }
    }

    fn gone(&self, key: &Key) {
        self.handled().set(C::Object::KIND, key.clone(), BTreeSet::new());
        Controller::gone(self, key);
    }
}

/// While a deletion waits, it is checked often whether it still does; remote systems are asked no more often than otherwise.
fn in_time(meta: &ObjectMeta, outcome: Reconcile) -> Reconcile {
    if !finalizers::is_leaving(meta) {
        return outcome;
    }
    let latest = restore::next_check(meta);
    match outcome {
        Reconcile::NotDue(next) => Reconcile::NotDue(next.min(latest)),
        Reconcile::Done { next, outcome } => Reconcile::Done { next: next.min(latest), outcome },
    }
}
