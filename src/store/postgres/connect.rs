//! Where the database is, and how it is connected to. No password stands in anything that is told.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::{StoreError, schema};

/// A PostgreSQL database as an operator names it.
#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=require`.
    pub url: String,
    /// Certificates (PEM) of those who may vouch for the server, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long any answer may take; a statement three quarters of it, and the wait for another's lock half.
    pub patience: Duration,
}

impl PostgresSettings {
    /// The database at an address, with 20 seconds for each answer.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ca_file: None, patience: Duration::from_secs(20) }
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("PostgresSettings(…)")
    }
}

/// A database, and how it is reached.
pub(super) struct Target {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    pub patience: Duration,
    /// The address without the password.
    pub place: String,
}

impl Target {
    pub fn new(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let mut config = read(&settings.url)?;
        let place = place(&config);
        // Unsaid, it is asked for wherever others could listen: never tried first and then left out.
        if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(if is_near(&config) { SslMode::Disable } else { SslMode::Require });
        }
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(client(settings.ca_file.as_deref())?)),
        };
        if config.get_application_name().is_none() {
            config.application_name("throughline");
        }
        let patience = settings.patience;
        config.tcp_user_timeout(patience);
        Ok(Self { config, tls, patience, place })
    }

    /// A connection that is set to everything that statements count on.
    pub async fn connect(&self) -> Result<Client, StoreError> {
        let client = match &self.tls {
            Some(tls) => self.through(tls.clone()).await,
            None => self.through(NoTls).await,
        };
        let client = client.map_err(|error| match self.told(&error) {
            StoreError::Other(cause) => StoreError::Open { place: self.place.clone(), cause },
            other => other,
        })?;
        // A server that is set to answer before a commit is on its disk is told not to; one that waits for standbys goes on doing so.
        client
            .batch_execute(&format!(
                "SET search_path = {}; SET client_min_messages = warning; SET statement_timeout = {}; SET lock_timeout = {}; \
                 SET idle_in_transaction_session_timeout = {}; \
                 SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
                schema::SCHEMA,
                self.statement_patience().as_millis(),
                self.lock_patience().as_millis(),
                self.patience.as_millis(),
            ))
            .await
            .map_err(|error| self.told(&error))?;
        Ok(client)
    }

    /// By the database's own clock; shorter than an answer may take, as whoever hangs keeps no clock.
    fn statement_patience(&self) -> Duration {
        self.patience * 3 / 4
    }

    fn lock_patience(&self) -> Duration {
        self.patience / 2
    }

    /// What the database said, or that it said nothing.
    pub fn told(&self, error: &tokio_postgres::Error) -> StoreError {
        let Some(told) = error.as_db_error() else {
            let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
            let cause = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
            return StoreError::Unreachable(cause);
        };
        let text = || format!("{} ({})", told.message(), told.code().code());
        let is = |codes: &[SqlState]| codes.contains(told.code());
        match &told.code().code()[..2] {
            _ if is(&[SqlState::DISK_FULL]) => StoreError::Full,
            _ if is(&[SqlState::READ_ONLY_SQL_TRANSACTION]) => StoreError::ReadOnly,
            _ if is(&[SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED]) => StoreError::Damaged(text()),
            _ if is(&[SqlState::LOCK_NOT_AVAILABLE]) => StoreError::Busy { seconds: self.lock_patience().as_secs() },
            _ if is(&[SqlState::QUERY_CANCELED]) => StoreError::Slow { seconds: self.statement_patience().as_secs() },
            // Two waited for each other, and the other went first.
            _ if is(&[SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE]) => StoreError::WentOn,
            // It stops, starts, or has no room for one more.
            "08" | "57" => StoreError::Unreachable(text()),
            _ if is(&[SqlState::TOO_MANY_CONNECTIONS]) => StoreError::Unreachable(text()),
            _ => StoreError::Other(text()),
        }
    }

    async fn through<T>(&self, tls: T) -> Result<Client, tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = self.config.connect(tls).await?;
        // What it ends with is told to whoever asks next.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }
}

fn read(url: &str) -> Result<Config, StoreError> {
    // What is wrong with it is not told: the password may stand there.
    let told = "the database's address cannot be read; hint: postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=require, with %XX for \
                what is special in a URL; sslmode is disable or require, which checks the server's certificate and name";
    let scheme = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    let config = url.parse::<Config>().ok().filter(|config| scheme && !config.get_hosts().is_empty());
    config.ok_or_else(|| StoreError::Refused(told.into()))
}

/// The address as it may be told.
fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let host = |(index, host): (usize, &Host)| {
        let host = match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(folder) => folder.to_string_lossy().replace('/', "%2F"),
        };
        match ports.get(index).or(ports.first()) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    let name = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{user}{}/{name}", hosts.join(","))
}

/// Whether nobody can listen on the way.
fn is_near(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

fn client(ca_file: Option<&Path>) -> Result<ClientConfig, StoreError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let cannot = |cause: &dyn std::fmt::Display| {
                let told = "a PEM file with the certificates of those who vouch for the server";
                StoreError::Refused(format!("cannot read {}: {cause}; hint: {told}", file.display()))
            };
            let read = CertificateDer::pem_file_iter(file).map_err(|cause| cannot(&cause))?;
            for certificate in read {
                let certificate = certificate.map_err(|cause| cannot(&cause))?;
                roots.add(certificate).map_err(|cause| cannot(&cause))?;
            }
            if roots.is_empty() {
                return Err(cannot(&"it has no certificate"));
            }
        }
        None => {
            // One that cannot be used vouches for nobody; those that can are enough.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let failed = |cause: rustls::Error| StoreError::Other(cause.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
    Ok(client.with_root_certificates(roots).with_no_client_auth())
}
