//! TLS for those who listen beyond this machine: a certificate and its key, read again when their files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::auth::{Changed, changed};

/// How often the files are looked at for a change.
const RELOAD_AFTER: Duration = Duration::from_secs(1);

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
    held: Mutex<Held>,
}

struct Held {
    certified: Arc<CertifiedKey>,
    changed: [Option<Changed>; 2],
    looked: Instant,
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
    let changed = stamps(settings);
    let certified = Arc::new(read(settings, &provider)?);
    let held = Mutex::new(Held { certified, changed, looked: Instant::now() });
    let current = Current { settings: settings.clone(), held };
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
    /// The certificate as the files have it. Where they changed and cannot be used, the log says so and the one before stays.
    fn resolve(&self, _: ClientHello) -> Option<Arc<CertifiedKey>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked.elapsed() >= RELOAD_AFTER {
            held.looked = Instant::now();
            let now = stamps(&self.settings);
            if now != held.changed {
                held.changed = now;
                match read(&self.settings, &ring::default_provider()) {
                    Ok(certified) => held.certified = Arc::new(certified),
                    Err(error) => {
                        tracing::error!(%error, "the certificate changed and cannot be used: it stays as it was")
                    }
                }
            }
        }
        Some(held.certified.clone())
    }
}

fn stamps(settings: &TlsSettings) -> [Option<Changed>; 2] {
    [changed(&settings.certificate), changed(&settings.key)]
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
