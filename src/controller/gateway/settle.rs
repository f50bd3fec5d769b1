//! From an appliance as it was read to what is reported of it: one step after the other.

use super::change::{Clearance, Intent};
use super::examine::{Examination, Seeing};
use super::{Begun, Memory};
use crate::clock;
use crate::controller::audit::{Operation, Write};
use crate::controller::references::Age;
use crate::controller::rollout::Held;
use crate::controller::store::Key;
use crate::crd::{Cause, Change};
use crate::engine::contest::Contest;
use crate::engine::gateway::{
    BETWEEN_PROOFS, Prior, Regime, Restoration, Seen, Step, cause, decide, has_drifted, restoration, revokes,
};
use crate::engine::lifetime::proves;
use crate::engine::verdict::{Reason, Verdict};
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::login::AccessError;
use crate::vendor::x2::X2;

impl Examination<'_> {
    /// Takes one step after the other until there is something to report. None where nothing can be said.
    pub(super) async fn settle(
        &self,
        x2: &mut X2<'_>,
        mut seen: Seen,
        endpoint: &Endpoint,
        credentials: &Credentials,
        memory: &mut Memory,
    ) -> Result<Option<Seeing>, AccessError> {
        let regime = &self.governance.regime;
        // What was begun and not seen to its end is not known to be proven, whatever was proven before it.
        let open = memory.begun.is_some() || self.prior.pending.is_some();
        let prior = Prior { timeout: self.prior.timeout.filter(|_| !open), ..self.prior.clone() };
        self.follow_contest(memory, seen.timeout);
        let (mut reread, mut record, mut held) = (false, None::<Write>, None::<Held>);
        let verdict = loop {
            let step = decide(regime, &prior, seen, memory.contest, clock::elapsed());
            if let Step::Write { to, cause } = step {
                match self.clear(Intent { from: seen.timeout, to, cause }).await {
                    Clearance::Go(permit) => held = permit,
                    Clearance::Wait(verdict) => break verdict,
                    Clearance::Void => return Ok(None),
                }
            }
            if !reread && !matches!(step, Step::Report(_)) {
                // A proving login comes next: not with a password that has been replaced meanwhile.
                reread = true;
                match self.credentials(endpoint, Age::Now).await {
                    Ok(now) if now.identity == credentials.identity => {}
                    _ => return Ok(None),
                }
            }
            match step {
                Step::Report(verdict) => break verdict,
                Step::Write { to, cause } => {
                    // What stood there before an earlier write that was not seen to its end is what stood there before this one.
                    let before = (memory.begun, memory.contest);
                    let from = memory.begun.map_or(seen.timeout, |begun| begun.from);
                    memory.begun = Some(Begun { from, cause });
                    memory.contest = memory.contest.tried(clock::elapsed());
                    let intent = Intent { from: seen.timeout, to, cause };
                    match self.write(x2, intent).await {
                        Err(error) if error.is_unsent() => {
                            (memory.begun, memory.contest) = before;
                            let Some(verdict) = self.unsent(error, intent)? else { return Ok(None) };
                            break verdict;
                        }
                        written => record = Some(written?),
                    }
                    if cause == Cause::Drift {
                        memory.contest = memory.contest.corrected(clock::elapsed());
                    }
                    seen = Seen { timeout: to, written: true, token: None, proofs: 0 };
                }
                Step::Prove => {
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
        self.conclude(x2, seen, verdict, memory).await.map(Some)
    }

    /// What to report of a write that was not sent, if anything can be said.
    fn unsent(&self, error: AccessError, intent: Intent) -> Result<Option<Verdict>, AccessError> {
        match self.permitted(intent) {
            _ if !error.is_silence() => Err(error),
            Clearance::Wait(verdict) => Ok(Some(verdict)),
            Clearance::Go(_) | Clearance::Void => Ok(None),
        }
    }

    /// Sets the token lifetime, if that is still permitted when its turn comes, and puts it on record.
    async fn write(&self, x2: &mut X2<'_>, intent: Intent) -> Result<Write, AccessError> {
        let Intent { from, to, cause } = intent;
        let mut write = self.on_record(Operation::SetTimeout).changing(&from, &to, Some(cause));
        let may_send = || matches!(self.permitted(intent), Clearance::Go(_));
        let answer = x2.set_timeout(to, &may_send).await;
        write.answered(&answer);
        answer.map(|()| write)
    }

    fn on_record(&self, operation: Operation) -> Write {
        let policy = self.governance.policy.as_ref().map(|policy| &policy.metadata);
        Write::new(operation, &self.url, self.gateway).by(policy)
    }

    /// Sums up what was found and done.
    async fn conclude(
        &self,
        x2: &mut X2<'_>,
        seen: Seen,
        verdict: Verdict,
        memory: &mut Memory,
    ) -> Result<Seeing, AccessError> {
        let regime = &self.governance.regime;
        let known = matches!(verdict.reason, Reason::InSync | Reason::VerificationFailed)
            || matches!(regime, Regime::Left { .. });
        let token = seen.token.or(x2.fresh_lifetime());
        let revoked = verdict.reason == Reason::InSync && self.revoke(x2, seen.timeout, memory).await?;
        let begun =
            memory.begun.take_if(|_| known).or_else(|| self.unrecorded(memory, &verdict, seen.timeout));
        let change = begun.filter(|begun| begun.from != seen.timeout).zip(regime.policy()).map(
            |(Begun { from, cause }, policy)| Change {
                time: clock::now(),
                from: Some(from),
                to: seen.timeout,
                policy: policy.to_owned(),
                cause,
            },
        );
        let skipped = match restoration(&self.prior, seen.timeout) {
            Restoration::Skip(why) if matches!(regime, Regime::Left { .. }) => Some(why),
            _ => None,
        };
        Ok(Seeing { timeout: Some(seen.timeout), token, change, revoked, skipped, ..Seeing::of(verdict) })
    }

    /// Invalidates the tokens issued before a change, where the policy asks for it. What was begun and is still in the
    /// status tells that it was not done yet, also after a restart.
    async fn revoke(&self, x2: &mut X2<'_>, timeout: u32, memory: &Memory) -> Result<bool, AccessError> {
        let Some(policy) = self.governance.policy.as_ref().filter(|policy| !policy.spec.suspend) else {
            return Ok(false);
        };
        let status = self.context.gateways.valid(&Key::of(&self.gateway.metadata));
        let pending = status.and_then(|gateway| gateway.status.as_ref()?.pending.clone());
        if pending.is_none_or(|pending| pending.to != timeout) {
            return Ok(false);
        }
        let recorded = self.gateway.status.as_ref().and_then(|status| status.history.first());
        let recorded =
            recorded.filter(|last| last.to == timeout).and_then(|last| Some((last.from?, last.cause)));
        let begun = memory.begun.map(|Begun { from, cause }| (from, cause));
        let before =
            begun.or_else(|| Some((self.prior.timeout.filter(|from| *from != timeout)?, self.cause()?)));
        let due = before
            .or(recorded)
            .is_some_and(|(from, cause)| revokes(policy.spec.revoke_tokens, from, timeout, cause));
        if due {
            let mut write = self.on_record(Operation::RevokeTokens);
            let answer = x2.revoke_tokens(&|| self.still_holds().is_some()).await;
            write.answered(&answer);
            answer?;
        }
        Ok(due)
    }

    fn cause(&self) -> Option<Cause> {
        let (policy, target) = self.governance.regime.policy().zip(self.governance.regime.target())?;
        Some(cause(policy, target, &self.prior))
    }

    /// A change that took effect without being recorded: its answer, or our report of it, was lost.
    fn unrecorded(&self, memory: &Memory, verdict: &Verdict, timeout: u32) -> Option<Begun> {
        // What is owed is recorded with this report.
        let from = self.prior.timeout.filter(|before| *before != timeout && memory.owed.is_empty())?;
        let cause = match &self.governance.regime {
            Regime::Left { .. } => (self.prior.pending == Some(timeout)
                && self.prior.original == Some(timeout))
            .then_some(Cause::Restore),
            regime => {
                let moved = verdict.reason == Reason::InSync && !regime.target()?.holds(from);
                self.cause().filter(|_| moved)
            }
        };
        Some(Begun { from, cause: cause? })
    }

    fn follow_contest(&self, memory: &mut Memory, timeout: u32) {
        let regime = &self.governance.regime;
        let aim = regime.policy().map(str::to_owned).zip(regime.target());
        if memory.contested != aim && memory.contested.is_some() {
            memory.contest = Contest::default();
        }
        memory.contested.clone_from(&aim);
        if has_drifted(regime, &self.prior, timeout) {
            memory.contest = memory.contest.undone();
        } else if aim.is_some_and(|(_, target)| target.holds(timeout)) {
            memory.contest = memory.contest.stood(clock::elapsed());
        }
    }
}
