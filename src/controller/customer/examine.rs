//! Gather, decide and act: one look at a customer.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};

use super::{Begun, Findings, Memory, claim_id};
use crate::clock;
use crate::controller::connection;
use crate::controller::context::Context;
use crate::controller::references::Age;
use crate::controller::store::Key;
use crate::controller::workers::{Kind, wake};
use crate::controller::{report, server};
use crate::crd::{Cause, CustomerTokenTtl, CustomerTokenTtlStatus, KonaServer, TtlChange, TtlSeconds};
use crate::engine::schedule;
use crate::engine::customer::{
    ACCESS, ADDITIONAL_INFO, AdditionalInfo, Prior, REFRESH, RawObject, Seen, Step, Ttl, Unusable, Wish, cause, decide, has_drifted,
    with_additional_info,
};
use crate::engine::ownership::{Standing, Trial};
use crate::engine::verdict::{Notes, Reason, Verdict, ready_reason};
use crate::vendor::admission::NotAdmitted;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::fault::{Fault, RemoteError};
use crate::vendor::kona::Kona;
use crate::vendor::login::AccessError;
use crate::vendor::sessions::Serial;

/// Wait between two proving logins: three fit into five seconds.
const BETWEEN_PROOFS: Duration = Duration::from_secs(2);
/// Writes that may meet a newer version before a look gives up.
const RACES: u8 = 3;

/// What a look has come to know so far. It is reported however the look ends.
struct Progress {
    /// Title and lifetimes as they were read last.
    read: Option<(Option<String>, TtlSeconds)>,
    /// What was changed, once that was read back.
    change: Option<Begun>,
    /// Where the resource stood among those that declare the same customer when that was last asked.
    standing: Standing,
}

/// Everything one look works with.
struct Examination<'a> {
    context: &'a Arc<Context>,
    customer: &'a CustomerTokenTtl,
    server: &'a KonaServer,
    wish: Wish,
    prior: Prior,
    asked: bool,
}

/// Why a look came to an early end.
enum Stop {
    Verdict(Verdict),
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

impl From<Verdict> for Stop {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

/// A customer as it was read.
struct Read {
    object: RawObject,
    info: AdditionalInfo,
}

/// Looks at a customer and does what is to be done. None where the operator is ending.
pub(super) async fn examine(
    context: &Arc<Context>,
    customer: &Arc<CustomerTokenTtl>,
    server: Option<&KonaServer>,
    memory: &mut Memory,
    asked: bool,
) -> Option<Findings> {
    let Some(server) = server else {
        let name = &customer.spec.server_ref.name;
        let message = format!("KonaServer {name} does not exist in this namespace: create it, or correct spec.serverRef.");
        return Some(Findings::of(Verdict::new(Reason::ServerNotFound, message)));
    };
    let standing = context.customer_claims.standing(&claim_id(customer));
    let mut progress = Progress { read: None, change: None, standing };
    let judged = match connection::judge(&server.spec.connection, context.settings.restrictions) {
        Ok(judged) => judged,
        Err(verdict) => {
            // Rivals must not wait for one that cannot even try.
            record(context, customer, Trial::Refused, &mut progress);
            memory.judged = Some(progress.standing);
            return Some(Findings::of(not_ready(server, &verdict)));
        }
    };
    let url = judged.base.to_string();
    let status = at_url(context, customer, &url).await?;
    let age = if memory.inputs.is_none() || asked || memory.pace.due().is_none() {
        Age::Now
    } else if memory.polled {
        Age::Polled
    } else {
        Age::InUse
    };
    let examination = Examination { context, customer, server, wish: wish(customer), prior: prior(&status), asked };
    let ended = examination.run(judged, memory, age, &mut progress).await;
    memory.judged = Some(progress.standing);
    let mut findings = match ended {
        Ok(findings) => findings,
        Err(Stop::Verdict(verdict)) => Findings::of(verdict),
        Err(Stop::Server(AccessError::Remote(RemoteError { fault: Fault::Ending, .. }))) => return None,
        Err(Stop::Server(error)) => examination.failure(&error),
        Err(Stop::Proof(error, credentials)) => {
            let mut findings = Findings::of(error.verdict(&named(server), &credentials.secret));
            findings.retry_after = error.retry_after();
            findings.refused = server::refused_login(context, &error, &credentials, &url);
            findings
        }
    };
    findings.effective_url = Some(url);
    findings.read = progress.read;
    let to = examination.wish.ttl.into();
    findings.change = progress.change.map(|Begun { from, cause, original }| {
        (TtlChange { time: clock::now(), from, to, cause }, original)
    });
    Some(findings)
}

/// What messages call a server.
fn named(server: &KonaServer) -> String {
    format!("KonaServer {}", server.name_any())
}

/// Keeps in mind how the try to get in went, and where the resource stands after it.
fn record(context: &Arc<Context>, customer: &CustomerTokenTtl, trial: Trial, progress: &mut Progress) {
    let id = claim_id(customer);
    let rivals = context.customer_claims.record(&id, trial);
    progress.standing = context.customer_claims.standing(&id);
    rivals.into_iter().for_each(|rival| wake(context, Kind::Customer, rival));
}

/// What to report where the customer is another resource's, or not yet anybody's.
fn conflict(standing: Standing) -> Option<Verdict> {
    match standing {
        Standing::Owner | Standing::TryNow => None,
        Standing::Loser => Some(Verdict::new(
            Reason::Conflict,
            "Another CustomerTokenTtl declares the same customer of the same server and came first, so this one changes \
             nothing: delete one of the two.",
        )),
        Standing::Undecided => Some(Verdict::new(
            Reason::Progressing,
            "Another CustomerTokenTtl declares the same customer; nothing is changed until it is clear which of the two \
             can log in.",
        )),
    }
}

fn wish(customer: &CustomerTokenTtl) -> Wish {
    let spec = &customer.spec;
    Wish {
        ttl: Ttl { access: spec.access_token_ttl_seconds, refresh: spec.refresh_token_ttl_seconds },
        mode: spec.mode,
        by_login: spec.verify_credentials_secret_ref.is_some(),
    }
}

fn prior(status: &CustomerTokenTtlStatus) -> Prior {
    let read = TtlSeconds {
        access_token_ttl_seconds: status.access_token_ttl_seconds,
        refresh_token_ttl_seconds: status.refresh_token_ttl_seconds,
    };
    Prior {
        read: status.last_checked_time.as_ref().map(|_| read),
        proven: status.proven,
        unverified: ready_reason(&status.conditions) == Some(Reason::VerificationFailed),
    }
}

fn not_ready(server: &KonaServer, why: &Verdict) -> Verdict {
    let (name, reason) = (server.name_any(), why.reason.as_str());
    Verdict::new(Reason::ServerNotReady, format!("KonaServer {name} is not ready ({reason}): its own conditions say what to do."))
}

/// The status as far as it speaks of this server. Where the URL has changed, what the status holds of another server is
/// dropped before the first request. None where that could not be written.
async fn at_url(context: &Arc<Context>, customer: &CustomerTokenTtl, url: &str) -> Option<CustomerTokenTtlStatus> {
    let status = customer.status.clone().unwrap_or_default();
    if status.effective_url.as_deref().is_none_or(|before| before == url) {
        return Some(status);
    }
    let mut fresh = CustomerTokenTtlStatus {
        conditions: status.conditions,
        last_handled_reconcile_at: status.last_handled_reconcile_at,
        ..CustomerTokenTtlStatus::default()
    };
    let verdict = Verdict::new(Reason::Progressing, "The server's URL has changed: the customer is read anew.");
    report::set_verdict(&mut fresh, customer, &verdict, &Notes::default());
    match report::write(context, customer, fresh.clone()).await {
        report::Written::Written | report::Written::Unchanged => Some(fresh),
        report::Written::Gone | report::Written::Failed => None,
    }
}

impl Examination<'_> {
    async fn run(
        &self,
        judged: connection::Judged,
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
            let (endpoint, credentials) = reached.map_err(|why| {
                self.record(Trial::Refused, progress);
                not_ready(self.server, &why)
            })?;
            match self.visit(&endpoint, &credentials, memory, refused, age, progress).await {
                Err(Stop::Server(AccessError::Stale(serial))) if refused.is_none() => {
                    refused = Some(serial);
                    age = Age::Since(clock::instant());
                }
                Err(Stop::Server(error)) => {
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
        &self,
        endpoint: &Endpoint,
        credentials: &Credentials,
        memory: &mut Memory,
        refused: Option<Serial>,
        age: Age,
        progress: &mut Progress,
    ) -> Result<Findings, Stop> {
        let verifier = self.verifier(endpoint, age).await.inspect_err(|_| self.record(Trial::Refused, progress))?;
        if let Some(verifier) = verifier {
            // The server's own login is the server's to try again: else each of its customers would try it once.
            if self.asked {
                self.context.remotes.admission.forgive(&verifier.identity, &endpoint.base.to_string());
            }
            if age == Age::Polled && self.is_only_polled(&verifier, endpoint, memory) {
                return Err(Stop::Proof(AccessError::NotTried(NotAdmitted::Here), Box::new(verifier)));
            }
        }
        let kona = Kona::new(&self.context.remotes, endpoint, credentials, refused);
        let object = kona.read_customer(&self.customer.spec.customer_id, false).await?;
        memory.checked = Some(clock::instant());
        self.record(Trial::GotIn, progress);
        if let Some(verdict) = conflict(progress.standing) {
            return Err(verdict.into());
        }
        let read = understand(object, progress)?;
        self.settle(&kona, read, endpoint, memory, progress).await
    }

    /// Whether a look is only for the sake of the proving user's Secret, which is still the refused one: the customer
    /// itself is read at the interval.
    fn is_only_polled(&self, verifier: &Credentials, endpoint: &Endpoint, memory: &Memory) -> bool {
        let interval = schedule::parse(&self.customer.spec.interval).unwrap_or(schedule::CAP);
        let admission = &self.context.remotes.admission;
        admission.refused_at(&verifier.identity, &endpoint.base.to_string()).is_some()
            && memory.checked.is_some_and(|at| at.elapsed() < interval.mul_f64(0.9))
    }

    /// The user whose login proves a lifetime. Read before anything is changed, so that nothing is changed that cannot be
    /// proven.
    async fn verifier(&self, endpoint: &Endpoint, age: Age) -> Result<Option<Credentials>, Verdict> {
        let Some(reference) = &self.customer.spec.verify_credentials_secret_ref else { return Ok(None) };
        let Context { references, settings, .. } = &**self.context;
        let namespace = &endpoint.namespace;
        connection::credentials(references, namespace, reference, endpoint, settings.restrictions, age).await.map(Some)
    }

    async fn read(&self, kona: &Kona<'_>, progress: &mut Progress) -> Result<Read, Stop> {
        let object = kona.read_customer(&self.customer.spec.customer_id, true).await?;
        Ok(understand(object, progress)?)
    }

    /// Takes one step after the other until there is something to report.
    async fn settle(
        &self,
        kona: &Kona<'_>,
        mut read: Read,
        endpoint: &Endpoint,
        memory: &mut Memory,
        progress: &mut Progress,
    ) -> Result<Findings, Stop> {
        let wish = self.wish;
        // What was begun and not read back is not known to be proven, whatever was proven before it.
        let prior = Prior { read: self.prior.read.filter(|_| memory.begun.is_none()), ..self.prior };
        let mut seen = Seen { ttl: read.info.ttl(), read_back: false, token: None, proofs: 0 };
        let mut races = 0;
        self.follow_contest(memory, seen.ttl);
        let verdict = loop {
            match decide(wish, &prior, seen, memory.contest, clock::elapsed()) {
                Step::Report(verdict) => break verdict,
                Step::Write { cause } => {
                    races += 1;
                    let written = self.write(kona, read, cause, memory, races).await?;
                    read = self.read(kona, progress).await?;
                    if written && read.info.ttl() == wish.ttl.into() {
                        progress.change = memory.begun.take();
                    }
                    // Where somebody else was faster it begins again with what they wrote.
                    seen = Seen { ttl: read.info.ttl(), read_back: written, token: None, proofs: 0 };
                }
                Step::Prove => {
                    if seen.proofs > 0 {
                        tokio::time::sleep(BETWEEN_PROOFS).await;
                    }
                    seen.token = self.prove(endpoint).await?;
                    seen.proofs += 1;
                }
            }
        };
        if progress.change.is_none() && verdict.reason == Reason::InSync {
            progress.change = self.unrecorded(memory, &seen);
        }
        let proven = self.proven(&verdict, &seen, progress.change.is_some());
        Ok(Findings { proven, ..Findings::of(verdict) })
    }

    fn follow_contest(&self, memory: &mut Memory, seen: TtlSeconds) {
        if has_drifted(self.wish, &self.prior, seen) {
            memory.contest = memory.contest.undone();
        } else if seen == self.wish.ttl.into() {
            memory.contest = memory.contest.stood(clock::elapsed());
        }
    }

    async fn prove(&self, endpoint: &Endpoint) -> Result<Option<u32>, Stop> {
        // Read again before the login: what was read for the sake of an earlier look may have been corrected since.
        let Some(credentials) = self.verifier(endpoint, Age::Now).await? else { return Ok(None) };
        let kona = Kona::new(&self.context.remotes, endpoint, &credentials, None);
        kona.prove().await.map(Some).map_err(|error| Stop::Proof(error, Box::new(credentials.clone())))
    }

    /// What this look has proven; a check that merely found everything in order proves nothing new.
    fn proven(&self, verdict: &Verdict, seen: &Seen, changed: bool) -> Option<TtlSeconds> {
        let new = changed || seen.token.is_some() || self.prior.proven != Some(seen.ttl);
        (verdict.reason == Reason::InSync && new).then_some(seen.ttl)
    }

    /// A change that took effect without being recorded: its answer, or our report of it, was lost.
    fn unrecorded(&self, memory: &mut Memory, seen: &Seen) -> Option<Begun> {
        if let Some(begun) = memory.begun.take() {
            return Some(begun);
        }
        // What is owed is recorded with this report.
        let from = self.prior.read.filter(|before| *before != seen.ttl && memory.owed.is_empty())?;
        let text = |(key, value): (&str, Option<u32>)| value.map(|value| (key.to_owned(), value.to_string()));
        let keys = [(ACCESS, from.access_token_ttl_seconds), (REFRESH, from.refresh_token_ttl_seconds)];
        let original = keys.into_iter().filter_map(text).collect();
        Some(Begun { from, cause: cause(self.wish.ttl, &self.prior), original })
    }

    /// Merges the lifetimes into the customer and writes it. False where somebody else was faster.
    async fn write(
        &self,
        kona: &Kona<'_>,
        read: Read,
        cause: Cause,
        memory: &mut Memory,
        races: u8,
    ) -> Result<bool, Stop> {
        // Where an earlier write may have taken effect unseen, the original is what stood before that one.
        let earlier = memory.begun.take().map(|begun| begun.original);
        let original = earlier.unwrap_or_else(|| read.info.original());
        memory.begun = Some(Begun { from: read.info.ttl(), cause, original });
        let merged = read.info.merged(self.wish.ttl);
        let object = with_additional_info(read.object, &merged).ok_or_else(|| unusable(Unusable::NotAnObject))?;
        let error = match kona.write_customer(&self.customer.spec.customer_id, &object).await {
            Ok(()) => {
                if cause == Cause::Drift {
                    memory.contest = memory.contest.corrected(clock::elapsed());
                }
                return Ok(true);
            }
            Err(error) => error,
        };
        let AccessError::Remote(remote) = &error else { return Err(error.into()) };
        if remote.status().is_some_and(|status| status < 500) {
            memory.begun = None;
        }
        match remote.status() {
            Some(409) if races < RACES => Ok(false),
            Some(409) => Err(Verdict::new(
                Reason::Drifted,
                "The customer is being changed by others all the time; its lifetimes will be set when that ends.",
            )
            .into()),
            Some(400) => Err(Verdict::new(
                Reason::AdditionalInfoUnusable,
                "The server refuses to store the customer. It does so where its additionalInfo holds markup or is too long, \
                 even where that is not ours: clean up the customer's additionalInfo.",
            )
            .into()),
            _ => Err(error.into()),
        }
    }

    /// What to report of a failed exchange. Faults of the login are the server's, and its own task reports them.
    fn failure(&self, error: &AccessError) -> Findings {
        let id = &self.customer.spec.customer_id;
        let verdict = match error {
            AccessError::Remote(remote) if remote.status() == Some(404) => Verdict::new(
                Reason::CustomerNotFound,
                format!("The server knows no customer {id}, or its user may not see it: correct spec.customerId."),
            ),
            AccessError::Remote(remote) if remote.status() == Some(403) => Verdict::new(
                Reason::Forbidden,
                format!("The user of KonaServer {} may not read or change customer {id}: grant it the right.", self.server.name_any()),
            ),
            AccessError::Remote(_) => error.verdict(&named(self.server), ""),
            _ => {
                let key = Key::of(self.server.meta());
                self.context.alarms.raise(key.clone());
                wake(self.context, Kind::Server, key);
                not_ready(self.server, &error.verdict(&named(self.server), ""))
            }
        };
        Findings { retry_after: error.retry_after(), ..Findings::of(verdict) }
    }
}

fn understand(object: RawObject, progress: &mut Progress) -> Result<Read, Verdict> {
    let title = object.text("title").map(|title| report::printable(&title));
    let info = AdditionalInfo::read(object.get(ADDITIONAL_INFO));
    let ttl = info.as_ref().map(AdditionalInfo::ttl).unwrap_or_default();
    progress.read = Some((title, ttl));
    info.map(|info| Read { object, info }).map_err(unusable)
}

fn unusable(why: Unusable) -> Verdict {
    let message = format!("The customer cannot be managed: {why}. Clear the field, or make it a JSON object.");
    Verdict::new(Reason::AdditionalInfoUnusable, message)
}
