//! Our finalizer on a policy.

use std::sync::Arc;

use kube::Resource as _;
use tokio::time::Instant;

use crate::clock;
use crate::crd::{Kind, TokenPolicy};
use crate::engine::backoff::Backoff;
use crate::engine::governance::Policy;
use crate::engine::policy::{Finalizer, Fleet, Hold, finalizer, not_restored};
use crate::runtime::object::Key;
use crate::runtime::store::Store;
use crate::runtime::workers::UNDISTURBED;
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, restore};

/// What is kept in memory of the tries to add or remove our finalizer.
#[derive(Debug, Default)]
pub(super) struct Tries {
    backoff: Backoff<Instant>,
    /// Whether it is reported that the API server does not accept the finalizer.
    is_reported: bool,
    /// The policy's generation, and the request on it: if they change, earlier tries do not count.
    input: (Option<i64>, Option<String>),
    /// Our finalizer is removed for good; no watch has reported it yet.
    has_gone: bool,
}

impl Tries {
    /// When the next try is due, if the last one was refused.
    pub(super) fn due(&self) -> Option<Instant> {
        self.backoff.due()
    }

    /// Adds our finalizer if a deletion has to wait for gateways, and releases it if not. An error is the time of the next
    /// reconcile if there is nothing else to do until then.
    pub(super) async fn keep<'a>(
        &mut self,
        policies: &Arc<Store<TokenPolicy>>,
        policy: &Policy,
        gather: impl Fn() -> Fleet<'a>,
    ) -> Result<Hold, Instant> {
        let meta = policy.object.meta();
        if self.has_gone {
            return Err(clock::instant() + UNDISTURBED);
        }
        let skipped = match finalizer(policy, || gather().awaiting_restoration()) {
            Finalizer::Gone => return Err(clock::instant() + UNDISTURBED),
            Finalizer::Add => return self.settle(policies, policy, true).await,
            Finalizer::Remove => return self.settle(policies, policy, false).await,
            Finalizer::Release => None,
            Finalizer::Wait(gateways) => match restore::skip_reason(policies.cluster(), meta).await {
                Some(why) => Some(not_restored(why, &gateways)),
                None => return Ok(Hold::InPlace),
            },
        };
        match restore::release(policies, meta, skipped.as_deref()).await {
            Written::Failed | Written::Forbidden => Err(restore::next_check(meta)),
            Written::Unchanged | Written::Done | Written::Gone => {
                self.has_gone = true;
                Err(clock::instant() + UNDISTURBED)
            }
        }
    }

    /// Adds or removes our finalizer. If the API server does not accept that, it is tried ever more slowly, and reported from
    /// the third time on.
    async fn settle(
        &mut self,
        policies: &Arc<Store<TokenPolicy>>,
        policy: &Policy,
        adds: bool,
    ) -> Result<Hold, Instant> {
        let (meta, outages) = (policy.object.meta(), &policies.cluster().outages);
        let input = (meta.generation, policy.open_request().map(str::to_owned));
        if self.input != input || finalizers::has_finalizer(meta) == adds {
            *self = Self { input, ..Self::default() };
        }
        if let Some(latest) = outages.recall(Kind::Policy, Key::of(meta)) {
            self.backoff.not_later_than(latest);
        }
        if self.due().is_some_and(|due| due > clock::instant()) {
            return self.refused();
        }
        let written = if adds {
            finalizers::hold(policies, meta).await
        } else {
            finalizers::release(policies, meta).await
        };
        if matches!(written, Written::Failed | Written::Gone) {
            outages.wait(Kind::Policy, Key::of(meta));
            let is_third = self.backoff.inconclusive(clock::instant(), clock::random());
            self.is_reported = is_third && written == Written::Failed;
            return self.refused();
        }
        self.backoff.reset();
        let is_forbidden = adds && written == Written::Forbidden;
        Ok(if is_forbidden { Hold::Forbidden } else { Hold::InPlace })
    }

    fn refused(&self) -> Result<Hold, Instant> {
        let due = self.due().unwrap_or_else(clock::instant);
        self.is_reported.then_some(Hold::NotAccepted).ok_or(due)
    }
}
