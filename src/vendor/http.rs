//! Exchanges with remote systems: one at a time per system, bounded in number and time, kept from being made when they
//! must not, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tracing::Instrument as _;

use super::endpoint::Endpoint;
use super::limits::{Pass, Paused};
use super::slots::{Slot, Slots};
pub use super::wire::MaySend;
use super::wire::{Answer, Request, Wire};
use crate::clock;
use crate::engine::login::Holder;
use crate::engine::remote::{Fault, NoAnswer, RemoteError, Shown};
use crate::leader::fence::{Closed, Fence};
use crate::metrics::Metrics;
use crate::telemetry::traces;

/// An exchange that has waited this long for the other side lends its slot to one that moves.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest wait for a place at a system, or for a slot: as long as one exchange may take.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How long a system is left alone that limits requests without naming a time.
const SHORT_PAUSE: Duration = Duration::from_secs(5);

/// What an exchange is for: which ones go first, and until when it is made.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// A question. It waits its turn, and is given up when the operator is shutting down.
    Ask,
    /// A question that others wait for, such as the renewal of a token: it goes first.
    AskFirst,
    /// A write. It goes first, but is sent only if it is still permitted when its turn has come; once it is sent, its answer
    /// is awaited although the operator is shutting down.
    Write(MaySend<'a>),
    /// What follows a write that was sent. It goes first, and is made although the operator is shutting down.
    Follow,
}

impl Purpose<'_> {
    /// A question, or what follows a write that was sent.
    pub(crate) fn after(sent: bool) -> Self {
        if sent { Self::Follow } else { Self::Ask }
    }

    fn is_urgent(self) -> bool {
        !matches!(self, Self::Ask)
    }

    fn follows(self) -> bool {
        matches!(self, Self::Follow)
    }

    fn may_send(self) -> bool {
        match self {
            Self::Write(may_send) => may_send(),
            Self::Ask | Self::AskFirst | Self::Follow => true,
        }
    }

    /// The same, before those that only ask.
    pub(super) fn at_the_front(self) -> Self {
        match self {
            Self::Ask => Self::AskFirst,
            other => other,
        }
    }

    /// What the login for it is for.
    pub(super) fn before(self) -> Purpose<'static> {
        match self {
            Self::Ask | Self::AskFirst | Self::Write(_) => Purpose::Ask,
            Self::Follow => Purpose::Follow,
        }
    }
}

/// A place at a remote system: leave by its limit, and one of the operator's slots unless that is lent to others.
#[derive(Debug)]
pub(crate) struct Place {
    pass: Pass,
    slot: Option<Slot>,
    /// Whether an exchange was made here before.
    used: bool,
}

impl Place {
    /// Least time between the beginnings of two exchanges here.
    pub(crate) fn spacing(&self) -> Duration {
        self.pass.spacing()
    }
}

/// Makes exchanges. One per process; cheap to share.
#[derive(Debug)]
pub struct Http {
    wire: Arc<dyn Wire>,
    slots: Slots,
    metrics: Arc<Metrics>,
    fence: Fence,
}

impl Http {
    /// Takes what makes one exchange, the slots, and the fence that keeps exchanges from being made when they must not.
    #[must_use]
    pub fn new(wire: Arc<dyn Wire>, slots: Slots, metrics: Arc<Metrics>, fence: Fence) -> Self {
        Self { wire, slots, metrics, fence }
    }

    /// Waits for a place at a remote system, then sends a request and reads the answer. An answer other than 2xx is an error.
    pub(crate) async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
        purpose: Purpose<'_>,
    ) -> Result<Answer, NoAnswer> {
        let mut place = self.enter(endpoint, purpose).await?;
        self.exchange_at(&mut place, endpoint, request, purpose).await
    }

    /// Waits for a place at a remote system.
    pub(crate) async fn enter(&self, endpoint: &Endpoint, purpose: Purpose<'_>) -> Result<Place, NoAnswer> {
        let urgent = purpose.is_urgent();
        // Boxed: each of the waits around it would hold it twice.
        let ready = Box::pin(async {
            let limit = &endpoint.limit;
            let pass = if endpoint.is_claimants && !urgent {
                limit.enter_as_claimant().await?
            } else {
                limit.enter(urgent).await?
            };
            let slot = Some(self.slots.acquire(&endpoint.holder.namespace, urgent).await);
            Ok(Place { pass, slot, used: false })
        });
        // What was decided before a lease was lost is decided again when there is one again.
        let place = self.in_turn(ready, purpose).await?;
        place.map_err(|Paused { status, left }| not_made(Fault::Paused { code: status, left }))
    }

    /// Waits for something that other exchanges have, as long as this one may still be made.
    pub(super) async fn in_turn<T>(
        &self,
        turn: impl Future<Output = T> + Unpin,
        purpose: Purpose<'_>,
    ) -> Result<T, NoAnswer> {
        let turn = tokio::time::timeout(LONGEST_WAIT, turn);
        let turn = self.fence.within(self.fence.before(turn, purpose.follows())).await;
        turn.flatten().map_err(|Closed| NoAnswer::NotSent)?.map_err(|_| not_made(Fault::NoTurn))
    }

    /// Makes an exchange at a place that is held already.
    pub(crate) async fn exchange_at(
        &self,
        place: &mut Place,
        endpoint: &Endpoint,
        request: Request<'_>,
        purpose: Purpose<'_>,
    ) -> Result<Answer, NoAnswer> {
        let (method, path) = (method_name(&request.method), request.template);
        self.prepare(place, endpoint, purpose).await?;
        let permits = || self.fence.permits(purpose.follows()) && purpose.may_send();
        // What is not permitted anymore makes no connection.
        if !permits() {
            return Err(NoAnswer::NotSent);
        }
        let is_sent = AtomicBool::new(false);
        // Asked again once there is a connection, which may have taken long.
        let may_send = || {
            let permitted = permits();
            is_sent.fetch_or(permitted, Relaxed);
            permitted
        };
        let Request { system, operation, shows, .. } = request;
        // Nothing misses the answer to a mere question.
        let finishes = purpose.follows() || request.method != Method::GET;
        let begun = clock::instant();
        let (_, host, port) = endpoint.base.origin();
        let span = traces::request(system, operation, method, path, (host, port));
        let answer = self.wire.transfer(endpoint, request, &may_send);
        let answer = tokio::time::timeout(endpoint.timeout, answer);
        let answer = Box::pin(holding(&mut place.slot, answer).instrument(span.clone()));
        let answer = self.fence.within(self.fence.before(answer, finishes)).await;
        let dropped = |Closed| if is_sent.load(Relaxed) { NoAnswer::NotAwaited } else { NoAnswer::NotSent };
        let answer = answer.flatten().map_err(dropped)?.unwrap_or(Err(Fault::TimedOut));
        let answer = answer.transpose().ok_or(NoAnswer::NotSent)?.and_then(|answer| {
            match shows(answer.status, &answer.content) {
                // It counts, whatever the HTTP status is.
                Some(Shown::Failure(code)) => Err(Fault::Status { code, retry_after: None }),
                _ => Ok(answer),
            }
        });
        note(endpoint, &answer);
        if matches!((purpose, &answer), (Purpose::Write(_), Err(Fault::OtherPeer))) {
            // The write was decided on by what its peer answered.
            return Err(NoAnswer::NotSent);
        }
        let answer = answer.map_err(|fault| RemoteError { method, path, fault });
        let code = answer.as_ref().map_or_else(RemoteError::code, |answer| answer.status.to_string());
        let Endpoint { base: url, holder: Holder { kind, namespace, name }, .. } = endpoint;
        let (kind, took) = (kind.as_str(), begun.elapsed());
        tracing::trace!(kind, namespace, name, %url, system, operation, method, path, code, ?took, "request");
        let code = label(code);
        if answer.is_err() {
            traces::failed(&span, &code);
        }
        self.metrics.requested(system, operation, code, took);
        Ok(answer?)
    }

    /// Makes a place ready for the next exchange. A slot that was lent during the one before is taken again.
    async fn prepare(
        &self,
        place: &mut Place,
        endpoint: &Endpoint,
        purpose: Purpose<'_>,
    ) -> Result<(), NoAnswer> {
        let again = std::mem::replace(&mut place.used, true);
        let lent = place.slot.is_none();
        let ready = Box::pin(async {
            if again {
                place.pass.again().await;
            }
            if lent {
                place.slot = Some(self.slots.acquire(&endpoint.holder.namespace, purpose.is_urgent()).await);
            }
        });
        self.in_turn(ready, purpose).await
    }

    /// Drops what has not been used for a while; to be called now and then.
    pub(crate) fn purge(&self) {
        self.wire.purge();
    }
}

fn not_made(fault: Fault) -> NoAnswer {
    NoAnswer::Failed(RemoteError { method: "", path: "", fault })
}

/// The code as a label of metrics, and as the error of a span. A server may make up statuses, each of which would be a series of
/// its own: they count as their class, such as `2xx`.
fn label(code: String) -> String {
    let made_up = |code: &String| {
        let status = StatusCode::from_bytes(code.as_bytes()).ok()?;
        status.canonical_reason().is_none().then(|| format!("{}xx", status.as_u16() / 100))
    };
    made_up(&code).unwrap_or(code)
}

/// Takes down what an answer means for all that ask the same system.
fn note(Endpoint { limit, answered, .. }: &Endpoint, answer: &Result<Answer, Fault>) {
    match answer {
        Ok(answer) => {
            limit.heard();
            answered.note(answer.key);
        }
        Err(Fault::Status { code, retry_after }) if *code == 429 || retry_after.is_some() => {
            limit.pause(*code, retry_after.unwrap_or(SHORT_PAUSE));
        }
        Err(fault) if fault.is_silence() => limit.silent(),
        Err(_) => {}
    }
}

/// Waits for an exchange, and lends its slot after a second.
async fn holding<T>(slot: &mut Option<Slot>, exchange: impl Future<Output = T>) -> T {
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        () = tokio::time::sleep(PATIENCE) => *slot = None,
    }
    exchange.await
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "POST",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_make_up_series() {
        for (code, expected) in [
            ("200", "200"),
            ("404", "404"),
            ("429", "429"),
            ("503", "503"),
            ("299", "2xx"),
            ("499", "4xx"),
            ("799", "7xx"),
            ("999", "9xx"),
            ("timeout", "timeout"),
            ("tls", "tls"),
            ("connect", "connect"),
            ("protocol", "protocol"),
        ] {
            assert_eq!(label(code.to_owned()), expected);
        }
        let labels: std::collections::BTreeSet<String> =
            (0..=u16::MAX).map(|code| label(code.to_string())).filter(|label| label.len() == 3).collect();
        assert!(labels.len() < 80, "{labels:?}");
    }
}
