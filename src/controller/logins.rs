//! What objects and their statuses show of logins, and what is written into statuses of them.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use crate::clock;
use crate::crd::{
    Connection, CredentialsRef, CustomerTokenTtl, KonaServer, Mode, RefusedLogin, Time, X2Gateway,
};
use crate::engine::login::{Account, Holder, Kind, News, Seat};
use crate::engine::reason::Reason;
use crate::engine::{schedule, verdict};
use crate::vendor::admission::Admission;
use crate::vendor::credentials::{Credentials, Identity};
use crate::vendor::endpoint::{BaseUrl, Endpoint};
use crate::vendor::login::AccessError;
use crate::vendor::remotes::Remotes;
use crate::vendor::sessions::SessionKey;

/// An object as one that logs in.
#[must_use]
pub fn holder(kind: Kind, meta: &ObjectMeta) -> Holder {
    let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
    Holder { kind, namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
}

fn account(meta: &ObjectMeta, reference: &CredentialsRef) -> Account {
    Account {
        namespace: meta.namespace.clone().unwrap_or_default(),
        secret: reference.name.clone(),
        keys: (reference.username_key.clone(), reference.password_key.clone()),
    }
}

/// The system that a connection leads to, unless it is invalid.
fn system(connection: &Connection) -> Option<String> {
    BaseUrl::parse(&connection.url).ok().map(|url| url.to_string())
}

/// Whether a reason means that the login succeeded.
fn is_inside(reason: Option<Reason>) -> bool {
    !matches!(reason, None | Some(Reason::AuthenticationFailed | Reason::AdminRoleRequired))
}

/// Takes over what a gateway and its status show, if there is one.
pub fn observe_gateway(admission: &Admission, meta: &ObjectMeta, gateway: Option<&X2Gateway>) {
    let seat = gateway.and_then(|gateway| {
        let connection = &gateway.spec.connection;
        let system = system(connection)?;
        let status = gateway.status.clone().unwrap_or_default();
        let here = status.effective_url.as_ref() == Some(&system);
        let let_in = here
            && !connection.suspend
            && status.last_checked_time.is_some()
            && status.refused_login.is_empty()
            && is_inside(verdict::ready_reason(&status.conditions));
        let account = account(meta, &connection.credentials_secret_ref);
        let proven = status.last_proven_time.filter(|_| here).map(|time| time.0);
        let refused = if here { status.refused_login } else { Vec::new() };
        Some(Seat { account, system, let_in, proven, refused })
    });
    admission.observe(&holder(Kind::Gateway, meta), seat);
}

/// Takes over what a server and its status show, if there is one.
pub fn observe_server(admission: &Admission, meta: &ObjectMeta, server: Option<&KonaServer>) {
    let seat = server.and_then(|server| {
        let connection = &server.spec.connection;
        let system = system(connection)?;
        let status = server.status.clone().unwrap_or_default();
        let here = status.effective_url.as_ref() == Some(&system);
        let let_in = here
            && !connection.suspend
            && status.last_checked_time.is_some()
            && status.refused_login.is_empty()
            && is_inside(verdict::ready_reason(&status.conditions));
        let account = account(meta, &connection.credentials_secret_ref);
        let refused = if here { status.refused_login } else { Vec::new() };
        Some(Seat { account, system, let_in, proven: None, refused })
    });
    admission.observe(&holder(Kind::Server, meta), seat);
}

/// Takes over what a customer and its status show of its own user, if it has one. It is no witness: it logs in when a lifetime
/// is to be proven, and not because others ask for it.
pub fn observe_customer(admission: &Admission, meta: &ObjectMeta, customer: Option<&CustomerTokenTtl>) {
    let seat = customer.and_then(|customer| {
        let reference = customer.spec.verify_credentials_secret_ref.as_ref()?;
        let status = customer.status.clone().unwrap_or_default();
        let system = status.effective_url.filter(|_| proves_by_login(customer))?;
        let account = account(meta, reference);
        Some(Seat { account, system, let_in: false, proven: None, refused: status.refused_login })
    });
    admission.observe(&holder(Kind::Customer, meta), seat);
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

/// Heeds requests for a login: a person's, and one for the sake of other systems.
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

/// A refusal that another user may end: until the next check is due, nothing but the Secret is looked at.
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

    /// The refusal, if it still stands for a login and it is not time to try again.
    #[must_use]
    pub fn stands(&self, credentials: &Credentials) -> Option<AccessError> {
        let stands = self.identity == credentials.identity && clock::instant() < self.until;
        stands.then(|| self.error.clone())
    }
}
