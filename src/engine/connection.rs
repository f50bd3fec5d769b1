//! What a connection has to be, before anything is read or asked.

use std::time::Duration;

use super::ports::{self, Ports};
use super::schedule;
use super::system::Via;
use super::url::BaseUrl;
use super::verdict::{Reason, Verdict};
use crate::crd::{Connection, Tls};

/// What the operator's flags forbid to tenants.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub struct Restrictions {
    /// `--forbid-plaintext`
    pub plaintext: bool,
    /// `--forbid-insecure-tls`
    pub insecure_tls: bool,
    /// `--forbid-custom-ca`
    pub custom_ca: bool,
    /// `--forbid-proxy`
    pub proxy: bool,
    /// `--require-allowed-origins`
    pub origins_required: bool,
    /// `--allow-ports`; if empty, the usual ones and those that the Secret lists.
    pub ports: Vec<Ports>,
}

/// A validated connection: it is well-formed and permitted.
#[derive(Clone, Debug)]
pub struct ValidConnection {
    /// Where to.
    pub base: BaseUrl,
    /// The proxy in between.
    pub proxy: Option<BaseUrl>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Which certificates are trusted.
    pub tls: Tls,
    /// Why it is insecure, if it is.
    pub insecure: Option<String>,
}

impl ValidConnection {
    /// How the remote system is reached.
    #[must_use]
    pub fn via(&self) -> Via {
        Via::of(&self.base, self.proxy.as_ref(), self.tls.server_name.as_deref())
    }
}

/// Validates a connection. The rules, in this order:
///
/// 1. URL, proxy and timeout are well-formed.
/// 2. Plain HTTP is allowed by the resource and not forbidden by the operator.
/// 3. A proxy, a CA of the resource's own and certificates that are not verified are not forbidden by the operator.
/// 4. The ports of URL and proxy are among those that the operator lists, if it lists any.
pub fn validate(connection: &Connection, restrictions: &Restrictions) -> Result<ValidConnection, Verdict> {
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
    forbidden(&tls, proxy.is_some(), restrictions).map_or(Ok(()), Err)?;
    ports::check_listed(&restrictions.ports, &base, proxy.as_ref())?;
    let insecure = if base.is_plaintext() {
        Some("Password and tokens are sent unencrypted because spec.url uses http://.".to_owned())
    } else {
        tls.insecure_skip_verify.then(|| {
            "The server's certificate is not verified because spec.tls.insecureSkipVerify is set.".to_owned()
        })
    };
    Ok(ValidConnection { base, proxy, timeout, tls, insecure })
}

/// What a resource asks for and the operator forbids.
fn forbidden(tls: &Tls, is_proxied: bool, restrictions: &Restrictions) -> Option<Verdict> {
    let has_ca = tls.ca_secret_ref.is_some() || tls.ca_config_map_ref.is_some();
    let (reason, message) = if is_proxied && restrictions.proxy {
        (Reason::AddressRefused, "This operator forbids spec.proxyUrl (--forbid-proxy). Remove it.")
    } else if has_ca && restrictions.custom_ca {
        let message = "This operator forbids CAs in spec.tls (--forbid-custom-ca). Remove caSecretRef and caConfigMapRef. The server's certificate is then verified against the system's root certificates.";
        (Reason::CaUnusable, message)
    } else if tls.insecure_skip_verify && restrictions.insecure_tls {
        let message = "This operator forbids spec.tls.insecureSkipVerify (--forbid-insecure-tls). Specify the CA in spec.tls.";
        (Reason::InsecureTlsRefused, message)
    } else {
        return None;
    };
    Some(Verdict::new(reason, message))
}

/// Why nothing is done with an object that has this connection for now, if so: this sentence.
#[must_use]
pub fn paused(connection: &Connection, suspended: &str) -> Option<String> {
    connection.suspend.then(|| suspended.to_owned())
}
