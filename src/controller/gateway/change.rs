//! From an appliance as it was read to what is reported of it: one step after the other, each as far as it is permitted.

use super::examine::{Examination, Stop};
use super::{Found, GatewayController};
use crate::clock;
use crate::controller::audit::Write;
use crate::controller::reconcile::{Findings, Memory, send};
use crate::controller::rollout::{Answer, Held};
use crate::crd::{Cause, Kind, TokenPolicySpec, X2Gateway, X2GatewayStatus};
use crate::engine::access::AccessError;
use crate::engine::audit::{Declarer, Line, Operation, approver};
use crate::engine::backoff::Inconclusive;
use crate::engine::gateway::{
    BETWEEN_PROOFS, Conclusion, Intent, OpenChange, Prior, Regime, Seen, Step, awaiting_rollout, decide,
    entry, follow, known_original, must_be_durable, not_restored, owes_revocation, prepare, put_on_record,
    under_change,
};
use crate::engine::governance::Policy;
use crate::engine::lifetime::proves;
use crate::engine::references::Unread;
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::runtime::object::Key;
use crate::runtime::secrets::Age;
use crate::runtime::status;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::x2::X2;

impl Examination<'_, '_> {
    /// Takes one step after the other until there is something to report.
    pub(super) async fn settle(
        &mut self,
        x2: &mut X2<'_>,
        mut seen: Seen,
        login: (&Endpoint, &Credentials),
        memory: &mut Memory<X2Gateway>,
    ) -> Result<Findings<X2Gateway>, Stop> {
        // What was begun and not completed is not known to be proven, whatever was proven before it.
        let prior =
            Prior { timeout: self.prior.timeout.filter(|_| memory.change.is_none()), ..self.prior.clone() };
        let required = (&self.governance.regime, &self.prior);
        (memory.contest, memory.extra.contested) =
            follow(memory.contest, &memory.extra.contested, required, seen.timeout, clock::elapsed());
        let (mut record, mut held) = (None::<Write>, None::<Held>);
        let verdict = loop {
            match decide(&self.governance.regime, &prior, seen, memory.contest, clock::elapsed()) {
                Step::Report(verdict) => break verdict,
                Step::Write { to, cause } => {
                    let intent = Intent { from: seen.timeout, to, cause };
                    match self.carry_out(x2, intent, login, memory).await {
                        Ok((write, permit)) => (record, held) = (Some(write), permit),
                        Err(Stop::Findings(findings)) => break findings.verdict,
                        Err(why) => return Err(why),
                    }
                    if cause == Cause::Drift {
                        memory.contest = memory.contest.corrected(clock::elapsed());
                    }
                    seen = Seen { timeout: to, written: true, read_back: false, token: None, proofs: 0 };
                }
                Step::Read => seen = Seen { timeout: x2.read_timeout().await?, read_back: true, ..seen },
                Step::Prove => {
                    if !seen.written && seen.proofs == 0 {
                        self.check_credentials(login).await?;
                    }
                    prove(x2, &mut seen, record.as_mut()).await?;
                }
            }
        };
        // What came of it is known: it goes on record before what follows it.
        drop((record, held));
        Ok(self.conclude(x2, seen, verdict, memory).await?)
    }

    /// Checks that the Secret still holds the credentials of the reconcile: a proving login comes next, and not with a password
    /// that has been replaced meanwhile.
    async fn check_credentials(
        &self,
        (endpoint, credentials): (&Endpoint, &Credentials),
    ) -> Result<(), Stop> {
        let reference = &self.gateway.spec.connection.credentials_secret_ref;
        match self.controller.connections.read(endpoint, reference, Age::Now).await {
            Ok(now) if now.credentials.identity == credentials.identity => Ok(()),
            Err(Unread::Silence) => Err(Inconclusive::Unanswered.into()),
            _ => Err(Inconclusive::Outdated.into()),
        }
    }

    /// Makes a change when it has its turn, if that is still permitted then. An error is what keeps it from being sent, or
    /// what the appliance answered.
    async fn carry_out(
        &mut self,
        x2: &mut X2<'_>,
        intent: Intent,
        login: (&Endpoint, &Credentials),
        memory: &mut Memory<X2Gateway>,
    ) -> Result<(Write, Option<Held>), Stop> {
        let held = self.permit(intent)?;
        self.check_credentials(login).await?;
        self.revoked |= self.close_earlier(x2, intent, memory).await?;
        let change = self.change(intent, held.as_ref(), memory).ok_or(Inconclusive::Outdated)?;
        self.prepare(&change, held.as_ref(), memory).await?;
        let Intent { from, to, cause } = intent;
        let mut write = Write::from(self.line(Operation::SetTimeout).changing(&from, &to, cause));
        let may_send = || self.permitted(intent).is_ok();
        match send(change, &mut write, x2.set_timeout(to, &may_send), memory).await {
            Ok(()) => Ok((write, held)),
            Err(error) if error.is_unsent() && error.is_silence() => {
                Err(self.permitted(intent).err().unwrap_or(Inconclusive::Outdated.into()))
            }
            Err(error) => Err(error.into()),
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
        let earlier = memory.change.as_deref().cloned().filter(|open| open.is_to_be_closed(&intent.from));
        let Some((earlier, policy)) = earlier.zip(self.governance.regime.policy()) else { return Ok(false) };
        let due = owes_revocation(self.policy_spec(), &earlier);
        if due {
            self.revoke_tokens(x2).await?;
        }
        if earlier.from != earlier.to {
            memory.owed.add(entry(&earlier, policy, clock::now()));
        }
        memory.change = None;
        Ok(due)
    }

    /// What is to be on record of a write.
    fn line(&self, operation: Operation) -> Line {
        let policy = self.governance.policy.as_ref();
        Line {
            policy: policy.map(|policy| Declarer::of(&policy.object.metadata)),
            approved_by: self.approver(),
            change_ref: self.governance.change_reference(),
            ..Line::new(operation, &self.url, Kind::Gateway, &self.gateway.metadata)
        }
    }

    /// Who approved the rollout that the gateway is changed in. The approval may be newer than what the reconcile began with.
    fn approver(&self) -> Option<String> {
        let Regime::Enforced { policy, .. } = &self.governance.regime else { return None };
        let key = Key::new(self.gateway.metadata.namespace.as_deref()?, policy);
        approver(&*self.controller.policies.valid(&key)?)
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
        let open = memory.change.as_deref().filter(|open| open.holds(&timeout));
        let owes = |open| owes_revocation(self.policy_spec(), open);
        let revokes = verdict.reason == Reason::InSync && open.is_some_and(owes);
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
        memory.owed.add(conclusion.to_record(memory.change.as_deref_mut(), clock::now()));
        let found = Found {
            timeout: Some(timeout),
            token,
            revoked: revokes || self.revoked,
            skipped: not_restored(regime, &self.prior, timeout),
            drifted_from: None,
        };
        Ok(Findings { found, ..Findings::from(verdict) })
    }

    /// The spec of the policy in force.
    fn policy_spec(&self) -> Option<&TokenPolicySpec> {
        self.governance.policy.as_ref().map(|policy| &policy.object.spec)
    }

    async fn revoke_tokens(&self, x2: &mut X2<'_>) -> Result<(), AccessError> {
        let mut write = Write::from(self.line(Operation::RevokeTokens));
        let answer = x2.revoke_tokens(&|| self.still_holds().is_some()).await;
        write.answered(&answer);
        answer
    }

    /// Whether a write is permitted at this moment: what the reconcile began with still holds, and a window is open. Asked
    /// last, when nothing but the bytes of the write is left to be sent.
    fn permitted(&self, intent: Intent) -> Result<(), Stop> {
        let now = self.still_holds().ok_or(Inconclusive::Outdated)?;
        let closed = now.policy.and_then(|policy| policy.awaiting_window(intent.cause, clock::now().0));
        closed.map_or(Ok(()), |verdict| Err(verdict.into()))
    }

    /// The change that a write begins.
    fn change(&self, intent: Intent, held: Option<&Held>, memory: &Memory<X2Gateway>) -> Option<OpenChange> {
        let now = clock::now().0;
        let since = held.and_then(Held::started).filter(|started| *started > now).unwrap_or(now);
        let status = self.gateway.status.clone().unwrap_or_default();
        let original = known_original(&status, &memory.owed);
        let policy = self.governance.regime.policy()?;
        let change = intent.begin(policy, self.governance.change_reference(), since, original);
        Some(change.following(memory.change.as_deref()))
    }

    /// Asks for a permit, as far as the policy bounds its changes. One that is not answered yet ends the reconcile: the
    /// answer wakes the gateway.
    fn permit(&self, intent: Intent) -> Result<Option<Held>, Stop> {
        let policy = self.governance.policy.as_ref().ok_or(Inconclusive::Outdated)?;
        // Also if no window is open: the policy's task is to know which gateways wait.
        let answer = policy.is_bounded().then(|| self.ask(policy, intent)).transpose()?;
        if let Some(closed) = policy.awaiting_window(intent.cause, clock::now().0) {
            return Err(closed.into());
        }
        match answer {
            None => Ok(None),
            Some(Answer::Permitted(permit)) => Ok(Some(permit)),
            Some(Answer::Later { halted }) => {
                Err(awaiting_rollout(self.gateway.status.as_ref(), policy.name(), halted).into())
            }
            Some(Answer::Asked) => Err(Inconclusive::Asked.into()),
        }
    }

    fn ask(&self, policy: &Policy, intent: Intent) -> Result<Answer, Inconclusive> {
        let (target, wish) = intent.wish(&self.governance.regime);
        let GatewayController { rollouts, policies, .. } = self.controller;
        let rollout = rollouts.of(policies, &policy.object).ok_or(Inconclusive::Outdated)?;
        Ok(rollout.ask(self.gateway, target, wish))
    }

    /// Puts into the status and on the gateway whatever must not be forgotten should the operator end in the middle.
    async fn prepare(
        &mut self,
        change: &OpenChange,
        held: Option<&Held>,
        memory: &mut Memory<X2Gateway>,
    ) -> Result<(), Stop> {
        if self.governance.restores() && change.cause != Cause::Restore {
            self.gateway.hold().await?;
        }
        let must_be_durable = |policy| must_be_durable(policy, &self.prior, change.to, change.cause);
        let is_durable =
            held.and_then(Held::started).is_some() || self.policy_spec().is_some_and(must_be_durable);
        let status = is_durable.then(|| self.under_change(change, memory));
        self.gateway.prepare(change, status, memory).await
    }

    /// The status of a gateway under change.
    fn under_change(&self, change: &OpenChange, memory: &Memory<X2Gateway>) -> X2GatewayStatus {
        let mut status = self.gateway.status.clone().unwrap_or_default();
        let notes = Notes { insecure: self.insecure.clone(), ..Notes::default() };
        status::set_verdict(&mut status, &**self.gateway, &under_change(change), &notes);
        let owed = memory.owed.unrecorded(|change| status.history.contains(change));
        put_on_record(&mut status, owed);
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
        write.saw(proves(token, seen.timeout), &token);
    }
    seen.proofs += 1;
    Ok(())
}
