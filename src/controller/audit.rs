//! The record of writes to remote systems: one log line each, with who declared it, what was written, and what came of it.

use std::ops::{Deref, DerefMut};

use crate::crd::Cause;
use crate::engine::audit::{Declarer, Line};
use crate::engine::change::Outcome;
use crate::telemetry::AUDIT;

/// A write to a remote system. It is logged when this is dropped: however it ends, it is on record.
#[derive(Debug)]
pub(super) struct Write(Line);

impl From<Line> for Write {
    fn from(line: Line) -> Self {
        Self(line)
    }
}

impl Deref for Write {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.0
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut Line {
        &mut self.0
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        let line = &self.0;
        if line.outcome == Outcome::Prepared {
            return;
        }
        let (system, operation) = line.operation.words();
        let Declarer { name, uid, generation, manager } = &line.object;
        let (proven, proven_value) = line.proof();
        let policy = line.policy.as_ref();
        tracing::info!(
            target: AUDIT,
            audit = true,
            system,
            operation,
            url = line.url,
            customer = line.customer,
            kind = line.kind.as_str(),
            namespace = line.namespace,
            name,
            uid,
            generation,
            manager,
            policy = policy.and_then(|policy| policy.name.as_deref()),
            policy_uid = policy.and_then(|policy| policy.uid.as_deref()),
            policy_generation = policy.and_then(|policy| policy.generation),
            policy_manager = policy.and_then(|policy| policy.manager.as_deref()),
            approved_by = line.approved_by,
            cause = line.cause.map(Cause::as_str),
            change_ref = line.change_ref,
            from = line.from,
            to = line.to,
            outcome = line.outcome.of_write(),
            error = line.error,
            proven,
            proven_value,
            "wrote to a remote system"
        );
    }
}
