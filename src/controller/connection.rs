//! From a spec's connection to an endpoint: first what can be validated without I/O, then the Secrets and `ConfigMaps` that
//! it refers to.

use std::sync::Arc;

use super::claims::Claims;
use super::logins;
use super::references::{Login, References};
use super::uses::{User, Uses};
use crate::crd::{Connection, CredentialsRef, Kind, KonaServer, Tls};
use crate::engine::connection::{Restrictions, ValidConnection, validate};
use crate::engine::origin;
use crate::engine::references::Unread;
use crate::engine::system::Peer;
use crate::engine::verdict::Verdict;
use crate::runtime::object::Key;
use crate::runtime::secrets::Age;
use crate::runtime::store::Store;
use crate::vendor::ca::Ca;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::{Endpoint, Transport};
use crate::vendor::limits::{Bounds, Lane, Limit, Limits};
use crate::vendor::remotes::Remotes;
use crate::vendor::sessions::SessionKey;

/// What connections to remote systems are made of.
#[derive(Debug)]
pub struct Connections {
    /// Clients of the remote systems.
    pub remotes: Remotes,
    /// How hard each is asked.
    pub limits: Limits,
    /// Secrets and `ConfigMaps`.
    pub references: References,
    /// What is forbidden to tenants.
    pub restrictions: Restrictions,
    /// Where Secrets are used.
    pub uses: Uses,
}

impl Connections {
    /// Validates a connection, without asking anything.
    pub fn validate(&self, connection: &Connection) -> Result<ValidConnection, Verdict> {
        validate(connection, &self.restrictions)
    }

    /// The endpoint of a connection, and user name and password for it: read now if a login is due, since they may have been
    /// corrected after they were last read.
    pub async fn reach(
        &self,
        connection: &ValidConnection,
        reference: &CredentialsRef,
        user: User<'_>,
        limit: Arc<Limit>,
        age: Age,
    ) -> Result<(Endpoint, Credentials), Unread> {
        let namespace = user.namespace();
        let (ca, ca_source) = self.ca(namespace, &connection.tls, age).await?.unzip();
        let transport = Transport {
            ca,
            server_name: connection.tls.server_name.clone(),
            insecure_skip_verify: connection.tls.insecure_skip_verify,
            proxy: connection.proxy.clone(),
        };
        let (base, timeout) = (connection.base.clone(), connection.timeout);
        let (holder, answered) = (logins::holder(user.kind, user.meta), Arc::default());
        let is_claimants = false;
        let endpoint =
            Endpoint { base, transport, ca_source, timeout, holder, limit, is_claimants, answered };
        let mut login = self.read(&endpoint, reference, age).await?;
        let key = SessionKey::new(&endpoint, &login.credentials.identity);
        if age == Age::InUse && !self.remotes.sessions.is_living(&key).await {
            login = self.read(&endpoint, reference, Age::Now).await?;
        }
        let credentials = self.used(login, &endpoint, user);
        Ok((endpoint, credentials))
    }

    /// The limit of what a connection leads to: a peer, if it is known. What is reached in another way shares nothing with it.
    pub fn limit(
        &self,
        kind: Kind,
        connection: &ValidConnection,
        peer: Option<Peer>,
        bounds: Bounds,
    ) -> Arc<Limit> {
        let (url, via) = (connection.base.to_string(), connection.via());
        self.limits.of(Lane { kind, url, via, peer }, bounds)
    }

    /// The endpoint and the login of a server, for itself and for its customers. The smallest limits of all servers that were
    /// let in there count.
    pub(crate) async fn reach_server(
        &self,
        (servers, claims): (&Store<KonaServer>, &Claims),
        server: &KonaServer,
        connection: &ValidConnection,
        user: User<'_>,
        age: Age,
    ) -> Result<(Endpoint, Credentials), Unread> {
        let (peer, there) = claims.there(&server.metadata);
        let limit = self.limit(Kind::Server, connection, peer, bounds(servers, server, &there));
        let reference = &server.spec.connection.credentials_secret_ref;
        self.reach(connection, reference, user, limit, age).await
    }

    /// Reads user name and password for an object, and checks that they may be sent to an endpoint.
    pub async fn credentials(
        &self,
        endpoint: &Endpoint,
        reference: &CredentialsRef,
        user: User<'_>,
        age: Age,
    ) -> Result<Credentials, Unread> {
        let login = self.read(endpoint, reference, age).await?;
        Ok(self.used(login, endpoint, user))
    }

    /// Reads a Secret, and checks that what it holds may be sent to an endpoint.
    pub(crate) async fn read(
        &self,
        endpoint: &Endpoint,
        reference: &CredentialsRef,
        age: Age,
    ) -> Result<Login, Unread> {
        let login = self.references.login(&endpoint.holder.namespace, reference, age).await?;
        origin::check(login.allowed.as_deref(), &self.restrictions, &reference.name, endpoint.route())?;
        Ok(login)
    }

    /// Takes down that a login is used for an object.
    fn used(&self, login: Login, endpoint: &Endpoint, user: User<'_>) -> Credentials {
        let Login { credentials, allowed } = login;
        self.uses.note(user, &credentials, endpoint.route(), allowed.is_some());
        credentials
    }

    /// The CA that replaces the system's roots, and where it is from.
    async fn ca(&self, namespace: &str, tls: &Tls, age: Age) -> Result<Option<(Arc<Ca>, String)>, Unread> {
        let found = match (&tls.ca_secret_ref, &tls.ca_config_map_ref) {
            (None, None) => return Ok(None),
            (Some(ca), _) => {
                (self.references.secret_ca(namespace, ca, age).await?, format!("secret/{}", ca.name))
            }
            (None, Some(ca)) => {
                (self.references.config_map_ca(namespace, ca, age).await?, format!("configmap/{}", ca.name))
            }
        };
        Ok(Some(found))
    }
}

/// Whether lower limits of another server apply to a server.
pub(crate) fn is_limited_by_another(
    servers: &Store<KonaServer>,
    claims: &Claims,
    server: &KonaServer,
) -> bool {
    let (_, there) = claims.there(&server.metadata);
    bounds(servers, server, &there) != bounds(servers, server, &[])
}

/// The smallest limits among servers that were let in by the remote system; until one is, those of the server itself.
fn bounds(servers: &Store<KonaServer>, server: &KonaServer, there: &[Key]) -> Bounds {
    let there: Vec<_> = there.iter().filter_map(|key| servers.valid(key)).collect();
    let limits = || there.iter().map(|server| server.spec.limits);
    let own = server.spec.limits;
    Bounds {
        in_flight: limits().map(|l| l.max_concurrent).min().unwrap_or(own.max_concurrent),
        per_second: limits().map(|l| l.requests_per_second).min().or(Some(own.requests_per_second)),
    }
}
