//! Exchanges with remote systems: one at a time per system, bounded in number and time, kept from being made when they
//! must not, and counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::endpoint::Endpoint;
use super::fault::{Fault, RemoteError};
use super::slots::Slots;
use super::wire::{Content, Request, Wire};
use crate::clock;
use crate::leader::fence::{Closed, Fence};
use crate::metrics::Metrics;
use crate::telemetry::traces;

/// An exchange that has waited this long for the other side lends its slot to one that moves.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it is remembered when a server was last heard.
const UNUSED: Duration = Duration::from_hours(1);

/// Makes exchanges. One per process; cheap to share.
#[derive(Debug)]
pub struct Http {
    wire: Arc<dyn Wire>,
    slots: Slots,
    metrics: Arc<Metrics>,
    fence: Fence,
    heard: Mutex<HashMap<String, Instant>>,
}

impl Http {
    /// Takes what makes one exchange, the slots, and the fence that keeps exchanges from being made when they must not.
    #[must_use]
    pub fn new(wire: Arc<dyn Wire>, slots: Slots, metrics: Arc<Metrics>, fence: Fence) -> Self {
        Self { wire, slots, metrics, fence, heard: Mutex::default() }
    }

    /// Sends a request and reads the answer. An answer other than 2xx is an error. `under_way` marks the rest of a change
    /// that was begun: it is still made while the operator is ending.
    pub async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
        under_way: bool,
    ) -> Result<Content, RemoteError> {
        let (method, path) = (method_name(&request.method), request.template);
        let failed = |fault| RemoteError { method, path, fault };
        let closed = |Closed| failed(Fault::Ending);
        let ready = async {
            let lane = endpoint.lane.enter(under_way).await;
            (lane, self.slots.acquire(&endpoint.namespace).await)
        };
        // What was decided before a lease was lost is decided anew once there is one again.
        let ready = self.fence.within(self.fence.before(ready, under_way)).await;
        let (_lane, slot) = ready.flatten().map_err(closed)?;
        let (system, operation) = (request.system, request.operation);
        // Nobody misses the answer to a mere question.
        let finishes = under_way || request.method != Method::GET;
        let begun = clock::instant();
        let span = traces::request(system, operation, method, path);
        let answer = tokio::time::timeout(endpoint.timeout, self.wire.transfer(endpoint, request));
        let answer = holding(slot, answer).instrument(span.clone());
        let answer = self.fence.within(self.fence.before(answer, finishes)).await;
        let answer = answer.flatten().map_err(closed)?.unwrap_or(Err(Fault::TimedOut)).map_err(failed);
        let code = answer.as_ref().map_or_else(RemoteError::code, |(status, _)| status.to_string());
        traces::answered(&span, &code, answer.is_ok());
        self.metrics.requested(system, operation, code, begun.elapsed());
        if answer.is_ok() && system == "kona" {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.insert(endpoint.base.to_string(), clock::instant());
        }
        answer.map(|(_, content)| content)
    }

    /// When a Kona server last gave a good answer.
    #[must_use]
    pub fn last_heard(&self, url: &str) -> Option<Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(url).copied()
    }

    /// Drops what has not been used for a while; to be called now and then.
    pub fn purge(&self) {
        self.wire.purge();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, at| at.elapsed() < UNUSED);
    }
}

/// Waits for an exchange while holding a slot, for a second at the most.
async fn holding<T>(slot: super::slots::Slot, exchange: impl Future<Output = T>) -> T {
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        () = tokio::time::sleep(PATIENCE) => drop(slot),
    }
    exchange.await
}

pub(super) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "POST",
    }
}
