//! The controller of `CustomerTokenTtl`.

mod examine;
mod settle;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use super::claims::ClaimId;
use super::context::{Context, Request, UNDISTURBED};
use super::events::{Happening, reference};
use super::pace::Pace;
use super::report::{self, Reported, Written};
use super::store::{Entry, Key, Store};
use super::workers::{Kind, Look, Reconciled, wake};
use super::{request, server};
use crate::clock;
use crate::crd::{
    Cause, Condition, CustomerTokenTtl, CustomerTokenTtlStatus, KonaServer, RefusedLogin, Time, TtlChange,
    TtlSeconds,
};
use crate::engine::contest::Contest;
use crate::engine::ownership::Standing;
use crate::engine::schedule;
use crate::engine::verdict::{self, Notes, Reason, Standing as Kstatus, Verdict};
use crate::vendor::endpoint::BaseUrl;

/// Changes that the status remembers.
const HISTORY: usize = 10;
/// Wait after the API server did not take a status.
const AGAIN: Duration = Duration::from_secs(15);

/// What is kept in memory of a customer between looks.
#[derive(Debug, Default)]
pub struct Memory {
    inputs: Option<Inputs>,
    pace: Pace,
    contest: Contest,
    handled: HashSet<Request>,
    /// A write that was begun and whose outcome is not known.
    begun: Option<Begun>,
    /// Changes made but not yet reported, each with the keys' text before it.
    owed: Vec<(TtlChange, BTreeMap<String, String>)>,
    polled: bool,
    /// When the customer was last read.
    checked: Option<Instant>,
    /// Where the resource stood among its rivals in the last look.
    judged: Option<Standing>,
}

/// A change: what stood before it, why it is made, and the JSON text of each key before it.
#[derive(Clone, Debug)]
struct Begun {
    from: TtlSeconds,
    cause: Cause,
    original: BTreeMap<String, String>,
}

/// What, when it changes, is a reason to look at once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inputs {
    generation: Option<i64>,
    /// Lifetimes wanted, in seconds: a fight over others is another fight.
    wanted: (u32, u32),
    /// UID and generation of the server.
    server: Option<(Option<String>, Option<i64>)>,
    /// Whether the server is known not to be ready. That it has come to be ready is a reason for those who are not.
    server_fails: bool,
    standing: Standing,
}

/// What an examination came to.
#[derive(Debug)]
struct Findings {
    verdict: Verdict,
    effective_url: Option<String>,
    /// Title and lifetimes, where they were read.
    read: Option<(Option<String>, TtlSeconds)>,
    /// Lifetimes proven during this look.
    proven: Option<TtlSeconds>,
    change: Option<(TtlChange, BTreeMap<String, String>)>,
    refused: Option<RefusedLogin>,
    retry_after: Option<Duration>,
    /// Whether a Secret or `ConfigMap` may bring the change.
    polls: bool,
}

impl Findings {
    fn of(verdict: Verdict) -> Self {
        Self {
            polls: verdict.reason.awaits_reference(),
            verdict,
            effective_url: None,
            read: None,
            proven: None,
            change: None,
            refused: None,
            retry_after: None,
        }
    }
}

impl Reported for CustomerTokenTtl {
    type Status = CustomerTokenTtlStatus;

    fn status(&self) -> Option<&CustomerTokenTtlStatus> {
        self.status.as_ref()
    }

    fn times(status: &mut CustomerTokenTtlStatus) -> [Option<&mut Option<Time>>; 2] {
        [Some(&mut status.last_checked_time), Some(&mut status.last_proven_time)]
    }

    fn head(status: &mut CustomerTokenTtlStatus) -> (&mut Option<i64>, &mut Vec<Condition>) {
        (&mut status.observed_generation, &mut status.conditions)
    }
}

impl Reconciled for CustomerTokenTtl {
    const KIND: Kind = Kind::Customer;
    type Memory = Memory;

    fn store(context: &Context) -> &Store<Self> {
        &context.customers
    }

    async fn look(context: &Arc<Context>, customer: &Arc<Self>, memory: &mut Memory) -> Look {
        let server = server_of(context, customer);
        let id = claim_id(customer);
        let inputs = Inputs {
            generation: customer.meta().generation,
            wanted: (customer.spec.access_token_ttl_seconds, customer.spec.refresh_token_ttl_seconds),
            server: server.as_ref().map(|server| (server.uid(), server.meta().generation)),
            server_fails: server.as_ref().is_some_and(|server| is_known_not_ready(server)),
            standing: context.customer_claims.standing(&id),
        };
        let requests = requests(customer, server.as_deref());
        if let Some(next) = not_due(customer, memory, &inputs, &requests) {
            return Look::NotDue(next);
        }
        let asked = requests.iter().any(|request| !memory.handled.contains(request));
        let paused = if customer.spec.suspend {
            Some("spec.suspend is true: nothing is read or changed.".to_owned())
        } else {
            server.as_ref().filter(|server| server.spec.connection.suspend).map(|server| {
                format!("KonaServer {} is suspended: nothing is read or changed.", server.name_any())
            })
        };
        let look = match paused {
            Some(message) => pause(context, customer, memory, &message).await,
            None => match examine_and_report(context, customer, server.as_deref(), memory, asked).await {
                Some(look) => look,
                // Nothing came of it: it is still to be done.
                None => return Look::NotDue(clock::instant() + AGAIN),
            },
        };
        // A standing that this look itself has changed is no reason for another; one that a rival has changed meanwhile is.
        let standing = memory.judged.take().unwrap_or(inputs.standing);
        memory.inputs = Some(Inputs { standing, ..inputs });
        memory.handled.clone_from(&requests);
        context.handled.set(Kind::Customer, Key::of(customer.meta()), requests);
        if asked {
            wake(context, Kind::Server, server_key(customer));
        }
        look
    }

    fn changed(context: &Arc<Context>, before: Option<&Entry<Self>>, after: Option<&Entry<Self>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        let key = Key::of(meta);
        match (before.and_then(Entry::valid), after.and_then(Entry::valid)) {
            (_, Some(customer)) => claim(context, customer),
            (Some(gone), None) => release(context, gone),
            (None, None) => {}
        }
        if let Some(customer) = after.or(before).and_then(Entry::valid) {
            wake(context, Kind::Server, server_key(customer));
        }
        wake(context, Kind::Customer, key);
    }

    fn gone(context: &Context, key: &Key) {
        context.handled.set(Kind::Customer, key.clone(), HashSet::new());
        context.metrics.succeeded(Self::KIND.as_str(), &key.namespace, &key.name, None);
    }
}

fn server_key(customer: &CustomerTokenTtl) -> Key {
    Key::new(customer.namespace().unwrap_or_default(), customer.spec.server_ref.name.clone())
}

fn server_of(context: &Context, customer: &CustomerTokenTtl) -> Option<Arc<KonaServer>> {
    context.servers.valid(&server_key(customer))
}

fn is_known_not_ready(server: &KonaServer) -> bool {
    let reason = server.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
    reason.is_some_and(|reason| reason.standing() != Kstatus::Current)
}

/// Enters what a customer claims: its id on its server's effective URL.
pub(super) fn claim(context: &Arc<Context>, customer: &CustomerTokenTtl) {
    let url = server_of(context, customer).and_then(|s| BaseUrl::parse(&s.spec.connection.url).ok());
    let claimed = url.as_ref().map(|url| format!("{url} {}", customer.spec.customer_id));
    let status = customer.status.as_ref();
    let got_in = status.is_some_and(|status| {
        status.effective_url == url.as_ref().map(ToString::to_string)
            && status.last_checked_time.is_some()
            && verdict::ready_reason(&status.conditions) != Some(Reason::Conflict)
    });
    let suspended = customer.spec.suspend
        || server_of(context, customer).is_some_and(|server| server.spec.connection.suspend);
    let rivals = context.customer_claims.set(&claim_id(customer), claimed, suspended, got_in);
    for rival in rivals {
        wake(context, Kind::Customer, rival);
    }
}

fn release(context: &Arc<Context>, customer: &CustomerTokenTtl) {
    let rivals = context.customer_claims.set(&claim_id(customer), None, false, false);
    for rival in rivals {
        wake(context, Kind::Customer, rival);
    }
}

fn claim_id(customer: &CustomerTokenTtl) -> ClaimId {
    ClaimId {
        created: customer.creation_timestamp().map(|t| t.0).unwrap_or_default(),
        key: Key::of(customer.meta()),
        uid: customer.uid().unwrap_or_default(),
    }
}

fn requests(customer: &CustomerTokenTtl, server: Option<&KonaServer>) -> HashSet<Request> {
    let handled = customer.status.as_ref().and_then(|s| s.last_handled_reconcile_at.as_deref());
    let own = request::open(customer, handled).map(|asked| (Key::of(customer.meta()), asked.to_owned()));
    let servers = server.and_then(|s| Some((Key::of(s.meta()), server::open_request(s)?.to_owned())));
    own.into_iter().chain(servers).collect()
}

/// Reason of the Ready condition, if it speaks of the present spec.
fn current_reason(customer: &CustomerTokenTtl) -> Option<Reason> {
    let status = customer.status.as_ref().filter(|s| s.observed_generation == customer.meta().generation)?;
    verdict::ready_reason(&status.conditions)
}

/// The time of the next look, if nothing that counts has changed since the last one and it is not due yet.
fn not_due(
    customer: &CustomerTokenTtl,
    memory: &mut Memory,
    inputs: &Inputs,
    requests: &HashSet<Request>,
) -> Option<tokio::time::Instant> {
    let asked = !requests.is_subset(&memory.handled);
    let reason = current_reason(customer);
    match &mut memory.inputs {
        None => {
            let last = customer.status.as_ref().and_then(|status| status.history.first());
            if let (Some(Reason::Contested), Some(last)) = (reason, last) {
                let ago = Duration::try_from(clock::now().0.duration_since(last.time.0)).unwrap_or_default();
                memory.contest = Contest::resumed(clock::elapsed(), ago);
            }
            if reason.is_some_and(Reason::is_remote) && !asked {
                memory.pace.postpone();
                memory.inputs = Some(inputs.clone());
            }
        }
        Some(before) => {
            let is_ready = reason.is_some_and(|reason| reason.standing() == Kstatus::Current);
            if is_ready || inputs.server_fails {
                before.server_fails = inputs.server_fails;
            }
            if before.wanted != inputs.wanted {
                memory.contest = Contest::default();
            }
            if asked || before != inputs {
                memory.pace.reset();
            }
        }
    }
    if asked {
        memory.contest = Contest::default();
    }
    memory.pace.due().filter(|due| *due > clock::instant())
}

async fn pause(
    context: &Arc<Context>,
    customer: &Arc<CustomerTokenTtl>,
    memory: &mut Memory,
    message: &str,
) -> Look {
    let mut status = customer.status.clone().unwrap_or_default();
    report::set_suspended(&mut status, &**customer, message);
    let written = report::write(context, &**customer, status).await;
    memory.pace.reset();
    let wait = if written == Written::Failed { AGAIN } else { UNDISTURBED };
    Look::Done { next: clock::instant() + wait, ready: true }
}

async fn examine_and_report(
    context: &Arc<Context>,
    customer: &Arc<CustomerTokenTtl>,
    server: Option<&KonaServer>,
    memory: &mut Memory,
    asked: bool,
) -> Option<Look> {
    let findings = examine::examine(context, customer, server, memory, asked).await?;
    memory.owed.extend(findings.change.clone());
    let request = request::of(&**customer).map(str::to_owned);
    // The examination may have written the status itself; and what it found must not be told of another spec.
    let now = context.customers.valid(&Key::of(customer.meta()));
    let customer = &now
        .filter(|now| now.uid() == customer.uid() && now.meta().generation == customer.meta().generation)?;
    let was_ready = current_reason(customer).is_some_and(|reason| reason.standing() == Kstatus::Current);
    let verdict = findings.verdict.clone();
    let ready = verdict.reason.standing() == Kstatus::Current;
    memory.polled = findings.polls;
    let interval = schedule::parse(&customer.spec.interval).unwrap_or(schedule::CAP);
    let reported = memory.pace.after(&verdict, findings.retry_after, interval, was_ready, findings.polls);
    let mut written = Written::Unchanged;
    if reported || !memory.owed.is_empty() || asked {
        let mut status = new_status(customer, &findings, &memory.owed, reported);
        status.last_handled_reconcile_at = request.or(status.last_handled_reconcile_at);
        written = report::write(context, &**customer, status).await;
        if matches!(written, Written::Written | Written::Unchanged) {
            announce(context, customer, &memory.owed, Some(&verdict).filter(|_| reported));
            memory.owed.clear();
            memory.pace.written();
        }
    }
    if written == Written::Failed {
        memory.pace.not_written();
    }
    Some(Look::Done { next: memory.pace.due().unwrap_or_else(|| clock::instant() + UNDISTURBED), ready })
}

fn new_status(
    customer: &CustomerTokenTtl,
    findings: &Findings,
    owed: &[(TtlChange, BTreeMap<String, String>)],
    reported: bool,
) -> CustomerTokenTtlStatus {
    let mut status = customer.status.clone().unwrap_or_default();
    // A failure that may pass leaves Ready as it is, even where something else is written.
    if reported {
        report::set_verdict(&mut status, customer, &findings.verdict, &Notes::default());
    }
    let now = clock::now();
    if let Some(url) = &findings.effective_url {
        status.effective_url = Some(url.clone());
    }
    if let Some((title, ttl)) = &findings.read {
        status.customer_title.clone_from(title);
        status.access_token_ttl_seconds = ttl.access_token_ttl_seconds;
        status.refresh_token_ttl_seconds = ttl.refresh_token_ttl_seconds;
        status.last_checked_time = Some(now.clone());
    }
    if let Some(proven) = findings.proven {
        status.proven = Some(proven);
        status.last_proven_time = Some(now);
        status.refused_login.clear();
    } else if !owed.is_empty() {
        // What was proven before a change says nothing of it: the next look proves it.
        status.proven = None;
    }
    if let Some(refused) = &findings.refused {
        server::remember(&mut status.refused_login, refused);
    }
    for (change, original) in owed {
        status.original.get_or_insert_with(|| original.clone());
        status.history.insert(0, change.clone());
        status.history.truncate(HISTORY);
    }
    status
}

fn announce(
    context: &Context,
    customer: &CustomerTokenTtl,
    owed: &[(TtlChange, BTreeMap<String, String>)],
    verdict: Option<&Verdict>,
) {
    let object = reference(customer);
    let (namespace, name) = (customer.namespace().unwrap_or_default(), customer.name_any());
    for (TtlChange { to, cause, .. }, _) in owed {
        let seconds = |value: Option<u32>| value.unwrap_or_default();
        let (access, refresh) = (seconds(to.access_token_ttl_seconds), seconds(to.refresh_token_ttl_seconds));
        let (reason, verb) = match cause {
            Cause::Policy => ("TtlChanged", "set"),
            Cause::Drift => {
                context.metrics.drift_corrected(Kind::Customer.as_str());
                ("DriftCorrected", "put back")
            }
            Cause::Restore => ("TtlChanged", "restored"),
        };
        let note = format!("Token lifetimes {verb} to {access} s (access) and {refresh} s (refresh).");
        tracing::info!(kind = "CustomerTokenTtl", namespace, name, access, refresh, ?cause, "{note}");
        context.events.publish(Happening {
            object: object.clone(),
            reason,
            note,
            warning: false,
            policy: None,
        });
    }
    let before = customer.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
    if let Some(verdict) = verdict {
        context.warn_of(object, None, before, verdict);
    }
}
