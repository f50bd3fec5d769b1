//! Gather, decide and act: one look at an appliance.

use std::sync::Arc;

use kube::{Resource as _, ResourceExt as _};

use super::{Findings, Memory, claim_id, judged};
use crate::clock;
use crate::controller::connection::{self, Judged};
use crate::controller::context::Context;
use crate::controller::governance::{Governance, PolicySet};
use crate::controller::references::{Age, Unread};
use crate::controller::store::Key;
use crate::controller::workers::{Kind, wake, wake_called};
use crate::controller::{logins, report};
use crate::crd::{Change, X2Gateway, X2GatewayStatus};
use crate::engine::contest::Contest;
use crate::engine::gateway::{Prior, Regime, Seen, found_drift, prior, remembered};
use crate::engine::login;
use crate::engine::ownership::{Standing, Trial};
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::lanes::Bounds;
use crate::vendor::login::AccessError;
use crate::vendor::sessions::{Serial, SessionKey};
use crate::vendor::x2::X2;

/// Everything one look works with.
pub(super) struct Examination<'a> {
    pub(super) context: &'a Arc<Context>,
    /// The working copy, replaced after each write of our own.
    pub(super) gateway: &'a mut Arc<X2Gateway>,
    /// The generation of the spec that the reconcile began with.
    pub(super) generation: Option<i64>,
    pub(super) governance: &'a Governance,
    pub(super) prior: Prior,
    pub(super) asked: bool,
    pub(super) url: String,
    /// What is unprotected about the connection.
    pub(super) insecure: Option<String>,
    /// Whether tokens were revoked because an earlier change was closed.
    pub(super) revoked: bool,
}

/// Why a look came to an early end.
enum Stop {
    /// Nothing can be said: the API server is silent, or what the look began with does not hold any more.
    Void,
    Verdict(Verdict),
    Access(AccessError, Box<Credentials>),
}

/// What was found on the appliance, and what was done.
pub(super) struct Seeing {
    pub(super) verdict: Verdict,
    pub(super) timeout: Option<u32>,
    pub(super) token: Option<u32>,
    pub(super) change: Option<Change>,
    /// Whether tokens issued before the change were invalidated.
    pub(super) revoked: bool,
    /// Why what stood there before is not restored.
    pub(super) skipped: Option<&'static str>,
}

impl Seeing {
    pub(super) fn of(verdict: Verdict) -> Self {
        Self { verdict, timeout: None, token: None, change: None, revoked: false, skipped: None }
    }
}

/// Looks at an appliance and does what is to be done. None where the operator is ending.
pub(super) async fn examine(
    context: &Arc<Context>,
    gateway: &mut Arc<X2Gateway>,
    memory: &mut Memory,
    governance: &Governance,
    asked: bool,
) -> Option<Findings> {
    let generation = gateway.meta().generation;
    let judged = match judged(context, gateway) {
        Ok(judged) => judged,
        Err(verdict) => {
            record(context, gateway, Trial::Refused);
            return Some(Findings::of(verdict));
        }
    };
    let (url, insecure) = (judged.base.to_string(), judged.insecure.clone());
    if !at_url(context, gateway, &url, memory).await {
        return None;
    }
    let status = gateway.status.clone().unwrap_or_default();
    if !std::mem::replace(&mut memory.has_recalled, true) {
        memory.change = remembered(&status, &governance.regime);
    }
    let changed = memory.inputs.is_none() || memory.pace.due().is_none();
    let age = Age::for_look(asked, changed, memory.polled);
    let prior = prior(&status, memory.change.as_ref(), &memory.owed);
    let mut examination = Examination {
        context,
        gateway,
        generation,
        governance,
        prior,
        asked,
        url: url.clone(),
        insecure: insecure.clone(),
        revoked: false,
    };
    let mut findings = match examination.run(judged, memory, age).await {
        Ok(seeing) => Findings {
            timeout: seeing.timeout,
            token: seeing.token,
            change: seeing.change,
            revoked: seeing.revoked,
            skipped: seeing.skipped,
            ..Findings::of(seeing.verdict)
        },
        Err(Stop::Verdict(verdict)) => Findings::of(verdict),
        Err(Stop::Void) => return None,
        Err(Stop::Access(error, _)) if error.is_silence() => return None,
        Err(Stop::Access(error, credentials)) => examination.refusal(&error, &credentials, &url),
    };
    let before = examination.prior.timeout;
    let is_drift = |seen: u32| found_drift(&governance.regime, before, seen, findings.verdict.reason);
    findings.drifted_from = before.filter(|_| findings.timeout.is_some_and(is_drift));
    if findings.verdict.reason == Reason::Conflict && matches!(governance.regime, Regime::Left { .. }) {
        findings.skipped = Some("another X2Gateway manages the appliance");
    }
    findings.effective_url = Some(url);
    findings.insecure = insecure;
    Some(findings)
}

fn record(context: &Arc<Context>, gateway: &X2Gateway, trial: Trial) {
    let rivals = context.gateway_claims.record(&claim_id(gateway), trial);
    rivals.into_iter().for_each(|rival| wake(context, Kind::Gateway, rival));
}

/// Drops from the status what it holds of another appliance if the URL has changed: before the first request. False if that
/// could not be written.
async fn at_url(
    context: &Arc<Context>,
    gateway: &mut Arc<X2Gateway>,
    url: &str,
    memory: &mut Memory,
) -> bool {
    let status = gateway.status.clone().unwrap_or_default();
    let is_elsewhere = status.effective_url.as_deref().is_some_and(|before| before != url);
    // The status may not name the previous URL yet, if the URL has changed twice.
    if memory.url.replace(url.to_owned()).is_some_and(|before| before != url) || is_elsewhere {
        (memory.change, memory.contest) = (None, Contest::default());
        memory.owed.clear();
    }
    if !is_elsewhere {
        return true;
    }
    let mut fresh = X2GatewayStatus {
        conditions: status.conditions,
        last_handled_reconcile_at: status.last_handled_reconcile_at,
        ..X2GatewayStatus::default()
    };
    let verdict = Verdict::new(Reason::Progressing, "spec.url has changed; the appliance is read again.");
    report::set_verdict(&mut fresh, &**gateway, &verdict, &Notes::default());
    matches!(
        report::update(context, gateway, fresh).await,
        report::Written::Written | report::Written::Unchanged
    )
}

impl Examination<'_> {
    async fn run(&mut self, judged: Judged, memory: &mut Memory, age: Age) -> Result<Seeing, Stop> {
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
            if let Some(error) = memory.barred.as_ref().and_then(|barred| barred.stands(&credentials))
                && age == Age::Polled
            {
                return Err(Stop::Access(error, Box::new(credentials)));
            }
            memory.barred = None;
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
                    memory.barred = logins::Barred::after(&error, &credentials, self.governance.interval);
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
                "Another X2Gateway already manages the appliance at this URL, so this one is ignored. Delete one of the two, or correct spec.url.",
            )),
            Standing::Undecided => Some(Verdict::new(
                Reason::Progressing,
                "Another X2Gateway has the same URL; nothing is changed until it is known which of the two can log in.",
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

    /// Who governs the gateway now, if what the look began with still holds: a wait may lie between, and nobody wants
    /// yesterday's decision carried out.
    pub(super) fn still_holds(&self) -> Option<Governance> {
        let key = Key::of(self.gateway.meta());
        let now = self.context.gateways.valid(&key)?;
        let owns = self.context.gateway_claims.standing(&claim_id(self.gateway)) == Standing::Owner;
        let same = now.uid() == self.gateway.uid() && now.meta().generation == self.generation;
        let governance = PolicySet::of(self.context, &key.namespace).governance(&now);
        (owns && same && governance.regime == self.governance.regime).then_some(governance)
    }

    /// User name and password: read now where a login is due.
    pub(super) async fn credentials(&self, endpoint: &Endpoint, age: Age) -> Result<Credentials, Unread> {
        let reference = &self.gateway.spec.connection.credentials_secret_ref;
        let credentials = connection::login(self.context, endpoint, reference, age).await?;
        let holder = logins::holder(login::Kind::Gateway, self.gateway.meta());
        logins::heed(&self.context.remotes, &holder, self.asked, endpoint, &credentials).await;
        Ok(credentials)
    }

    async fn visit(
        &mut self,
        endpoint: &Endpoint,
        credentials: &Credentials,
        memory: &mut Memory,
        refused: Option<Serial>,
    ) -> Result<Option<Seeing>, AccessError> {
        let mut x2 = X2::new(&self.context.remotes, endpoint, credentials, refused);
        x2.log_in().await?;
        record(self.context, self.gateway, Trial::GotIn);
        if let Some(verdict) = self.conflict(memory) {
            return Ok(Some(Seeing::of(verdict)));
        }
        let timeout = x2.read_timeout().await;
        if matches!(timeout, Err(AccessError::NotAdmin | AccessError::TokenRefused)) {
            // A token keeps the role it was issued with: the next look logs in again.
            let key = SessionKey::new(endpoint, &credentials.identity);
            self.context.remotes.sessions.forget(&key).await;
        }
        let (timeout, token) = (timeout?, x2.fresh_lifetime());
        let seen = Seen { timeout, written: false, read_back: false, token, proofs: 0 };
        self.settle(&mut x2, seen, (endpoint, credentials), memory).await
    }

    fn refusal(&self, error: &AccessError, credentials: &Credentials, url: &str) -> Findings {
        let mut findings = Findings::of(error.verdict("The appliance", credentials.secret()));
        findings.retry_after = error.retry_after();
        findings.polls = error.awaits_secret();
        findings.news = logins::refused_login(&self.context.remotes.admission, error, credentials, url);
        wake_called(self.context);
        findings
    }
}
