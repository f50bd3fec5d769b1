//! From a customer as it was read to what is reported of it: one step after the other.

use kube::Resource as _;

use super::examine::{Examination, Progress, Stop};
use super::{Findings, Memory};
use crate::clock;
use crate::controller::audit::{Operation, Write, lifetimes};
use crate::controller::references::Age;
use crate::controller::report::{self, Written};
use crate::controller::store::Key;
use crate::controller::windows::Closed;
use crate::controller::{restore, windows};
use crate::crd::{Cause, CustomerTokenTtl, DeletionPolicy, TtlChange, TtlSeconds};
use crate::engine::change::{Outcome, reference};
use crate::engine::customer::{
    ADDITIONAL_INFO, AdditionalInfo, OpenChange, Prior, RawObject, Reading, Seen, Step, Unusable,
    awaiting_window, cause, decide, follow_contest, known_original, made, prepare, proven, put_on_record,
    rejected, set_read, unrecordable, unrecorded, unusable, with_additional_info,
};
use crate::engine::gateway::BETWEEN_PROOFS;
use crate::engine::lifetime::proves;
use crate::engine::verdict::{Reason, Verdict};
use crate::vendor::endpoint::Endpoint;
use crate::vendor::fault::Shown;
use crate::vendor::http::{MaySend, Purpose};
use crate::vendor::kona::{Fresh, Kona, Outgoing, Seat, Turn};
use crate::vendor::login::AccessError;

/// Writes that may meet a newer version before a look gives up.
pub(super) const RACES: u8 = 3;

/// A customer as it was read.
pub(super) struct Read {
    pub(super) object: RawObject,
    pub(super) info: AdditionalInfo,
    /// Kept from the read to a write that builds on it: nothing else may be awaited meanwhile.
    pub(super) seat: Seat,
}

/// A write that is about to be sent.
pub(super) struct Draft<'a> {
    pub(super) info: &'a AdditionalInfo,
    pub(super) change: OpenChange,
    pub(super) turn: Turn,
    /// Which try it is.
    pub(super) races: u8,
    /// Asked last, right before it is sent.
    pub(super) may_send: MaySend<'a>,
}

impl Examination<'_> {
    pub(super) async fn read(&self, kona: &Kona<'_>, progress: &mut Progress) -> Result<Read, Stop> {
        let purpose = if progress.sent { Purpose::Follow } else { Purpose::Ask };
        let fresh = kona.read_customer(&self.customer.spec.customer_id, purpose).await?;
        Ok(understand(fresh, progress)?)
    }

    /// Takes one step after the other until there is something to report.
    pub(super) async fn settle(
        &mut self,
        kona: &Kona<'_>,
        read: Read,
        endpoint: &Endpoint,
        memory: &mut Memory,
        progress: &mut Progress,
    ) -> Result<Findings, Stop> {
        let wish = self.wish;
        // What was begun and not read back is not known to be proven, whatever was proven before it.
        let prior = Prior { read: self.prior.read.filter(|_| memory.change.is_none()), ..self.prior };
        let mut seen = Seen { ttl: read.info.ttl(), read_back: false, token: None, proofs: 0 };
        let mut races = 0;
        let mut last = Some(read);
        memory.contest = follow_contest(memory.contest, wish, &self.prior, seen.ttl, clock::elapsed());
        close(memory, seen.ttl);
        let verdict = loop {
            match decide(wish, &prior, seen, memory.contest, clock::elapsed()) {
                Step::Report(verdict) => break verdict,
                Step::Write { cause } => {
                    self.may_change(seen.ttl, progress)?;
                    races += 1;
                    let read = match last.take() {
                        Some(read) => read,
                        None => self.read(kona, progress).await?,
                    };
                    let written = self.write(kona, read, cause, memory, progress, races).await?;
                    let read = self.read(kona, progress).await?;
                    progress.saw(read.info.ttl() == wish.ttl.into(), &lifetimes(read.info.ttl()));
                    close(memory, read.info.ttl());
                    // If something else was faster it begins again with what that wrote.
                    seen = Seen { ttl: read.info.ttl(), read_back: written, token: None, proofs: 0 };
                    last = Some(read);
                }
                Step::Prove => {
                    // Its seat is needed by others, the proving login among them.
                    last = None;
                    if seen.proofs > 0 {
                        tokio::time::sleep(BETWEEN_PROOFS).await;
                    }
                    seen.token = self.prove(endpoint, progress.sent).await?;
                    if let Some(token) = seen.token {
                        progress
                            .saw(proves(token, wish.ttl.access), &format!("{token}/{}", wish.ttl.refresh));
                    }
                    seen.proofs += 1;
                }
            }
        };
        if verdict.reason == Reason::InSync && memory.owed.is_empty() {
            self.record_unknown(memory, seen.ttl);
        }
        let proven = proven(&self.prior, verdict.reason, &seen, !memory.owed.is_empty());
        Ok(Findings { proven, ..Findings::of(verdict) })
    }

    async fn prove(&self, endpoint: &Endpoint, sent: bool) -> Result<Option<u32>, Stop> {
        // Read again before the login: what was read for the sake of an earlier look may have been corrected since.
        let Some(credentials) = self.verifier(endpoint, Age::Now).await? else { return Ok(None) };
        let kona = Kona::new(&self.context.remotes, endpoint, &credentials, None);
        let purpose = if sent { Purpose::Follow } else { Purpose::Ask };
        kona.prove(purpose).await.map(Some).map_err(|error| Stop::Proof(error, Box::new(credentials.clone())))
    }

    /// Records a change that took effect without any record of it.
    fn record_unknown(&self, memory: &mut Memory, seen: TtlSeconds) {
        if let Some(from) = self.prior.read.filter(|before| *before != seen) {
            let (time, cause) = (clock::now(), cause(self.wish.ttl, &self.prior));
            let change_ref = reference(self.customer.metadata.annotations.as_ref());
            memory.owed.add(unrecorded(TtlChange { time, from, to: seen, cause, change_ref }));
        }
    }

    /// Whether a change may be made now: it waits for a window where the resource has any.
    fn may_change(&self, seen: TtlSeconds, progress: &mut Progress) -> Result<(), Stop> {
        let Some(closed) = self.closed_window() else { return Ok(()) };
        progress.next_window = Some(closed.next);
        Err(awaiting_window(seen, self.wish.ttl, &closed.message("this resource")).into())
    }

    /// What keeps a change from being made now, if the resource has windows.
    fn closed_window(&self) -> Option<Closed> {
        // As it is now: the annotation that opens one by hand may have come while an answer was awaited.
        let now = self.context.customers.valid(&Key::of(self.customer.meta()))?;
        windows::closed(self.context, &self.customer.spec.windows, &*now)
    }

    /// Merges the lifetimes into the customer and writes it. False if something else was faster.
    async fn write(
        &mut self,
        kona: &Kona<'_>,
        read: Read,
        cause: Cause,
        memory: &mut Memory,
        progress: &mut Progress,
        races: u8,
    ) -> Result<bool, Stop> {
        let change = self.change(&read.info, self.wish.ttl.into(), cause, memory);
        if let Some(verdict) = unrecordable(&change.found) {
            return Err(verdict.into());
        }
        let Some((read, turn)) = self.ready(kona, read, &change, memory, progress).await? else {
            return if races < RACES { Ok(false) } else { Err(Stop::Raced) };
        };
        let contest = memory.contest;
        memory.contest = contest.tried(clock::elapsed());
        let (from, merged) = (read.info.ttl(), read.info.merged(self.wish.ttl));
        let may_send = || self.still_holds() && self.closed_window().is_none();
        let draft = Draft { info: &merged, change, turn, races, may_send: &may_send };
        let fresh = Fresh { customer: read.object, seat: read.seat };
        let written = match self.post(kona, fresh, draft, memory, progress).await {
            Err(Stop::Server(error)) if error.is_unsent() => {
                memory.contest = contest;
                self.may_change(from, progress)?;
                return Err(error.into());
            }
            written => written?,
        };
        if written && cause == Cause::Drift {
            memory.contest = memory.contest.corrected(clock::elapsed());
        }
        Ok(written)
    }

    /// The change that a write begins.
    pub(super) fn change(
        &self,
        info: &AdditionalInfo,
        to: TtlSeconds,
        cause: Cause,
        memory: &Memory,
    ) -> OpenChange {
        let known = self.customer.status.as_ref().map(|status| known_original(status, &memory.owed));
        let change = OpenChange {
            from: info.ttl(),
            found: info.original(),
            to,
            cause,
            policy: None,
            reference: reference(self.customer.metadata.annotations.as_ref()),
            since: clock::now().0,
            original_before: known.flatten(),
            outcome: Outcome::Prepared,
            is_recorded: false,
        };
        change.following(memory.change.as_ref())
    }

    /// Makes durable what must be before a write, and waits for leave to write. If either took time the customer is read
    /// again, so that between that and the write there is one round trip. None if its lifetimes have changed meanwhile.
    async fn ready(
        &mut self,
        kona: &Kona<'_>,
        read: Read,
        change: &OpenChange,
        memory: &mut Memory,
        progress: &mut Progress,
    ) -> Result<Option<(Read, Turn)>, Stop> {
        let restores = self.customer.spec.deletion_policy == DeletionPolicy::Restore;
        if !restores && let Some(turn) = kona.turn() {
            return Ok(Some((read, turn)));
        }
        let Read { info, seat, .. } = read;
        // Others need it meanwhile.
        drop(seat);
        if restores {
            self.secure(change, memory, progress).await?;
        }
        let turn = kona.wait_turn().await;
        let again = self.read(kona, progress).await?;
        Ok((again.info.original() == info.original()).then_some((again, turn)))
    }

    /// Writes a customer with another `additionalInfo`. False if something else was faster.
    pub(super) async fn post(
        &self,
        kona: &Kona<'_>,
        Fresh { customer: object, seat }: Fresh,
        Draft { info, change, turn, races, may_send }: Draft<'_>,
        memory: &mut Memory,
        progress: &mut Progress,
    ) -> Result<bool, Stop> {
        let object = with_additional_info(object, info).ok_or_else(|| unusable(Unusable::NotAnObject))?;
        let id = &self.customer.spec.customer_id;
        let seen = progress.read.as_ref().map(|read| read.ttl).unwrap_or_default();
        let write = Write::new(Operation::SetCustomer, &self.url, &**self.customer).about(id).changing(
            &lifetimes(seen),
            &lifetimes(info.ttl()),
            Some(change.cause),
        );
        let mut write = write.referring(change.reference.clone());
        let earlier = memory.change.replace(OpenChange { outcome: Outcome::Sent, ..change.clone() });
        let outgoing = Outgoing { id, object: &object };
        let answer = kona.write_customer(&outgoing, seat, turn, may_send).await;
        write.answered(&answer);
        memory.change = Some(change.after(write.effect(), earlier));
        progress.write = Some(write);
        let Err(error) = answer else {
            progress.sent = true;
            return Ok(true);
        };
        let AccessError::Remote(failed) = &error else { return Err(error.into()) };
        progress.sent = !error.is_unsent();
        match failed.status() {
            Some(409) if races < RACES => Ok(false),
            Some(409) => Err(Stop::Raced),
            Some(400) => {
                let field = match failed.shown() {
                    Some(Shown::Field(field)) => Some(field),
                    _ => None,
                };
                Err(rejected(field).into())
            }
            _ => Err(error.into()),
        }
    }

    /// Makes sure that what is about to be written can be undone: the resource does not go without us, and the original
    /// values are in the status, even if we end in the middle of it.
    async fn secure(
        &mut self,
        change: &OpenChange,
        memory: &mut Memory,
        progress: &Progress,
    ) -> Result<(), Stop> {
        match restore::hold_working(self.context, self.customer).await {
            Written::Unchanged | Written::Written => {}
            Written::Forbidden => return Err(restore::forbidden::<CustomerTokenTtl>().into()),
            Written::Failed | Written::Gone => return Err(Stop::Void),
        }
        if self.customer.meta().generation != self.generation {
            return Err(Stop::Void);
        }
        let mut status = self.customer.status.clone().unwrap_or_default();
        status.effective_url = Some(self.url.clone());
        if let Some(read) = &progress.read {
            set_read(&mut status, read, &clock::now());
        }
        let recorded = status.history.clone();
        put_on_record(&mut status, memory.owed.unrecorded(|made| recorded.contains(&made.change)));
        prepare(&mut status, change, memory.change.as_ref());
        if !matches!(
            report::update(self.context, self.customer, status).await,
            Written::Written | Written::Unchanged
        ) {
            return Err(Stop::Void);
        }
        memory.owed.unanswered();
        // Should it never be sent, that is known; an earlier one that was sent stays open.
        memory.change = Some(change.clone().after(Outcome::Prepared, memory.change.take()));
        Ok(())
    }
}

/// An open change has taken effect: whatever comes of the rest, it goes into the history.
fn close(memory: &mut Memory, seen: TtlSeconds) {
    if let Some(open) = memory.change.take_if(|open| open.is_to_be_closed(&seen)) {
        memory.owed.add(made(&open, clock::now()));
    }
}

impl Progress {
    /// Puts on record what was seen of the last write's effect.
    pub(super) fn saw(&mut self, holds: bool, seen: &String) {
        if let Some(write) = &mut self.write {
            write.proven(holds, seen);
        }
    }
}

/// Reads what concerns us in a customer.
pub(super) fn understand(fresh: Fresh, progress: &mut Progress) -> Result<Read, Verdict> {
    let Fresh { customer: object, seat } = fresh;
    let title = object.text("title").map(|title| report::printable(&title));
    let info = AdditionalInfo::read(object.get(ADDITIONAL_INFO));
    let ttl = info.as_ref().map(AdditionalInfo::ttl).unwrap_or_default();
    progress.read = Some(Reading { title, ttl });
    info.map(|info| Read { object, info, seat }).map_err(unusable)
}
