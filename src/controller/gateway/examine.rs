//! Gather, decide and act: one look at an appliance.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};

use super::{Asked, Begun, Findings, Memory, claim_id, judged};
use crate::clock;
use crate::controller::connection::{self, Judged};
use crate::controller::context::Context;
use crate::controller::policy::{Governance, PolicySet};
use crate::controller::references::{Age, Unread};
use crate::controller::store::Key;
use crate::controller::workers::{Kind, wake};
use crate::controller::{report, server};
use crate::crd::{Cause, Change, X2Gateway, X2GatewayStatus};
use crate::engine::contest::Contest;
use crate::engine::gateway::{Prior, Regime, Seen, Step, cause, decide, has_drifted};
use crate::engine::ownership::{Standing, Trial};
use crate::engine::verdict::{Notes, Reason, Verdict, ready_reason};
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::fault::{Fault, RemoteError};
use crate::vendor::lanes::Bounds;
use crate::vendor::login::AccessError;
use crate::vendor::sessions::{Serial, SessionKey};
use crate::vendor::x2::X2;

/// Wait between two proving logins: three fit into five seconds.
const BETWEEN_PROOFS: Duration = Duration::from_secs(2);

/// Everything one look works with.
struct Examination<'a> {
    context: &'a Arc<Context>,
    gateway: &'a X2Gateway,
    regime: &'a Regime,
    prior: Prior,
    asked: Option<Asked>,
}

/// Why a look came to an early end.
enum Stop {
    /// Nothing can be said: the API server is silent, or what the look began with does not hold any more.
    Void,
    Verdict(Verdict),
    Access(AccessError, Box<Credentials>),
}

/// What was found on the appliance, and what was done.
struct Seeing {
    verdict: Verdict,
    timeout: Option<u32>,
    token: Option<u32>,
    change: Option<Change>,
}

/// Looks at an appliance and does what is to be done. None where the operator is ending.
pub(super) async fn examine(
    context: &Arc<Context>,
    gateway: &Arc<X2Gateway>,
    memory: &mut Memory,
    governance: &Governance,
    asked: Option<Asked>,
) -> Option<Findings> {
    let judged = match judged(context, gateway) {
        Ok(judged) => judged,
        Err(verdict) => {
            record(context, gateway, Trial::Refused);
            return Some(Findings::of(verdict));
        }
    };
    let (url, insecure) = (judged.base.to_string(), judged.insecure.clone());
    let status = at_url(context, gateway, &url, memory).await?;
    let age = if asked.is_some() {
        Age::Since(clock::instant())
    } else if memory.inputs.is_none() || memory.pace.due().is_none() {
        Age::Now
    } else if memory.polled {
        Age::Polled
    } else {
        Age::InUse
    };
    let prior = prior(&status);
    let examination = Examination { context, gateway, regime: &governance.regime, prior, asked };
    let mut findings = match examination.run(judged, memory, age).await {
        Ok(seeing) => Findings {
            timeout: seeing.timeout,
            token: seeing.token,
            change: seeing.change,
            ..Findings::of(seeing.verdict)
        },
        Err(Stop::Verdict(verdict)) => Findings::of(verdict),
        Err(Stop::Void | Stop::Access(AccessError::Remote(RemoteError { fault: Fault::Ending, .. }), _)) => {
            return None;
        }
        Err(Stop::Access(error, credentials)) => examination.refusal(&error, &credentials, &url),
    };
    findings.effective_url = Some(url);
    findings.insecure = insecure;
    Some(findings)
}

fn record(context: &Arc<Context>, gateway: &X2Gateway, trial: Trial) {
    let rivals = context.gateway_claims.record(&claim_id(gateway), trial);
    rivals.into_iter().for_each(|rival| wake(context, Kind::Gateway, rival));
}

/// The status as far as it speaks of this URL. Where the URL has changed, what the status holds of another appliance is
/// dropped before the first request. None where that could not be written.
async fn at_url(
    context: &Arc<Context>,
    gateway: &X2Gateway,
    url: &str,
    memory: &mut Memory,
) -> Option<X2GatewayStatus> {
    let status = gateway.status.clone().unwrap_or_default();
    if status.effective_url.as_deref().is_none_or(|before| before == url) {
        return Some(status);
    }
    (memory.begun, memory.contest) = (None, Contest::default());
    memory.owed.clear();
    let mut fresh = X2GatewayStatus {
        conditions: status.conditions,
        last_handled_reconcile_at: status.last_handled_reconcile_at,
        ..X2GatewayStatus::default()
    };
    let verdict = Verdict::new(Reason::Progressing, "spec.url has changed: the appliance is read anew.");
    report::set_verdict(&mut fresh, gateway, &verdict, &Notes::default());
    match report::write(context, gateway, fresh.clone()).await {
        report::Written::Written | report::Written::Unchanged => Some(fresh),
        report::Written::Gone | report::Written::Failed => None,
    }
}

fn prior(status: &X2GatewayStatus) -> Prior {
    Prior {
        timeout: status.timeout_seconds,
        proven: status.proven_timeout_seconds,
        policy: status.policy.clone(),
        unverified: ready_reason(&status.conditions) == Some(Reason::VerificationFailed),
    }
}

impl Examination<'_> {
    async fn run(&self, judged: Judged, memory: &mut Memory, age: Age) -> Result<Seeing, Stop> {
        if let Some(verdict) = self.conflict(memory) {
            return Err(Stop::Verdict(verdict));
        }
        let namespace = self.gateway.namespace().unwrap_or_default();
        let Context { references, lanes, .. } = &**self.context;
        let endpoint = judged.endpoint(references, lanes, Bounds::ONE_AT_A_TIME, &namespace, age).await;
        let endpoint = endpoint.map_err(|verdict| self.not_in(verdict))?;
        let mut refused = None;
        let mut age = age;
        loop {
            let credentials =
                self.credentials(&endpoint, age).await.map_err(|verdict| self.not_in(verdict))?;
            match self.visit(&endpoint, &credentials, memory, refused).await {
                Ok(None) => return Err(Stop::Void),
                Err(AccessError::Stale(serial)) if refused.is_none() => {
                    refused = Some(serial);
                    age = Age::Since(clock::instant());
                }
                Err(error) => {
                    let barred = matches!(error, AccessError::NotAdmin | AccessError::TokenRefused);
                    let trial = if barred || error.is_refusal() { Trial::Refused } else { Trial::NoAnswer };
                    record(self.context, self.gateway, trial);
                    return Err(Stop::Access(error, Box::new(credentials)));
                }
                Ok(Some(seeing)) => return Ok(seeing),
            }
        }
    }

    /// What to report where the appliance is another resource's, or not yet anybody's.
    fn conflict(&self, memory: &mut Memory) -> Option<Verdict> {
        let standing = self.context.gateway_claims.standing(&claim_id(self.gateway));
        memory.judged = Some(standing);
        match standing {
            Standing::Owner | Standing::TryNow => None,
            Standing::Loser => Some(Verdict::new(
                Reason::Conflict,
                "Another X2Gateway has the same URL and came first, so this one changes nothing: delete one of the two, or \
                 correct spec.url.",
            )),
            Standing::Undecided => Some(Verdict::new(
                Reason::Progressing,
                "Another X2Gateway has the same URL; nothing is changed until it is clear which of the two can log in.",
            )),
        }
    }

    fn not_in(&self, why: Unread) -> Stop {
        match why {
            Unread::Silence => Stop::Void,
            Unread::Refused(verdict) => {
                record(self.context, self.gateway, Trial::Refused);
                Stop::Verdict(verdict)
            }
        }
    }

    /// Whether what the look began with still holds: a wait may lie between, and nobody wants yesterday's decision
    /// carried out.
    fn still_holds(&self) -> bool {
        let key = Key::of(self.gateway.meta());
        let set = PolicySet::of(self.context, &key.namespace);
        let owns = self.context.gateway_claims.standing(&claim_id(self.gateway)) == Standing::Owner;
        let alike = |now: Arc<X2Gateway>| {
            now.uid() == self.gateway.uid()
                && now.meta().generation == self.gateway.meta().generation
                && set.governance(&now).regime == *self.regime
        };
        owns && self.context.gateways.valid(&key).is_some_and(alike)
    }

    /// User name and password: read now where a login is due.
    async fn credentials(&self, endpoint: &Endpoint, age: Age) -> Result<Credentials, Unread> {
        let Context { references, remotes, settings, .. } = &**self.context;
        let reference = &self.gateway.spec.connection.credentials_secret_ref;
        let read = |age| {
            connection::credentials(
                references,
                &endpoint.namespace,
                reference,
                endpoint,
                settings.restrictions,
                age,
            )
        };
        let mut credentials = read(age).await?;
        let key = SessionKey::new(endpoint, &credentials.identity);
        if age == Age::InUse && !remotes.sessions.is_living(&key).await {
            credentials = read(Age::Now).await?;
        }
        let url = endpoint.base.to_string();
        match self.asked {
            Some(Asked::Here) => remotes.admission.insist(&credentials.identity, &url),
            Some(Asked::Policy) => remotes.admission.forgive(&credentials.identity, &url),
            None => {}
        }
        Ok(credentials)
    }

    async fn visit(
        &self,
        endpoint: &Endpoint,
        credentials: &Credentials,
        memory: &mut Memory,
        refused: Option<Serial>,
    ) -> Result<Option<Seeing>, AccessError> {
        let mut x2 = X2::new(&self.context.remotes, endpoint, credentials, refused);
        x2.log_in().await?;
        record(self.context, self.gateway, Trial::GotIn);
        if let Some(verdict) = self.conflict(memory) {
            return Ok(Some(Seeing { verdict, timeout: None, token: None, change: None }));
        }
        let timeout = x2.read_timeout().await;
        if matches!(timeout, Err(AccessError::NotAdmin | AccessError::TokenRefused)) {
            // A token keeps the role it was issued with: the next look logs in again.
            let key = SessionKey::new(endpoint, &credentials.identity);
            self.context.remotes.sessions.forget(&key).await;
        }
        let seen = Seen { timeout: timeout?, written: false, token: x2.fresh_lifetime(), proofs: 0 };
        self.settle(&mut x2, seen, endpoint, credentials, memory).await
    }

    /// Takes one step after the other until there is something to report.
    async fn settle(
        &self,
        x2: &mut X2<'_>,
        mut seen: Seen,
        endpoint: &Endpoint,
        credentials: &Credentials,
        memory: &mut Memory,
    ) -> Result<Option<Seeing>, AccessError> {
        let regime = self.regime;
        // What was begun and not seen to its end is not known to be proven, whatever was proven before it.
        let prior =
            Prior { timeout: self.prior.timeout.filter(|_| memory.begun.is_none()), ..self.prior.clone() };
        self.follow_contest(memory, seen.timeout);
        let mut reread = false;
        let verdict = loop {
            let step = decide(regime, &prior, seen, memory.contest, clock::elapsed());
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
                Step::Write { .. } if !self.still_holds() => return Ok(None),
                Step::Write { to, cause } => {
                    memory.begun = Some(Begun { from: seen.timeout, cause });
                    memory.contest = memory.contest.tried(clock::elapsed());
                    x2.set_timeout(to).await?;
                    if cause == Cause::Drift {
                        memory.contest = memory.contest.corrected(clock::elapsed());
                    }
                    seen = Seen { timeout: to, written: true, token: None, proofs: 0 };
                }
                Step::Prove => {
                    if seen.proofs > 0 {
                        tokio::time::sleep(BETWEEN_PROOFS).await;
                    }
                    seen.token = Some(x2.prove().await?);
                    seen.proofs += 1;
                }
            }
        };
        let known = matches!(verdict.reason, Reason::InSync | Reason::VerificationFailed);
        let begun =
            memory.begun.take_if(|_| known).or_else(|| self.unrecorded(memory, &verdict, seen.timeout));
        let change = begun.zip(regime.policy()).map(|(Begun { from, cause }, policy)| Change {
            time: clock::now(),
            from: Some(from),
            to: seen.timeout,
            policy: policy.to_owned(),
            cause,
        });
        let token = seen.token.or(x2.fresh_lifetime());
        Ok(Some(Seeing { verdict, timeout: Some(seen.timeout), token, change }))
    }

    /// A change that took effect without being recorded: its answer, or our report of it, was lost.
    fn unrecorded(&self, memory: &Memory, verdict: &Verdict, timeout: u32) -> Option<Begun> {
        // What is owed is recorded with this report.
        let from = self.prior.timeout.filter(|before| *before != timeout && memory.owed.is_empty())?;
        let (policy, target) = self.regime.policy().zip(self.regime.target())?;
        let moved = verdict.reason == Reason::InSync && !target.holds(from);
        moved.then(|| Begun { from, cause: cause(policy, target, &self.prior) })
    }

    fn follow_contest(&self, memory: &mut Memory, timeout: u32) {
        let aim = self.regime.policy().map(str::to_owned).zip(self.regime.target());
        if memory.contested != aim && memory.contested.is_some() {
            memory.contest = Contest::default();
        }
        memory.contested.clone_from(&aim);
        if has_drifted(self.regime, &self.prior, timeout) {
            memory.contest = memory.contest.undone();
        } else if aim.is_some_and(|(_, target)| target.holds(timeout)) {
            memory.contest = memory.contest.stood(clock::elapsed());
        }
    }

    fn refusal(&self, error: &AccessError, credentials: &Credentials, url: &str) -> Findings {
        let mut findings = Findings::of(error.verdict("The appliance", &credentials.secret));
        findings.retry_after = error.retry_after();
        findings.polls = error.is_refusal();
        findings.refused = server::refused_login(self.context, error, credentials, url);
        findings
    }
}
