//! Gather, decide and act: one reconcile of an appliance.

use std::sync::Arc;

use kube::{Resource as _, ResourceExt as _};

use super::change::Clearance;
use super::claim_id;
use crate::clock;
use crate::controller::connection::{self, Judged};
use crate::controller::context::Context;
use crate::controller::logins;
use crate::controller::reconcile::{Findings, Given, Memory, moved_to};
use crate::controller::references::Unread;
use crate::crd::{Kind, X2Gateway};
use crate::engine::backoff::Nothing;
use crate::engine::gateway::{MOVED, Prior, RIVAL, Regime, Seen, conflict, found_drift, prior, remembered};
use crate::engine::governance::Governance;
use crate::engine::login;
use crate::engine::ownership::{Standing, Trial};
use crate::engine::verdict::{Notes, Reason, Verdict};
use crate::runtime::object::Key;
use crate::runtime::secrets::Age;
use crate::runtime::status;
use crate::runtime::writer::Written;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::limits::Bounds;
use crate::vendor::login::{AccessError, Serial};
use crate::vendor::sessions::SessionKey;
use crate::vendor::x2::X2;

/// Everything that one reconcile works with.
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

/// Why a reconcile came to an early end.
pub(super) enum Stop {
    /// Nothing can be reported.
    Nothing(Nothing),
    /// That is what is reported.
    Verdict(Verdict),
    /// The appliance refused or did not answer.
    Access(AccessError),
}

impl From<AccessError> for Stop {
    fn from(error: AccessError) -> Self {
        Self::Access(error)
    }
}

impl From<Clearance> for Stop {
    fn from(clearance: Clearance) -> Self {
        match clearance {
            Clearance::Wait(verdict) => Self::Verdict(verdict),
            Clearance::Nothing(why) => Self::Nothing(why),
            Clearance::Go => Self::Nothing(Nothing::Outdated),
        }
    }
}

/// Checks an appliance and does what is to be done.
pub(super) async fn examine(
    context: &Arc<Context>,
    gateway: &mut Arc<X2Gateway>,
    given: &Given<X2Gateway>,
    memory: &mut Memory<X2Gateway>,
) -> Result<Findings<X2Gateway>, Nothing> {
    let (governance, asked) = (&given.parents.governance, given.is_asked(memory));
    let generation = gateway.meta().generation;
    let judged = match connection::judge(&gateway.spec.connection, context.settings.restrictions) {
        Ok(judged) => judged,
        Err(verdict) => {
            record(context, gateway, Trial::Refused);
            return Ok(Findings::from(verdict));
        }
    };
    let (url, insecure) = (judged.base.to_string(), judged.insecure.clone());
    let known = gateway.status.as_ref().and_then(|status| status.effective_url.clone());
    if let Some(fresh) = moved_to(&**gateway, memory, (&url, known.as_deref()), MOVED)
        && !matches!(
            status::update(&context.gateways, gateway, fresh).await,
            Written::Written | Written::Unchanged
        )
    {
        return Err(Nothing::NotAccepted);
    }
    let status = gateway.status.clone().unwrap_or_default();
    if !std::mem::replace(&mut memory.extra.has_recalled, true) {
        memory.change = remembered(&status, &governance.regime);
    }
    let age = Age::for_reconcile(asked, memory.is_changed(), memory.polled);
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
    let mut findings = examination.run(judged, memory, age).await?;
    let before = examination.prior.timeout;
    let is_drift = |seen: u32| found_drift(&governance.regime, before, seen, findings.verdict.reason);
    findings.found.drifted_from = before.filter(|_| findings.found.timeout.is_some_and(is_drift));
    if findings.verdict.reason == Reason::Conflict && matches!(governance.regime, Regime::Left { .. }) {
        findings.found.skipped = Some(RIVAL);
    }
    findings.effective_url = Some(url);
    findings.notes = Notes { insecure, ..Notes::default() };
    Ok(findings)
}

fn record(context: &Arc<Context>, gateway: &X2Gateway, trial: Trial) {
    let rivals = context.gateway_claims.record(&claim_id(gateway), trial);
    rivals.into_iter().for_each(|rival| context.cluster.wake(Kind::Gateway, rival));
}

impl Examination<'_> {
    async fn run(
        &mut self,
        judged: Judged,
        memory: &mut Memory<X2Gateway>,
        mut age: Age,
    ) -> Result<Findings<X2Gateway>, Nothing> {
        if let Some(verdict) = self.conflict(memory) {
            return Ok(verdict.into());
        }
        let namespace = self.gateway.namespace().unwrap_or_default();
        let Context { references, limits, .. } = &**self.context;
        let endpoint = judged.endpoint(references, limits, Bounds::ONE_AT_A_TIME, &namespace, age).await;
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(why) => return self.not_in(why),
        };
        let mut refused = None;
        loop {
            let credentials = match self.credentials(&endpoint, age).await {
                Ok(credentials) => credentials,
                Err(why) => return self.not_in(why),
            };
            if let Some(error) = memory.barred.as_ref().and_then(|barred| barred.stands(&credentials))
                && age == Age::Polled
            {
                return Ok(self.refusal(&error, &credentials));
            }
            memory.barred = None;
            match self.visit(&endpoint, &credentials, memory, refused).await {
                Ok(findings) => return Ok(findings),
                Err(Stop::Verdict(verdict)) => return Ok(verdict.into()),
                Err(Stop::Nothing(why)) => return Err(why),
                Err(Stop::Access(AccessError::Stale(serial))) if refused.is_none() => {
                    refused = Some(serial);
                    age = Age::Since(clock::instant());
                }
                Err(Stop::Access(error)) => {
                    let barred = matches!(error, AccessError::NotAdmin | AccessError::TokenRefused);
                    let trial = if barred || error.is_refusal() { Trial::Refused } else { Trial::NoAnswer };
                    record(self.context, self.gateway, trial);
                    memory.barred = logins::Barred::after(&error, &credentials, self.governance.interval);
                    if error.is_silence() {
                        return Err(Nothing::Outdated);
                    }
                    return Ok(self.refusal(&error, &credentials));
                }
            }
        }
    }

    /// What to report if the appliance is another resource's, or is not known to be this one's.
    fn conflict(&self, memory: &mut Memory<X2Gateway>) -> Option<Verdict> {
        let standing = self.context.gateway_claims.standing(&claim_id(self.gateway));
        memory.judged = Some(standing);
        conflict(standing)
    }

    fn not_in(&self, why: Unread) -> Result<Findings<X2Gateway>, Nothing> {
        match why {
            Unread::Silence => Err(Nothing::Unanswered),
            Unread::Refused(verdict) => {
                record(self.context, self.gateway, Trial::Refused);
                Ok(verdict.into())
            }
        }
    }

    /// Who governs the gateway now, if what the reconcile began with still holds: after a wait the
    /// decision may be out of date.
    pub(super) fn still_holds(&self) -> Option<Governance> {
        let key = Key::of(self.gateway.meta());
        let now = self.context.gateways.valid(&key)?;
        let owns = self.context.gateway_claims.standing(&claim_id(self.gateway)) == Standing::Owner;
        let same = now.uid() == self.gateway.uid() && now.meta().generation == self.generation;
        let governance = self.context.specs.namespace(&key.namespace).governance(&now);
        (owns && same && governance.regime == self.governance.regime).then_some(governance)
    }

    /// User name and password: read now if a login is due.
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
        memory: &mut Memory<X2Gateway>,
        refused: Option<Serial>,
    ) -> Result<Findings<X2Gateway>, Stop> {
        let mut x2 = X2::new(&self.context.remotes, endpoint, credentials, refused);
        x2.log_in().await?;
        record(self.context, self.gateway, Trial::GotIn);
        if let Some(verdict) = self.conflict(memory) {
            return Ok(verdict.into());
        }
        let timeout = x2.read_timeout().await;
        if matches!(timeout, Err(AccessError::NotAdmin | AccessError::TokenRefused)) {
            // A token keeps the role it was issued with: the next reconcile logs in again.
            let key = SessionKey::new(endpoint, &credentials.identity);
            self.context.remotes.sessions.forget(&key).await;
        }
        let (timeout, token) = (timeout?, x2.fresh_lifetime());
        let seen = Seen { timeout, written: false, read_back: false, token, proofs: 0 };
        self.settle(&mut x2, seen, (endpoint, credentials), memory).await
    }

    fn refusal(&self, error: &AccessError, credentials: &Credentials) -> Findings<X2Gateway> {
        let news = logins::refused_login(&self.context.remotes.admission, error, credentials, &self.url);
        self.context.wake_called();
        Findings {
            retry_after: error.retry_after(),
            polls: error.awaits_secret(),
            news,
            ..Findings::from(error.verdict("The appliance", credentials.secret()))
        }
    }
}
