//! Gather, decide and act: one look at a customer.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::claim::{claim_id, record};
use super::settle::understand;
use super::{Findings, Memory};
use crate::clock;
use crate::controller::audit::Write;
use crate::controller::connection::{self, Judged};
use crate::controller::context::Context;
use crate::controller::references::{Age, Unread};
use crate::controller::store::Key;
use crate::controller::workers::{Kind, wake};
use crate::controller::{logins, report, server};
use crate::crd::{CustomerTokenTtl, CustomerTokenTtlStatus, KonaServer};
use crate::engine::contest::Contest;
use crate::engine::customer::{
    Prior, Reading, Task, Wish, answered, conflict, invalid_windows, prior, raced, server_moved,
    server_not_found, server_not_ready,
};
use crate::engine::login::NotTried;
use crate::engine::ownership::{Standing, Trial};
use crate::engine::schedule;
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::fault::Shown;
use crate::vendor::http::Purpose;
use crate::vendor::kona::Kona;
use crate::vendor::login::AccessError;
use crate::vendor::sessions::Serial;

/// What a look has come to know so far. It is reported however the look ends.
pub(super) struct Progress {
    /// What was read last.
    pub(super) read: Option<Reading>,
    /// Where the resource stood among those that declare the same customer when that was last asked.
    pub(super) standing: Standing,
    /// When the next change window opens, where a change waits for it.
    pub(super) next_window: Option<Timestamp>,
    /// The last write, until it is known what came of it.
    pub(super) write: Option<Write>,
    /// Whether a write was sent: what follows it is made although the operator is ending.
    pub(super) sent: bool,
}

/// What a look is for.
#[derive(Clone, Copy)]
pub(super) enum Errand<'a> {
    /// Keep the lifetimes as the resource wants them.
    Keep,
    /// Put back what was there before the resource, which is being deleted.
    Restore(&'a Task),
}

/// Everything one look works with.
pub(super) struct Examination<'a> {
    pub(super) context: &'a Arc<Context>,
    /// The working copy: as it was read, or as this reconcile has written it.
    pub(super) customer: &'a mut Arc<CustomerTokenTtl>,
    /// The generation that this reconcile is about.
    pub(super) generation: Option<i64>,
    server: &'a KonaServer,
    pub(super) wish: Wish,
    pub(super) prior: Prior,
    /// The server that is asked.
    pub(super) url: String,
    errand: Errand<'a>,
    asked: bool,
}

/// Why a look came to an early end.
pub(super) enum Stop {
    /// Nothing can be said: the API server is silent, or what the look began with does not hold any more.
    Void,
    Verdict(Verdict),
    /// Each write met with another one that came first.
    Raced,
    /// An exchange with the server's own login failed.
    Server(AccessError),
    /// The proving login failed.
    Proof(AccessError, Box<Credentials>),
}

impl From<AccessError> for Stop {
    fn from(error: AccessError) -> Self {
        Self::Server(error)
    }
}

impl From<Unread> for Stop {
    fn from(why: Unread) -> Self {
        match why {
            Unread::Silence => Self::Void,
            Unread::Refused(verdict) => Self::Verdict(verdict),
        }
    }
}

impl From<Verdict> for Stop {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

/// Looks at a customer and does what is to be done. None where the operator is ending.
pub(super) async fn examine(
    context: &Arc<Context>,
    customer: &mut Arc<CustomerTokenTtl>,
    server: Option<&KonaServer>,
    memory: &mut Memory,
    asked: bool,
    errand: Errand<'_>,
) -> Option<Findings> {
    let generation = customer.meta().generation;
    let standing = context.customer_claims.standing(&claim_id(customer));
    let mut progress = Progress { read: None, standing, next_window: None, write: None, sent: false };
    let (server, judged) = match judge(context, customer, server, errand) {
        Ok(judged) => judged,
        Err(verdict) => {
            // Rivals must not wait for one that cannot even try. Windows that make no sense lose nobody what is theirs.
            let is_own = verdict.reason == Reason::InvalidSpec;
            record(context, customer, if is_own { Trial::NoAnswer } else { Trial::Refused }, &mut progress);
            memory.judged = Some(progress.standing);
            return Some(Findings::of(verdict));
        }
    };
    let url = judged.base.to_string();
    if !at_url(context, customer, &url, memory).await {
        return None;
    }
    let changed = memory.inputs.is_none() || memory.pace.due().is_none();
    let age = Age::for_look(asked, changed, memory.polled);
    let (wish, prior) = (Wish::of(&customer.spec), customer.status.as_ref().map(prior).unwrap_or_default());
    let mut examination =
        Examination { context, customer, generation, server, wish, prior, url: url.clone(), errand, asked };
    let ended = examination.run(judged, memory, age, &mut progress).await;
    memory.judged = Some(progress.standing);
    let mut findings = match ended {
        Ok(findings) => findings,
        Err(stop) => examination.early_end(stop)?,
    };
    findings.effective_url = Some(url);
    findings.read = progress.read;
    findings.next_window = progress.next_window;
    // What came of it is known, or will not be: it goes on record.
    drop(progress.write);
    Some(findings)
}

/// Judges what can be judged without asking anybody: the windows, unless they do not matter any more, and the connection.
fn judge<'a>(
    context: &Context,
    customer: &CustomerTokenTtl,
    server: Option<&'a KonaServer>,
    errand: Errand<'_>,
) -> Result<(&'a KonaServer, Judged), Verdict> {
    if let (Errand::Keep, Err(why)) = (errand, context.windows.read(&customer.spec.windows)) {
        return Err(invalid_windows(why));
    }
    let Some(server) = server else {
        return Err(server_not_found(&customer.spec.server_ref.name));
    };
    let judged = connection::judge(&server.spec.connection, context.settings.restrictions);
    judged
        .map(|judged| (server, judged))
        .map_err(|verdict| server_not_ready(&server.name_any(), verdict.reason))
}

/// What messages call a server.
fn named(server: &KonaServer) -> String {
    format!("KonaServer {}", server.name_any())
}

/// Drops from the status what it holds of another server if the URL has changed: before the first request. False if that
/// could not be written.
async fn at_url(
    context: &Arc<Context>,
    customer: &mut Arc<CustomerTokenTtl>,
    url: &str,
    memory: &mut Memory,
) -> bool {
    let status = customer.status.clone().unwrap_or_default();
    let is_elsewhere = status.effective_url.as_deref().is_some_and(|before| before != url);
    // The status may not name the previous URL yet, if the URL has changed twice.
    if memory.url.replace(url.to_owned()).is_some_and(|before| before != url) || is_elsewhere {
        (memory.change, memory.contest) = (None, Contest::default());
        memory.owed.clear();
    }
    if !is_elsewhere {
        return true;
    }
    let mut fresh = CustomerTokenTtlStatus {
        conditions: status.conditions,
        last_handled_reconcile_at: status.last_handled_reconcile_at,
        ..CustomerTokenTtlStatus::default()
    };
    report::set_verdict(&mut fresh, &**customer, &server_moved(), &Notes::default());
    matches!(
        report::update(context, customer, fresh).await,
        report::Written::Written | report::Written::Unchanged
    )
}

impl Examination<'_> {
    async fn run(
        &mut self,
        judged: Judged,
        memory: &mut Memory,
        mut age: Age,
        progress: &mut Progress,
    ) -> Result<Findings, Stop> {
        if let Some(verdict) = conflict(progress.standing) {
            return Err(verdict.into());
        }
        let mut refused = None;
        loop {
            let reached = server::reach(self.context, self.server, judged.clone(), age).await;
            let (endpoint, credentials) = match reached {
                Ok(reached) => reached,
                Err(Unread::Silence) => return Err(Stop::Void),
                Err(Unread::Refused(why)) => {
                    self.record(Trial::Refused, progress);
                    return Err(Stop::Verdict(server_not_ready(&self.server.name_any(), why.reason)));
                }
            };
            if let Some(error) = memory.barred.as_ref().and_then(|barred| barred.stands(&credentials))
                && age == Age::Polled
            {
                return Err(error.into());
            }
            memory.barred = None;
            match self.visit(&endpoint, &credentials, memory, refused, age, progress).await {
                Err(Stop::Server(AccessError::Stale(serial))) if refused.is_none() => {
                    refused = Some(serial);
                    age = Age::Since(clock::instant());
                }
                Err(Stop::Server(error)) => {
                    let interval = schedule::parse(&self.customer.spec.interval).unwrap_or(schedule::CAP);
                    memory.barred = logins::Barred::after(&error, &credentials, interval);
                    self.record(if error.is_refusal() { Trial::Refused } else { Trial::NoAnswer }, progress);
                    return Err(error.into());
                }
                done => return done,
            }
        }
    }

    fn record(&self, trial: Trial, progress: &mut Progress) {
        record(self.context, self.customer, trial, progress);
    }

    async fn visit(
        &mut self,
        endpoint: &Endpoint,
        credentials: &Credentials,
        memory: &mut Memory,
        refused: Option<Serial>,
        age: Age,
        progress: &mut Progress,
    ) -> Result<Findings, Stop> {
        let verifier = match self.errand {
            Errand::Keep => self.verifier(endpoint, age).await.inspect_err(|stop| {
                if matches!(stop, Stop::Verdict(_)) {
                    self.record(Trial::Refused, progress);
                }
            })?,
            // Reading it is the proof that something was put back.
            Errand::Restore(_) => None,
        };
        if let Some(verifier) = verifier {
            // The server's own login is the server's to try again: else each of its customers would try it once.
            if self.asked {
                self.context.remotes.admission.requested(&verifier, &endpoint.base.to_string());
            }
            if age == Age::Polled && self.is_only_polled(&verifier, endpoint, memory) {
                return Err(Stop::Proof(AccessError::NotTried(NotTried::Here), Box::new(verifier)));
            }
        }
        let kona = Kona::new(&self.context.remotes, endpoint, credentials, refused);
        let fresh = kona.read_customer(&self.customer.spec.customer_id, Purpose::Ask).await?;
        memory.checked = Some(clock::instant());
        self.record(Trial::GotIn, progress);
        if let Some(verdict) = conflict(progress.standing) {
            return Err(verdict.into());
        }
        let read = understand(fresh, progress)?;
        match self.errand {
            Errand::Keep => self.settle(&kona, read, endpoint, memory, progress).await,
            Errand::Restore(task) => self.put_back(&kona, read, task, memory, progress).await,
        }
    }

    /// Whether a look is only for the sake of the proving user's Secret, which is still the refused one: the customer
    /// itself is read at the interval.
    fn is_only_polled(&self, verifier: &Credentials, endpoint: &Endpoint, memory: &Memory) -> bool {
        let interval = schedule::parse(&self.customer.spec.interval).unwrap_or(schedule::CAP);
        let admission = &self.context.remotes.admission;
        admission.refusal(&verifier.identity, &endpoint.base.to_string()).is_some()
            && memory.checked.is_some_and(|at| at.elapsed() < interval.mul_f64(0.9))
    }

    /// The user whose login proves a lifetime. Read before anything is changed, so that nothing is changed that cannot be
    /// proven.
    pub(super) async fn verifier(&self, endpoint: &Endpoint, age: Age) -> Result<Option<Credentials>, Stop> {
        let Some(reference) = &self.customer.spec.verify_credentials_secret_ref else { return Ok(None) };
        Ok(Some(connection::credentials(self.context, endpoint, reference, age).await?))
    }

    /// Whether what the look began with still holds: a wait may lie between, and nobody wants yesterday's decision
    /// carried out.
    pub(super) fn still_holds(&self) -> bool {
        let customer = self.context.customers.valid(&Key::of(self.customer.meta()));
        let server = self.context.servers.valid(&Key::of(self.server.meta()));
        let owns = self.context.customer_claims.standing(&claim_id(self.customer)) == Standing::Owner;
        let same = |now: &ObjectMeta, then: &ObjectMeta, generation: Option<i64>| {
            now.uid == then.uid && now.generation == generation
        };
        owns && customer.is_some_and(|now| same(now.meta(), self.customer.meta(), self.generation))
            && server.is_some_and(|now| same(now.meta(), self.server.meta(), self.server.meta().generation))
    }

    /// What to report of a look that came to an early end, if anything.
    fn early_end(&self, stop: Stop) -> Option<Findings> {
        match stop {
            Stop::Void => None,
            Stop::Server(error) | Stop::Proof(error, _) if error.is_silence() => None,
            Stop::Verdict(verdict) => Some(Findings::of(verdict)),
            // Tried again as after any failure, not at the interval.
            Stop::Raced => Some(Findings { retry_after: Some(Duration::ZERO), ..Findings::of(raced()) }),
            Stop::Server(error) => Some(self.failure(&error)),
            Stop::Proof(error, credentials) => {
                let mut findings = Findings::of(error.verdict(&named(self.server), credentials.secret()));
                findings.retry_after = error.retry_after();
                findings.polls = error.awaits_secret();
                let admission = &self.context.remotes.admission;
                findings.news = logins::refused_login(admission, &error, &credentials, &self.url);
                Some(findings)
            }
        }
    }

    /// What to report of a failed exchange. Faults of the login are the server's, and its own task reports them.
    fn failure(&self, error: &AccessError) -> Findings {
        let server = self.server.name_any();
        let verdict = if let AccessError::Remote(remote) = error {
            let is_vendors = remote.shown() == Some(Shown::Vendor);
            let known = answered(remote.status(), is_vendors, &self.customer.spec.customer_id, &server);
            known.unwrap_or_else(|| error.verdict(&named(self.server), ""))
        } else {
            let key = Key::of(self.server.meta());
            self.context.alarms.raise(key.clone());
            wake(self.context, Kind::Server, key);
            server_not_ready(&server, error.verdict(&named(self.server), "").reason)
        };
        // Other faults of the login are the server's, and so is the wait for its Secret.
        let polls = verdict.reason == Reason::Forbidden;
        Findings { retry_after: error.retry_after(), polls, ..Findings::of(verdict) }
    }
}
