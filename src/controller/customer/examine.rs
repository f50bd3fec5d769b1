//! Gather, decide and act: one look at a customer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};

use super::{Findings, Memory, claim_id};
use crate::clock;
use crate::controller::connection;
use crate::controller::context::Context;
use crate::controller::references::Age;
use crate::controller::store::Key;
use crate::controller::workers::{Kind, wake};
use crate::controller::{report, server};
use crate::crd::{Cause, CustomerTokenTtl, CustomerTokenTtlStatus, KonaServer, TtlChange, TtlSeconds};
use crate::engine::customer::{
    ADDITIONAL_INFO, AdditionalInfo, Prior, RawObject, Seen, Step, Ttl, Unusable, Wish, cause, decide, has_drifted,
    with_additional_info,
};
use crate::engine::ownership::{Standing, Trial};
use crate::engine::verdict::{Notes, Reason, Verdict, ready_reason};
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::fault::{Class, Fault, RemoteError};
use crate::vendor::kona::Kona;
use crate::vendor::login::AccessError;
use crate::vendor::sessions::Serial;

/// Wait between two proving logins: three fit into five seconds.
const BETWEEN_PROOFS: Duration = Duration::from_secs(2);
/// Writes that may meet a newer version before a look gives up.
const RACES: u8 = 3;

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
    title: Option<String>,
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
    let judged = match connection::judge(&server.spec.connection, context.settings.restrictions) {
        Ok(judged) => judged,
        Err(verdict) => return Some(Findings::of(not_ready(server, &verdict))),
    };
    let url = judged.base.to_string();
    let status = at_url(context, customer, &url).await?;
    let age = if asked {
        Age::Asked
    } else if memory.inputs.is_none() || memory.pace.due().is_none() {
        Age::Now
    } else if memory.polled {
        Age::Polled
    } else {
        Age::InUse
    };
    let examination = Examination { context, customer, server, wish: wish(customer), prior: prior(&status), asked };
    let mut findings = match examination.run(judged, memory, age).await {
        Ok(findings) => findings,
        Err(Stop::Verdict(verdict)) => Findings::of(verdict),
        Err(Stop::Server(AccessError::Remote(RemoteError { fault: Fault::Ending, .. }))) => return None,
        Err(Stop::Server(error)) => examination.failure(&error),
        Err(Stop::Proof(error, credentials)) => {
            let mut findings = Findings::of(error.verdict("The server", &credentials.secret));
            findings.retry_after = error.retry_after();
            findings.refused = server::refused_login(context, &error, &credentials, &url);
            findings
        }
    };
    findings.effective_url = Some(url);
    Some(findings)
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
    async fn run(&self, judged: connection::Judged, memory: &mut Memory, age: Age) -> Result<Findings, Stop> {
        if let Some(verdict) = self.conflict() {
            return Err(verdict.into());
        }
        let mut refused = None;
        let mut age = age;
        loop {
            let reached = server::reach(self.context, self.server, judged.clone(), age).await;
            let (endpoint, credentials) = reached.map_err(|why| {
                self.record(Trial::Refused);
                not_ready(self.server, &why)
            })?;
            if self.asked {
                self.context.remotes.admission.forgive(&credentials.identity, &endpoint.base.to_string());
            }
            match self.visit(&endpoint, &credentials, memory, refused, age).await {
                Err(Stop::Server(AccessError::Stale(serial))) if refused.is_none() => {
                    refused = Some(serial);
                    age = Age::Now;
                }
                Err(Stop::Server(error)) => {
                    self.record(if error.is_refusal() { Trial::Refused } else { Trial::NoAnswer });
                    return Err(error.into());
                }
                done => return done,
            }
        }
    }

    fn record(&self, trial: Trial) {
        let rivals = self.context.customer_claims.record(&claim_id(self.customer), trial);
        rivals.into_iter().for_each(|rival| wake(self.context, Kind::Customer, rival));
    }

    /// What to report where the customer is another resource's, or not yet anybody's.
    fn conflict(&self) -> Option<Verdict> {
        match self.context.customer_claims.standing(&claim_id(self.customer)) {
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

    async fn visit(
        &self,
        endpoint: &Endpoint,
        credentials: &Credentials,
        memory: &mut Memory,
        refused: Option<Serial>,
        age: Age,
    ) -> Result<Findings, Stop> {
        let verifier = self.verifier(endpoint, age).await?;
        let kona = Kona::new(&self.context.remotes, endpoint, credentials, refused);
        let read = self.read(&kona, false).await?;
        self.record(Trial::GotIn);
        if let Some(verdict) = self.conflict() {
            return Err(verdict.into());
        }
        self.settle(&kona, read, verifier.as_ref().map(|v| (endpoint, v)), memory).await
    }

    /// The user whose login proves a lifetime. Read before anything is changed, so that nothing is changed that cannot be
    /// proven.
    async fn verifier(&self, endpoint: &Endpoint, age: Age) -> Result<Option<Credentials>, Verdict> {
        let Some(reference) = &self.customer.spec.verify_credentials_secret_ref else { return Ok(None) };
        let Context { references, remotes, settings, .. } = &**self.context;
        let namespace = &endpoint.namespace;
        let read = connection::credentials(references, namespace, reference, endpoint, settings.restrictions, age);
        let credentials = read.await?;
        if self.asked {
            remotes.admission.forgive(&credentials.identity, &endpoint.base.to_string());
        }
        Ok(Some(credentials))
    }

    async fn read(&self, kona: &Kona<'_>, under_way: bool) -> Result<Read, Stop> {
        let object = kona.read_customer(&self.customer.spec.customer_id, under_way).await?;
        let title = object.text("title").map(|title| report::printable(&title));
        let info = AdditionalInfo::read(object.get(ADDITIONAL_INFO)).map_err(|why| unusable(why))?;
        Ok(Read { object, info, title })
    }

    /// Takes one step after the other until there is something to report.
    async fn settle(
        &self,
        kona: &Kona<'_>,
        mut read: Read,
        verifier: Option<(&Endpoint, &Credentials)>,
        memory: &mut Memory,
    ) -> Result<Findings, Stop> {
        let Self { wish, prior, .. } = self;
        let mut seen = Seen { ttl: read.info.ttl(), read_back: false, token: None, proofs: 0 };
        let mut change = None;
        if has_drifted(*wish, prior, seen.ttl) {
            memory.contest = memory.contest.undone();
        } else if seen.ttl == wish.ttl.into() {
            memory.contest = memory.contest.stood(clock::elapsed());
        }
        let verdict = loop {
            match decide(*wish, prior, seen, memory.contest, clock::elapsed()) {
                Step::Report(verdict) => break verdict,
                Step::Write { cause } => {
                    if cause == Cause::Drift {
                        memory.contest = memory.contest.corrected(clock::elapsed());
                    }
                    let before = read.info.clone();
                    read = self.write(kona, read).await?;
                    change = Some((before.ttl(), cause, before.original()));
                    seen = Seen { ttl: read.info.ttl(), read_back: true, token: None, proofs: 0 };
                }
                Step::Prove => {
                    if seen.proofs > 0 {
                        tokio::time::sleep(BETWEEN_PROOFS).await;
                    }
                    seen.token = self.prove(verifier).await?;
                    seen.proofs += 1;
                }
            }
        };
        let change = change.or_else(|| self.unrecorded(&verdict, &seen));
        let proven = self.proven(&verdict, &seen, change.is_some());
        let change = change.map(|(from, cause, original)| {
            (TtlChange { time: clock::now(), from, to: wish.ttl.into(), cause }, original)
        });
        Ok(Findings { read: Some((read.title, seen.ttl)), proven, change, ..Findings::of(verdict) })
    }

    async fn prove(&self, verifier: Option<(&Endpoint, &Credentials)>) -> Result<Option<u32>, Stop> {
        let Some((endpoint, credentials)) = verifier else { return Ok(None) };
        let kona = Kona::new(&self.context.remotes, endpoint, credentials, None);
        kona.prove().await.map(Some).map_err(|error| Stop::Proof(error, Box::new(credentials.clone())))
    }

    /// What this look has proven; a check that merely found everything in order proves nothing new.
    fn proven(&self, verdict: &Verdict, seen: &Seen, changed: bool) -> Option<TtlSeconds> {
        let new = changed || seen.token.is_some() || self.prior.proven != Some(seen.ttl);
        (verdict.reason == Reason::InSync && new).then_some(seen.ttl)
    }

    /// A change that took effect without being recorded: its answer, or our report of it, was lost.
    fn unrecorded(&self, verdict: &Verdict, seen: &Seen) -> Option<(TtlSeconds, Cause, BTreeMap<String, String>)> {
        let before = self.prior.read.filter(|before| *before != seen.ttl)?;
        let text = |(key, value): (&str, Option<u32>)| value.map(|value| (key.to_owned(), value.to_string()));
        let keys = [
            (crate::engine::customer::ACCESS, before.access_token_ttl_seconds),
            (crate::engine::customer::REFRESH, before.refresh_token_ttl_seconds),
        ];
        let original = keys.into_iter().filter_map(text).collect();
        (verdict.reason == Reason::InSync).then(|| (before, cause(self.wish.ttl, &self.prior), original))
    }

    /// Merges the lifetimes into the customer, writes it, and reads it back. Where somebody else was faster, it begins
    /// again with what they wrote.
    async fn write(&self, kona: &Kona<'_>, mut read: Read) -> Result<Read, Stop> {
        let id = &self.customer.spec.customer_id;
        for race in 1..=RACES {
            let merged = read.info.clone().merged(self.wish.ttl);
            let object = with_additional_info(read.object, &merged).ok_or_else(|| unusable(Unusable::NotAnObject))?;
            match kona.write_customer(id, &object).await {
                Ok(()) => return self.read(kona, true).await,
                Err(AccessError::Remote(error)) if error.class() == Class::StaleVersion && race < RACES => {
                    read = self.read(kona, true).await?;
                }
                Err(AccessError::Remote(error)) if error.class() == Class::StaleVersion => {
                    let message = "The customer is being changed by others all the time; its lifetimes will be set when that ends.";
                    return Err(Verdict::new(Reason::Drifted, message).into());
                }
                Err(AccessError::Remote(error)) if error.status() == Some(400) => {
                    let message = "The server refuses to store the customer. It does so where its additionalInfo holds markup or is \
                                   too long, even where that is not ours: clean up the customer's additionalInfo.";
                    return Err(Verdict::new(Reason::AdditionalInfoUnusable, message).into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Verdict::new(Reason::Progressing, "The customer could not be written.").into())
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
            AccessError::Remote(_) => error.verdict("The server", ""),
            _ => {
                let key = Key::of(self.server.meta());
                self.context.alarms.raise(key.clone());
                wake(self.context, Kind::Server, key);
                not_ready(self.server, &error.verdict("The server", ""))
            }
        };
        Findings { retry_after: error.retry_after(), ..Findings::of(verdict) }
    }
}

fn unusable(why: Unusable) -> Verdict {
    let message = format!("The customer cannot be managed: {why}. Clear the field, or make it a JSON object.");
    Verdict::new(Reason::AdditionalInfoUnusable, message)
}
