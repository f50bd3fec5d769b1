//! What becomes of a customer's keys when its resource is deleted.

use std::collections::HashSet;
use std::sync::Arc;

use kube::Resource as _;

use super::claim::claim_id;
use super::examine::{Errand, Examination, Progress, Stop, examine};
use super::settle::{Draft, Read};
use super::telling::{announce, new_status};
use super::{AGAIN, Findings, Inputs, Memory, not_due};
use crate::clock;
use crate::controller::audit::lifetimes;
use crate::controller::context::{Context, Request, UNDISTURBED};
use crate::controller::events::reference;
use crate::controller::report::{self, Written};
use crate::controller::workers::Look;
use crate::controller::{request, restore};
use crate::crd::{Cause, CustomerTokenTtl, DeletionPolicy, KonaServer, Mode, TtlChange, TtlSeconds};
use crate::engine::customer::{
    Made, OpenChange, Original, Reading, Restoration, known_original, restoration, written,
};
use crate::engine::ownership::Standing;
use crate::engine::schedule;
use crate::engine::verdict::{Reason, Verdict};
use crate::vendor::endpoint::BaseUrl;
use crate::vendor::kona::{Fresh, Kona};

/// What is to be put back.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Lifetimes that we may have written last.
    pub(super) written: Vec<TtlSeconds>,
    /// What stood there before.
    pub(super) original: Original,
}

/// How a resource leaves its customer.
#[derive(Clone, Debug)]
pub(super) enum Parting {
    /// There is nothing to restore.
    AsItIs,
    /// Its keys were put back.
    Restored(TtlChange),
    /// It is left as it is although it was to be restored, for this reason.
    Skipped(&'static str),
}

/// What a deleted resource is owed.
enum Duty {
    Part(Parting),
    Restore(Task),
}

/// Decides what is done for a deleted resource. The rules in order:
///
/// 1. What was decided in an earlier look stands, and what was restored is not restored again.
/// 2. Under Retain or Observe, and while work is paused, nothing is touched; where nothing was written, nothing needs to.
/// 3. Where the original is unknown, was another server's, or the customer is another resource's, it is left as it is.
fn duty(
    context: &Context,
    customer: &CustomerTokenTtl,
    server: Option<&KonaServer>,
    memory: &Memory,
) -> Duty {
    if let Some(parting) = &memory.parting {
        return Duty::Part(parting.clone());
    }
    let status = customer.status.clone().unwrap_or_default();
    let spec = &customer.spec;
    let is_restored = status.history.first().is_some_and(|change| change.cause == Cause::Restore);
    let is_paused = spec.suspend || server.is_some_and(|server| server.spec.connection.suspend);
    let written = written(Some(&status), memory.change.as_ref(), &memory.owed);
    if is_restored
        || spec.deletion_policy == DeletionPolicy::Retain
        || spec.mode == Mode::Observe
        || is_paused
        || written.is_empty()
    {
        return Duty::Part(Parting::AsItIs);
    }
    let Some(original) = known_original(&status, &memory.owed) else {
        return Duty::Part(Parting::Skipped("the original values are unknown"));
    };
    let url = server.and_then(|server| BaseUrl::parse(&server.spec.connection.url).ok());
    if url.is_some_and(|url| status.effective_url.is_some_and(|before| before != url.to_string())) {
        return Duty::Part(Parting::Skipped("the server's URL has changed since the last write"));
    }
    if context.customer_claims.standing(&claim_id(customer)) == Standing::Loser {
        return Duty::Part(Parting::Skipped(RIVAL));
    }
    Duty::Restore(Task { written, original })
}

const RIVAL: &str = "another CustomerTokenTtl manages the customer";

/// Looks at a customer whose resource is being deleted: puts its keys back, where that is owed, and lets the resource go.
pub(super) async fn look(
    context: &Arc<Context>,
    customer: &Arc<CustomerTokenTtl>,
    server: Option<&KonaServer>,
    memory: &mut Memory,
    inputs: &Inputs,
    requests: &HashSet<Request>,
) -> Look {
    let meta = customer.meta();
    if !restore::is_held(meta) || memory.has_gone {
        // Somebody else keeps it. A request on the server does not wait for that.
        return Look::Done { next: clock::instant() + UNDISTURBED, ready: true };
    }
    let task = match duty(context, customer, server, memory) {
        Duty::Part(parting) => return part(context, customer, memory, parting).await,
        Duty::Restore(task) => task,
    };
    if let Some(why) = restore::let_go(context, meta).await {
        return part(context, customer, memory, Parting::Skipped(why.as_str())).await;
    }
    if let Some(next) = not_due(customer, memory, inputs, requests) {
        return Look::NotDue(next.min(restore::next_look(meta)));
    }
    let asked = !requests.is_subset(&memory.handled);
    let mut working = Arc::clone(customer);
    let findings = tokio::select! {
        biased;
        findings = examine(context, &mut working, server, memory, asked, Errand::Restore(&task)) => findings,
        why = restore::given_up::<CustomerTokenTtl>(context, meta) => {
            let Some(why) = why else { return Look::NotDue(clock::instant() + UNDISTURBED) };
            return part(context, customer, memory, Parting::Skipped(why.as_str())).await;
        }
    };
    let Some(mut findings) = findings else {
        return Look::NotDue((clock::instant() + AGAIN).min(restore::next_look(meta)));
    };
    match findings.parting.take() {
        Some(parting) => part(context, &working, memory, parting).await,
        None if findings.verdict.reason == Reason::Conflict => {
            part(context, &working, memory, Parting::Skipped(RIVAL)).await
        }
        None => wait(context, &working, memory, findings).await,
    }
}

/// Reports what keeps the keys from being put back.
async fn wait(
    context: &Arc<Context>,
    customer: &CustomerTokenTtl,
    memory: &mut Memory,
    mut findings: Findings,
) -> Look {
    findings.verdict.message.push_str(
        " Deletion waits up to ten minutes for the original lifetimes to be restored; the annotation tenure.dev/skip-restore: \"true\" skips that.",
    );
    let interval = schedule::parse(&customer.spec.interval).unwrap_or(schedule::CAP);
    memory.polled = findings.polls;
    memory.pace.after(&findings.verdict, findings.retry_after, interval, false, findings.polls);
    if report(context, customer, memory, &findings).await == Written::Failed {
        memory.pace.not_written();
    } else {
        memory.pace.written();
    }
    let next = restore::next_look(customer.meta());
    Look::Done { next: memory.pace.due().map_or(next, |due| due.min(next)), ready: false }
}

/// Writes what came of a look. The resource is about to go: what the API server does not take is not written again.
async fn report(
    context: &Arc<Context>,
    customer: &CustomerTokenTtl,
    memory: &mut Memory,
    findings: &Findings,
) -> Written {
    let mut status = new_status(customer, findings, memory, true);
    let request = request::of(customer).map(str::to_owned);
    status.last_handled_reconcile_at = request.or(status.last_handled_reconcile_at);
    let is_open = status.pending.is_some();
    let written = report::write(context, customer, status).await;
    if matches!(written, Written::Written | Written::Unchanged) {
        announce(context, customer, &memory.owed, Some(&findings.verdict));
        memory.owed.clear();
        memory.change = memory.change.take().filter(|_| is_open);
    } else {
        memory.owed.unanswered();
    }
    written
}

/// Records and tells how the resource leaves its customer, and takes the finalizer off.
async fn part(
    context: &Arc<Context>,
    customer: &Arc<CustomerTokenTtl>,
    memory: &mut Memory,
    parting: Parting,
) -> Look {
    if let Parting::Restored(change) = &parting {
        let verdict = Verdict::new(
            Reason::Progressing,
            "The customer's original token lifetimes are restored; the resource is being deleted.",
        );
        let title = customer.status.as_ref().and_then(|status| status.customer_title.clone());
        let read = Reading { title, ttl: change.to };
        memory.owed.add(Made { change: change.clone(), original: Original::new() });
        let findings = Findings { read: Some(read), ..Findings::of(verdict) };
        report(context, customer, memory, &findings).await;
        memory.owed.clear();
    }
    // Only the finalizer is left, should it not come off at once.
    memory.parting = Some(match &parting {
        Parting::Restored(_) => Parting::AsItIs,
        other => other.clone(),
    });
    match restore::release::<CustomerTokenTtl>(context, customer.meta()).await {
        Written::Failed | Written::Forbidden => {
            Look::Done { next: restore::next_look(customer.meta()), ready: false }
        }
        Written::Gone | Written::Written | Written::Unchanged => {
            memory.has_gone = true;
            if let Parting::Skipped(why) = parting {
                restore::skipped(context, reference(&**customer), why);
            }
            Look::Done { next: clock::instant() + UNDISTURBED, ready: true }
        }
    }
}

impl Examination<'_> {
    /// Puts the customer's keys back as they were, where they still hold what we wrote, and reads that back.
    pub(super) async fn put_back(
        &self,
        kona: &Kona<'_>,
        mut read: Read,
        task: &Task,
        memory: &mut Memory,
        progress: &mut Progress,
    ) -> Result<Findings, Stop> {
        let mut races = 0;
        let parting = loop {
            match restoration(&read.info, &task.written, &task.original) {
                Restoration::AsBefore => break restored(memory, read.info.ttl()),
                Restoration::Foreign => {
                    break Parting::Skipped("something else has changed the value since the last write");
                }
                Restoration::PutBack => {}
            }
            let (from, before) = (read.info.ttl(), read.info.clone());
            let Some(info) = read.info.restored(&task.original) else {
                break Parting::Skipped("the recorded original values cannot be parsed");
            };
            let Some(turn) = kona.turn() else {
                // Others need its seat meanwhile.
                drop(read.seat);
                drop(kona.wait_turn().await);
                read = self.read(kona, progress).await?;
                continue;
            };
            races += 1;
            let change = self.change(&before, info.ttl(), Cause::Restore, memory);
            let may_send = || self.still_holds();
            let draft = Draft { info: &info, change, turn, races, may_send: &may_send };
            let fresh = Fresh { customer: read.object, seat: read.seat };
            let written = self.post(kona, fresh, draft, memory, progress).await?;
            read = self.read(kona, progress).await?;
            progress.saw(read.info.is_as(&task.original), &lifetimes(read.info.ttl()));
            if written && read.info.is_as(&task.original) {
                break restored(memory, read.info.ttl());
            }
            if written && read.info.ttl() == from {
                let message = "The server accepted the original token lifetimes but returned different values on read-back. Check the server.";
                return Err(Verdict::new(Reason::VerificationFailed, message).into());
            }
        };
        let message = "The customer's original token lifetimes are not restored yet.";
        Ok(Findings { parting: Some(parting), ..Findings::of(Verdict::new(Reason::Progressing, message)) })
    }
}

/// How the resource leaves a customer that is as before: restored by it, now or by a write whose answer was lost, or so all
/// by itself.
fn restored(memory: &mut Memory, to: TtlSeconds) -> Parting {
    match memory.change.take().filter(|open| open.may_hold() && open.cause == Cause::Restore) {
        Some(OpenChange { from, cause, .. }) => {
            Parting::Restored(TtlChange { time: clock::now(), from, to, cause })
        }
        None => Parting::AsItIs,
    }
}
