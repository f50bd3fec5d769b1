//! From an appliance as it was read to what is reported of it: one step after the other, each as far as it is permitted.

use kube::Resource as _;

use super::examination::{Clearance, Examination, Stop};
use super::{Found, GatewayController};
use crate::clock;
use crate::controller::audit::{Operation, Write};
use crate::controller::reconcile::{Findings, Memory};
use crate::controller::references::Unread;
use crate::controller::rollout::{Answer, Held};
use crate::crd::{Cause, Kind, Time, TokenPolicySpec, X2Gateway, X2GatewayStatus};
use crate::engine::backoff::Inconclusive;
use crate::engine::change::Outcome;
use crate::engine::gateway::{
    BETWEEN_PROOFS, Conclusion, Intent, OpenChange, Prior, Seen, Step, awaiting_rollout, decide, entry,
    follow, known_original, must_be_durable, not_restored, owes_revocation, prepare, put_on_record,
    under_change,
};
use crate::engine::governance::Governance;
use crate::engine::lifetime::proves;
use crate::engine::restoration::forbidden;
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::runtime::secrets::Age;
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, status};
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::login::AccessError;
use crate::vendor::x2::X2;

impl Examination<'_> {
    /// Takes one step after the other until there is something to report.
    pub(super) async fn settle(
        &mut self,
        x2: &mut X2<'_>,
        mut seen: Seen,
        (endpoint, credentials): (&Endpoint, &Credentials),
        memory: &mut Memory<X2Gateway>,
    ) -> Result<Findings<X2Gateway>, Stop> {
        // What was begun and not completed is not known to be proven, whatever was proven before it.
        let prior =
            Prior { timeout: self.prior.timeout.filter(|_| memory.change.is_none()), ..self.prior.clone() };
        let required = (&self.governance.regime, &self.prior);
        (memory.contest, memory.extra.contested) =
            follow(memory.contest, &memory.extra.contested, required, seen.timeout, clock::elapsed());
        let (mut reread, mut record, mut held) = (false, None::<Write>, None::<Held>);
        let verdict = loop {
            let step = decide(&self.governance.regime, &prior, seen, memory.contest, clock::elapsed());
            let intent = match step {
                Step::Write { to, cause } => Some(Intent { from: seen.timeout, to, cause }),
                Step::Prove | Step::Read | Step::Report(_) => None,
            };
            if let Some(intent) = intent {
                match self.permit(intent) {
                    Ok(permit) => held = permit,
                    Err(Clearance::Wait(verdict)) => break verdict,
                    Err(clearance) => return Err(clearance.into()),
                }
            }
            if !reread && !matches!(step, Step::Report(_)) {
                // A proving login comes next: not with a password that has been replaced meanwhile.
                reread = true;
                self.check_credentials(endpoint, credentials).await?;
            }
            match (step, intent) {
                (Step::Report(verdict), _) => break verdict,
                (Step::Write { to, cause }, Some(intent)) => {
                    match self.carry_out(x2, intent, held.as_ref(), memory).await? {
                        Ok(write) => record = Some(write),
                        Err(Clearance::Wait(verdict)) => break verdict,
                        Err(clearance) => return Err(clearance.into()),
                    }
                    if cause == Cause::Drift {
                        memory.contest = memory.contest.corrected(clock::elapsed());
                    }
                    seen = Seen { timeout: to, written: true, read_back: false, token: None, proofs: 0 };
                }
                (Step::Read, _) => seen = Seen { timeout: x2.read_timeout().await?, read_back: true, ..seen },
                (Step::Prove | Step::Write { .. }, _) => prove(x2, &mut seen, record.as_mut()).await?,
            }
        };
        // What came of it is known: it goes on record before what follows it.
        drop((record, held));
        Ok(self.conclude(x2, seen, verdict, memory).await?)
    }

    /// Checks that the Secret still holds the credentials of the reconcile.
    async fn check_credentials(&self, endpoint: &Endpoint, credentials: &Credentials) -> Result<(), Stop> {
        let reference = &self.gateway.spec.connection.credentials_secret_ref;
        match self.controller.connections.credentials(endpoint, reference, Age::Now).await {
            Ok(now) if now.identity == credentials.identity => Ok(()),
            Err(Unread::Silence) => Err(Stop::Inconclusive(Inconclusive::Unanswered)),
            _ => Err(Stop::Inconclusive(Inconclusive::Outdated)),
        }
    }

    /// Makes a change that has its turn. An error is what keeps it from being sent.
    async fn carry_out(
        &mut self,
        x2: &mut X2<'_>,
        intent: Intent,
        held: Option<&Held>,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<Result<Write, Clearance>, AccessError> {
        self.revoked |= self.close_earlier(x2, intent, memory).await?;
        let started = held.and_then(Held::started).map(Time);
        let change = match self.clear(intent, started, memory).await {
            Ok(change) => change,
            Err(clearance) => return Ok(Err(clearance)),
        };
        match self.write(x2, intent, change, memory).await {
            Err(error) if error.is_unsent() && error.is_silence() => Ok(Err(self.permitted(intent))),
            written => written.map(Ok),
        }
    }

    /// An earlier write has taken effect, and something else is required by now: the change is put on record, and the tokens
    /// issued before it are revoked, before the next one begins. Returns whether tokens were revoked.
    async fn close_earlier(
        &self,
        x2: &mut X2<'_>,
        intent: Intent,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<bool, AccessError> {
        let earlier = memory.change.clone().filter(|open| open.is_to_be_closed(&intent.from));
        let Some((earlier, policy)) = earlier.zip(self.governance.regime.policy()) else { return Ok(false) };
        let due = self.owes_revocation(&earlier);
        if due {
            self.revoke_tokens(x2).await?;
        }
        if earlier.from != earlier.to {
            memory.owed.add(entry(&earlier, policy, clock::now()));
        }
        memory.change = None;
        Ok(due)
    }

    /// Sets the token lifetime, if that is still permitted when its turn comes, and puts it on record.
    async fn write(
        &self,
        x2: &mut X2<'_>,
        intent: Intent,
        change: OpenChange,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<Write, AccessError> {
        let Intent { from, to, cause } = intent;
        let contest = memory.contest;
        memory.contest = contest.tried(clock::elapsed());
        let earlier = memory.change.replace(OpenChange { outcome: Outcome::Sent, ..change.clone() });
        let mut write = self.on_record(Operation::SetTimeout).changing(&from, &to, Some(cause));
        let may_send = || matches!(self.permitted(intent), Clearance::Go);
        let answer = x2.set_timeout(to, &may_send).await;
        write.answered(&answer);
        memory.change = Some(change.after(write.effect(), earlier));
        if answer.as_ref().is_err_and(AccessError::is_unsent) {
            memory.contest = contest;
        }
        answer.map(|()| write)
    }

    fn on_record(&self, operation: Operation) -> Write {
        let policy = self.governance.policy.as_ref().map(|policy| &policy.object.metadata);
        let reference = self.governance.change_reference();
        Write::new(operation, &self.url, &**self.gateway).by(policy).referring(reference)
    }

    /// Sums up what was found and done.
    async fn conclude(
        &self,
        x2: &mut X2<'_>,
        seen: Seen,
        verdict: Verdict,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<Findings<X2Gateway>, AccessError> {
        let (regime, timeout) = (&self.governance.regime, seen.timeout);
        let token = seen.token.or(x2.fresh_lifetime());
        // An open change shows that its revocation was not done yet, also after a restart.
        let open = memory.change.as_ref().filter(|open| open.holds(&timeout));
        let revokes = verdict.reason == Reason::InSync && open.is_some_and(|open| self.owes_revocation(open));
        if revokes {
            self.revoke_tokens(x2).await?;
        }
        let conclusion = Conclusion {
            regime,
            policy: self.policy_spec(),
            prior: &self.prior,
            reason: verdict.reason,
            timeout,
            reference: self.governance.change_reference(),
            is_owing: !memory.owed.is_empty(),
        };
        memory.owed.add(conclusion.to_record(memory.change.as_mut(), clock::now()));
        let found = Found {
            timeout: Some(timeout),
            token,
            revoked: revokes || self.revoked,
            skipped: not_restored(regime, &self.prior, timeout),
            drifted_from: None,
        };
        Ok(Findings { found, ..Findings::from(verdict) })
    }

    fn owes_revocation(&self, change: &OpenChange) -> bool {
        owes_revocation(self.policy_spec(), change)
    }

    /// The spec of the policy in force.
    fn policy_spec(&self) -> Option<&TokenPolicySpec> {
        self.governance.policy.as_ref().map(|policy| &policy.object.spec)
    }

    async fn revoke_tokens(&self, x2: &mut X2<'_>) -> Result<(), AccessError> {
        let mut write = self.on_record(Operation::RevokeTokens);
        let answer = x2.revoke_tokens(&|| self.still_holds().is_some()).await;
        write.answered(&answer);
        answer
    }

    /// Sees to it that everything is in place for a write that has its turn.
    async fn clear(
        &mut self,
        intent: Intent,
        started: Option<Time>,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<OpenChange, Clearance> {
        let in_rollout = started.is_some();
        let change =
            self.change(intent, started, memory).ok_or(Clearance::Inconclusive(Inconclusive::Outdated))?;
        let durable = in_rollout
            || self
                .policy_spec()
                .is_some_and(|policy| must_be_durable(policy, &self.prior, change.to, change.cause));
        self.prepare(&change, memory, durable).await?;
        // Should it never be sent, that is known; an earlier one that was sent stays open.
        memory.change = Some(change.clone().after(Outcome::Prepared, memory.change.take()));
        Ok(change)
    }

    /// Whether a write is permitted at this moment: what the reconcile began with still holds, and a window is open. Asked
    /// last, when nothing but the bytes of the write is left to be sent.
    fn permitted(&self, intent: Intent) -> Clearance {
        match self.still_holds() {
            Some(now) => now
                .policy
                .as_ref()
                .and_then(|policy| policy.awaiting_window(intent.cause, clock::now().0))
                .map_or(Clearance::Go, Clearance::Wait),
            None => Clearance::Inconclusive(Inconclusive::Outdated),
        }
    }

    /// The change that a write begins.
    fn change(
        &self,
        intent: Intent,
        started: Option<Time>,
        memory: &Memory<X2Gateway>,
    ) -> Option<OpenChange> {
        let now = clock::now();
        let since = started.filter(|started| started.0 > now.0).unwrap_or(now).0;
        let status = self.gateway.status.clone().unwrap_or_default();
        let original = known_original(&status, &memory.owed);
        let policy = self.governance.regime.policy()?;
        let change = intent.begin(policy, self.governance.change_reference(), since, original);
        Some(change.following(memory.change.as_ref()))
    }

    /// Asks for a permit, as far as the policy bounds its changes. One that is not answered yet ends the reconcile: the
    /// answer wakes the gateway.
    fn permit(&self, intent: Intent) -> Result<Option<Held>, Clearance> {
        let policy =
            self.governance.policy.as_ref().ok_or(Clearance::Inconclusive(Inconclusive::Outdated))?;
        let (target, wish) = intent.wish(&self.governance.regime);
        let closed = policy.awaiting_window(intent.cause, clock::now().0).map(Clearance::Wait);
        if !policy.is_bounded() {
            return closed.map_or(Ok(None), Err);
        }
        let GatewayController { rollouts, policies, .. } = self.controller;
        let rollout =
            rollouts.of(policies, &policy.object).ok_or(Clearance::Inconclusive(Inconclusive::Outdated))?;
        // Also if no window is open: the policy's task is to know which gateways wait.
        match rollout.ask(self.gateway, target, wish) {
            Answer::Permitted(permit) => closed.map_or(Ok(Some(permit)), Err),
            Answer::Later { halted } => {
                let status = self.gateway.status.as_ref();
                let waits = || Clearance::Wait(awaiting_rollout(status, policy.name(), halted));
                Err(closed.unwrap_or_else(waits))
            }
            Answer::Asked => Err(closed.unwrap_or(Clearance::Inconclusive(Inconclusive::Asked))),
        }
    }

    /// Puts into the status and on the gateway whatever must not be forgotten should we die in the middle.
    async fn prepare(
        &mut self,
        change: &OpenChange,
        memory: &mut Memory<X2Gateway>,
        durable: bool,
    ) -> Result<(), Clearance> {
        if self.governance.restores() && change.cause != Cause::Restore {
            match finalizers::hold_working(&self.controller.gateways, self.gateway).await {
                Written::Unchanged | Written::Done => {}
                Written::Forbidden => return Err(Clearance::Wait(forbidden(Kind::Gateway))),
                Written::Failed | Written::Gone => {
                    return Err(Clearance::Inconclusive(Inconclusive::NotAccepted));
                }
            }
        }
        if self.gateway.meta().generation != self.generation {
            return Err(Clearance::Inconclusive(Inconclusive::Outdated));
        }
        if !durable {
            return Ok(());
        }
        let status = self.under_change(change, memory);
        match status::update(&self.controller.gateways, self.gateway, status).await {
            Written::Done | Written::Unchanged => {
                memory.owed.unanswered();
                Ok(())
            }
            Written::Gone | Written::Failed | Written::Forbidden => {
                Err(Clearance::Inconclusive(Inconclusive::NotAccepted))
            }
        }
    }

    /// The status of a gateway under change.
    fn under_change(&self, change: &OpenChange, memory: &Memory<X2Gateway>) -> X2GatewayStatus {
        let mut status = self.gateway.status.clone().unwrap_or_default();
        let notes = Notes { insecure: self.insecure.clone(), ..Notes::default() };
        status::set_verdict(&mut status, &**self.gateway, &under_change(change), &notes);
        let recorded = status.history.clone();
        put_on_record(&mut status, memory.owed.unrecorded(|change| recorded.contains(change)));
        prepare(&mut status, change, clock::now());
        status.effective_url = Some(self.url.clone());
        status
    }
}

/// Logs in to prove the lifetime of new tokens.
async fn prove(x2: &mut X2<'_>, seen: &mut Seen, record: Option<&mut Write>) -> Result<(), AccessError> {
    if seen.proofs > 0 {
        tokio::time::sleep(BETWEEN_PROOFS).await;
    }
    let token = x2.prove().await?;
    seen.token = Some(token);
    if let Some(write) = record {
        write.proven(proves(token, seen.timeout), &token);
    }
    seen.proofs += 1;
    Ok(())
}

/// Whether what a gateway reports of its wait for a window is no longer so: one is open, or there is something else to say
/// of the annotation that opens it by hand. While it is so, the next reconcile comes with the window, which may be another by now.
pub(super) fn window_has_moved(governance: &Governance, memory: &mut Memory<X2Gateway>) -> bool {
    let Some(closed) = governance.closed_window(clock::now().0) else { return true };
    memory.backoff.not_later_than(clock::instant_of(closed.next));
    memory.extra.window.is_none_or(|reported| reported.note != closed.note)
}
