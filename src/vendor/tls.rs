//! Which certificates are trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::ca::{Ca, Settings};
use super::endpoint::Transport;
use crate::engine::origin::Fingerprint;
use crate::engine::remote::{Fault, Tls};
use crate::engine::system::KeyId;

/// The settings of connections for which no CA is named. Those of a CA are kept with it.
#[derive(Debug, Default)]
pub(super) struct Common {
    system: Settings,
    any: Settings,
}

impl Common {
    /// The settings for connections.
    pub(super) fn of(&self, transport: &Transport) -> Result<Arc<ClientConfig>, Fault> {
        let unusable = Fault::Tls(Tls::Roots);
        match &transport.ca {
            _ if transport.insecure_skip_verify => {
                settings(&self.any, |provider| Ok(Arc::new(AnyCertificate::new(&provider, Proof::default()))))
            }
            Some(ca) => {
                settings(ca.settings(), |provider| Ok(Arc::new(NamedCa::new(ca, provider).ok_or(unusable)?)))
            }
            None => settings(&self.system, |provider| {
                Ok(Arc::new(Verifier::new(provider).map_err(|_| unusable)?))
            }),
        }
    }
}

fn settings(
    known: &Settings,
    verifier: impl FnOnce(Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Fault>,
) -> Result<Arc<ClientConfig>, Fault> {
    if let Some(known) = known.get() {
        return Ok(Arc::clone(known));
    }
    let unusable = Fault::Tls(Tls::Settings);
    let provider = CryptoProvider::get_default().cloned().ok_or(unusable.clone())?;
    let verifier = verifier(Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| unusable)?.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // What a server may have us keep for it amounts to megabytes, and a fleet is too large for it to be of use.
    config.resumption = Resumption::disabled();
    // Another thread may have been faster.
    Ok(Arc::clone(known.get_or_init(|| Arc::new(config))))
}

/// Whether the peer of a connection has proven to have the key of its certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof(Arc<AtomicBool>);

impl Proof {
    /// As it is wherever certificates are verified.
    pub(super) fn given() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Whether it has.
    pub(super) fn is_given(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Settings for one connection that accepts any certificate: the peer may show that of another system, so that it is found
/// out whether it has the key.
pub(super) fn lenient(settings: &ClientConfig) -> (Arc<ClientConfig>, Proof) {
    let (mut settings, proof) = (settings.clone(), Proof::default());
    let verifier = AnyCertificate::new(settings.crypto_provider(), proof.clone());
    settings.dangerous().set_certificate_verifier(Arc::new(verifier));
    (Arc::new(settings), proof)
}

/// The public key of a certificate: one that is renewed may keep it.
pub(super) fn key(certificate: &CertificateDer<'_>) -> Option<KeyId> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    digest(&SHA256, &certificate.subject_public_key_info()).as_ref().first_chunk().copied()
}

/// Whether a certificate is refused for being a CA's, as certificates that are self-signed often are.
pub(super) fn is_self_signed(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// Certificates that a named CA has signed, and those that are named themselves.
#[derive(Debug)]
struct NamedCa {
    named: Vec<Fingerprint>,
    signed: Arc<WebPkiServerVerifier>,
}

impl NamedCa {
    fn new(ca: &Ca, provider: Arc<CryptoProvider>) -> Option<Self> {
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::clone(ca.roots()), provider).build();
        Some(Self { named: ca.fingerprints().to_vec(), signed: signed.ok()? })
    }

    fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        self.named.iter().any(|named| named == digest(&SHA256, certificate).as_ref())
    }
}

impl ServerCertVerifier for NamedCa {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.signed.verify_server_cert(certificate, intermediates, host, ocsp, now) {
            // That comes after its dates are verified, and before its name is.
            Err(error) if is_self_signed(&error) && self.names(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// `insecureSkipVerify`: any certificate will do, also one that cannot be read, as those of old appliances.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
    proof: Proof,
}

impl AnyCertificate {
    fn new(provider: &CryptoProvider, proof: Proof) -> Self {
        Self { algorithms: provider.signature_verification_algorithms, proof }
    }

    fn note(&self, found: &Result<HandshakeSignatureValid, Error>) -> HandshakeSignatureValid {
        self.proof.0.store(found.is_ok(), Ordering::Relaxed);
        HandshakeSignatureValid::assertion()
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(self.note(&verify_tls12_signature(message, certificate, signed, &self.algorithms)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(self.note(&verify_tls13_signature(message, certificate, signed, &self.algorithms)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::ED448,
        ]
    }
}
