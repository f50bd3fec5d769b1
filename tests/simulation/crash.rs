//! What happens to a replica at a given call to the outside: its sudden end, or an interruption by the harness.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::replica::Stop;

/// Strikes when a replica has passed so many points. After a crash nothing of it gets out any more.
#[derive(Clone, Debug)]
pub struct Crash(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct State {
    dead: bool,
    /// Points until it strikes, and what happens then.
    set: Option<(u32, Stop)>,
    struck: Option<Stop>,
    died_now: bool,
    passed: u64,
}

impl Crash {
    pub fn never() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), notify: Notify::new() }))
    }

    /// Ends or interrupts the replica once it has passed so many points.
    pub fn set(&self, points: u32, stop: Stop) {
        self.state().set = Some((points, stop));
    }

    /// Nothing happens to it any more.
    pub fn clear(&self) {
        self.state().set = None;
    }

    /// Nothing gets out from now on.
    pub fn kill(&self) {
        self.state().dead = true;
    }

    /// Points passed so far.
    pub fn passed(&self) -> u64 {
        self.state().passed
    }

    /// A point on the way to the outside, or back.
    pub async fn point(&self) {
        if !self.passes() {
            pending::<()>().await;
        }
    }

    /// Whether the replica lives on after this point.
    pub fn passes(&self) -> bool {
        let mut state = self.state();
        state.passed += 1;
        if let Some((left, stop)) = state.set {
            state.set = left.checked_sub(1).map(|left| (left, stop));
            if left == 0 {
                state.died_now = stop == Stop::Crashed;
                state.dead |= state.died_now;
                state.struck = Some(stop);
                self.0.notify.notify_one();
            }
        }
        !state.dead
    }

    /// Whether the replica has died at the last point; says so once.
    pub fn died_now(&self) -> bool {
        std::mem::take(&mut self.state().died_now)
    }

    /// Waits until it strikes.
    pub async fn struck(&self) -> Stop {
        loop {
            if let Some(stop) = self.state().struck.take() {
                return stop;
            }
            self.0.notify.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic while it is held")
    }
}
