//! What objects and their statuses show of logins, and what is written into statuses of them.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use crate::clock;
use crate::crd::{Connection, CustomerTokenTtl, Kind, KonaServer, Mode, RefusedLogin, Time, X2Gateway};
use crate::engine::access::AccessError;
use crate::engine::login::{Holder, LoginState, News, account, login_state};
use crate::engine::schedule;
use crate::engine::url::BaseUrl;
use crate::runtime::object::{Entry, Reported};
use crate::vendor::admission::Admission;
use crate::vendor::credentials::{Credentials, Identity};
use crate::vendor::endpoint::Endpoint;
use crate::vendor::remotes::Remotes;
use crate::vendor::sessions::SessionKey;

/// An object as one that logs in.
#[must_use]
pub fn holder(kind: Kind, meta: &ObjectMeta) -> Holder {
    let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
    Holder { kind, namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
}

/// A kind whose objects log in.
pub trait LogsIn: Reported {
    /// What an object and its status show of its login, if it has one.
    fn login_state(&self) -> Option<LoginState>;
}

/// Takes over what an object and its status show of logins, or that it is gone.
pub fn observe<K: LogsIn>(admission: &Admission, meta: &ObjectMeta, object: Option<&Entry<K>>) {
    let state = object.and_then(Entry::valid).and_then(|object| object.login_state());
    admission.observe(&holder(K::KIND, meta), state);
}

/// The system that a connection leads to, unless it is invalid.
fn system(connection: &Connection) -> Option<String> {
    BaseUrl::parse(&connection.url).ok().map(|url| url.to_string())
}

impl LogsIn for X2Gateway {
    fn login_state(&self) -> Option<LoginState> {
        let connection = &self.spec.connection;
        let shown = self.status.as_ref().map(Into::into);
        Some(login_state(self.metadata.namespace.as_deref(), connection, system(connection)?, shown))
    }
}

impl LogsIn for KonaServer {
    fn login_state(&self) -> Option<LoginState> {
        let connection = &self.spec.connection;
        let shown = self.status.as_ref().map(Into::into);
        Some(login_state(self.metadata.namespace.as_deref(), connection, system(connection)?, shown))
    }
}

impl LogsIn for CustomerTokenTtl {
    /// It is no witness: its own user logs in when a lifetime is to be proven, and not because others ask for it.
    fn login_state(&self) -> Option<LoginState> {
        let reference = self.spec.verify_credentials_secret_ref.as_ref()?;
        let status = self.status.clone().unwrap_or_default();
        let system = status.effective_url.filter(|_| proves_by_login(self))?;
        let account = account(self.metadata.namespace.as_deref(), reference);
        Some(LoginState { account, system, let_in: false, proven: None, refused: status.refused_login })
    }
}

/// Whether a customer's own user logs in at all.
#[must_use]
pub fn proves_by_login(customer: &CustomerTokenTtl) -> bool {
    customer.spec.verify_credentials_secret_ref.is_some() && customer.spec.mode == Mode::Enforce
}

/// What a status is to remember of a failed login.
#[must_use]
pub fn refused_login(
    admission: &Admission,
    error: &AccessError,
    credentials: &Credentials,
    system: &str,
) -> Option<News> {
    let refusal = admission.refusal(&credentials.identity, system);
    let refusal = refusal.filter(|_| error.is_refusal())?;
    let version = &credentials.identity.version;
    Some(News::Refused(RefusedLogin {
        secret_uid: version.uid.clone(),
        secret_resource_version: version.resource_version.clone(),
        time: Time(refusal.time),
        in_a_row: Some(refusal.in_a_row),
    }))
}

/// Handles requests for a new login: from a user, or to decide whether other systems may try the password.
pub async fn heed(
    remotes: &Remotes,
    holder: &Holder,
    asked: bool,
    endpoint: &Endpoint,
    credentials: &Credentials,
) {
    if asked {
        remotes.admission.requested(credentials, &endpoint.base.to_string());
    }
    if remotes.admission.take_call(holder) {
        remotes.sessions.forget(&SessionKey::new(endpoint, &credentials.identity)).await;
    }
}

/// A refusal that another user may end: until the next check is due, only the Secret is checked.
#[derive(Clone, Debug)]
pub struct Barred {
    identity: Identity,
    error: AccessError,
    until: Instant,
}

impl Barred {
    /// What a failed check with a login leaves behind; `interval` is the time between two checks.
    #[must_use]
    pub fn after(error: &AccessError, credentials: &Credentials, interval: Duration) -> Option<Self> {
        let identity = credentials.identity.clone();
        let until = clock::instant() + schedule::stalled(interval, clock::random());
        let barred = error.awaits_secret() && !error.is_refusal();
        barred.then(|| Self { identity, error: error.clone(), until })
    }

    /// The refusal, if it still counts for a login and it is not time to try again.
    #[must_use]
    pub fn error_for(&self, credentials: &Credentials) -> Option<AccessError> {
        let applies = self.identity == credentials.identity && clock::instant() < self.until;
        applies.then(|| self.error.clone())
    }
}
