//! From an appliance as it was read to what is reported of it: one step after the other.

use super::Found;
use super::change::{Clearance, Intent};
use super::examine::{Examination, Stop};
use crate::clock;
use crate::controller::audit::{Operation, Write};
use crate::controller::reconcile::{Findings, Memory};
use crate::controller::references::Unread;
use crate::controller::rollout::Held;
use crate::crd::{Cause, Change, Time, X2Gateway};
use crate::engine::backoff::Nothing;
use crate::engine::change::Outcome;
use crate::engine::contest::Contest;
use crate::engine::gateway::{
    BETWEEN_PROOFS, OpenChange, Prior, Regime, Restoration, Seen, Step, cause, decide, entry, has_drifted,
    restoration, revokes,
};
use crate::engine::lifetime::proves;
use crate::engine::verdict::{Reason, Verdict};
use crate::runtime::secrets::Age;
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
        // What was begun and not seen to its end is not known to be proven, whatever was proven before it.
        let prior =
            Prior { timeout: self.prior.timeout.filter(|_| memory.change.is_none()), ..self.prior.clone() };
        self.follow_contest(memory, seen.timeout);
        let (mut reread, mut record, mut held) = (false, None::<Write>, None::<Held>);
        let verdict = loop {
            let step = decide(&self.governance.regime, &prior, seen, memory.contest, clock::elapsed());
            let intent = match step {
                Step::Write { to, cause } => Some(Intent { from: seen.timeout, to, cause }),
                Step::Prove | Step::Read | Step::Report(_) => None,
            };
            if let Some(intent) = intent {
                match self.turn(intent) {
                    Ok(permit) => held = permit,
                    Err(Clearance::Wait(verdict)) => break verdict,
                    Err(clearance) => return Err(clearance.into()),
                }
            }
            if !reread && !matches!(step, Step::Report(_)) {
                // A proving login comes next: not with a password that has been replaced meanwhile.
                reread = true;
                match self.credentials(endpoint, Age::Now).await {
                    Ok(now) if now.identity == credentials.identity => {}
                    Err(Unread::Silence) => return Err(Stop::Nothing(Nothing::Unanswered)),
                    _ => return Err(Stop::Nothing(Nothing::Outdated)),
                }
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
                (Step::Prove | Step::Write { .. }, _) => {
                    if seen.proofs > 0 {
                        tokio::time::sleep(BETWEEN_PROOFS).await;
                    }
                    let token = x2.prove().await?;
                    seen.token = Some(token);
                    if let Some(write) = &mut record {
                        write.proven(proves(token, seen.timeout), &token);
                    }
                    seen.proofs += 1;
                }
            }
        };
        // What came of it is known: it goes on record before what follows it.
        drop((record, held));
        Ok(self.conclude(x2, seen, verdict, memory).await?)
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
        let policy = self.governance.policy.as_ref().map(|policy| &policy.metadata);
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
        let regime = &self.governance.regime;
        let left = matches!(regime, Regime::Left { .. });
        let policy = regime.policy();
        let is_others = memory.change.as_ref().is_some_and(|open| open.policy.as_deref() != policy);
        let known =
            left || is_others || matches!(verdict.reason, Reason::InSync | Reason::VerificationFailed);
        let token = seen.token.or(x2.fresh_lifetime());
        let revoked = verdict.reason == Reason::InSync && self.revoke(x2, seen.timeout, memory).await?;
        let change = if known { self.to_record(&verdict, seen.timeout, memory) } else { None };
        let skipped = match restoration(&self.prior, seen.timeout) {
            Restoration::Skip(why) if left => Some(why),
            _ => None,
        };
        let found = Found {
            timeout: Some(seen.timeout),
            token,
            revoked: revoked || self.revoked,
            skipped,
            drifted_from: None,
        };
        Ok(Findings { change, found, ..Findings::from(verdict) })
    }

    /// What goes into the history: the open change if it took effect, else one that took effect without any record of it.
    fn to_record(&self, verdict: &Verdict, timeout: u32, memory: &mut Memory<X2Gateway>) -> Option<Change> {
        let policy = self.governance.regime.policy()?;
        match memory.change.as_mut().filter(|open| open.holds(&timeout)) {
            Some(open) if open.is_recorded || open.from == timeout => None,
            Some(open) => {
                open.is_recorded = true;
                Some(entry(open, policy, clock::now()))
            }
            None => self.unrecorded(verdict, timeout, memory),
        }
    }

    /// Revokes the tokens issued before a change, if the policy asks for it. An open change shows that it was not done yet,
    /// also after a restart.
    async fn revoke(
        &self,
        x2: &mut X2<'_>,
        timeout: u32,
        memory: &Memory<X2Gateway>,
    ) -> Result<bool, AccessError> {
        let open = memory.change.as_ref().filter(|open| open.holds(&timeout));
        let due = open.is_some_and(|open| self.owes_revocation(open));
        if due {
            self.revoke_tokens(x2).await?;
        }
        Ok(due)
    }

    fn owes_revocation(&self, change: &OpenChange) -> bool {
        let policy = self.governance.policy.as_ref().filter(|policy| !policy.spec.suspend);
        policy.is_some_and(|policy| revokes(policy.spec.revoke_tokens, change.from, change.to, change.cause))
    }

    async fn revoke_tokens(&self, x2: &mut X2<'_>) -> Result<(), AccessError> {
        let mut write = self.on_record(Operation::RevokeTokens);
        let answer = x2.revoke_tokens(&|| self.still_holds().is_some()).await;
        write.answered(&answer);
        answer
    }

    /// A change that took effect without being recorded: the operator ended before it could report it.
    fn unrecorded(&self, verdict: &Verdict, timeout: u32, memory: &Memory<X2Gateway>) -> Option<Change> {
        // What is owed is recorded with this report.
        let from = self.prior.timeout.filter(|before| *before != timeout && memory.owed.is_empty())?;
        let (policy, target) = self.governance.regime.policy().zip(self.governance.regime.target())?;
        let moved = verdict.reason == Reason::InSync && !target.holds(from);
        moved.then(|| Change {
            time: clock::now(),
            from: Some(from),
            to: timeout,
            policy: policy.to_owned(),
            cause: cause(policy, target, &self.prior),
            change_ref: self.governance.change_reference(),
        })
    }

    fn follow_contest(&self, memory: &mut Memory<X2Gateway>, timeout: u32) {
        let regime = &self.governance.regime;
        let aim = regime.policy().map(str::to_owned).zip(regime.target());
        if memory.extra.contested != aim && memory.extra.contested.is_some() {
            memory.contest = Contest::default();
        }
        memory.extra.contested.clone_from(&aim);
        if has_drifted(regime, &self.prior, timeout) {
            memory.contest = memory.contest.undone();
        } else if aim.is_some_and(|(_, target)| target.holds(timeout)) {
            memory.contest = memory.contest.stood(clock::elapsed());
        }
    }
}
