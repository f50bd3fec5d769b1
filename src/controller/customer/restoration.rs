//! What becomes of a customer's keys when its resource is deleted.

use std::collections::HashSet;
use std::sync::Arc;

use kube::Resource as _;

use super::claim::claim_id;
use super::examine::{Errand, Examination, Progress, Stop, examine};
use super::settle::{Draft, Read};
use super::telling::{announce, new_status};
use super::{AGAIN, Findings, Inputs, Memory, not_due, paused};
use crate::clock;
use crate::controller::audit::lifetimes;
use crate::controller::context::{Context, Request, UNDISTURBED};
use crate::controller::events::reference;
use crate::controller::report::{self, Written};
use crate::controller::workers::Look;
use crate::controller::{request, restore};
use crate::crd::{Cause, CustomerTokenTtl, KonaServer, TtlChange, TtlSeconds};
use crate::engine::customer::{
    Departure, FOREIGN, Made, OpenChange, Original, Parting, RIVAL, Reading, Restoration, Task, UNPARSABLE,
    not_restored, parting, restoration, restored, waiting,
};
use crate::engine::schedule;
use crate::engine::verdict::Reason;
use crate::vendor::endpoint::BaseUrl;
use crate::vendor::kona::{Fresh, Kona};

/// How a resource leaves its customer, once that is decided.
#[derive(Clone, Debug)]
pub(super) enum Parted {
    /// There was nothing to restore.
    AsItIs,
    /// Its keys were restored.
    Restored(TtlChange),
    /// It is left as it is although it was to be restored, for this reason.
    Skipped(&'static str),
}

/// What a deleted resource requires.
fn required(
    context: &Context,
    customer: &CustomerTokenTtl,
    server: Option<&KonaServer>,
    memory: &Memory,
) -> Parting {
    let url = server.and_then(|server| BaseUrl::parse(&server.spec.connection.url).ok());
    parting(Departure {
        spec: &customer.spec,
        status: &customer.status.clone().unwrap_or_default(),
        open: memory.change.as_ref(),
        owed: &memory.owed,
        is_paused: paused(customer, server).is_some(),
        url: url.map(|url| url.to_string()).as_deref(),
        standing: context.customer_claims.standing(&claim_id(customer)),
    })
}

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
    if let Some(parted) = memory.parted.clone() {
        return part(context, customer, memory, parted).await;
    }
    let task = match required(context, customer, server, memory) {
        Parting::AsItIs => return part(context, customer, memory, Parted::AsItIs).await,
        Parting::Skipped(why) => return part(context, customer, memory, Parted::Skipped(why)).await,
        Parting::Restore(task) => task,
    };
    if let Some(why) = restore::let_go(context, meta).await {
        return part(context, customer, memory, Parted::Skipped(why.as_str())).await;
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
            return part(context, customer, memory, Parted::Skipped(why.as_str())).await;
        }
    };
    let Some(mut findings) = findings else {
        return Look::NotDue((clock::instant() + AGAIN).min(restore::next_look(meta)));
    };
    match findings.parted.take() {
        Some(parted) => part(context, &working, memory, parted).await,
        None if findings.verdict.reason == Reason::Conflict => {
            part(context, &working, memory, Parted::Skipped(RIVAL)).await
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
    findings.verdict = waiting(findings.verdict);
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
    parted: Parted,
) -> Look {
    if let Parted::Restored(change) = &parted {
        let title = customer.status.as_ref().and_then(|status| status.customer_title.clone());
        let read = Reading { title, ttl: change.to };
        memory.owed.add(Made { change: change.clone(), original: Original::new() });
        let findings = Findings { read: Some(read), ..Findings::of(restored()) };
        report(context, customer, memory, &findings).await;
        memory.owed.clear();
    }
    // Only the finalizer is left, should it not come off at once.
    memory.parted = Some(match &parted {
        Parted::Restored(_) => Parted::AsItIs,
        other => other.clone(),
    });
    match restore::release::<CustomerTokenTtl>(context, customer.meta()).await {
        Written::Failed | Written::Forbidden => {
            Look::Done { next: restore::next_look(customer.meta()), ready: false }
        }
        Written::Gone | Written::Written | Written::Unchanged => {
            memory.has_gone = true;
            if let Parted::Skipped(why) = parted {
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
        let parted = loop {
            match restoration(&read.info, &task.written, &task.original) {
                Restoration::AsBefore => break as_before(memory, read.info.ttl()),
                Restoration::Foreign => break Parted::Skipped(FOREIGN),
                Restoration::PutBack => {}
            }
            let (from, before) = (read.info.ttl(), read.info.clone());
            let Some(info) = read.info.restored(&task.original) else {
                break Parted::Skipped(UNPARSABLE);
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
                break as_before(memory, read.info.ttl());
            }
            if written && read.info.ttl() == from {
                return Err(not_restored().into());
            }
        };
        Ok(Findings { parted: Some(parted), ..Findings::of(restored()) })
    }
}

/// How the resource leaves a customer that is as before: restored by it, now or by a write whose answer was lost, or so all
/// by itself.
fn as_before(memory: &mut Memory, to: TtlSeconds) -> Parted {
    match memory.change.take().filter(|open| open.may_hold() && open.cause == Cause::Restore) {
        Some(OpenChange { from, cause, reference, .. }) => {
            Parted::Restored(TtlChange { time: clock::now(), from, to, cause, change_ref: reference })
        }
        None => Parted::AsItIs,
    }
}
