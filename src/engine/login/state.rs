//! What an object and its status show of logins.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Account, LoginState};
use crate::crd::{
    Condition, Connection, CredentialsRef, KonaServer, KonaServerStatus, RefusedLogin, Time, X2Gateway,
    X2GatewayStatus,
};
use crate::engine::reason::Reason;
use crate::engine::url::BaseUrl;
use crate::engine::verdict::ready_reason;

/// What the status of an object with a connection shows of its login.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    effective_url: Option<&'a str>,
    checked: Option<&'a Time>,
    proven: Option<&'a Time>,
    refused: &'a [RefusedLogin],
    conditions: &'a [Condition],
}

impl<'a> From<&'a X2GatewayStatus> for Shown<'a> {
    fn from(status: &'a X2GatewayStatus) -> Self {
        Self {
            effective_url: status.effective_url.as_deref(),
            checked: status.last_checked_time.as_ref(),
            proven: status.last_proven_time.as_ref(),
            refused: &status.refused_login,
            conditions: &status.conditions,
        }
    }
}

impl<'a> From<&'a KonaServerStatus> for Shown<'a> {
    fn from(status: &'a KonaServerStatus) -> Self {
        Self {
            effective_url: status.effective_url.as_deref(),
            checked: status.last_checked_time.as_ref(),
            proven: None,
            refused: &status.refused_login,
            conditions: &status.conditions,
        }
    }
}

/// A kind whose objects log in.
pub trait LogsIn {
    /// What an object and its status show of its login, if it has one.
    fn login_state(&self) -> Option<LoginState>;
}

impl LogsIn for X2Gateway {
    fn login_state(&self) -> Option<LoginState> {
        of_connection(&self.metadata, &self.spec.connection, self.status.as_ref().map(Into::into))
    }
}

impl LogsIn for KonaServer {
    fn login_state(&self) -> Option<LoginState> {
        of_connection(&self.metadata, &self.spec.connection, self.status.as_ref().map(Into::into))
    }
}

/// None if the connection leads nowhere.
fn of_connection(meta: &ObjectMeta, connection: &Connection, shown: Option<Shown<'_>>) -> Option<LoginState> {
    let system = BaseUrl::parse(&connection.url).ok()?.to_string();
    Some(login_state(meta.namespace.as_deref(), connection, system, shown))
}

/// A Secret of a namespace, and the keys of it that are used.
#[must_use]
pub fn account(namespace: Option<&str>, reference: &CredentialsRef) -> Account {
    Account {
        namespace: namespace.unwrap_or_default().to_owned(),
        secret: reference.name.clone(),
        keys: (reference.username_key.clone(), reference.password_key.clone()),
    }
}

/// What an object with a connection to `system` shows of its login. What a status shows of another system does not count.
#[must_use]
pub fn login_state(
    namespace: Option<&str>,
    connection: &Connection,
    system: String,
    shown: Option<Shown<'_>>,
) -> LoginState {
    let account = account(namespace, &connection.credentials_secret_ref);
    let Some(here) = shown.filter(|shown| shown.effective_url == Some(&system)) else {
        return LoginState { account, system, let_in: false, proven: None, refused: Vec::new() };
    };
    let let_in = !connection.suspend
        && here.checked.is_some()
        && here.refused.is_empty()
        && is_inside(ready_reason(here.conditions));
    let proven = here.proven.map(|time| time.0);
    LoginState { account, system, let_in, proven, refused: here.refused.to_vec() }
}

/// Whether a reason means that the login succeeded.
fn is_inside(reason: Option<Reason>) -> bool {
    !matches!(reason, None | Some(Reason::AuthenticationFailed | Reason::AdminRoleRequired))
}
