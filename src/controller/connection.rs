//! From a spec's connection to an endpoint: first what can be validated without I/O, then the Secrets and `ConfigMaps` that
//! it refers to.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::origin;
use super::references::{References, Unread};
use crate::crd::{CaRef, Connection, CredentialsRef, KonaServer, Tls};
use crate::engine::schedule;
use crate::engine::verdict::{Reason, Verdict};
use crate::runtime::secrets::Age;
use crate::runtime::store::Store;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::{BaseUrl, Endpoint, Transport};
use crate::vendor::limits::{Bounds, Limits};
use crate::vendor::remotes::Remotes;
use crate::vendor::sessions::SessionKey;

/// What the operator's flags forbid to tenants.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "three independent switches of the command line")]
pub struct Restrictions {
    /// `--forbid-plaintext`
    pub plaintext: bool,
    /// `--forbid-insecure-tls`
    pub insecure_tls: bool,
    /// `--require-allowed-origins`
    pub origins_required: bool,
}

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

/// A validated connection: it is well-formed and permitted.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Where to.
    pub base: BaseUrl,
    proxy: Option<BaseUrl>,
    timeout: Duration,
    tls: Tls,
    /// Why it is insecure, if it is.
    pub insecure: Option<String>,
}

/// Validates a connection. The rules, in this order:
///
/// 1. URL, proxy and timeout are well-formed.
/// 2. Plain HTTP is allowed by the resource and not forbidden by the operator.
/// 3. Certificates may be left unchecked.
fn judge(connection: &Connection, restrictions: Restrictions) -> Result<Judged, Verdict> {
    let invalid = |message: String| Verdict::new(Reason::InvalidSpec, message);
    let base = BaseUrl::parse(&connection.url).map_err(|why| invalid(format!("spec.url {why}.")))?;
    let proxy = connection.proxy_url.as_deref().map(BaseUrl::parse).transpose();
    let proxy = proxy.map_err(|why| invalid(format!("spec.proxyUrl {why}.")))?;
    let timeout = schedule::parse(&connection.request_timeout)
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| invalid("spec.requestTimeout must be a duration such as 10s.".to_owned()))?;
    let tls = connection.tls.clone().unwrap_or_default();
    if base.is_plaintext() && (!connection.allow_plaintext || restrictions.plaintext) {
        let message = if restrictions.plaintext {
            "This operator forbids http:// (--forbid-plaintext). Use https:// in spec.url."
        } else {
            "spec.url uses http://, which would send the password in plain text. Use https://, or set spec.allowPlaintext."
        };
        return Err(Verdict::new(Reason::PlaintextRefused, message));
    }
    if tls.insecure_skip_verify && restrictions.insecure_tls {
        let message = "This operator forbids spec.tls.insecureSkipVerify (--forbid-insecure-tls). Specify the CA in spec.tls.";
        return Err(Verdict::new(Reason::InsecureTlsRefused, message));
    }
    let insecure = if base.is_plaintext() {
        Some("Password and tokens are sent unencrypted because spec.url uses http://.".to_owned())
    } else {
        tls.insecure_skip_verify.then(|| {
            "The server's certificate is not verified because spec.tls.insecureSkipVerify is set.".to_owned()
        })
    };
    Ok(Judged { base, proxy, timeout, tls, insecure })
}

impl Connections {
    /// Validates a connection, without asking anything.
    pub fn judge(&self, connection: &Connection) -> Result<Judged, Verdict> {
        judge(connection, self.restrictions)
    }

    /// The endpoint of a connection, and user name and password for it.
    pub async fn reach(
        &self,
        judged: &Judged,
        reference: &CredentialsRef,
        (namespace, bounds): (&str, Bounds),
        age: Age,
    ) -> Result<(Endpoint, Credentials), Unread> {
        let ca = ca(&self.references, namespace, &judged.tls, age).await?;
        let limit = self.limits.of(&judged.base.to_string(), bounds);
        let transport = Transport {
            ca,
            server_name: judged.tls.server_name.clone(),
            insecure_skip_verify: judged.tls.insecure_skip_verify,
            proxy: judged.proxy.clone(),
        };
        let (base, timeout) = (judged.base.clone(), judged.timeout);
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
        judged: &Judged,
        age: Age,
    ) -> Result<(Endpoint, Credentials), Unread> {
        let namespace = server.metadata.namespace.as_deref().unwrap_or_default();
        let (reference, bounds) =
            (&server.spec.connection.credentials_secret_ref, bounds(servers, &judged.base));
        self.reach(judged, reference, (namespace, bounds), age).await
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
        let name = &reference.name;
        let allowed = match origins {
            Some(origins) => origin::allows(&origins, &endpoint.base, endpoint.transport.proxy.as_ref()),
            None if self.restrictions.origins_required => {
                let message = format!(
                    "This operator requires the annotation tenure.dev/allowed-origins on every Secret. Add it to Secret {name}."
                );
                return Err(Verdict::new(Reason::OriginNotAllowed, message).into());
            }
            None => true,
        };
        if allowed {
            return Ok(credentials);
        }
        let message = format!(
            "The annotation tenure.dev/allowed-origins of Secret {name} does not list this URL or its proxy. Add the missing origin, or use another Secret."
        );
        Err(Verdict::new(Reason::OriginNotAllowed, message).into())
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
    if is_ca(&pem) {
        Ok(Some(pem))
    } else {
        let message = format!("{what} contains no usable PEM certificate. Store the CA's certificate there.");
        Err(Verdict::new(Reason::CaUnusable, message).into())
    }
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
