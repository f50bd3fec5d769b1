//! Certificates for simulated servers: good ones, and the bad ones people meet.

use std::{net::Ipv4Addr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use ring::digest::{SHA256, digest};
use rustls::{
    ServerConfig,
    crypto::ring::{default_provider, sign::any_ecdsa_type},
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};

/// The certificate a simulated server shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Signed by the simulator's CA, for its address and its DNS name.
    #[default]
    Good,
    /// Signed by a CA nobody was told of.
    UnknownCa,
    /// Signed by the simulator's CA, for another address and another name.
    WrongName,
    /// Signed by the simulator's CA, and out of date since 2021.
    Expired,
    /// Signed by the simulator's CA, for a key that the server does not have: that of another server, say.
    Copied,
    /// Signed by its own key and marked as a CA, as appliances make theirs.
    SelfSigned,
    /// The same, out of date since 2021.
    ExpiredSelfSigned,
}

/// Who a certificate is for.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) address: Ipv4Addr,
    pub(crate) dns_name: String,
}

/// What a server shows in the handshake.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) pem: Arc<str>,
}

/// A CA, a CA of strangers, and one key pair for all servers: ten thousand certificates then cost ten thousand
/// signatures, but not as many keys.
pub(crate) struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    stranger: CertifiedIssuer<'static, KeyPair>,
    leaf: KeyPair,
    leaf_key: Arc<dyn SigningKey>,
    base: ServerConfig,
}

impl Pki {
    /// With a CA of its own, or with one that is [known](known_key) by its name.
    pub(crate) fn new(known_ca: Option<&str>) -> Self {
        let leaf = new_key();
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf.serialize_der()));
        let leaf_key = any_ecdsa_type(&der).expect("a P-256 key that was just made");
        let name = known_ca.unwrap_or("tenure kit CA");
        let authority = self_signed(name, known_ca.map_or_else(new_key, known_key));
        // Same name as the real one, so that only the signature tells them apart.
        let stranger = self_signed(name, new_key());
        let base = base_config(&authority, &leaf_key);
        Self { authority, stranger, leaf, leaf_key, base }
    }

    /// The CA's certificate, for `ca.crt` in a Secret or `ConfigMap`.
    pub(crate) fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// One server with this certificate.
    pub(crate) fn identity(&self, certificate: Certificate, subject: &Subject) -> Shown {
        let shown = self.issue(certificate, subject);
        let key = CertifiedKey::new(vec![shown.der().clone()], Arc::clone(&self.leaf_key));
        let mut config = self.base.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(key));
        Shown { config: Arc::new(config), pem: shown.pem().into() }
    }

    fn issue(&self, certificate: Certificate, subject: &Subject) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject.dns_name.as_str());
        let (address, dns_name) = match certificate {
            // TEST-NET-1: an address no simulator has.
            Certificate::WrongName => (Ipv4Addr::new(192, 0, 2, 1), "other.example.net"),
            _ => (subject.address, subject.dns_name.as_str()),
        };
        let dns_name = dns_name.try_into().expect("a DNS name is ASCII");
        params.subject_alt_names = vec![SanType::IpAddress(address.into()), SanType::DnsName(dns_name)];
        if matches!(certificate, Certificate::Expired | Certificate::ExpiredSelfSigned) {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        if matches!(certificate, Certificate::SelfSigned | Certificate::ExpiredSelfSigned) {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            return params.self_signed(&self.leaf).expect("valid parameters");
        }
        let issuer = if certificate == Certificate::UnknownCa { &self.stranger } else { &self.authority };
        let key = if certificate == Certificate::Copied { self.stranger.key() } else { &self.leaf };
        params.signed_by(key, issuer).expect("valid parameters")
    }
}

/// What all servers share. Sessions are never resumed: a resumed session skips the certificate, and a test that
/// changes the certificate must see the change.
fn base_config(
    authority: &CertifiedIssuer<'static, KeyPair>,
    leaf_key: &Arc<dyn SigningKey>,
) -> ServerConfig {
    let placeholder = CertifiedKey::new(vec![authority.der().clone()], Arc::clone(leaf_key));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(placeholder)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

fn self_signed(name: &str, key: KeyPair) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key).expect("valid parameters")
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("ring makes P-256 keys")
}

/// The key of a CA whose certificate has to be known before it is made: an Ed25519 key that is the digest of the CA's name.
/// Anyone can sign with it.
fn known_key(name: &str) -> KeyPair {
    // PKCS #8 (RFC 8410, section 7), up to the key itself.
    const HEAD: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let der = [HEAD, digest(&SHA256, name.as_bytes()).as_ref()].concat();
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(der)).expect("32 bytes are an Ed25519 key")
}
