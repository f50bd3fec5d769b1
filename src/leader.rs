//! Leader election: one of several replicas is active, the others are on standby with warm caches.
//!
//! The protocol is that of Kubernetes' own components: a `Lease` names the holder, who renews it. A standby that
//! sees it unchanged for its duration, by its own clock, takes it by a replace that fails if another one was faster. The
//! holder begins nothing and drops everything ([`fence`]) before the others may take it. Standbys watch the lease, so
//! there are no requests while nothing changes, and a lease that is handed over is taken immediately.
//!
//! A holder that could not renew in time continues if it still is the holder once the API server answers again: until then
//! it sends no requests. If another replica has taken over, the process exits, because its state is outdated.

pub mod fence;
mod record;
pub mod timings;

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::clock;
use fence::Term;
use record::Observed;
use timings::Timings;

/// Wait after another replica was faster.
const OVERTAKEN: Duration = Duration::from_millis(200);
/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(5);

/// What a replica is elected by.
#[derive(Clone, Debug)]
pub(crate) struct Candidacy {
    /// Name of the `Lease`.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Our identity: no other replica, and no earlier process, has this name.
    pub(crate) identity: String,
    /// How long the lease lasts, and how often it is renewed.
    pub(crate) timings: Timings,
}

/// Takes, keeps and hands over a lease.
pub(crate) struct Election {
    api: Api<Lease>,
    candidacy: Candidacy,
    term: watch::Sender<Term>,
    observed: Option<Observed>,
    /// Whether the last attempt failed, so that a failure is logged once.
    failing: bool,
}

/// Why an attempt failed.
enum Failure {
    /// Another replica was faster.
    Overtaken,
    /// The API server refused it.
    Refused(u16),
    /// The API server did not answer.
    Silence,
}

/// A holder who knows that it is the holder no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded;

impl Election {
    /// A candidate. Work checks `term`, which must be over at first.
    #[must_use]
    pub(crate) fn new(client: Client, candidacy: Candidacy, term: watch::Sender<Term>) -> Self {
        let api = Api::namespaced(client, &candidacy.namespace);
        Self { api, candidacy, term, observed: None, failing: false }
    }

    /// Waits until the lease is ours.
    pub(crate) async fn win(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => break,
                Ok(false) => self.until_free().await,
                Err(Failure::Overtaken) => tokio::time::sleep(jittered(OVERTAKEN)).await,
                Err(failure) => {
                    self.complain(&failure);
                    self.pause().await;
                }
            }
        }
        let Candidacy { name, namespace, identity, .. } = &self.candidacy;
        tracing::info!(kind = "Lease", namespace, name, identity, "leading");
    }

    /// Renews the lease, which is ours, until another has it.
    pub(crate) async fn keep(&mut self) -> Superseded {
        loop {
            tokio::time::sleep(self.candidacy.timings.retry_period).await;
            match self.renew().await {
                Ok(true) => {}
                Ok(false) => {
                    self.term.send_replace(Term::OVER);
                    return Superseded;
                }
                Err(failure) => self.complain(&failure),
            }
        }
    }

    /// Hands over the lease, so that a standby takes it immediately. To be called when no work is in progress anymore.
    pub(crate) async fn hand_over(mut self) {
        self.term.send_replace(Term::OVER);
        match tokio::time::timeout(API_TIMEOUT, self.give_away()).await {
            Ok(true) => tracing::info!("the lease is handed over"),
            Ok(false) | Err(_) => tracing::info!("the lease is left to expire"),
        }
    }

    /// False where it is not ours, or cannot be given away.
    async fn give_away(&mut self) -> bool {
        // A renewal of ours may have arrived whose answer has not.
        for _ in 0..2 {
            let Some(observed) =
                self.observed.as_ref().filter(|one| one.is_held_by(&self.candidacy.identity))
            else {
                return false;
            };
            match self.replace(observed.released(clock::now().0)).await {
                Ok(_) => return true,
                Err(Failure::Overtaken) if self.refresh().await.is_ok() => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// One attempt to take the lease. False if another replica has it.
    async fn attempt(&mut self) -> Result<bool, Failure> {
        self.refresh().await?;
        let identity = &self.candidacy.identity;
        match &self.observed {
            Some(one) if !one.is_free(clock::uptime()) && !one.is_held_by(identity) => Ok(false),
            _ => self.take().await.map(|()| true),
        }
    }

    /// One attempt to renew the lease. False if it is not ours anymore.
    async fn renew(&mut self) -> Result<bool, Failure> {
        match self.take().await {
            Err(Failure::Overtaken) => {}
            other => return other.map(|()| true),
        }
        // It has changed since our last renewal: by one of ours whose answer was lost, or by others.
        self.refresh().await?;
        match &self.observed {
            Some(one) if !one.is_held_by(&self.candidacy.identity) => Ok(false),
            _ => match self.take().await {
                // The next attempt reads it again.
                Err(Failure::Overtaken) => Err(Failure::Silence),
                other => other.map(|()| true),
            },
        }
    }

    /// Writes the lease in our name, over the one that was observed and over no other.
    async fn take(&mut self) -> Result<(), Failure> {
        let begun = clock::uptime();
        let Candidacy { name, identity, timings, .. } = &self.candidacy;
        let (duration, deadline, now) = (timings.lease_duration, timings.renew_deadline, clock::precisely());
        let lease = match &self.observed {
            Some(observed) => self.replace(observed.taken_by(identity, duration, now)).await?,
            None => {
                let lease = record::new(name, identity, duration, now);
                bounded(self.api.create(&PostParams::default(), &lease)).await?
            }
        };
        self.observe(lease);
        // Counted from before the request: others may have seen it at any moment since.
        self.term.send_replace(Term::Until(begun + deadline));
        if std::mem::take(&mut self.failing) {
            tracing::info!("the lease is renewed again");
        }
        Ok(())
    }

    async fn replace(&self, lease: Lease) -> Result<Lease, Failure> {
        bounded(self.api.replace(&self.candidacy.name, &PostParams::default(), &lease)).await
    }

    /// Reads the lease.
    async fn refresh(&mut self) -> Result<(), Failure> {
        match bounded(self.api.get_opt(&self.candidacy.name)).await? {
            Some(lease) => self.observe(lease),
            // It was deleted; its holder may work on until it would have expired.
            None => {
                let now = clock::uptime();
                self.observed =
                    self.observed.take().and_then(|one| one.deleted(&self.candidacy.identity, now));
            }
        }
        Ok(())
    }

    fn observe(&mut self, lease: Lease) {
        if self.observed.as_ref().is_none_or(|one| one.differs_from(&lease)) {
            self.observed = Some(Observed::new(lease, clock::uptime()));
        }
    }

    /// Waits until the lease appears to be free: it was handed over, or has not been renewed for its duration.
    async fn until_free(&mut self) {
        let Some(observed) = &self.observed else { return };
        let params = WatchParams::default().fields(&format!("metadata.name={}", self.candidacy.name));
        let stream = bounded(self.api.watch(&params, &observed.version())).await;
        let Ok(stream) = stream else {
            // Without a watch it is read now and then.
            return self.pause().await;
        };
        let mut events = Box::pin(stream);
        loop {
            let left = self.observed.as_ref().map_or(Duration::ZERO, |one| one.left(clock::uptime()));
            // A renewal that has come in counts before the time it came too late by, should this process have slept.
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = tokio::time::sleep(left) => return,
            };
            match event {
                Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease))) => self.observe(lease),
                Some(Ok(WatchEvent::Bookmark(_) | WatchEvent::Deleted(_))) => {}
                Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => {
                    return self.pause().await;
                }
            }
            if self.observed.as_ref().is_none_or(|one| one.is_free(clock::uptime())) {
                return;
            }
        }
    }

    /// Waits for the next try.
    async fn pause(&self) {
        tokio::time::sleep(jittered(self.candidacy.timings.retry_period)).await;
    }

    /// Logs once what keeps the lease from being taken or renewed.
    fn complain(&mut self, failure: &Failure) {
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        let (kind, Candidacy { name, namespace, .. }) = ("Lease", &self.candidacy);
        let (code, what) = match failure {
            Failure::Refused(code @ (401 | 403)) => (
                Some(code),
                "the operator is not allowed to get, create, update and watch its lease: check its RBAC rules",
            ),
            Failure::Refused(code @ 404) => {
                (Some(code), "the lease's namespace does not exist: check --lease-namespace")
            }
            Failure::Refused(code) => (Some(code), "the API server refuses the lease: check --lease-name"),
            Failure::Overtaken | Failure::Silence => {
                (None, "the API server does not answer: the lease cannot be taken or renewed")
            }
        };
        match code {
            Some(code) => tracing::error!(kind, namespace, name, code, "{what}"),
            None => tracing::warn!(kind, namespace, name, "{what}"),
        }
    }
}

/// Waits for the API server, but not forever.
async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(API_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            // Replaced, created or deleted by another replica.
            409 => Failure::Overtaken,
            404 if status.details.as_ref().is_none_or(|of| of.kind != "namespaces") => Failure::Overtaken,
            429 | 500.. => Failure::Silence,
            code => Failure::Refused(code),
        }),
        Ok(Err(_)) | Err(_) => Err(Failure::Silence),
    }
}

/// Up to a fifth more, so that several standbys do not ask at the same moment.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 + 0.2 * clock::random())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use axum::http::{Method, Request, Response};
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Source;

    /// When each write of the lease arrived, and what it was.
    type Writes = Arc<Mutex<Vec<(Duration, Value)>>>;

    /// An API server without a lease at first, that answers this many writes and no more.
    fn client(writes: Writes, answers: usize) -> Client {
        let answer = move |request: Request<kube::client::Body>| {
            let writes = Arc::clone(&writes);
            async move {
                if request.method() == Method::GET {
                    let status =
                        json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
                    return Response::builder().status(404).body(Body::from(status.to_string()));
                }
                let sent = request.into_body().collect_bytes().await.unwrap();
                let mut lease: Value = serde_json::from_slice(&sent).unwrap();
                let count = {
                    let mut writes = writes.lock().unwrap();
                    writes.push((clock::uptime(), lease.clone()));
                    writes.len()
                };
                if count > answers {
                    std::future::pending::<()>().await;
                }
                lease["metadata"]["resourceVersion"] = json!(count.to_string());
                Response::builder().status(200).body(Body::from(lease.to_string()))
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_goes_by_its_timings() {
        let source = Source { wall: Timestamp::UNIX_EPOCH, uptime: Duration::from_secs(1000), seed: 1 };
        let _installed = clock::install(source);
        let [lease, deadline, retry] = [40, 20, 5].map(Duration::from_secs);
        let candidacy = Candidacy {
            name: "tenure".to_owned(),
            namespace: "default".to_owned(),
            identity: "a".to_owned(),
            timings: Timings::new(lease, deadline, retry).unwrap(),
        };
        let (writes, (sender, term)) = (Writes::default(), watch::channel(Term::OVER));
        let mut election = Election::new(client(Arc::clone(&writes), 3), candidacy, sender);
        let holding = async {
            election.win().await;
            election.keep().await
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), holding).await.is_err(), "no other replica");
        let writes = writes.lock().unwrap().clone();
        let times: Vec<u64> = writes.iter().map(|(time, _)| time.as_secs()).take(4).collect();
        assert_eq!(times, [1000, 1005, 1010, 1015]);
        assert!(writes.iter().all(|(_, lease)| lease["spec"]["leaseDurationSeconds"] == 40), "{writes:?}");
        assert_eq!(*term.borrow(), Term::Until(writes[2].0 + deadline), "counted from the last renewal");
    }
}
