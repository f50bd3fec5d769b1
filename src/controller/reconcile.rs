//! How an object with a remote system is reconciled, whatever its kind: is it due, what is found and done, what is reported,
//! and when is it reconciled again.

mod managed;
mod reconciler;
mod stop;
mod working;

use std::sync::Arc;
use std::time::Duration;

use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

pub use self::managed::{ChangeOf, Controller, Findings, Given, Managed, Memory, Report};
pub(super) use self::stop::Stop;
pub use self::working::Working;
pub(super) use self::working::send;
use crate::clock;
use crate::engine::backoff::{Attempt, Inconclusive};
use crate::engine::conditions::since_ready;
use crate::engine::contest::Contest;
use crate::engine::ownership::{Standing, Trial};
use crate::engine::request;
use crate::engine::verdict::{self, Notes, Reason};
use crate::metrics::Outcome;
use crate::runtime::events::reference;
use crate::runtime::object::{Key, Reported};
use crate::runtime::reconcile::Reconcile;
use crate::runtime::restore;
use crate::runtime::secrets::Age;
use crate::runtime::status::{self, AGAIN};
use crate::runtime::workers::UNDISTURBED;
use crate::runtime::writer::Written;

/// What one reconcile began with.
struct Begun<'a, C: Controller> {
    controller: &'a C,
    object: &'a Arc<C::Object>,
    given: &'a Given<C::Object>,
}

impl<C: Controller> Begun<'_, C> {
    /// Adds or removes our finalizer, and finishes deletions. Some if there is nothing else to do. An error is what the
    /// reconcile comes to if the API server does not accept the finalizer: that is tried again as rarely as any other write.
    async fn finalize(&self, memory: &mut Memory<C::Object>) -> Result<Option<Reconcile>, Reconcile> {
        let is_alive = self.object.meta().deletion_timestamp.is_none();
        if is_alive
            && memory.inconclusive.is_some()
            && let Some(next) = self.not_due(memory)
        {
            return Err(Reconcile::NotDue(self.idle(memory, next).await));
        }
        match self.controller.finalize(self.object, self.given, memory).await {
            Ok(done) => Ok(done),
            Err(why) => {
                if memory.inputs.is_none() {
                    // What the status shows of an earlier process counts.
                    self.not_due(memory);
                }
                let next = self.inconclusive(memory, why).await;
                Err(Reconcile::Done { next, outcome: Outcome::Nothing })
            }
        }
    }

    async fn check(&self, memory: &mut Memory<C::Object>) -> Reconcile {
        let given = self.given;
        if let Some(next) = self.not_due(memory) {
            return Reconcile::NotDue(self.idle(memory, next).await);
        }
        C::Object::progress(given, None);
        let outcome = match &given.paused {
            Some(message) => match memory.spaced() {
                Some(next) => return Reconcile::NotDue(next),
                None => self.pause(memory, message).await,
            },
            None => match self.attempt(memory).await {
                Ok((outcome, reason)) => {
                    C::Object::progress(given, Some(reason));
                    outcome
                }
                Err(why) => {
                    let next = self.inconclusive(memory, why).await;
                    let next = self.idle(memory, next).await;
                    return Reconcile::Done { next, outcome: Outcome::Nothing };
                }
            },
        };
        // A standing that this reconcile itself has changed is no reason for another; one that a rival has changed meanwhile is.
        let standing = memory.acted_on.take().unwrap_or(given.standing);
        memory.inputs = Some((given.inputs.clone(), standing));
        memory.inconclusive = None;
        // A request is carried out when the object is resumed, and when the remote system may be asked again.
        if given.paused.is_none() && memory.deferred.is_none() {
            self.carried_out(memory);
        }
        outcome
    }

    /// A reconcile that was asked for has ended.
    fn carried_out(&self, memory: &mut Memory<C::Object>) {
        let (requests, asked) = (&self.given.requests, self.given.is_asked(memory));
        memory.handled.clone_from(requests);
        self.controller.handled().set(C::Object::KIND, Key::of(self.object.meta()), requests.clone());
        if asked {
            self.controller.carried_out(self.object);
        }
    }

    /// The time of the next reconcile, if nothing that counts has changed since the last one and it is not due yet.
    fn not_due(&self, memory: &mut Memory<C::Object>) -> Option<Instant> {
        let given = self.given;
        self.recall(memory);
        let (now, reason) = (clock::instant(), current_reason(&**self.object));
        let (inputs, deferred) = ((given.inputs.clone(), given.standing), memory.deferred.as_ref());
        // A system that is to be left alone would else be reconciled without end.
        let asked = given.is_asked(memory) && deferred != Some(&given.requests);
        let is_called = self.controller.is_called(self.object, given, memory) || given.is_awaited;
        match &mut memory.inputs {
            None => {
                memory.contest = remembered(given, reason);
                if let Some(failure) = reason.filter(|reason| reason.is_remote())
                    && !asked
                    && !is_called
                {
                    memory.backoff.postpone(failure, now, clock::random());
                    if let Some(left) = given.time_left {
                        // No longer than what is left for restoring.
                        memory.backoff.not_later_than(now + left.mul_f64(clock::random()));
                    }
                    memory.inputs = Some(inputs);
                }
            }
            // An API server that refuses or does not answer would be asked without end.
            Some(before) if memory.inconclusive.is_some() => {
                if *before == inputs && memory.inconclusive.as_ref() == Some(&given.requests) {
                    return memory.backoff.due().filter(|due| *due > now);
                }
                memory.inconclusive = None;
                memory.backoff.reset();
            }
            Some(before) => {
                C::Object::overlook(&mut before.0, &given.inputs, reason);
                if *before != inputs || asked || is_called {
                    memory.backoff.reset();
                }
            }
        }
        if asked {
            memory.contest = Contest::default();
        }
        memory.backoff.due().filter(|due| *due > now)
    }

    /// Brings forward what has waited for the API server and for nothing else.
    fn recall(&self, memory: &mut Memory<C::Object>) {
        let cluster = self.controller.store().cluster();
        let recalled = cluster.outages.recall(C::Object::KIND, Key::of(self.object.meta()));
        if let Some(latest) =
            recalled.filter(|_| memory.inconclusive.is_some() || memory.backoff.is_unwritten())
        {
            memory.backoff.not_later_than(latest);
        }
    }

    /// The API server did not answer, or did not take a report.
    fn awaits_api_server(&self) {
        let cluster = self.controller.store().cluster();
        cluster.outages.wait(C::Object::KIND, Key::of(self.object.meta()));
    }

    /// Ends a reconcile that has examined nothing. What the status sums up is brought up to date nevertheless.
    async fn idle(&self, memory: &mut Memory<C::Object>, next: Instant) -> Instant {
        if C::Object::SPACING.is_none() {
            return next;
        }
        let again = match memory.spaced() {
            Some(again) => Some(again),
            None => {
                // What this reconcile itself has written must not be taken back.
                let now = self.controller.store().valid(&Key::of(self.object.meta()));
                let Some(object) = now.filter(|now| now.uid() == self.object.uid()) else {
                    return next;
                };
                let mut status = object.status().cloned().unwrap_or_default();
                let is_handled = !self.given.is_asked(memory);
                self.complete(memory, &mut status, is_handled);
                let written = status::write(self.controller.store(), &*object, status).await;
                (written == Written::Failed).then(|| clock::instant() + AGAIN)
            }
        };
        again.map_or(next, |again| next.min(again))
    }

    /// Adds to a status what it sums up, and the request that was carried out.
    fn complete(
        &self,
        memory: &mut Memory<C::Object>,
        status: &mut <C::Object as Reported>::Status,
        is_handled: bool,
    ) {
        memory.summed_up = Some(clock::instant());
        self.controller.sum_up(self.object, status);
        if let Some(request) = request::open(self.object.meta(), C::Object::handled(status).as_deref())
            && is_handled
            && self.controller.is_handled(self.object, request)
        {
            *C::Object::handled(status) = Some(request.to_owned());
        }
    }

    async fn pause(&self, memory: &mut Memory<C::Object>, message: &str) -> Reconcile {
        let mut status = self.object.status().cloned().unwrap_or_default();
        status::set_suspended(&mut status, &**self.object, message);
        C::Object::pausing(&mut status);
        self.complete(memory, &mut status, false);
        let written = status::write(self.controller.store(), &**self.object, status).await;
        memory.backoff.reset();
        let wait = if written == Written::Failed { AGAIN } else { UNDISTURBED };
        Reconcile::Done { next: clock::instant() + wait, outcome: Outcome::Waiting }
    }

    /// Examines the remote system and reports what that came to, for as long as a deletion waits for it.
    async fn attempt(&self, memory: &mut Memory<C::Object>) -> Result<(Reconcile, Reason), Inconclusive> {
        let work = Box::pin(self.examine_and_report(memory));
        if !self.given.holds {
            return work.await;
        }
        tokio::select! {
            biased;
            done = work => done,
            _ = restore::until_skipped(self.controller.store(), self.object.meta()) => Err(Inconclusive::Outdated),
        }
    }

    async fn examine_and_report(
        &self,
        memory: &mut Memory<C::Object>,
    ) -> Result<(Reconcile, Reason), Inconclusive> {
        let Self { controller, object, given } = *self;
        let mut working = Working::new(controller.store(), object);
        let findings = controller.examine(&mut working, given, memory).await?;
        memory.deferred = findings.deferred.then(|| given.requests.clone());
        if let Some(outcome) = controller.conclude(&working, memory).await {
            return Ok((outcome, findings.verdict.reason));
        }
        // What was found must not be reported of another spec.
        working.current().ok_or(Inconclusive::Outdated)?;
        let reason = findings.verdict.reason;
        let attempt = Attempt {
            reason,
            retry_after: findings.retry_after,
            interval: findings.trial.map_or(given.interval, |trial| given.pace(trial)),
            was_ready: current_reason(&*working).is_some_and(Reason::is_ready),
            polls: findings.polls,
        };
        let shown = memory.backoff.attempted(clock::instant(), clock::random(), attempt);
        memory.age = Age::for_retry(findings.polls, shown);
        if let Some(trial) = findings.trial
            && self.has_lost(working.meta(), trial.counting(shown), memory)
        {
            // The next reconcile reports that. To a later process, a fault would show an owner that does not answer.
            return Ok((Reconcile::Done { next: clock::instant(), outcome: reason.into() }, reason));
        }
        if let Some(opens) = findings.opens {
            memory.backoff.not_later_than(clock::instant_of(opens));
        }
        let is_new = shown || given.is_asked(memory) || !memory.owed.is_empty() || memory.change.is_some();
        if is_new || C::Object::SPACING.is_some() {
            let before = reported_reason(&**object);
            let report = Report { object: &*working, given, findings: &findings, before, shown };
            self.write(&report, memory).await;
        }
        let next = memory.backoff.due().unwrap_or_else(|| clock::instant() + UNDISTURBED);
        Ok((Reconcile::Done { next, outcome: reason.into() }, reason))
    }

    /// Records how the try to log in has ended. True if a rival owns the remote object by that, which is a reason for another
    /// reconcile. What else it changes about the standing is none.
    fn has_lost(&self, meta: &ObjectMeta, trial: Trial, memory: &mut Memory<C::Object>) -> bool {
        if C::SHARES {
            return false;
        }
        let claims = self.controller.claims();
        let acted_on = memory.acted_on.unwrap_or(self.given.standing);
        let is_known = acted_on == claims.standing(meta);
        claims.record(meta, trial);
        let standing = claims.standing(meta);
        if standing == Standing::Loser && acted_on != Standing::Loser {
            return true;
        }
        if is_known {
            memory.acted_on = Some(standing);
        }
        false
    }

    /// Writes a report, and publishes what is new once it is written.
    async fn write(&self, report: &Report<'_, C::Object>, memory: &mut Memory<C::Object>) {
        let (object, findings) = (report.object, report.findings);
        let mut status = object.status().cloned().unwrap_or_default();
        C::Object::update(&mut status, report, memory);
        if report.shown {
            status::set_verdict(&mut status, object, &findings.verdict, &findings.notes);
        }
        let is_handled = memory.deferred.is_none();
        self.complete(memory, &mut status, is_handled);
        match status::write(self.controller.store(), object, status).await {
            Written::Done | Written::Unchanged => {
                self.controller.announce(report, memory);
                if report.shown {
                    let policy = || self.controller.policy(object, report.given);
                    let known = (report.before, memory.warned);
                    let cluster = self.controller.store().cluster();
                    cluster.report_transition(reference(object), policy, known, &findings.verdict);
                }
                let shown = report.shown.then_some(findings.verdict.reason);
                memory.warned = since_ready(shown, since_ready(report.before, memory.warned));
                memory.owed.clear();
                memory.backoff.written();
            }
            Written::Failed => {
                self.awaits_api_server();
                memory.backoff.not_written(clock::instant(), clock::random());
                memory.owed.unanswered();
            }
            Written::Gone | Written::Forbidden => {}
        }
    }

    /// A reconcile was inconclusive: it is retried with backoff, and reported if that continues. Returns when it is due.
    async fn inconclusive(&self, memory: &mut Memory<C::Object>, why: Inconclusive) -> Instant {
        let Self { controller, object, given } = *self;
        memory.acted_on = None;
        if why == Inconclusive::Asked {
            return clock::instant() + AGAIN;
        }
        self.awaits_api_server();
        memory.inputs = Some((given.inputs.clone(), given.standing));
        memory.inconclusive = Some(given.requests.clone());
        if memory.backoff.inconclusive(clock::instant(), clock::random())
            && let Some(now) = controller.store().valid(&Key::of(object.meta()))
            && now.uid() == object.uid()
        {
            let mut status = now.status().cloned().unwrap_or_default();
            let notes = Notes::reported(C::Object::conditions(&status), now.meta().generation);
            status::set_verdict(&mut status, &*now, &why.verdict(), &notes);
            status::write(controller.store(), &*now, status).await;
        }
        memory.backoff.due().unwrap_or_else(|| clock::instant() + AGAIN)
    }
}

/// The contest that a status shows.
fn remembered<K: Managed>(given: &Given<K>, reason: Option<Reason>) -> Contest {
    let now = clock::now().0;
    let ago = |time| Duration::try_from(now.duration_since(time)).unwrap_or_default();
    let set: Vec<_> = given.last_set.iter().map(|(time, cause)| (ago(*time), *cause)).collect();
    Contest::remembered(clock::elapsed(), &set, given.interval, reason == Some(Reason::Contested))
}

/// Reason of the Ready condition, if it is about the current spec.
#[must_use]
pub(crate) fn current_reason<K: Reported>(object: &K) -> Option<Reason> {
    let status = object.status()?;
    let is_current = K::observed_generation(status) == object.meta().generation;
    verdict::ready_reason(K::conditions(status)).filter(|_| is_current)
}

/// Reason of the Ready condition, even if it is about an earlier spec.
fn reported_reason<K: Reported>(object: &K) -> Option<Reason> {
    verdict::ready_reason(K::conditions(object.status()?))
}
