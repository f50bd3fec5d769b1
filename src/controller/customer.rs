//! The controller of `CustomerTokenTtl`.

mod claim;
mod examine;
mod restoration;
mod settle;
mod telling;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt};
use tokio::time::Instant;

pub(super) use self::claim::claim;
use self::claim::claim_id;
use self::examine::Errand;
use self::restoration::Parted;
use self::telling::{announce, announce_drift, new_status};
use super::context::{AGAIN, Context, Request, UNDISTURBED};
use super::pace::Pace;
use super::report::{self, Owed, Reported, Written};
use super::store::{Entry, Key, Store};
use super::workers::{Kind, Look, Reconciled, wake};
use super::{logins, request, restore, server, windows};
use crate::clock;
use crate::crd::{
    Condition, CustomerTokenTtl, CustomerTokenTtlStatus, DeletionPolicy, KonaServer, Time, TtlSeconds,
};
use crate::engine::contest::Contest;
use crate::engine::customer::{self, Made, OpenChange, Reading, Ttl, Wish, remembered, written};
use crate::engine::login::News;
use crate::engine::ownership::Standing;
use crate::engine::schedule;
use crate::engine::verdict::{self, Reason, Verdict};

/// What is kept in memory of a customer between looks.
#[derive(Debug, Default)]
pub struct Memory {
    inputs: Option<Inputs>,
    pace: Pace,
    contest: Contest,
    handled: HashSet<Request>,
    /// The server's URL that the change and what is owed are about.
    url: Option<String>,
    /// The change that was begun and is not seen to its end.
    change: Option<OpenChange>,
    /// Whether what the status has on record of an open change was taken over.
    has_recalled: bool,
    /// Changes made but not yet reported.
    owed: Owed<Made>,
    polled: bool,
    /// A refusal that another user may end.
    barred: Option<logins::Barred>,
    /// How the resource, which is being deleted, leaves its customer, once that is decided.
    parted: Option<Parted>,
    /// Whether the finalizer of a deleted resource was taken off; the store may learn of it later.
    has_gone: bool,
    /// When the customer was last read.
    checked: Option<Instant>,
    /// Where the resource stood among its rivals in the last look.
    judged: Option<Standing>,
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
    /// The annotation that opens change windows by hand. It counts for those who wait for one.
    by_hand: Option<String>,
}

/// What an examination came to.
#[derive(Debug)]
struct Findings {
    verdict: Verdict,
    effective_url: Option<String>,
    /// What was read.
    read: Option<Reading>,
    /// Lifetimes proven during this look.
    proven: Option<TtlSeconds>,
    /// What is new about the login of the customer's own user.
    news: Option<News>,
    /// When the next change window opens, where a change waits for it.
    next_window: Option<Timestamp>,
    /// Of a resource that is being deleted: how it leaves its customer.
    parted: Option<Parted>,
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
            news: None,
            next_window: None,
            parted: None,
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

    fn conditions(status: &CustomerTokenTtlStatus) -> &[Condition] {
        &status.conditions
    }

    fn handled(status: &mut CustomerTokenTtlStatus) -> &mut Option<String> {
        &mut status.last_handled_reconcile_at
    }
}

impl Reconciled for CustomerTokenTtl {
    const KIND: Kind = Kind::Customer;
    type Memory = Memory;

    fn store(context: &Context) -> &Store<Self> {
        &context.customers
    }

    async fn look(context: &Arc<Context>, customer: &Arc<Self>, memory: &mut Memory) -> Look {
        if !std::mem::replace(&mut memory.has_recalled, true) {
            let status = customer.status.as_ref();
            memory.change = status.and_then(|status| remembered(status, Wish::of(&customer.spec)));
        }
        if let Some(next) = mark(context, customer, memory).await {
            return Look::NotDue(next);
        }
        let server = server_of(context, customer);
        let server = server.as_deref();
        let inputs = Inputs::gather(context, customer, server);
        let requests = requests(customer, server);
        let asked = !requests.is_subset(&memory.handled);
        let look = if customer.meta().deletion_timestamp.is_some() {
            restoration::look(context, customer, server, memory, &inputs, &requests).await
        } else if let Some(next) = not_due(customer, memory, &inputs, &requests) {
            return Look::NotDue(next);
        } else {
            look_at(context, Arc::clone(customer), server, memory, asked).await
        };
        // Where nothing came of it, it is still to be done.
        if let Look::NotDue(_) = look {
            return look;
        }
        // A standing that this look itself has changed is no reason for another; one that a rival has changed meanwhile is.
        let standing = memory.judged.take().unwrap_or(inputs.standing);
        memory.inputs = Some(Inputs { standing, ..inputs });
        let deleted = customer.meta().deletion_timestamp.is_some();
        if !deleted && paused(customer, server).is_some() {
            // A request is carried out when the work goes on.
            return look;
        }
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
        logins::observe_customer(
            &context.remotes.admission,
            meta,
            after.and_then(Entry::valid).map(Arc::as_ref),
        );
        match (before.and_then(Entry::valid), after.and_then(Entry::valid)) {
            (_, Some(customer)) => claim(context, customer),
            (Some(gone), None) => claim::release(context, gone),
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

impl Inputs {
    fn gather(context: &Context, customer: &CustomerTokenTtl, server: Option<&KonaServer>) -> Self {
        Self {
            generation: customer.meta().generation,
            wanted: (customer.spec.access_token_ttl_seconds, customer.spec.refresh_token_ttl_seconds),
            server: server.map(|server| (server.uid(), server.meta().generation)),
            server_fails: server.is_some_and(is_known_not_ready),
            standing: context.customer_claims.standing(&claim_id(customer)),
            by_hand: windows::override_annotation(customer).map(str::to_owned),
        }
    }
}

/// Holds a customer that is to be restored once something was written, and no other. When to try again, where the API
/// server did not take that.
async fn mark(context: &Arc<Context>, customer: &CustomerTokenTtl, memory: &Memory) -> Option<Instant> {
    let meta = customer.meta();
    if meta.deletion_timestamp.is_some() {
        return None;
    }
    let marked = match customer.spec.deletion_policy {
        DeletionPolicy::Retain => restore::release::<CustomerTokenTtl>(context, meta).await,
        DeletionPolicy::Restore if has_written(customer, memory) => {
            restore::hold::<CustomerTokenTtl>(context, meta).await
        }
        DeletionPolicy::Restore => Written::Unchanged,
    };
    (marked == Written::Failed).then(|| clock::instant() + AGAIN)
}

/// Whether anything was written, so that there may be something to restore.
fn has_written(customer: &CustomerTokenTtl, memory: &Memory) -> bool {
    !written(customer.status.as_ref(), memory.change.as_ref(), &memory.owed).is_empty()
}

async fn look_at(
    context: &Arc<Context>,
    customer: Arc<CustomerTokenTtl>,
    server: Option<&KonaServer>,
    memory: &mut Memory,
    asked: bool,
) -> Look {
    match paused(&customer, server) {
        Some(message) => pause(context, &customer, memory, &message).await,
        None => {
            let (meta, restores) =
                (customer.metadata.clone(), customer.spec.deletion_policy == DeletionPolicy::Restore);
            let examination = examine_and_report(context, customer, server, memory, asked);
            let examined =
                restore::until_given_up::<CustomerTokenTtl, _>(context, &meta, restores, examination);
            Box::pin(examined).await.unwrap_or_else(|| Look::NotDue(clock::instant() + AGAIN))
        }
    }
}

/// Why nothing is done for a customer for now.
fn paused(customer: &CustomerTokenTtl, server: Option<&KonaServer>) -> Option<String> {
    let suspended = server.filter(|server| server.spec.connection.suspend).map(ResourceExt::name_any);
    customer::paused(customer.spec.suspend, suspended.as_deref())
}

fn server_key(customer: &CustomerTokenTtl) -> Key {
    Key::new(customer.namespace().unwrap_or_default(), customer.spec.server_ref.name.clone())
}

fn server_of(context: &Context, customer: &CustomerTokenTtl) -> Option<Arc<KonaServer>> {
    context.servers.valid(&server_key(customer))
}

fn is_known_not_ready(server: &KonaServer) -> bool {
    let reason = server.status.as_ref().and_then(|status| verdict::ready_reason(&status.conditions));
    reason.is_some_and(|reason| !reason.is_ready())
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
            let wanted = Ttl { access: inputs.wanted.0, refresh: inputs.wanted.1 };
            // A fight over other lifetimes is another fight.
            let last = last.filter(|last| last.to == wanted.into());
            if let (Some(Reason::Contested), Some(last)) = (reason, last) {
                let ago = Duration::try_from(clock::now().0.duration_since(last.time.0)).unwrap_or_default();
                memory.contest = Contest::resumed(clock::elapsed(), ago);
            }
            if reason.is_some_and(Reason::is_remote) && !asked {
                memory.pace.postpone();
                if restore::is_leaving(customer.meta()) {
                    let left = restore::time_left(customer.meta()).mul_f64(clock::random());
                    memory.pace.not_later_than(clock::instant() + left);
                }
                memory.inputs = Some(inputs.clone());
            }
        }
        Some(before) => {
            let is_ready = reason.is_some_and(Reason::is_ready);
            if is_ready || inputs.server_fails {
                before.server_fails = inputs.server_fails;
            }
            if reason != Some(Reason::AwaitingWindow) {
                before.by_hand.clone_from(&inputs.by_hand);
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
    status.next_window = None;
    let written = report::write(context, &**customer, status).await;
    memory.pace.reset();
    let wait = if written == Written::Failed { AGAIN } else { UNDISTURBED };
    Look::Done { next: clock::instant() + wait, ready: true }
}

async fn examine_and_report(
    context: &Arc<Context>,
    mut customer: Arc<CustomerTokenTtl>,
    server: Option<&KonaServer>,
    memory: &mut Memory,
    asked: bool,
) -> Option<Look> {
    let (key, generation) = (Key::of(customer.meta()), customer.meta().generation);
    let request = request::of(&*customer).map(str::to_owned);
    let findings = examine::examine(context, &mut customer, server, memory, asked, Errand::Keep).await?;
    // What was found must not be reported of another spec.
    let now = context.customers.valid(&key);
    now.filter(|now| now.uid() == customer.uid() && now.meta().generation == generation)?;
    let was_ready = current_reason(&customer).is_some_and(Reason::is_ready);
    let verdict = findings.verdict.clone();
    memory.polled = findings.polls;
    let interval = schedule::parse(&customer.spec.interval).unwrap_or(schedule::CAP);
    let reported = memory.pace.after(&verdict, findings.retry_after, interval, was_ready, findings.polls);
    if let Some(opening) = findings.next_window {
        memory.pace.not_later_than(clock::instant_of(opening));
    }
    let mut status = new_status(&customer, &findings, memory, reported);
    status.last_handled_reconcile_at = request.or(status.last_handled_reconcile_at);
    let is_news = customer.status.as_ref().is_none_or(|before| before.pending != status.pending);
    let mut written = Written::Unchanged;
    if reported || !memory.owed.is_empty() || asked || is_news {
        let is_open = status.pending.is_some();
        written = report::write(context, &*customer, status).await;
        if matches!(written, Written::Written | Written::Unchanged) {
            announce(context, &customer, &memory.owed, Some(&verdict).filter(|_| reported));
            announce_drift(context, &customer, &findings);
            memory.owed.clear();
            memory.change = memory.change.take().filter(|_| is_open);
            memory.pace.written();
        }
    }
    if written == Written::Failed {
        memory.pace.not_written();
        memory.owed.unanswered();
    }
    let next = memory.pace.due().unwrap_or_else(|| clock::instant() + UNDISTURBED);
    Some(Look::Done { next, ready: verdict.reason.is_ready() })
}
