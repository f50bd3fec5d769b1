//! What keeps a replica from working when it must not: nothing begins while the process is shutting down, and
//! requests to remote systems and writes to the API server are dropped if the lease has not been renewed in time.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock;

/// Until when this process may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Forever: there is no other replica.
    Endless,
    /// Until this reading of [`clock::uptime`].
    Until(Duration),
}

impl Term {
    /// Not begun, or ended.
    pub const OVER: Self = Self::Until(Duration::ZERO);

    /// Whether work may go on.
    #[must_use]
    pub(crate) fn is_open(self) -> bool {
        match self {
            Self::Endless => true,
            Self::Until(end) => clock::uptime() < end,
        }
    }
}

/// The work was not begun, or was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// Asked before each piece of work. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fence {
    ending: watch::Receiver<bool>,
    term: watch::Receiver<Term>,
}

impl Fence {
    /// `ending` becomes true when nothing new is to be begun; `term` is extended by the holder of the lease.
    #[must_use]
    pub fn new(ending: watch::Receiver<bool>, term: watch::Receiver<Term>) -> Self {
        Self { ending, term }
    }

    /// Becomes true when nothing new is to be begun.
    #[must_use]
    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.clone()
    }

    /// Whether work may go on.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.term.borrow().is_open()
    }

    /// Whether the next step may be taken now: within the term, and, unless it belongs to a change that is `under_way`,
    /// while the process is not ending.
    #[must_use]
    pub(crate) fn permits(&self, under_way: bool) -> bool {
        self.is_open() && (under_way || !*self.ending.borrow())
    }

    /// Waits for something, unless the process is shutting down. `under_way` marks the rest of a change that was begun: it is
    /// still made while the process is shutting down.
    ///
    /// # Errors
    /// When the process is shutting down.
    pub(crate) async fn before<T>(
        &self,
        wait: impl Future<Output = T>,
        under_way: bool,
    ) -> Result<T, Closed> {
        let mut ending = self.ending.clone();
        tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending), if !under_way => Err(Closed),
            value = wait => Ok(value),
        }
    }

    /// Waits until the lease is ours; at once, as long as it is renewed in time.
    pub(crate) async fn opened(&self) {
        // Fails only if it is no longer extended: then the process is about to exit.
        if self.term.clone().wait_for(|term| term.is_open()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Does a piece of work and drops it when the term is over. That is checked before each step of it, so that a process
    /// that was stopped for a while takes no further step.
    ///
    /// # Errors
    /// When it was dropped, or not begun.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Closed> {
        let (mut work, mut over) = (pin!(work), pin!(self.over()));
        poll_fn(|task| {
            if !self.is_open() || over.as_mut().poll(task).is_ready() {
                return Poll::Ready(Err(Closed));
            }
            work.as_mut().poll(task).map(Ok)
        })
        .await
    }

    /// Returns when the term is over.
    pub(crate) async fn over(&self) {
        let mut term = self.term.clone();
        loop {
            let now = *term.borrow_and_update();
            let left = match now {
                Term::Endless => return std::future::pending().await,
                Term::Until(end) => end.saturating_sub(clock::uptime()),
            };
            tokio::select! {
                biased;
                prolonged = term.changed() => {
                    if prolonged.is_err() {
                        tokio::time::sleep(left).await;
                        return;
                    }
                }
                () = tokio::time::sleep(left) => {
                    if !term.borrow().is_open() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    struct Door {
        fence: Fence,
        end: watch::Sender<bool>,
        term: watch::Sender<Term>,
    }

    fn door(term: Term) -> Door {
        let (end, ending) = watch::channel(false);
        let (sender, receiver) = watch::channel(term);
        Door { fence: Fence::new(ending, receiver), end, term: sender }
    }

    fn in_future(time: Duration) -> Term {
        Term::Until(clock::uptime() + time)
    }

    #[tokio::test]
    async fn an_open_fence_lets_work_through() {
        for term in [Term::Endless, in_future(LONG)] {
            assert_eq!(door(term).fence.within(async { 7 }).await, Ok(7));
        }
    }

    #[tokio::test]
    async fn after_the_term_not_one_step_is_taken() {
        let door = door(Term::Until(clock::uptime()));
        let mut steps = 0;
        assert_eq!(door.fence.within(async { steps += 1 }).await, Err(Closed));
        assert_eq!(steps, 0);
    }

    #[tokio::test]
    async fn work_under_way_is_dropped_when_the_term_is_over() {
        let door = door(in_future(Duration::from_millis(20)));
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _held = held;
            std::future::pending::<()>().await;
        };
        assert_eq!(door.fence.within(work).await, Err(Closed));
        assert!(dropped.await.is_err(), "what the work held is gone with it");
    }

    #[tokio::test]
    async fn a_prolonged_term_lets_work_go_on() {
        let door = door(in_future(Duration::from_millis(20)));
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let work = tokio::spawn(async move { door.fence.within(finished).await });
        door.term.send_replace(in_future(LONG));
        // Longer than the first term.
        tokio::time::sleep(Duration::from_millis(60)).await;
        finish.send(()).unwrap();
        assert_eq!(work.await.unwrap(), Ok(Ok(())));
    }

    #[tokio::test]
    async fn a_term_that_begins_anew_opens_the_fence() {
        let door = door(Term::OVER);
        let waiting = tokio::spawn({
            let fence = door.fence.clone();
            async move { fence.opened().await }
        });
        door.term.send_replace(in_future(LONG));
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn at_the_end_only_what_was_begun_goes_on() {
        let door = door(Term::Endless);
        door.end.send_replace(true);
        assert_eq!(door.fence.before(async {}, false).await, Err(Closed));
        assert_eq!(door.fence.before(async {}, true).await, Ok(()));
    }
}
