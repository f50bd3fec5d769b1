//! Which certificates are trusted, and for which name.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::ca::Ca;
use super::endpoint::{Endpoint, Transport};
use crate::engine::remote::{Fault, Tls};

/// What the TLS settings of connections depend on. They are shared by all connections that have these in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// Certificates that replace the system's roots.
    ca: Option<Arc<Ca>>,
    /// A host, and the name to verify instead, if connections are not made under it.
    name: Option<(String, String)>,
    any_certificate: bool,
}

impl Trust {
    /// A proxy is asked for the URL's host, so the name to verify cannot take its place there.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let Transport { ca, server_name, insecure_skip_verify, proxy } = &endpoint.transport;
        let name = proxy.as_ref().and(server_name.clone());
        let name = name.zip(endpoint.base.url().host_str()).map(|(name, host)| (host.to_owned(), name));
        Self { ca: ca.clone(), name, any_certificate: *insecure_skip_verify }
    }

    /// The settings for connections.
    pub(super) fn config(&self) -> Result<ClientConfig, Fault> {
        let unusable = |_| Fault::Tls(Tls::Settings);
        let provider = CryptoProvider::get_default().cloned().ok_or(Fault::Tls(Tls::Settings))?;
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(unusable)?.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
        if self.any_certificate {
            return Ok(Arc::new(AnyCertificate));
        }
        let roots = self.roots(provider)?;
        let Some((host, name)) = &self.name else { return Ok(roots) };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        match (ServerName::try_from(host), ServerName::try_from(name.clone())) {
            (Ok(host), Ok(name @ ServerName::DnsName(_))) => Ok(Arc::new(Named { host, name, roots })),
            _ => Err(Fault::Tls(Tls::NotAName)),
        }
    }

    fn roots(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
        let unusable = || Fault::Tls(Tls::Roots);
        let provider = Arc::clone(provider);
        let Some(ca) = &self.ca else {
            return Ok(Arc::new(Verifier::new(provider).map_err(|_| unusable())?));
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(ca.roots()), provider).build();
        Ok(verifier.map_err(|_| unusable())?)
    }
}

/// Verifies a certificate in full, for another name than that of the host that is connected to. That of a proxy is
/// verified for the proxy's own name.
#[derive(Debug)]
struct Named {
    host: ServerName<'static>,
    name: ServerName<'static>,
    roots: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = if *host == self.host { &self.name } else { host };
        self.roots.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}

/// `insecureSkipVerify`: any certificate will do, also one that cannot be read, as those of old appliances.
#[derive(Debug)]
struct AnyCertificate;

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
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
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
