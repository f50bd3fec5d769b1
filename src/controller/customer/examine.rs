//! One reconcile of a customer: the server's endpoint and login, the customer as it is read there, and what to report of what
//! fails.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};

use super::CustomerController;
use crate::clock;
use crate::controller::access::{self, Access, Shared, Visitor, refusal, shared};
use crate::controller::audit::Write;
use crate::controller::reconcile::{self, Findings, Given, Memory, Working};
use crate::controller::uses::User;
use crate::crd::{CustomerTokenTtl, Kind, KonaServer};
use crate::engine::access::AccessError;
use crate::engine::backoff::Inconclusive;
use crate::engine::connection::ValidConnection;
use crate::engine::contest::Contest;
use crate::engine::customer::{
    ADDITIONAL_INFO, AdditionalInfo, CONFLICT, Parting, Prior, RawObject, Reading, SERVER_MOVED, Task, Wish,
    failed, leaving, prior, server_not_found, server_not_ready, unusable,
};
use crate::engine::login::{Holder, NotTried};
use crate::engine::ownership::{Standing, Trial};
use crate::engine::references::Unread;
use crate::engine::text::printable;
use crate::engine::verdict::{Reason, Verdict};
use crate::engine::window::{Closed, Windows, override_annotation};
use crate::runtime::object::Key;
use crate::runtime::secrets::Age;
use crate::runtime::workers::Trigger;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::http::Purpose;
use crate::vendor::kona::{Fresh, Kona, Seat};
use crate::vendor::remotes::Login;

/// What a reconcile has come to know so far. It is reported however the reconcile ends.
#[derive(Default)]
pub(super) struct Progress {
    /// What was read last.
    pub(super) read: Option<Reading>,
    /// The window that a change waits for.
    pub(super) closed: Option<Closed>,
    /// The last write, until it is known what came of it.
    pub(super) write: Option<Write>,
    /// Writes that were tried.
    pub(super) tries: u8,
    /// Whether a write was sent: what follows it is made although the operator is shutting down.
    pub(super) sent: bool,
}

/// A customer as it was read.
pub(super) struct Read {
    pub(super) object: RawObject,
    pub(super) info: AdditionalInfo,
    /// Whether others may have edited it before the answer came: it is read again, once, before it is written.
    pub(super) is_late: bool,
    /// Kept from the read to a write that builds on it: nothing else may be awaited meanwhile.
    pub(super) seat: Seat,
}

/// Everything that one reconcile works with.
pub(super) struct Examination<'a, 'w> {
    pub(super) controller: &'a CustomerController,
    pub(super) server: &'a KonaServer,
    pub(super) customer: &'a mut Working<'w, CustomerTokenTtl>,
    pub(super) wish: Wish,
    /// When the customer may be changed. What is restored waits for no window.
    windows: Windows,
    pub(super) prior: Prior,
    /// The server that is asked.
    pub(super) connection: ValidConnection,
    pub(super) url: String,
    pub(super) progress: Progress,
    /// What is to be restored, if the resource is being deleted.
    pub(super) task: Option<Task>,
    pub(super) interval: Duration,
    pub(super) asked: bool,
}

/// Why a reconcile came to an early end.
pub(super) type Stop = reconcile::Stop<CustomerTokenTtl>;

/// Checks a customer and does what is to be done.
pub(super) async fn examine(
    controller: &CustomerController,
    customer: &mut Working<'_, CustomerTokenTtl>,
    given: &Given<CustomerTokenTtl>,
    memory: &mut Memory<CustomerTokenTtl>,
) -> Result<Findings<CustomerTokenTtl>, Inconclusive> {
    let asked = given.is_asked(memory);
    let task = match &memory.extra.parting {
        Some(Parting::Restore(task)) => Some(task.clone()),
        _ => None,
    };
    let windows = match memory.extra.spec(customer) {
        _ if task.is_some() => Ok(Windows::default()),
        spec => spec.clone().map(|spec| spec.windows),
    };
    let (windows, server, connection) =
        match validate(controller, customer, windows, given.parents.as_deref()) {
            Ok(valid) => valid,
            Err(verdict) => {
                let trial = Some(Trial::ruled_out(verdict.reason));
                let (task, parting) = (task.as_ref(), &mut memory.extra.parting);
                return Ok(Findings { trial, ..Findings::from(leaving(task, parting, verdict)) });
            }
        };
    let url = connection.base.to_string();
    let known = customer.status.as_ref().and_then(|status| status.effective_url.clone());
    customer.move_to((&url, known.as_deref()), SERVER_MOVED, memory).await?;
    let wish = Wish::of(&customer.spec);
    if memory.extra.desired.replace(wish.ttl).is_some_and(|before| before != wish.ttl) {
        memory.contest = Contest::default();
    }
    let examination = Examination {
        controller,
        server,
        wish,
        windows,
        prior: customer.status.as_ref().map(prior).unwrap_or_default(),
        customer,
        connection,
        url,
        progress: Progress::default(),
        task,
        interval: given.interval,
        asked,
    };
    examination.run(given, memory).await
}

/// Checks what can be checked without asking: the windows that count, and the connection.
fn validate<'a>(
    controller: &CustomerController,
    customer: &CustomerTokenTtl,
    windows: Result<Windows, Verdict>,
    server: Option<&'a KonaServer>,
) -> Result<(Windows, &'a KonaServer, ValidConnection), Verdict> {
    let windows = windows?;
    let server = server.ok_or_else(|| server_not_found(&customer.spec.server_ref.name))?;
    let connection = controller.connections.validate(&server.spec.connection);
    connection
        .map(|connection| (windows, server, connection))
        .map_err(|verdict| server_not_ready(&server.name_any(), verdict.reason))
}

impl Visitor<CustomerTokenTtl> for Examination<'_, '_> {
    async fn reach(&self, age: Age) -> Result<(Endpoint, Credentials), Unread> {
        let CustomerController { connections, servers, server_claims, .. } = self.controller;
        let known = (&**servers, &**server_claims);
        connections.reach_server(known, self.server, &self.connection, User::of(self.object()), age).await
    }

    fn object(&self) -> &CustomerTokenTtl {
        self.customer
    }

    /// Only the server retries its own login: otherwise each of its customers would try it once.
    fn holder(&self) -> Option<Holder> {
        None
    }

    async fn visit(
        &mut self,
        Access { endpoint, credentials, refused, age }: Access<'_>,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<Findings<CustomerTokenTtl>, Stop> {
        let remotes = &self.controller.connections.remotes;
        // Reading is the proof that something was restored.
        let verifier = if self.task.is_some() { Ok(None) } else { self.verifier(endpoint, age).await };
        if let Some(verifier) = verifier? {
            if self.asked {
                remotes.admission.requested(&verifier, &endpoint.base.to_string());
            }
            if age == Age::Polled && self.is_only_polled(&verifier, endpoint, memory) {
                return Err(self.not_proven(&AccessError::NotTried(NotTried::Here), &verifier));
            }
        }
        let kona = Kona::new(Login::new(remotes, endpoint, credentials, refused));
        let fresh = kona.read_customer(&self.customer.spec.customer_id, Purpose::Ask).await?;
        memory.extra.checked = Some(clock::instant());
        let CustomerController { claims, server_claims, .. } = self.controller;
        server_claims.let_in(self.server.meta(), endpoint);
        claims.let_in(self.customer.meta(), endpoint);
        let standing = claims.standing(self.customer.meta());
        memory.acted_on = Some(standing);
        if let Some(verdict) = standing.conflict(&CONFLICT) {
            return Err(verdict.into());
        }
        let read = understand(fresh, &mut self.progress)?;
        match self.task.clone() {
            None => self.settle(&kona, read, endpoint, memory).await,
            Some(task) => self.restore(&kona, read, &task, memory).await,
        }
    }

    fn unread(&self, why: Verdict) -> Verdict {
        self.raise_alarm();
        server_not_ready(&self.server.name_any(), why.reason)
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn failed(&self, _: Shared<'_>, error: &AccessError, _: &Credentials) -> Findings<CustomerTokenTtl> {
        if !error.is_answered() {
            self.raise_alarm();
        }
        let verdict = failed(error, &self.customer.spec.customer_id, &self.server.name_any());
        // Other faults of the login are the server's, and so is the wait for its Secret.
        let polls = verdict.reason == Reason::Forbidden;
        let (retry_after, deferred) = (error.retry_after(), error.is_unsent());
        Findings { retry_after, deferred, polls, ..Findings::from(verdict) }
    }
}

impl Examination<'_, '_> {
    /// Works with the server, unless the customer is another resource's.
    async fn run(
        mut self,
        given: &Given<CustomerTokenTtl>,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<Findings<CustomerTokenTtl>, Inconclusive> {
        let standing = self.controller.claims.standing(self.customer.meta());
        memory.acted_on = Some(standing);
        let mut findings = match standing.conflict(&CONFLICT) {
            Some(verdict) => verdict.into(),
            None => access::visit(self.controller, &mut self, given, memory).await?,
        };
        let Progress { read, closed, write, .. } = self.progress;
        // What came of it is known, or will not be: it goes on record.
        drop(write);
        findings.effective_url = Some(self.url);
        findings.opens = closed.map(|closed| closed.next);
        findings.found.read = read;
        findings.verdict = leaving(self.task.as_ref(), &mut memory.extra.parting, findings.verdict);
        Ok(findings)
    }

    /// Has the server checked: what went wrong is its to report.
    fn raise_alarm(&self) {
        let (key, servers) = (Key::of(self.server.meta()), &self.controller.servers);
        if servers.valid(&key).is_some() {
            self.controller.alarms.raise(key.clone());
            servers.cluster().wake(Kind::Server, key, Trigger::Related);
        }
    }

    /// Whether a reconcile is only for the sake of the proving user's Secret, which is still the refused one: the customer
    /// itself is read at the interval.
    fn is_only_polled(
        &self,
        verifier: &Credentials,
        endpoint: &Endpoint,
        memory: &Memory<CustomerTokenTtl>,
    ) -> bool {
        let admission = &self.controller.connections.remotes.admission;
        admission.refusal(&verifier.identity, &endpoint.base.to_string()).is_some()
            && memory.extra.checked.is_some_and(|at| at.elapsed() < self.interval.mul_f64(0.9))
    }

    /// Whether a write is permitted at this moment: what the reconcile began with still holds, and a window is open. Asked
    /// last, when nothing but the bytes of the write is left to be sent. What is restored waits for no window.
    pub(super) fn permitted(&self) -> bool {
        let CustomerController { servers, claims, .. } = self.controller;
        let then = self.server.meta();
        let owns = |now: &Arc<CustomerTokenTtl>| claims.standing(now.meta()) == Standing::Owner;
        self.customer.current().is_some_and(|now| owns(&now))
            && servers
                .valid(&Key::of(then))
                .is_some_and(|now| now.meta().uid == then.uid && now.meta().generation == then.generation)
            && self.closed_window().is_none()
    }

    /// What keeps a change from being made now, if the resource has windows.
    pub(super) fn closed_window(&self) -> Option<Closed> {
        // As it is now: the annotation that opens one manually may have come while an answer was awaited.
        let now = self.customer.current()?;
        self.windows.closed(override_annotation(now.meta()), clock::now().0)
    }

    /// The user whose login proves a lifetime. Read before anything is changed, so that nothing is changed that cannot be
    /// proven.
    pub(super) async fn verifier(&self, endpoint: &Endpoint, age: Age) -> Result<Option<Credentials>, Stop> {
        let Some(reference) = &self.customer.spec.verify_credentials_secret_ref else { return Ok(None) };
        Ok(Some(
            self.controller
                .connections
                .credentials(endpoint, reference, User::of(self.object()), age)
                .await?,
        ))
    }

    /// The proving login failed.
    pub(super) fn not_proven(&self, error: &AccessError, credentials: &Credentials) -> Stop {
        if error.is_silence() {
            return Inconclusive::Outdated.into();
        }
        let server = format!("KonaServer {}", self.server.name_any());
        refusal(shared(self.controller), error, credentials, (&server, &self.url)).into()
    }
}

impl Progress {
    /// Puts on record what was seen of the last write's effect.
    pub(super) fn saw(&mut self, holds: bool, seen: &String) {
        if let Some(write) = &mut self.write {
            write.saw(holds, seen);
        }
    }
}

/// Reads what concerns us in a customer.
pub(super) fn understand(fresh: Fresh, progress: &mut Progress) -> Result<Read, Verdict> {
    let Fresh { customer: object, is_late, seat } = fresh;
    let title = object.text("title").map(|title| printable(&title));
    let info = AdditionalInfo::read(object.get(ADDITIONAL_INFO));
    let ttl = info.as_ref().map(AdditionalInfo::ttl).unwrap_or_default();
    progress.read = Some(Reading { title, ttl });
    info.map(|info| Read { object, info, is_late, seat }).map_err(unusable)
}
