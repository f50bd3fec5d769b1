//! What a reconcile writes: its own object in the API server, and the change at the remote system.

use std::ops::Deref;
use std::sync::Arc;

use kube::ResourceExt as _;

use super::{ChangeOf, Managed, Memory, Stop};
use crate::clock;
use crate::controller::audit::Write;
use crate::engine::access::AccessError;
use crate::engine::backoff::Inconclusive;
use crate::engine::change::Outcome;
use crate::engine::contest::Contest;
use crate::engine::restoration::forbidden;
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::runtime::object::Key;
use crate::runtime::store::Store;
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, status};

/// The object that a reconcile works on: as it was read, then as the reconcile itself has written it.
pub struct Working<'a, K> {
    store: &'a Arc<Store<K>>,
    object: Arc<K>,
    /// The generation of the spec that the reconcile began with.
    generation: Option<i64>,
}

impl<K> Deref for Working<'_, K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.object
    }
}

impl<'a, K: Managed> Working<'a, K> {
    /// A reconcile of this object begins.
    pub fn new(store: &'a Arc<Store<K>>, object: &Arc<K>) -> Self {
        Self { store, object: Arc::clone(object), generation: object.meta().generation }
    }

    /// The object as it is known now; none if what the reconcile began with does not hold anymore.
    #[must_use]
    pub fn current(&self) -> Option<Arc<K>> {
        let now = self.store.valid(&Key::of(self.object.meta()))?;
        (now.uid() == self.object.uid() && now.meta().generation == self.generation).then_some(now)
    }

    /// Makes a deletion of the object wait for the operator.
    pub(in crate::controller) async fn hold(&mut self) -> Result<(), Stop<K>> {
        match finalizers::hold_working(self.store, &mut self.object).await {
            Written::Unchanged | Written::Done => self.unchanged(),
            Written::Forbidden => Err(forbidden(K::KIND).into()),
            Written::Failed | Written::Gone => Err(Inconclusive::NotAccepted.into()),
        }
    }

    /// Puts a change on record that is about to be sent: in memory, and in the status if it must not be forgotten should the
    /// operator end in the middle of it.
    pub(in crate::controller) async fn prepare(
        &mut self,
        change: &ChangeOf<K>,
        status: Option<K::Status>,
        memory: &mut Memory<K>,
    ) -> Result<(), Stop<K>> {
        self.unchanged()?;
        if let Some(status) = status {
            self.write(status).await?;
            memory.owed.unanswered();
        }
        // Should it never be sent, that is known; an earlier one that was sent stays open.
        let earlier = memory.change.take().map(|earlier| *earlier);
        memory.change = Some(Box::new(change.clone().after(Outcome::Prepared, earlier)));
        Ok(())
    }

    /// Takes note of the URL that the object leads to now, and of the one that its status shows. If they differ, what the
    /// status holds of the other remote system is dropped from it before the first request.
    pub async fn move_to(
        &mut self,
        (url, known): (&str, Option<&str>),
        message: &str,
        memory: &mut Memory<K>,
    ) -> Result<(), Inconclusive> {
        let is_elsewhere = known.is_some_and(|before| before != url);
        // The status may not name the previous URL yet, if the URL has changed twice.
        if memory.url.replace(url.to_owned()).is_some_and(|before| before != url) || is_elsewhere {
            (memory.change, memory.contest) = (None, Contest::default());
            memory.owed.clear();
        }
        if !is_elsewhere {
            return Ok(());
        }
        let mut old = self.status().cloned().unwrap_or_default();
        let mut fresh = K::Status::default();
        *K::handled(&mut fresh) = K::handled(&mut old).take();
        *K::head(&mut fresh).1 = std::mem::take(K::head(&mut old).1);
        let verdict = Verdict::new(Reason::Progressing, message);
        status::set_verdict(&mut fresh, &**self, &verdict, &Notes::default());
        self.write(fresh).await
    }

    async fn write(&mut self, status: K::Status) -> Result<(), Inconclusive> {
        match status::update(self.store, &mut self.object, status).await {
            Written::Done | Written::Unchanged => Ok(()),
            Written::Gone | Written::Failed | Written::Forbidden => Err(Inconclusive::NotAccepted),
        }
    }

    /// An answer of the API server may show another spec.
    fn unchanged(&self) -> Result<(), Stop<K>> {
        let is_same = self.object.meta().generation == self.generation;
        is_same.then_some(()).ok_or_else(|| Inconclusive::Outdated.into())
    }
}

/// Sends the write that makes a change, and keeps what is known of the change whatever the answer is: none may come.
pub(in crate::controller) async fn send<K: Managed>(
    change: ChangeOf<K>,
    write: &mut Write,
    exchange: impl Future<Output = Result<(), AccessError>> + Send,
    memory: &mut Memory<K>,
) -> Result<(), AccessError> {
    let contest = memory.contest;
    memory.contest = contest.tried(clock::elapsed());
    let sent = ChangeOf::<K> { outcome: Outcome::Sent, ..change.clone() };
    let earlier = memory.change.replace(Box::new(sent)).map(|earlier| *earlier);
    let answer = exchange.await;
    write.answered(&answer);
    memory.change = Some(Box::new(change.after(write.outcome, earlier)));
    if answer.as_ref().is_err_and(AccessError::is_unsent) {
        memory.contest = contest;
    }
    answer
}
