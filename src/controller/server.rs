//! The controller of `KonaServer`: it keeps a session, and sums up the customers.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use super::context::{Context, Request};
use super::logins::{self, Barred};
use super::reconcile::current_reason;
use super::references::Unread;
use super::{connection, request};
use crate::clock;
use crate::crd::{CustomerCounts, CustomerTokenTtl, Kind, KonaServer, KonaServerStatus, Mode, Time};
use crate::engine::backoff::{Attempt, Backoff};
use crate::engine::login::{self, News};
use crate::engine::schedule::CAP;
use crate::engine::tally::{Part, State, Tally, state_of};
use crate::engine::verdict::{self, Notes, Reason, Verdict};
use crate::metrics::Whole;
use crate::runtime::events::reference;
use crate::runtime::object::{Entry, Key};
use crate::runtime::reconcile::{Reconcile, Reconciled};
use crate::runtime::secrets::Age;
use crate::runtime::status::{self, AGAIN};
use crate::runtime::store::Store;
use crate::runtime::writer::Written;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::kona::Kona;
use crate::vendor::login::AccessError;
use crate::vendor::sessions::{Serial, SessionKey};

/// While customers move, a server's status is written at most once in this time.
const SPACING: Duration = Duration::from_secs(1);
/// Time between two checks of a server.
const INTERVAL: Duration = CAP;

/// What is kept in memory of a server between reconciles.
#[derive(Debug, Default)]
pub struct Memory {
    generation: Option<i64>,
    backoff: Backoff<Instant>,
    findings: Option<Findings>,
    handled: Option<String>,
    summed_up: Option<Instant>,
    polled: bool,
    /// A refusal that another user may end.
    barred: Option<logins::Barred>,
}

/// What asking the server came to.
#[derive(Clone, Debug)]
struct Findings {
    verdict: Verdict,
    insecure: Option<String>,
    effective_url: Option<String>,
    /// What is new about the login.
    news: Option<News>,
    checked: Option<Time>,
    retry_after: Option<Duration>,
    /// Whether a Secret or `ConfigMap` may bring the change.
    polls: bool,
}

impl Findings {
    fn of(verdict: Verdict) -> Self {
        Self {
            polls: verdict.reason.awaits_reference(),
            verdict,
            insecure: None,
            effective_url: None,
            news: None,
            checked: None,
            retry_after: None,
        }
    }
}

impl Reconciled for KonaServer {
    type Context = Context;
    type Memory = Memory;
    const URGENT: bool = true;

    fn store(context: &Context) -> &Arc<Store<Self>> {
        &context.servers
    }

    async fn reconcile(context: &Arc<Context>, server: &Arc<Self>, memory: &mut Memory) -> Reconcile {
        let asked =
            open_request(server).filter(|asked| memory.handled.as_deref() != Some(*asked)).map(str::to_owned);
        let key = Key::of(server.meta());
        let called = context.remotes.admission.calls(&logins::holder(login::Kind::Server, server.meta()));
        // One that is known to be failing keeps to its own pace.
        let settled = memory.findings.as_ref().is_some_and(|findings| findings.verdict.reason.is_ready());
        let alarmed = (context.alarms.take(&key) && settled) || called;
        let changed = memory.generation != server.meta().generation;
        if memory.generation.is_none()
            && asked.is_none()
            && current_reason(&**server).is_some_and(Reason::is_remote)
        {
            memory.backoff.postpone(clock::instant(), clock::random());
        } else if changed || asked.is_some() {
            memory.backoff.reset();
        }
        let suspended = server.spec.connection.suspend;
        if suspended {
            // Nothing is due until it is resumed.
            memory.backoff.reset();
        }
        let due = !suspended && memory.backoff.due().is_none_or(|due| due <= clock::instant());
        let spaced = memory.summed_up.map(|last| last + SPACING).filter(|next| *next > clock::instant());
        if let Some(next) = spaced.filter(|_| !due && !alarmed) {
            return Reconcile::NotDue(next);
        }
        memory.summed_up = Some(clock::instant());
        if (due || alarmed) && !suspended {
            let age = Age::for_reconcile(asked.is_some(), changed, memory.polled);
            let Some(findings) = examine(context, server, asked.is_some(), age, &mut memory.barred).await
            else {
                return Reconcile::NotDue(clock::instant() + AGAIN);
            };
            settle(server, memory, findings);
        }
        memory.generation = server.meta().generation;
        if !suspended {
            memory.handled = open_request(server).map(str::to_owned);
        }
        sum_up(context, server, memory).await
    }

    fn changed(context: &Arc<Context>, before: Option<&Entry<Self>>, after: Option<&Entry<Self>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        let key = Key::of(meta);
        logins::observe_server(
            &context.remotes.admission,
            meta,
            after.and_then(Entry::valid).map(Arc::as_ref),
        );
        for customer in customers_of(context, &key) {
            super::customer::claim(context, &customer);
            context.cluster.wake(Kind::Customer, Key::of(customer.meta()));
        }
        context.cluster.wake(Kind::Server, key);
    }

    fn gone(context: &Context, key: &Key) {
        for state in State::ALL {
            context.cluster.metrics.counted(Whole::Server, &key.name, &key.namespace, state.as_str(), None);
        }
    }
}

/// The request on a server, if it was not carried out yet.
fn open_request(server: &KonaServer) -> Option<&str> {
    request::open(server, server.status.as_ref().and_then(|s| s.last_handled_reconcile_at.as_deref()))
}

/// Takes findings over, unless an earlier success still counts.
fn settle(server: &KonaServer, memory: &mut Memory, findings: Findings) {
    let was_ready = current_reason(server).is_some_and(Reason::is_ready);
    memory.polled = findings.polls;
    let attempt = Attempt {
        reason: findings.verdict.reason,
        retry_after: findings.retry_after,
        interval: INTERVAL,
        was_ready,
        polls: findings.polls,
    };
    let reported = memory.backoff.attempted(clock::instant(), clock::random(), attempt);
    if reported {
        memory.findings = Some(findings);
    }
}

async fn examine(
    context: &Arc<Context>,
    server: &KonaServer,
    asked: bool,
    mut age: Age,
    barred: &mut Option<Barred>,
) -> Option<Findings> {
    let judged = match connection::judge(&server.spec.connection, context.settings.restrictions) {
        Ok(judged) => judged,
        Err(verdict) => return Some(Findings::of(verdict)),
    };
    let (url, insecure) = (judged.base.to_string(), judged.insecure.clone());
    let mut refused = None;
    let mut findings = loop {
        let (endpoint, credentials) = match connection::reach(context, server, judged.clone(), age).await {
            Ok(reached) => reached,
            Err(Unread::Silence) => return None,
            Err(Unread::Refused(verdict)) => break Findings::of(verdict),
        };
        let stands = barred.as_ref().and_then(|barred| barred.stands(&credentials));
        if let Some(error) = stands.filter(|_| age == Age::Polled) {
            break refusal(context, &error, &credentials, &url);
        }
        *barred = None;
        let holder = logins::holder(login::Kind::Server, server.meta());
        logins::heed(&context.remotes, &holder, asked, &endpoint, &credentials).await;
        match visit(context, &endpoint, &credentials, refused).await {
            Ok(()) => {
                let (checked, news) = (Some(clock::now()), Some(News::LetIn));
                break Findings { news, checked, ..Findings::of(in_sync()) };
            }
            Err(AccessError::Stale(serial)) if refused.is_none() => {
                refused = Some(serial);
                age = Age::Since(clock::instant());
            }
            Err(error) if error.is_silence() => return None,
            Err(error) => {
                *barred = Barred::after(&error, &credentials, INTERVAL);
                break refusal(context, &error, &credentials, &url);
            }
        }
    };
    findings.effective_url = Some(url);
    findings.insecure = insecure;
    Some(findings)
}

fn in_sync() -> Verdict {
    Verdict::new(Reason::InSync, "The login succeeded. See each customer's conditions for its status.")
}

/// Makes sure that there is a session. Where nobody has heard from the server lately it is renewed, which shows whether
/// the server is there.
async fn visit(
    context: &Context,
    endpoint: &Endpoint,
    credentials: &Credentials,
    refused: Option<Serial>,
) -> Result<(), AccessError> {
    let kona = Kona::new(&context.remotes, endpoint, credentials, refused);
    let key = SessionKey::new(endpoint, &credentials.identity);
    let living = context.remotes.sessions.is_living(&key).await;
    let heard = endpoint.limit.last_heard().is_some_and(|at| at.elapsed() < INTERVAL);
    match (living && refused.is_none(), heard) {
        (true, true) => Ok(()),
        (true, false) => kona.renew().await,
        (false, _) => kona.log_in().await,
    }
}

fn refusal(context: &Arc<Context>, error: &AccessError, credentials: &Credentials, url: &str) -> Findings {
    let mut findings = Findings::of(error.verdict("The server", credentials.secret()));
    findings.retry_after = error.retry_after();
    findings.polls = error.awaits_secret();
    findings.news = logins::refused_login(&context.remotes.admission, error, credentials, url);
    context.wake_called();
    findings
}

async fn sum_up(context: &Arc<Context>, server: &Arc<KonaServer>, memory: &mut Memory) -> Reconcile {
    let parts: Vec<Part> =
        customers_of(context, &Key::of(server.meta())).iter().map(|c| part(server, c)).collect();
    count(context, server, &Tally::of(&parts));
    let status = new_status(context, server, memory.findings.as_ref(), &parts);
    let before = server.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
    let verdict = memory.findings.as_ref().map(|findings| findings.verdict.clone());
    let ready = verdict.as_ref().is_some_and(|verdict| verdict.reason.is_ready());
    let due = memory.backoff.due().unwrap_or_else(|| clock::instant() + INTERVAL);
    match status::write(&context.servers, &**server, status).await {
        Written::Failed | Written::Forbidden => Reconcile::Done { next: clock::instant() + AGAIN, ready },
        Written::Written => {
            if let Some(verdict) = verdict.filter(|_| !server.spec.connection.suspend) {
                context.warn_of(reference(&**server), None, before, &verdict);
            }
            Reconcile::Done { next: due, ready }
        }
        Written::Unchanged | Written::Gone => Reconcile::Done { next: due, ready },
    }
}

fn new_status(
    context: &Context,
    server: &KonaServer,
    findings: Option<&Findings>,
    parts: &[Part],
) -> KonaServerStatus {
    let mut status = server.status.clone().unwrap_or_default();
    let tally = Tally::of(parts);
    status.customers = Some(counts(&tally));
    if let Some(asked) = open_request(server)
        && !server.spec.connection.suspend
        && has_been_handled(context, server, parts, asked)
    {
        status.last_handled_reconcile_at = Some(asked.to_owned());
    }
    if server.spec.connection.suspend {
        let message = "spec.suspend is true: neither the server nor its customers are read or changed.";
        status::set_suspended(&mut status, server, message);
        return status;
    }
    let Some(findings) = findings else { return status };
    let notes = Notes { insecure: findings.insecure.clone(), ..Notes::default() };
    status::set_verdict(&mut status, server, &findings.verdict, &notes);
    if status.effective_url != findings.effective_url {
        login::record(&mut status.refused_login, &News::Elsewhere);
        status.last_checked_time = None;
    }
    status.effective_url.clone_from(&findings.effective_url);
    if findings.checked.is_some() {
        status.last_checked_time.clone_from(&findings.checked);
    }
    if let Some(news) = &findings.news {
        login::record(&mut status.refused_login, news);
    }
    status
}

/// All customers that refer to a server.
fn customers_of(context: &Context, server: &Key) -> Vec<Arc<CustomerTokenTtl>> {
    let entries = context.customers.namespace(&server.namespace);
    entries
        .iter()
        .filter_map(Entry::valid)
        .filter(|c| c.spec.server_ref.name == server.name)
        .cloned()
        .collect()
}

fn part(server: &KonaServer, customer: &CustomerTokenTtl) -> Part {
    let status = customer.status.clone().unwrap_or_default();
    let current = status.observed_generation == customer.meta().generation;
    let condition = verdict::ready(&status.conditions).filter(|_| current);
    let verdict = condition.and_then(|c| Some(Verdict::new(Reason::parse(&c.reason)?, c.message.clone())));
    let reason = verdict.as_ref().map(|v| v.reason);
    let spec = &customer.spec;
    let fits = status.access_token_ttl_seconds == Some(spec.access_token_ttl_seconds)
        && status.refresh_token_ttl_seconds == Some(spec.refresh_token_ttl_seconds);
    let was_right = status.proven.is_some_and(|proven| {
        proven.access_token_ttl_seconds == Some(spec.access_token_ttl_seconds)
            && proven.refresh_token_ttl_seconds == Some(spec.refresh_token_ttl_seconds)
    });
    let state = match (spec.suspend || server.spec.connection.suspend, spec.mode) {
        (true, _) => State::Suspended,
        (false, Mode::Observe) if reason == Some(Reason::Observed) && fits => State::InSync,
        (false, _) => state_of(reason, fits, was_right),
    };
    Part { name: customer.name_any(), state, verdict }
}

fn has_been_handled(context: &Context, server: &KonaServer, parts: &[Part], asked: &str) -> bool {
    let request: Request = (Key::of(server.meta()), asked.to_owned());
    let namespace = server.namespace().unwrap_or_default();
    let covered = parts.iter().filter(|part| part.state != State::Suspended);
    covered
        .map(|part| Key::new(namespace.clone(), part.name.clone()))
        .all(|key| context.handled.has(Kind::Customer, &key, &request))
}

fn count(context: &Context, server: &KonaServer, tally: &Tally) {
    let (name, namespace) = (server.name_any(), server.namespace().unwrap_or_default());
    for state in State::ALL.into_iter().filter(|state| *state != State::Overridden) {
        context.cluster.metrics.counted(
            Whole::Server,
            &name,
            &namespace,
            state.as_str(),
            Some(tally.count(state)),
        );
    }
}

fn counts(tally: &Tally) -> CustomerCounts {
    CustomerCounts {
        managed: tally.total(),
        in_sync: tally.count(State::InSync),
        pending: tally.count(State::Pending),
        drifted: tally.count(State::Drifted),
        failed: tally.count(State::Failed),
        suspended: tally.count(State::Suspended),
        summary: tally.summary(),
    }
}
