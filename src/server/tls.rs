//! TLS for those who listen beyond this machine: a certificate and its key, read again when their files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::followed::Followed;

/// Where the certificate and its key stand, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate, and those between it and one that clients know.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {found}; hint: {hint}", .file.display())]
pub struct TlsError {
    file: PathBuf,
    found: String,
    hint: &'static str,
}

/// A certificate that follows its files.
struct Current {
    settings: TlsSettings,
    certified: Followed<Arc<CertifiedKey>>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Current").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What greets connections.
///
/// # Errors
/// When a file cannot be read, or the key is not the certificate's.
pub(super) fn acceptor(settings: &TlsSettings) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let files = vec![settings.certificate.clone(), settings.key.clone()];
    let certified = Followed::new("the certificate", files, || read(settings, &provider).map(Arc::new))?;
    let current = Current { settings: settings.clone(), certified };
    let no_version = |error: rustls::Error| told(&settings.certificate, error.to_string());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(no_version)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(current));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello) -> Option<Arc<CertifiedKey>> {
        Some(self.certified.current(|_| read(&self.settings, &ring::default_provider()).map(Arc::new)))
    }
}

fn told(file: &Path, found: String) -> TlsError {
    TlsError {
        file: file.to_owned(),
        found,
        hint: "PEM; the server's own certificate first, and the key that it was made with",
    }
}

fn read(settings: &TlsSettings, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let TlsSettings { certificate, key } = settings;
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| told(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(told(certificate, "there is no certificate".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| told(key, error.to_string()))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| told(key, error.to_string()))
}
