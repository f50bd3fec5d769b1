//! Faults to order: what can go wrong between the operator and a remote system, switchable while it runs.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{requests::Kind, server::Reply};

/// One thing that goes wrong. Faults of one object add up: every matching delay is served, then the first
/// matching fault that is not a delay decides the answer.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    /// Whether the request is carried out first.
    applied: bool,
    kind: Option<Kind>,
    skip: u64,
    times: Option<u64>,
}

#[derive(Clone, Debug)]
enum Effect {
    Delay(Delay),
    Outcome(Outcome),
}

/// A wait before the answer.
#[derive(Clone, Debug)]
pub(crate) enum Delay {
    Sleep(Duration),
    Gate(Gate),
    Forever,
}

impl Delay {
    pub(crate) async fn pass(&self) {
        match self {
            Self::Sleep(time) => tokio::time::sleep(*time).await,
            Self::Gate(gate) => gate.pass().await,
            Self::Forever => std::future::pending().await,
        }
    }
}

/// What becomes of the answer.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// This answer in place of the real one.
    Answer(Reply),
    /// The connection is reset; no answer.
    Reset,
    /// The real status and headers, another body.
    Body(Bytes, &'static str),
    /// Half of the real body, then the end of the connection.
    Truncate,
    /// The real body, padded with white space to this many bytes; with or without `Content-Length`.
    Oversize { bytes: usize, chunked: bool },
    /// The real body, a byte at a time.
    Drip(Duration),
}

impl Fault {
    const fn new(effect: Effect, applied: bool) -> Self {
        Self { effect, applied, kind: None, skip: 0, times: None }
    }

    const fn outcome(outcome: Outcome, applied: bool) -> Self {
        Self::new(Effect::Outcome(outcome), applied)
    }

    /// The request waits, then goes on as usual. With [`after_effect`](Self::after_effect) the answer waits.
    #[must_use]
    pub const fn latency(time: Duration) -> Self {
        Self::new(Effect::Delay(Delay::Sleep(time)), false)
    }

    /// The request waits until the gate is opened.
    #[must_use]
    pub fn gate(gate: &Gate) -> Self {
        Self::new(Effect::Delay(Delay::Gate(gate.clone())), false)
    }

    /// The request is never answered.
    #[must_use]
    pub const fn hang() -> Self {
        Self::new(Effect::Delay(Delay::Forever), false)
    }

    /// The connection is reset before the request had any effect; with [`after_effect`](Self::after_effect)
    /// the request is carried out and only its answer is lost.
    #[must_use]
    pub const fn reset() -> Self {
        Self::outcome(Outcome::Reset, false)
    }

    /// This status with a JSON body, in place of carrying the request out.
    #[must_use]
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self::outcome(Outcome::Answer(Reply::json(status, body)), false)
    }

    /// A redirect with an empty body, in place of carrying the request out.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::outcome(Outcome::Answer(Reply::empty(status).header("location", location)), false)
    }

    /// Adds a header to the answer of [`status`](Self::status) or [`redirect`](Self::redirect).
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Effect::Outcome(Outcome::Answer(reply)) = &mut self.effect {
            reply.headers.push((name, value.to_owned()));
        }
        self
    }

    /// `Retry-After`, in seconds or as a date.
    #[must_use]
    pub fn retry_after(self, value: &str) -> Self {
        self.header("retry-after", value)
    }

    /// The request is carried out and answered with this body instead of its own.
    #[must_use]
    pub fn body(body: impl Into<Bytes>) -> Self {
        Self::outcome(Outcome::Body(body.into(), "application/json"), true)
    }

    /// A sign-in page, as a captive portal or a proxy puts it in the place of an API's answer, with status 200.
    #[must_use]
    pub fn html() -> Self {
        let page = Bytes::from_static(b"<!DOCTYPE html><html><body><h1>Please sign in</h1></body></html>");
        Self::outcome(Outcome::Body(page, "text/html; charset=utf-8"), true)
    }

    /// The request is carried out; its answer breaks off in the middle and the connection ends.
    #[must_use]
    pub const fn truncate() -> Self {
        Self::outcome(Outcome::Truncate, true)
    }

    /// The request is carried out; its answer is valid JSON of this many bytes, announced by `Content-Length`.
    #[must_use]
    pub const fn oversize(bytes: usize) -> Self {
        Self::outcome(Outcome::Oversize { bytes, chunked: false }, true)
    }

    /// As [`oversize`](Self::oversize), but chunked, so that only reading shows the length.
    #[must_use]
    pub const fn oversize_chunked(bytes: usize) -> Self {
        Self::outcome(Outcome::Oversize { bytes, chunked: true }, true)
    }

    /// The request is carried out; its answer comes one byte an interval.
    #[must_use]
    pub const fn drip(interval: Duration) -> Self {
        Self::outcome(Outcome::Drip(interval), true)
    }

    /// The request is carried out before the fault strikes.
    #[must_use]
    pub const fn after_effect(mut self) -> Self {
        self.applied = true;
        self
    }

    /// Strikes requests of this kind only.
    #[must_use]
    pub const fn on(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Strikes this many matching requests, then is gone.
    #[must_use]
    pub const fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets this many matching requests pass first.
    #[must_use]
    pub const fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Whether it strikes this request; uses up one of `skip` or `times`.
    fn strikes(&mut self, kind: Kind) -> bool {
        if self.kind.is_some_and(|only| only != kind) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if let Some(times) = &mut self.times {
            if *times == 0 {
                return false;
            }
            *times -= 1;
        }
        true
    }
}

/// A door that holds requests until a test opens it. Starts closed.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everything through that waits, and all that comes.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Holds what comes from now on.
    pub fn close(&self) {
        self.0.send_replace(false);
    }

    async fn pass(&self) {
        let mut opened = self.0.subscribe();
        // Fails only once every sender is gone, and `self` is one.
        let _open = opened.wait_for(|open| *open).await;
    }
}

/// What the faults in force mean for one request.
#[derive(Default)]
pub(crate) struct Drawn {
    pub(crate) before: Vec<Delay>,
    /// In place of carrying the request out.
    pub(crate) instead: Option<Outcome>,
    pub(crate) after: Vec<Delay>,
    /// What becomes of the real answer.
    pub(crate) then: Option<Outcome>,
}

impl Drawn {
    fn take(&mut self, fault: &Fault) {
        match &fault.effect {
            Effect::Delay(delay) if fault.applied => self.after.push(delay.clone()),
            Effect::Delay(delay) => self.before.push(delay.clone()),
            Effect::Outcome(outcome) if fault.applied => self.then = Some(outcome.clone()),
            Effect::Outcome(outcome) => self.instead = Some(outcome.clone()),
        }
    }

    const fn decided(&self) -> bool {
        self.instead.is_some() || self.then.is_some()
    }
}

/// The faults of one object.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Draws what strikes a request of this kind; a fault that is used up goes.
    pub(crate) fn draw(&self, kind: Kind, drawn: &mut Drawn) {
        self.0.lock().retain_mut(|fault| {
            let free = matches!(fault.effect, Effect::Delay(_)) || !drawn.decided();
            if free && fault.strikes(kind) {
                drawn.take(fault);
            }
            fault.times != Some(0)
        });
    }
}
