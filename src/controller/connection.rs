//! From a spec's connection to an endpoint: first what can be validated without I/O, then the Secrets and `ConfigMaps` that
//! it refers to.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::references::References;
use crate::crd::{CaRef, Connection, CredentialsRef, KonaServer, Tls};
use crate::engine::connection::{Restrictions, ValidConnection, validate};
use crate::engine::origin;
use crate::engine::references::{Unread, unusable_ca};
use crate::engine::url::BaseUrl;
use crate::engine::verdict::Verdict;
use crate::runtime::secrets::Age;
use crate::runtime::store::Store;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::{Endpoint, Transport};
use crate::vendor::limits::{Bounds, Limits};
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
}

impl Connections {
    /// Validates a connection, without asking anything.
    pub fn validate(&self, connection: &Connection) -> Result<ValidConnection, Verdict> {
        validate(connection, self.restrictions)
    }

    /// The endpoint of a connection, and user name and password for it.
    pub async fn reach(
        &self,
        connection: &ValidConnection,
        reference: &CredentialsRef,
        (namespace, bounds): (&str, Bounds),
        age: Age,
    ) -> Result<(Endpoint, Credentials), Unread> {
        let ca = ca(&self.references, namespace, &connection.tls, age).await?;
        let limit = self.limits.of(&connection.base.to_string(), bounds);
        let transport = Transport {
            ca,
            server_name: connection.tls.server_name.clone(),
            insecure_skip_verify: connection.tls.insecure_skip_verify,
            proxy: connection.proxy.clone(),
        };
        let (base, timeout) = (connection.base.clone(), connection.timeout);
        let endpoint = Endpoint { base, transport, timeout, namespace: namespace.to_owned(), limit };
        let credentials = self.login(&endpoint, reference, age).await?;
        Ok((endpoint, credentials))
    }

    /// The endpoint and the login of a server, for itself and for its customers. The smallest limits of all servers with its
    /// URL count.
    pub async fn reach_server(
        &self,
        servers: &Store<KonaServer>,
        server: &KonaServer,
        connection: &ValidConnection,
        age: Age,
    ) -> Result<(Endpoint, Credentials), Unread> {
        let namespace = server.metadata.namespace.as_deref().unwrap_or_default();
        let (reference, bounds) =
            (&server.spec.connection.credentials_secret_ref, bounds(servers, &connection.base));
        self.reach(connection, reference, (namespace, bounds), age).await
    }

    /// User name and password of an endpoint: read now if a login with them is due, since they may have been corrected
    /// after they were last read.
    async fn login(
        &self,
        endpoint: &Endpoint,
        reference: &CredentialsRef,
        age: Age,
    ) -> Result<Credentials, Unread> {
        let known = self.credentials(endpoint, reference, age).await?;
        let key = SessionKey::new(endpoint, &known.identity);
        if age != Age::InUse || self.remotes.sessions.is_living(&key).await {
            return Ok(known);
        }
        self.credentials(endpoint, reference, Age::Now).await
    }

    /// Reads user name and password, and checks that they may be sent to an endpoint.
    pub async fn credentials(
        &self,
        endpoint: &Endpoint,
        reference: &CredentialsRef,
        age: Age,
    ) -> Result<Credentials, Unread> {
        let (credentials, origins) = self.references.credentials(&endpoint.namespace, reference, age).await?;
        let (required, urls) =
            (self.restrictions.origins_required, (&endpoint.base, endpoint.transport.proxy.as_ref()));
        origin::check(origins.as_deref(), required, &reference.name, urls)?;
        Ok(credentials)
    }
}

async fn ca(
    references: &References,
    namespace: &str,
    tls: &Tls,
    age: Age,
) -> Result<Option<Arc<str>>, Unread> {
    let (pem, what) = match (&tls.ca_secret_ref, &tls.ca_config_map_ref) {
        (None, None) => return Ok(None),
        (Some(CaRef { name, key }), _) => {
            (references.secret_text(namespace, name, key, age).await?, format!("Key {key} of Secret {name}"))
        }
        (None, Some(CaRef { name, key })) => (
            references.config_map_text(namespace, name, key, age).await?,
            format!("Key {key} of ConfigMap {name}"),
        ),
    };
    if is_ca(&pem) { Ok(Some(pem)) } else { Err(unusable_ca(&what).into()) }
}

fn is_ca(pem: &str) -> bool {
    let mut roots = RootCertStore::empty();
    let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).peekable();
    certificates.peek().is_some() && certificates.all(|der| der.is_ok_and(|der| roots.add(der).is_ok()))
}

/// The smallest limits among all servers with this URL.
fn bounds(servers: &Store<KonaServer>, base: &BaseUrl) -> Bounds {
    let servers = servers.keys().into_iter().filter_map(|key| servers.valid(&key));
    let alike = servers.filter(|server| BaseUrl::parse(&server.spec.connection.url).as_ref() == Ok(base));
    let limits: Vec<_> = alike.map(|server| server.spec.limits).collect();
    Bounds {
        in_flight: limits.iter().map(|l| l.max_concurrent).min().unwrap_or(1),
        per_second: limits.iter().map(|l| l.requests_per_second).min(),
    }
}
