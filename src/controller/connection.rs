//! From a spec's connection to an endpoint: first what can be validated without I/O, then the Secrets and `ConfigMaps` that
//! it refers to.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::context::Context;
use super::origin;
use super::references::{References, Unread};
use crate::crd::{CaRef, Connection, CredentialsRef, KonaServer, Tls};
use crate::engine::schedule;
use crate::engine::verdict::{Reason, Verdict};
use crate::runtime::secrets::Age;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::{BaseUrl, Endpoint, Transport};
use crate::vendor::limits::{Bounds, Limits};
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

/// Validates a connection. The rules in order:
///
/// 1. URL, proxy and timeout are well-formed.
/// 2. Plain HTTP is allowed by the resource and not forbidden by the operator.
/// 3. Certificates may be left unchecked.
pub fn judge(connection: &Connection, restrictions: Restrictions) -> Result<Judged, Verdict> {
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

impl Judged {
    /// Reads the CA, if one is configured, and makes the endpoint.
    pub async fn endpoint(
        self,
        references: &References,
        limits: &Limits,
        bounds: Bounds,
        namespace: &str,
        age: Age,
    ) -> Result<Endpoint, Unread> {
        let ca = ca(references, namespace, &self.tls, age).await?;
        let limit = limits.of(&self.base.to_string(), bounds);
        let transport = Transport {
            ca,
            server_name: self.tls.server_name,
            insecure_skip_verify: self.tls.insecure_skip_verify,
            proxy: self.proxy,
        };
        Ok(Endpoint {
            base: self.base,
            transport,
            timeout: self.timeout,
            namespace: namespace.to_owned(),
            limit,
        })
    }
}

/// Reads user name and password, and checks that they may be sent to an endpoint.
pub async fn credentials(
    context: &Context,
    endpoint: &Endpoint,
    reference: &CredentialsRef,
    age: Age,
) -> Result<Credentials, Unread> {
    let (credentials, origins) = context.references.credentials(&endpoint.namespace, reference, age).await?;
    let name = &reference.name;
    let allowed = match origins {
        Some(origins) => origin::allows(&origins, &endpoint.base, endpoint.transport.proxy.as_ref()),
        None if context.settings.restrictions.origins_required => {
            let message = format!(
                "This operator requires the annotation tenure.dev/allowed-origins on every Secret. Add it to Secret {name}."
            );
            return Err(Verdict::new(Reason::OriginNotAllowed, message).into());
        }
        None => true,
    };
    if allowed {
        Ok(credentials)
    } else {
        let message = format!(
            "The annotation tenure.dev/allowed-origins of Secret {name} does not list this URL (and its proxy). Add it, or use another Secret."
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

/// User name and password of an endpoint: read now if a login with them is due, since they may have been corrected after
/// they were last read.
pub async fn login(
    context: &Context,
    endpoint: &Endpoint,
    reference: &CredentialsRef,
    age: Age,
) -> Result<Credentials, Unread> {
    let known = credentials(context, endpoint, reference, age).await?;
    let key = SessionKey::new(endpoint, &known.identity);
    if age != Age::InUse || context.remotes.sessions.is_living(&key).await {
        return Ok(known);
    }
    credentials(context, endpoint, reference, Age::Now).await
}

/// The endpoint and the login of a server, for itself and for its customers.
pub async fn reach(
    context: &Context,
    server: &KonaServer,
    judged: Judged,
    age: Age,
) -> Result<(Endpoint, Credentials), Unread> {
    let namespace = server.namespace().unwrap_or_default();
    let Context { references, limits, .. } = context;
    let bounds = bounds(context, &judged.base);
    let endpoint = judged.endpoint(references, limits, bounds, &namespace, age).await?;
    let reference = &server.spec.connection.credentials_secret_ref;
    let credentials = login(context, &endpoint, reference, age).await?;
    Ok((endpoint, credentials))
}

/// The smallest limits among all servers with this URL.
fn bounds(context: &Context, base: &BaseUrl) -> Bounds {
    let servers = context.servers.keys().into_iter().filter_map(|key| context.servers.valid(&key));
    let alike = servers.filter(|server| BaseUrl::parse(&server.spec.connection.url).as_ref() == Ok(base));
    let limits: Vec<_> = alike.map(|server| server.spec.limits).collect();
    Bounds {
        in_flight: limits.iter().map(|l| l.max_concurrent).min().unwrap_or(1),
        per_second: limits.iter().map(|l| l.requests_per_second).min(),
    }
}
