//! Decide and act: from a customer as it was read to what is reported of it, one step after the other.

use std::time::Duration;

use super::Found;
use super::examine::{Examination, Read, Stop, understand};
use crate::clock;
use crate::controller::audit::Write;
use crate::controller::reconcile::{Findings, Memory, send};
use crate::crd::{Cause, CustomerTokenTtl, DeletionPolicy, Kind, TtlSeconds};
use crate::engine::access::AccessError;
use crate::engine::audit::{Line, Operation, lifetimes};
use crate::engine::change::reference;
use crate::engine::customer::{
    AdditionalInfo, FOREIGN, OpenChange, Parting, Prior, Restoration, Seen, Step, Task, Ttl, UNPARSABLE,
    Unusable, awaiting_window, decide, follow_contest, known_original, made, not_restored, prepare, proven,
    put_on_record, raced, rejected, restoration, restored, set_read, unrecordable, unrecorded, unusable,
    with_additional_info,
};
use crate::engine::gateway::BETWEEN_PROOFS;
use crate::engine::lifetime::proves;
use crate::runtime::secrets::Age;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::http::Purpose;
use crate::vendor::kona::{Kona, Outgoing};
use crate::vendor::remotes::Login;
use crate::vendor::spelling::Turn;

/// Writes that may meet a newer version before a reconcile gives up.
const RACES: u8 = 3;

/// A write that is about to be sent.
struct Draft<'a> {
    info: &'a AdditionalInfo,
    change: OpenChange,
    turn: Turn,
}

impl Examination<'_, '_> {
    async fn read(&mut self, kona: &Kona<'_>) -> Result<Read, Stop> {
        let purpose = Purpose::after(self.progress.sent);
        let fresh = kona.read_customer(&self.customer.spec.customer_id, purpose).await?;
        Ok(understand(fresh, &mut self.progress)?)
    }

    /// Takes one step after the other until there is something to report.
    pub(super) async fn settle(
        &mut self,
        kona: &Kona<'_>,
        read: Read,
        endpoint: &Endpoint,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<Findings<CustomerTokenTtl>, Stop> {
        let wish = self.wish;
        // What was sent and not read back, or made and not reported, is not known to be proven, whatever was proven before it.
        let is_open = memory.change.as_deref().is_some_and(OpenChange::may_hold) || !memory.owed.is_empty();
        let prior = Prior { read: self.prior.read.filter(|_| !is_open), ..self.prior };
        let mut seen = Seen { ttl: read.info.ttl(), read_back: false, token: None, proofs: 0 };
        let mut last = Some(read);
        memory.contest = follow_contest(memory.contest, wish, &self.prior, seen.ttl, clock::elapsed());
        self.close(memory, seen.ttl);
        let verdict = loop {
            match decide(wish, &prior, seen, memory.contest, clock::elapsed()) {
                Step::Report(verdict) => break verdict,
                Step::Write { cause } => {
                    self.may_change(seen.ttl)?;
                    let read = match last.take() {
                        Some(read) => read,
                        None => self.read(kona).await?,
                    };
                    let written = self.write(kona, read, cause, memory).await?;
                    let read = self.read(kona).await?;
                    let ttl = read.info.ttl();
                    self.progress.saw(ttl == wish.ttl.into(), &lifetimes(ttl));
                    self.close(memory, ttl);
                    // If something else was faster it begins again with what that wrote.
                    seen = Seen { ttl, read_back: written, token: None, proofs: 0 };
                    last = Some(read);
                }
                Step::Prove => {
                    // Its seat is needed by others, the proving login among them.
                    last = None;
                    self.prove(endpoint, &mut seen).await?;
                }
            }
        };
        let proven = proven(&self.prior, verdict.reason, &seen, !memory.owed.is_empty());
        Ok(Findings { found: Found { read: None, proven }, ..Findings::from(verdict) })
    }

    /// Logs in as the customer's user, if there is one, to prove the lifetime of new tokens.
    async fn prove(&mut self, endpoint: &Endpoint, seen: &mut Seen) -> Result<(), Stop> {
        if seen.proofs > 0 {
            tokio::time::sleep(BETWEEN_PROOFS).await;
        }
        seen.proofs += 1;
        // Read again before the login: what was read for an earlier reconcile may have been corrected since.
        let Some(credentials) = self.verifier(endpoint, Age::Now).await? else { return Ok(()) };
        let kona = Kona::new(Login::new(&self.controller.connections.remotes, endpoint, &credentials, None));
        let token = kona.prove(Purpose::after(self.progress.sent)).await;
        let access = token.map_err(|error| self.not_proven(&error, &credentials))?;
        seen.token = Some(access);
        let ttl = self.wish.ttl;
        self.progress.saw(proves(access, ttl.access), &lifetimes(Ttl { access, ..ttl }.into()));
        Ok(())
    }

    /// What took effect goes into the history, whatever comes of the rest: the open change, or one that an earlier process has
    /// made and not reported.
    fn close(&self, memory: &mut Memory<CustomerTokenTtl>, seen: TtlSeconds) {
        if let Some(open) = memory.change.take_if(|open| open.is_to_be_closed(&seen)) {
            memory.owed.add(made(&open, clock::now()));
        } else if memory.owed.is_empty() {
            let reference = reference(&self.customer.metadata);
            memory.owed.add(unrecorded(&self.customer.spec, &self.prior, seen, (clock::now(), reference)));
        }
    }

    /// Whether a change may be made now: it waits for a window if the resource has any.
    fn may_change(&mut self, seen: TtlSeconds) -> Result<(), Stop> {
        self.progress.closed = self.closed_window();
        let Some(closed) = self.progress.closed else { return Ok(()) };
        Err(awaiting_window(seen, self.wish.ttl, &closed.message("this resource")).into())
    }

    /// Merges the lifetimes into the customer and writes it. False if something else was faster.
    async fn write(
        &mut self,
        kona: &Kona<'_>,
        read: Read,
        cause: Cause,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<bool, Stop> {
        self.progress.tries += 1;
        let change = self.change(&read.info, self.wish.ttl.into(), cause, memory);
        if let Some(verdict) = unrecordable(&change.found) {
            return Err(verdict.into());
        }
        let Some((read, turn)) = self.ready(kona, read, &change, memory).await? else {
            return self.lost_race();
        };
        let (from, merged) = (read.info.ttl(), read.info.clone().merged(self.wish.ttl));
        let written = match self.post(kona, read, Draft { info: &merged, change, turn }, memory).await {
            Err(Stop::Access(error)) if error.is_unsent() => {
                self.may_change(from)?;
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
    fn change(
        &self,
        info: &AdditionalInfo,
        to: TtlSeconds,
        cause: Cause,
        memory: &Memory<CustomerTokenTtl>,
    ) -> OpenChange {
        let status = self.customer.status.as_ref();
        let change = OpenChange {
            reference: reference(&self.customer.metadata),
            original_before: status.and_then(|status| known_original(status, &memory.owed)),
            ..OpenChange::new((info.ttl(), info.original()), to, cause, clock::now().0)
        };
        change.following(memory.change.as_deref())
    }

    /// Makes durable what must be before a write, and waits for its turn. If either took time, or the read did, the customer is
    /// read again, so that between that and the write there is one round trip. None if its lifetimes have changed meanwhile.
    async fn ready(
        &mut self,
        kona: &Kona<'_>,
        read: Read,
        change: &OpenChange,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<Option<(Read, Turn)>, Stop> {
        let restores = self.customer.spec.deletion_policy == DeletionPolicy::Restore;
        if !restores
            && !read.is_late
            && let Some(turn) = kona.turn()
        {
            return Ok(Some((read, turn)));
        }
        let original = read.info.original();
        // Others need its seat meanwhile, and the room that it takes.
        drop(read);
        if restores {
            self.secure(change, memory).await?;
        }
        let turn = kona.wait_turn(Purpose::after(self.progress.sent)).await?;
        let again = self.read(kona).await?;
        Ok((again.info.original() == original).then_some((again, turn)))
    }

    /// Writes a customer as it was read, but for its `additionalInfo`. False if something else was faster.
    async fn post(
        &mut self,
        kona: &Kona<'_>,
        Read { object, seat, .. }: Read,
        Draft { info, change, turn }: Draft<'_>,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<bool, Stop> {
        let object = with_additional_info(object, info).ok_or_else(|| unusable(Unusable::NotAnObject))?;
        let id = &self.customer.spec.customer_id;
        let seen = self.progress.read.as_ref().map(|read| read.ttl).unwrap_or_default();
        let line = Line {
            customer: Some(id.clone()),
            change_ref: change.reference.clone(),
            ..Line::new(Operation::SetCustomer, &self.url, Kind::Customer, &self.customer.metadata)
        };
        let mut write = Write::from(line.changing(&lifetimes(seen), &lifetimes(info.ttl()), change.cause));
        let until = seat.until;
        let is_held_up = || clock::uptime() > until;
        let (outgoing, may_send) = (Outgoing { id, object: &object }, || !is_held_up() && self.permitted());
        let answer =
            send(change, &mut write, kona.write_customer(&outgoing, seat, turn, &may_send), memory).await;
        self.progress.write = Some(write);
        let Err(error) = answer else {
            self.progress.sent = true;
            return Ok(true);
        };
        if matches!(error, AccessError::NotSent) && is_held_up() {
            return self.lost_race();
        }
        if let AccessError::Remote(failed) = &error {
            self.progress.sent = !error.is_unsent();
            if failed.status() == Some(409) {
                return self.lost_race();
            }
            if let Some(verdict) = rejected(failed) {
                return Err(verdict.into());
            }
        }
        Err(error.into())
    }

    /// Something else was faster: the write begins again, a few times; then as after any failure, not at the interval.
    fn lost_race(&self) -> Result<bool, Stop> {
        let again = Findings { retry_after: Some(Duration::ZERO), ..Findings::from(raced()) };
        if self.progress.tries < RACES { Ok(false) } else { Err(again.into()) }
    }

    /// Makes sure that what is about to be written can be undone: the resource does not go without us, and the original
    /// values are in the status, even if we end in the middle of it.
    async fn secure(
        &mut self,
        change: &OpenChange,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<(), Stop> {
        self.customer.hold().await?;
        let mut status = self.customer.status.clone().unwrap_or_default();
        status.effective_url = Some(self.url.clone());
        if let Some(read) = &self.progress.read {
            set_read(&mut status, read, &clock::now());
        }
        let owed = memory.owed.unrecorded(|made| status.history.contains(&made.change));
        put_on_record(&mut status, owed);
        prepare(&mut status, change, memory.change.as_deref());
        self.customer.prepare(change, Some(status), memory).await
    }

    /// Restores the customer's keys, if they still hold what we wrote, and reads that back.
    pub(super) async fn restore(
        &mut self,
        kona: &Kona<'_>,
        mut read: Read,
        task: &Task,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<Findings<CustomerTokenTtl>, Stop> {
        let parting = loop {
            match restoration(&read.info, &task.written, &task.original) {
                Restoration::AsBefore => break Parting::AsItIs,
                Restoration::Foreign => break Parting::Skipped(FOREIGN),
                Restoration::Restore => {}
            }
            let from = read.info.ttl();
            let Some(info) = read.info.clone().restored(&task.original) else {
                break Parting::Skipped(UNPARSABLE);
            };
            let turn = if read.is_late { None } else { kona.turn() };
            let Some(turn) = turn else {
                // Others need its seat meanwhile, and the room that it takes.
                drop((read, info));
                drop(kona.wait_turn(Purpose::after(self.progress.sent)).await?);
                read = Read { is_late: false, ..self.read(kona).await? };
                continue;
            };
            self.progress.tries += 1;
            let change = self.change(&read.info, info.ttl(), Cause::Restore, memory);
            let written = self.post(kona, read, Draft { info: &info, change, turn }, memory).await?;
            read = self.read(kona).await?;
            let (ttl, is_restored) = (read.info.ttl(), read.info.is_as(&task.original));
            self.progress.saw(is_restored, &lifetimes(ttl));
            if written && is_restored {
                break Parting::AsItIs;
            }
            if written && ttl == from {
                return Err(not_restored().into());
            }
        };
        // Restored now, or by a write whose answer was lost; else it is as before by itself.
        let open = memory.change.take_if(|open| open.may_hold() && open.cause == Cause::Restore);
        if let Some((open, read)) = open.zip(self.progress.read.as_ref())
            && parting == Parting::AsItIs
        {
            memory.owed.add(made(&OpenChange { to: read.ttl, ..*open }, clock::now()));
        }
        memory.extra.parting = Some(parting);
        Ok(Findings::from(restored()))
    }
}
