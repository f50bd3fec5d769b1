//! Certificates of CAs that resources name.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::engine::origin::Fingerprint;

/// TLS settings, made once for all connections that trust the same certificates.
pub(super) type Settings = OnceLock<Arc<ClientConfig>>;

/// Certificates that replace the system's roots. Two with the same certificates are the same.
#[derive(Debug)]
pub struct Ca {
    fingerprints: Vec<Fingerprint>,
    roots: Arc<RootCertStore>,
    settings: Settings,
}

impl Ca {
    /// Reads PEM certificates. None if there are none, or if one of them is unusable.
    #[must_use]
    pub fn parse(pem: &str) -> Option<Self> {
        let certificates: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
        let mut roots = RootCertStore::empty();
        let mut fingerprints: Vec<Fingerprint> =
            certificates.iter().filter_map(|der| digest(&SHA256, der).as_ref().try_into().ok()).collect();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        for certificate in certificates {
            roots.add(certificate).ok()?;
        }
        (!fingerprints.is_empty()).then(|| Self {
            fingerprints,
            roots: Arc::new(roots),
            settings: Settings::new(),
        })
    }

    /// SHA-256 of each certificate.
    #[must_use]
    pub fn fingerprints(&self) -> &[Fingerprint] {
        &self.fingerprints
    }

    /// The same as the TLS library takes them.
    pub(super) fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// The settings of connections that trust them.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl PartialEq for Ca {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprints == other.fingerprints
    }
}

impl Eq for Ca {}

impl Hash for Ca {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprints.hash(state);
    }
}
