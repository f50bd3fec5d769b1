//! How a reconcile works with its remote system by a login: read where it is and who logs in, visit it, and visit it once
//! more if a token has become stale.

use super::logins::{self, Barred, take_requests};
use super::reconcile::{Controller, Findings, Given, Managed, Memory, Stop};
use crate::clock;
use crate::engine::access::{AccessError, Serial};
use crate::engine::backoff::Inconclusive;
use crate::engine::login::{Holder, News};
use crate::engine::ownership::{LONGEST_TRY, Standing, Trial};
use crate::engine::references::Unread;
use crate::engine::verdict::Verdict;
use crate::runtime::cluster::Cluster;
use crate::runtime::object::Key;
use crate::runtime::secrets::Age;
use crate::runtime::workers::Trigger;
use crate::vendor::admission::Admission;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;

/// How a visit gets at the remote system.
#[derive(Clone, Copy)]
pub(super) struct Access<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) credentials: &'a Credentials,
    /// The session that the remote system has just refused.
    pub(super) refused: Option<Serial>,
    pub(super) age: Age,
}

/// What a kind does at its remote system.
pub(super) trait Visitor<K: Managed>: Send {
    /// What messages call the remote system.
    const SYSTEM: &'static str = "The server";
    /// Reads where the remote system is and who logs in.
    fn reach(&self, age: Age) -> impl Future<Output = Result<(Endpoint, Credentials), Unread>> + Send;
    /// The object.
    fn object(&self) -> &K;
    /// The same, if it logs in with its own credentials. The login of another object is retried by that object.
    fn holder(&self) -> Option<Holder> {
        Some(logins::holder(K::KIND, self.object().meta()))
    }
    /// Logs in and does what is to be done.
    fn visit(
        &mut self,
        access: Access<'_>,
        memory: &mut Memory<K>,
    ) -> impl Future<Output = Result<Findings<K>, Stop<K>>> + Send;
    /// What to report if it cannot be read where the remote system is, or who logs in.
    fn unread(&self, why: Verdict) -> Verdict {
        why
    }
    /// Its effective URL.
    fn url(&self) -> &str;
    /// What to report of a failed login or exchange.
    fn failed(&self, shared: Shared<'_>, error: &AccessError, credentials: &Credentials) -> Findings<K> {
        refusal(shared, error, credentials, (Self::SYSTEM, self.url()))
    }
}

/// What decides which logins may be tried, and what wakes the objects that come next.
pub(super) type Shared<'a> = (&'a Admission, &'a Cluster);

/// What a controller shares with all others.
pub(super) fn shared<C: Controller>(controller: &C) -> Shared<'_> {
    (&controller.connections().remotes.admission, controller.store().cluster())
}

/// Visits a remote system. After a token has become stale the Secret is read again, and the visit repeated once.
pub(super) async fn visit<C: Controller>(
    controller: &C,
    visitor: &mut impl Visitor<C::Object>,
    given: &Given<C::Object>,
    memory: &mut Memory<C::Object>,
) -> Result<Findings<C::Object>, Inconclusive> {
    let shared = shared(controller);
    let asked = given.is_asked(memory);
    let mut age = Age::for_reconcile(asked, memory.is_changed(), memory.age);
    let mut refused = None;
    loop {
        let (mut endpoint, credentials) = match visitor.reach(age).await {
            Ok(reached) => reached,
            Err(Unread::Silence) => return Err(Inconclusive::Unanswered),
            Err(Unread::Refused(why)) => return Ok(Findings::without_login(visitor.unread(why))),
        };
        if let Some(error) = memory.barred.as_ref().and_then(|barred| barred.error_for(&credentials))
            && age == Age::Polled
        {
            return Ok(visitor.failed(shared, &error, &credentials));
        }
        memory.barred = None;
        endpoint.is_claimants = given.standing == Standing::TryNow;
        if endpoint.is_claimants || given.is_awaited {
            endpoint.timeout = endpoint.timeout.min(LONGEST_TRY);
        }
        if let Some(holder) = visitor.holder() {
            take_requests(&controller.connections().remotes, &holder, asked, &endpoint, &credentials).await;
        }
        let access = Access { endpoint: &endpoint, credentials: &credentials, refused, age };
        match visitor.visit(access, memory).await {
            Ok(findings) => return Ok(findings),
            Err(Stop::Inconclusive(why)) => return Err(why),
            Err(Stop::Findings(findings)) => return Ok(*findings),
            Err(Stop::Access(AccessError::Stale(serial))) if refused.is_none() => {
                refused = Some(serial);
                age = Age::Since(clock::instant());
            }
            Err(Stop::Access(error)) => {
                let trial = Trial::of_failed(&error);
                memory.barred = Barred::after(&error, &credentials, given.pace(trial)).map(Box::new);
                if error.is_silence() {
                    return Err(Inconclusive::Outdated);
                }
                return Ok(Findings { trial: Some(trial), ..visitor.failed(shared, &error, &credentials) });
            }
        }
    }
}

/// What to report of a failed login or exchange. `remote` is what the remote system is called.
pub(super) fn refusal<K: Managed>(
    (admission, cluster): Shared<'_>,
    error: &AccessError,
    credentials: &Credentials,
    (remote, url): (&str, &str),
) -> Findings<K> {
    let refusal = admission.refusal(&credentials.identity, url).filter(|_| error.is_refusal());
    let news = refusal.map(|refusal| News::refused(&credentials.identity.version, refusal));
    wake_called(admission, cluster);
    Findings {
        retry_after: error.retry_after(),
        deferred: error.is_unsent(),
        polls: error.awaits_secret(),
        news,
        ..Findings::from(error.verdict(remote, credentials.secret()))
    }
}

/// Wakes the objects that are called upon to log in again, since the next try of a password is left to them.
fn wake_called(admission: &Admission, cluster: &Cluster) {
    for Holder { kind, namespace, name } in admission.take_untold() {
        cluster.wake(kind, Key::new(namespace, name), Trigger::Login);
    }
}
